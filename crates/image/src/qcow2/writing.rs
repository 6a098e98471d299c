//! What a device for writing keeps beside its tables: who allocates what, and what of it the file does not have yet.
//!
//! `write.rs` and `reserve.rs` allocate under this state, `zero.rs` frees, and `flush.rs` puts what it holds into the file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use transload_block::{Result, Storage};

use super::allocate::Refcounts;
use super::open::ParsedHeader;
use super::tables::{Slice, index};

/// What a device for writing has beside one for reading.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) data_file: Option<Arc<dyn Storage>>,
    pub(super) state: Mutex<State>,
    /// A claim was given up.
    settled: Condvar,
    /// The header says that the image is being written.
    pub(super) begun: AtomicBool,
    /// Dirty slices beyond which they are written.
    pub(super) dirty_slices_max: usize,
}

/// What changes when clusters are allocated and freed.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) refcounts: Refcounts,
    /// Slices that the file does not have yet, by their places.
    pub(super) dirty_slices: BTreeMap<u64, Arc<Slice>>,
    /// L1 entries that the file does not have yet.
    pub(super) dirty_l1: BTreeSet<u64>,
    /// Host clusters that nothing in memory refers to any more.
    pub(super) freed: Vec<Freed>,
    /// Guest bytes whose clusters somebody is about to link.
    pub(super) claims: Vec<Range<u64>>,
}

/// Host clusters that lost a use.
#[derive(Debug)]
pub(super) struct Freed {
    pub clusters: Range<u64>,
    /// Their space is to be given back when that was the last use.
    pub unmap: bool,
}

impl Writing {
    pub(super) fn new(
        header: &ParsedHeader,
        storage: Arc<dyn Storage>,
        data_file: Option<Arc<dyn Storage>>,
        cache_bytes: usize,
    ) -> Result<Self> {
        let refcounts = Refcounts::load(header, &*storage, cache_bytes / 4)?;
        let slice_bytes = index(header.geometry.cluster_size().min(4096));
        Ok(Self {
            storage,
            data_file,
            state: Mutex::new(State {
                refcounts,
                dirty_slices: BTreeMap::new(),
                dirty_l1: BTreeSet::new(),
                freed: Vec::new(),
                claims: Vec::new(),
            }),
            settled: Condvar::new(),
            begun: AtomicBool::new(false),
            dirty_slices_max: (cache_bytes / 2 / slice_bytes).max(16),
        })
    }

    /// The state of allocation.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<()> {
        if let Some(data_file) = &self.data_file {
            data_file.flush()?;
        }
        self.storage.flush()
    }

    /// Where guest data goes.
    pub(super) fn data(&self) -> &dyn Storage {
        self.data_file.as_deref().unwrap_or(&*self.storage)
    }

    /// Locks the state when nobody has a claim on any of `guest`.
    pub(super) fn lock_unclaimed(&self, guest: &Range<u64>) -> MutexGuard<'_, State> {
        let claimed =
            |state: &mut State| state.claims.iter().any(|claim| claim.start < guest.end && guest.start < claim.end);
        self.settled.wait_while(self.lock(), claimed).unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up a claim.
    pub(super) fn settle(&self, state: &mut State, guest: &Range<u64>) {
        state.claims.retain(|claim| claim != guest);
        self.settled.notify_all();
    }
}

impl State {
    /// Notes that a use of `clusters` is gone.
    pub(super) fn free(&mut self, clusters: Range<u64>, unmap: bool) {
        match self.freed.last_mut() {
            Some(last) if last.clusters.end == clusters.start && last.unmap == unmap => {
                last.clusters.end = clusters.end;
            }
            _ => self.freed.push(Freed { clusters, unmap }),
        }
    }
}
