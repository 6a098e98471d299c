//! What is open: files, and folders whose entries were taken down when they were opened.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use transload_block::BlockRead;
use transload_filesystem::FileId;

use crate::numbers::Place;

/// A name in a folder, with the number of what it names.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) name: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) place: Place,
    pub(crate) kind: Option<fuser::FileType>,
}

/// Something that is open.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// A file of a filesystem: which, and how often the disk below had changed when it was opened.
    File { bytes: Arc<dyn BlockRead>, filesystem: usize, id: FileId, seen: u64 },
    /// A disk, by its node.
    Disk(usize),
    /// A folder.
    Folder(Arc<Vec<Name>>),
}

/// All that is open, by number.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: RwLock<HashMap<u64, Handle>>,
    next: AtomicU64,
}

impl Handles {
    pub(crate) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(number, handle);
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Handle> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Puts something else behind a number that is still open.
    pub(crate) fn replace(&self, number: u64, handle: Handle) {
        if let Some(open) = self.open.write().unwrap_or_else(PoisonError::into_inner).get_mut(&number) {
            *open = handle;
        }
    }

    pub(crate) fn remove(&self, number: u64) {
        // What it held is let go outside the lock.
        let removed = self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        drop(removed);
    }
}
