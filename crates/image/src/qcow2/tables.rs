//! The two levels of mapping tables in memory: the L1 table by pages, L2 tables by slices.
//!
//! A slice is a piece of an L2 table of at most [`SLICE_BYTES`], so that a look-up at a random place of a large disk
//! costs one small read, whatever the cluster size. Slices are shared by `Arc` and live in shards; a shard's lock is held
//! while a slice is fetched or loaded, never while it is used. Loading under the shard's lock is what makes sure that
//! there is only ever one copy of a slice, and that a copy which was read before a write-back never comes in after it.
//!
//! Only clean slices are dropped. A slice is marked dirty under its shard's lock, before it is changed; who changes and
//! who cleans holds the device's writing state, so these two never meet.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use transload_block::{BlockRead, Result};

use super::open::{Geometry, TableLocation};

/// L1 entries in a page, which is loaded as one: 32 KiB.
const L1_PAGE: u64 = 4096;
/// The most bytes of a slice.
const SLICE_BYTES: u64 = 4096;
/// Shards of the slice cache: enough that two dozen threads seldom meet.
const SHARDS: usize = 16;
/// The fewest slices a shard keeps, however little memory the caller grants.
const SHARD_SLICES_MIN: usize = 4;

/// A size or index that is bounded by a cluster or a table of at most 32 MiB, as an index into memory.
pub(crate) fn index(bounded: u64) -> usize {
    usize::try_from(bounded).expect("bounded by a table in memory")
}

/// Reads `buf` at `offset`; what lies behind the end of the file reads as zeroes. The caller has checked that this is
/// less than a cluster.
pub(crate) fn read_padded(file: &dyn BlockRead, buf: &mut [u8], offset: u64) -> Result<()> {
    let there = file.size().saturating_sub(offset).min(buf.len() as u64);
    let (bytes, padding) = buf.split_at_mut(index(there));
    padding.fill(0);
    if bytes.is_empty() { Ok(()) } else { file.read_at(bytes, offset) }
}

/// Turns big-endian bytes into numbers.
fn decode(bytes: &[u8]) -> Box<[u64]> {
    let number = |chunk: &[u8]| u64::from_be_bytes(chunk.try_into().expect("chunks of eight"));
    bytes.chunks_exact(8).map(number).collect()
}

/// Turns numbers into big-endian bytes.
pub(crate) fn encode(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

/// A piece of the L1 table, once it is loaded.
type L1Page = RwLock<Option<Box<[u64]>>>;

/// The active L1 table, or a snapshot's. Pages are loaded when they are first asked for: a table may have 32 MiB.
#[derive(Debug)]
pub(crate) struct L1Table {
    location: TableLocation,
    pages: Box<[L1Page]>,
}

impl L1Table {
    pub(crate) fn new(location: TableLocation) -> Self {
        let pages = (0..location.entries.div_ceil(L1_PAGE)).map(|_| RwLock::new(None)).collect();
        Self { location, pages }
    }

    pub(crate) const fn location(&self) -> TableLocation {
        self.location
    }

    /// Entry `at`, which is inside the table.
    pub(crate) fn get(&self, file: &dyn BlockRead, at: u64) -> Result<u64> {
        let page = &self.pages[index(at / L1_PAGE)];
        if let Some(entries) = &*page.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(entries[index(at % L1_PAGE)]);
        }
        let mut page = page.write().unwrap_or_else(PoisonError::into_inner);
        Ok(self.load(file, &mut page, at / L1_PAGE)?[index(at % L1_PAGE)])
    }

    /// Changes entry `at` in memory.
    pub(crate) fn set(&self, file: &dyn BlockRead, at: u64, value: u64) -> Result<()> {
        let mut page = self.pages[index(at / L1_PAGE)].write().unwrap_or_else(PoisonError::into_inner);
        self.load(file, &mut page, at / L1_PAGE)?[index(at % L1_PAGE)] = value;
        Ok(())
    }

    fn load<'a>(
        &self,
        file: &dyn BlockRead,
        slot: &'a mut Option<Box<[u64]>>,
        page: u64,
    ) -> Result<&'a mut Box<[u64]>> {
        if slot.is_none() {
            let first = page * L1_PAGE;
            let mut bytes = vec![0; index((self.location.entries - first).min(L1_PAGE) * 8)];
            read_padded(file, &mut bytes, self.location.offset + first * 8)?;
            *slot = Some(decode(&bytes));
        }
        Ok(slot.as_mut().expect("loaded above"))
    }
}

