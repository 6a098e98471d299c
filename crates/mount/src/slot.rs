//! A filesystem in a mount: opened when it is first looked into, and again when the disk below it has changed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{BlockRead, Result};
use transload_filesystem::{self as filesystem, FileSystem};

use crate::disk::Changes;

/// What opens a filesystem.
type Opener = Box<dyn Fn() -> Result<Arc<dyn FileSystem>> + Send + Sync>;

/// The files of one filesystem, which a mount shows as a folder.
pub struct Files {
    opener: Opener,
    /// The disk below, where it may change.
    changes: Option<Changes>,
    /// What is open, and how often the disk had changed when it was opened.
    open: Mutex<Option<(Arc<dyn FileSystem>, u64)>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Files {
    /// The files of a filesystem that is open.
    #[must_use]
    pub fn open(filesystem: Arc<dyn FileSystem>) -> Self {
        let open = Mutex::new(Some((Arc::clone(&filesystem), 0)));
        Self { opener: Box::new(move || Ok(Arc::clone(&filesystem))), changes: None, open }
    }

    /// The files of a filesystem that `opener` opens when somebody looks into it.
    #[must_use]
    pub fn lazy(opener: impl Fn() -> Result<Arc<dyn FileSystem>> + Send + Sync + 'static) -> Self {
        Self { opener: Box::new(opener), changes: None, open: Mutex::default() }
    }

    /// The files of the filesystem on `device`, which is opened now: an error is better told before than after mounting.
    pub(crate) fn on_device(device: Arc<dyn BlockRead>, changes: Option<Changes>) -> Result<Self> {
        let opener: Opener = Box::new(move || filesystem::open(Arc::clone(&device)));
        let this = Self { opener, changes, open: Mutex::default() };
        this.filesystem()?;
        Ok(this)
    }

    /// Whether the files may change while they are shown.
    pub(crate) fn may_change(&self) -> bool {
        self.changes.is_some()
    }

    /// How often the disk below has changed.
    pub(crate) fn seen(&self) -> u64 {
        self.changes.as_ref().map_or(0, Changes::seen)
    }

    /// The filesystem as it is now.
    pub(crate) fn filesystem(&self) -> Result<Arc<dyn FileSystem>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for before it is opened: a change while it is being opened is found the next time.
        let now = self.seen();
        if let Some((filesystem, then)) = &*open
            && *then == now
        {
            return Ok(Arc::clone(filesystem));
        }
        let filesystem = (self.opener)()?;
        *open = Some((Arc::clone(&filesystem), now));
        Ok(filesystem)
    }
}
