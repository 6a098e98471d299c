//! Unpacked units that were asked for in part: the other part will be asked for next, perhaps by another thread.
//!
//! Whoever needs a unit that somebody else is unpacking waits for it, so that none is unpacked twice at once. The list is locked
//! for a look-up, a unit while it is unpacked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::Result;

/// A bounded number of unpacked units. At least one is kept, whatever the bound.
#[derive(Debug)]
pub(crate) struct Kept(Mutex<List>);

#[derive(Debug)]
struct List {
    /// The one asked for last is at the back.
    slots: VecDeque<Arc<Slot>>,
    bytes: u64,
    most: u64,
}

#[derive(Debug)]
struct Slot {
    index: u64,
    length: u64,
    /// Empty until somebody has unpacked it.
    bytes: Mutex<Option<Arc<Vec<u8>>>>,
}

impl Kept {
    /// Units of at most `bytes` together.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Mutex::new(List { slots: VecDeque::new(), bytes: 0, most: bytes as u64 }))
    }

    /// Unit `index`, which has `length` bytes: kept, or unpacked now.
    ///
    /// # Errors
    /// What `unpack` answers, which is tried again by the next one who asks.
    pub(crate) fn get(
        &self,
        index: u64,
        length: u64,
        unpack: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<Vec<u8>>> {
        let slot = lock(&self.0).slot(index, length);
        let mut filled = lock(&slot.bytes);
        if let Some(bytes) = &*filled {
            return Ok(Arc::clone(bytes));
        }
        let mut unit = vec![0; usize::try_from(length).unwrap_or(0)];
        unpack(&mut unit)?;
        let unit = Arc::new(unit);
        *filled = Some(Arc::clone(&unit));
        Ok(unit)
    }
}

impl List {
    /// The place of a unit. Others go when there are more bytes than may be kept.
    fn slot(&mut self, index: u64, length: u64) -> Arc<Slot> {
        let found = self.slots.iter().position(|slot| slot.index == index).and_then(|place| self.slots.remove(place));
        let slot = found.unwrap_or_else(|| {
            self.bytes += length;
            Arc::new(Slot { index, length, bytes: Mutex::default() })
        });
        self.slots.push_back(Arc::clone(&slot));
        while self.bytes > self.most && self.slots.len() > 1 {
            let Some(oldest) = self.slots.pop_front() else { break };
            self.bytes -= oldest.length;
        }
        slot
    }
}

/// Locks whatever happened to the mutex: what it guards is whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