/// A piece of an L2 table.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Its numbers: one for each entry, with extended entries two.
    pub entries: RwLock<Box<[u64]>>,
    dirty: AtomicBool,
    used: AtomicBool,
}

impl Slice {
    fn new(entries: Box<[u64]>, dirty: bool) -> Arc<Self> {
        let (dirty, used) = (AtomicBool::new(dirty), AtomicBool::new(true));
        Arc::new(Self { entries: RwLock::new(entries), dirty, used })
    }

    /// Says that the file has what the slice has. The caller holds the writing state.
    pub(crate) fn mark_clean(&self) {
        self.dirty.store(false, Ordering::Release);
    }
}

/// The L2 slices in memory, by their place in the file.
#[derive(Debug)]
pub(crate) struct SliceCache {
    shards: [Mutex<Shard>; SHARDS],
    /// Slices of a shard beyond which clean ones are dropped.
    shard_limit: usize,
    slice_bytes: u64,
}

#[derive(Debug, Default)]
struct Shard {
    slices: HashMap<u64, Arc<Slice>>,
    /// Places in the order of their second chance.
    clock: VecDeque<u64>,
}

impl SliceCache {
    pub(crate) fn new(geometry: Geometry, bytes: usize) -> Self {
        let slice_bytes = SLICE_BYTES.min(geometry.cluster_size());
        let shard_limit = (bytes / index(slice_bytes) / SHARDS).max(SHARD_SLICES_MIN);
        Self { shards: Default::default(), shard_limit, slice_bytes }
    }

    /// Bytes of a slice.
    pub(crate) const fn slice_bytes(&self) -> u64 {
        self.slice_bytes
    }

    fn shard(&self, place: u64) -> MutexGuard<'_, Shard> {
        let number = index(place / self.slice_bytes % SHARDS as u64);
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slice at `place` in `file`.
    pub(crate) fn get(&self, file: &dyn BlockRead, place: u64) -> Result<Arc<Slice>> {
        let mut shard = self.shard(place);
        self.get_in(&mut shard, file, place)
    }

    /// The same, marked dirty, so that it stays in memory until [`Slice::mark_clean`].
    pub(crate) fn get_dirty(&self, file: &dyn BlockRead, place: u64) -> Result<Arc<Slice>> {
        let mut shard = self.shard(place);
        let slice = self.get_in(&mut shard, file, place)?;
        slice.dirty.store(true, Ordering::Release);
        Ok(slice)
    }

    fn get_in(&self, shard: &mut Shard, file: &dyn BlockRead, place: u64) -> Result<Arc<Slice>> {
        if let Some(slice) = shard.slices.get(&place) {
            slice.used.store(true, Ordering::Relaxed);
            return Ok(Arc::clone(slice));
        }
        let mut bytes = vec![0; index(self.slice_bytes)];
        read_padded(file, &mut bytes, place)?;
        let slice = Slice::new(decode(&bytes), false);
        self.insert(shard, place, &slice);
        Ok(slice)
    }

    /// Puts a slice of zeroes at `place`, dirty: the file has something else there.
    pub(crate) fn insert_zeroed(&self, place: u64) -> Arc<Slice> {
        let slice = Slice::new(vec![0; index(self.slice_bytes / 8)].into(), true);
        let mut shard = self.shard(place);
        if shard.slices.contains_key(&place) {
            // A slice of a table that stood here before, which nobody looks for any more.
            shard.clock.retain(|known| *known != place);
        }
        self.insert(&mut shard, place, &slice);
        slice
    }

    /// Forgets the slices in `length` bytes from `place` on: the table there is no more, or was written anew.
    pub(crate) fn forget(&self, place: u64, length: u64) {
        for place in (place..place + length).step_by(index(self.slice_bytes)) {
            let mut shard = self.shard(place);
            if shard.slices.remove(&place).is_some() {
                shard.clock.retain(|known| *known != place);
            }
        }
    }

    fn insert(&self, shard: &mut Shard, place: u64, slice: &Arc<Slice>) {
        let mut chances = 2 * shard.clock.len();
        while shard.slices.len() >= self.shard_limit && chances > 0 {
            chances -= 1;
            let Some(candidate) = shard.clock.pop_front() else { break };
            let keep = shard.slices.get(&candidate).is_some_and(|slice| {
                let dirty = slice.dirty.load(Ordering::Acquire);
                slice.used.swap(false, Ordering::Relaxed) || dirty
            });
            if keep {
                shard.clock.push_back(candidate);
            } else {
                shard.slices.remove(&candidate);
            }
        }
        shard.slices.insert(place, Arc::clone(slice));
        shard.clock.push_back(place);
    }
}
