//! One hosted sparse extent that is written at random places.
//!
//! A grain gets its place when it is first written or reserved: the next free bytes of the file, which read as zeroes, so
//! that writing a part of a grain needs nothing else. The entry stays in memory until the data is durable (see
//! [`GrainTables::write_back`]): a crash leaves the old content or the new, never a grain of somebody else's bytes. What
//! was allocated and not entered is lost space behind the end, no more.
//!
//! One mutex guards tables and allocation. It is held while places are looked up, never while payload moves.

use std::mem::offset_of;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{Error, ErrorKind, Result, Storage, ZeroMode};

use super::tables::{Directories, GrainTables};
use crate::place::{Place, Run};
use crate::vmdk::layout::{SECTOR, SparseHeader};

/// How far the file is made longer at a time; what is left over goes when the image is finished.
const GROWTH: u64 = 64 << 20;
/// The table entry of a grain of zeroes, where the header allows it.
const ZERO_GRAIN: u32 = 1;

/// What a sparse extent is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SparseShape {
    /// Bytes of the disk that it holds.
    pub(crate) size: u64,
    /// Bytes of a grain, a power of two.
    pub(crate) grain: u64,
    pub(crate) directories: Directories,
    /// Bytes in front of the first grain.
    pub(crate) overhead: u64,
    /// A table entry of 1 is a grain of zeroes.
    pub(crate) zeroed_grains: bool,
    /// Something shows where the extent has no grain.
    pub(crate) has_parent: bool,
    /// Bytes at the front of the file that may hold anything: those of a block device that was written before.
    pub(crate) stale: u64,
}

/// A hosted sparse extent, open for writing.
#[derive(Debug)]
pub(crate) struct SparseExtent {
    storage: Arc<dyn Storage>,
    shape: SparseShape,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tables: GrainTables,
    /// Where the next grain goes: behind everything in use.
    next_free: u64,
}

impl SparseExtent {
    /// Takes over the extent in `storage`, whose directories are there. New grains go behind the file's end, or behind
    /// the overhead when that is all there is.
    pub(crate) fn new(storage: Arc<dyn Storage>, shape: SparseShape, cache_bytes: usize) -> Self {
        let used = if shape.stale > 0 { shape.overhead } else { storage.size().max(shape.overhead) };
        let tables = GrainTables::new(Arc::clone(&storage), shape.directories, cache_bytes);
        let next_free = used.next_multiple_of(shape.grain);
        Self { storage, shape, state: Mutex::new(State { tables, next_free }) }
    }

    pub(super) const fn grain(&self) -> u64 {
        self.shape.grain
    }

    pub(super) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread cannot have left a table half changed: entries are single words.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the bytes at the start of `range` stand; the answer ends at the latest with the grain table.
    pub(super) fn run(&self, range: Range<u64>) -> Result<Run> {
        let mut state = self.state();
        self.run_locked(&mut state, range)
    }

    fn run_locked(&self, state: &mut State, range: Range<u64>) -> Result<Run> {
        let (grain, per_table) = (self.shape.grain, self.shape.directories.entries);
        let table = range.start / grain / per_table;
        let end = range.end.min((table + 1).saturating_mul(per_table * grain));
        let Some(entries) = state.tables.entries(table)? else {
            return Ok(Run { length: end - range.start, place: Place::Nowhere });
        };
        let entry = |offset: u64| entries[usize::try_from(offset / grain % per_table).unwrap_or(0)];
        let place = self.place(range.start, entry(range.start))?;
        let mut at = (range.start / grain + 1) * grain;
        while at < end && place.continues(at - range.start, self.place(at, entry(at))?) {
            at += grain;
        }
        Ok(Run { length: at.min(end) - range.start, place })
    }

    /// Where the byte at `offset` stands when its grain's entry is `entry`.
    fn place(&self, offset: u64, entry: u32) -> Result<Place> {
        match entry {
            0 => Ok(Place::Nowhere),
            ZERO_GRAIN if self.shape.zeroed_grains => Ok(Place::Zero),
            sector => {
                let start = u64::from(sector) * SECTOR;
                if start < self.shape.overhead || start >= self.storage.size() {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!(
                            "VMDK grain {}: its table entry {sector} is not between the {} bytes of metadata and the \
                             file's end at {}",
                            offset / self.shape.grain,
                            self.shape.overhead,
                            self.storage.size()
                        ),
                    ));
                }
                Ok(Place::File(start + offset % self.shape.grain))
            }
        }
    }

    /// Fills `buf` with the bytes at `offset`.
    pub(super) fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let run = self.run(offset..offset + buf.len() as u64)?;
            let (piece, rest) = buf.split_at_mut(usize::try_from(run.length).unwrap_or(buf.len()));
            match run.place {
                Place::File(place) => self.read_file(piece, place)?,
                Place::Zero | Place::Nowhere => piece.fill(0),
            }
            offset += run.length;
            buf = rest;
        }
        Ok(())
    }

    /// Reads from the file. Its last grain may be cut off where the disk ends, as QEMU leaves it.
    fn read_file(&self, piece: &mut [u8], place: u64) -> Result<()> {
        let there = self.storage.size().saturating_sub(place).min(piece.len() as u64);
        let (there, missing) = piece.split_at_mut(usize::try_from(there).unwrap_or(0));
        missing.fill(0);
        self.storage.read_at(there, place)
    }

    /// Writes `buf` at `offset`, which it gives a place first.
    pub(super) fn write_at(&self, mut buf: &[u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let run = {
                let mut state = self.state();
                let end = offset + buf.len() as u64;
                self.allocate(&mut state, offset..end)?;
                self.run_locked(&mut state, offset..end)?
            };
            let (piece, rest) = buf.split_at(usize::try_from(run.length).unwrap_or(buf.len()));
            let Place::File(place) = run.place else {
                return Err(Error::new(ErrorKind::Io, "VMDK: an allocated grain has no place"));
            };
            self.storage.write_at(piece, place)?;
            offset += run.length;
            buf = rest;
        }
        Ok(())
    }

    /// Gives every grain of `range` a place.
    pub(super) fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.allocate(&mut self.state(), range)
    }

    fn allocate(&self, state: &mut State, range: Range<u64>) -> Result<()> {
        let (grain, per_table) = (self.shape.grain, self.shape.directories.entries);
        let mut at = range.start / grain;
        let last = (range.end - 1) / grain;
        while at <= last {
            let table = at / per_table;
            let until = last.min((table + 1) * per_table - 1);
            self.ensure_table(state, table)?;
            // Look first: most tables of a rewritten disk need no change.
            for index in at..=until {
                let slot = usize::try_from(index % per_table).unwrap_or(0);
                let entry = state.tables.entries(table)?.map_or(0, |entries| entries[slot]);
                if entry == 0 || (entry == ZERO_GRAIN && self.shape.zeroed_grains) {
                    let place = self.take(state, grain)?;
                    let sector = u32::try_from(place / SECTOR).map_err(|_| too_large())?;
                    if let Some(entries) = state.tables.entries_mut(table)? {
                        entries[slot] = sector;
                    }
                }
            }
            at = until + 1;
        }
        Ok(())
    }

    /// Makes a table where the extent has none, as thin extents of other writers do.
    fn ensure_table(&self, state: &mut State, table: u64) -> Result<()> {
        if state.tables.entries(table)?.is_some() {
            return Ok(());
        }
        let bytes = state.tables.table_pair_bytes().next_multiple_of(self.shape.grain);
        let place = self.take(state, bytes)?;
        self.storage.flush()?;
        state.tables.insert(table, place)
    }

    /// Takes `length` bytes behind everything in use; they read as zeroes.
    fn take(&self, state: &mut State, length: u64) -> Result<u64> {
        let place = state.next_free;
        let end = place + length;
        if end / SECTOR > u64::from(u32::MAX) {
            return Err(too_large());
        }
        if self.storage.size() < end {
            // A generous step may exceed a limit that the image itself will not.
            self.storage.set_size(end + GROWTH).or_else(|_| self.storage.set_size(end))?;
        }
        if place < self.shape.stale {
            self.storage.write_zeroes_at(place..end.min(self.shape.stale), ZeroMode::Unmap)?;
        }
        state.next_free = end;
        Ok(place)
    }

    /// Makes `range` read as zeroes.
    ///
    /// A grain that has a place keeps it, and the bytes there are zeroed, by a hole in the file where that is allowed. One
    /// without a place is left alone when nothing shows through it; otherwise it is marked as zeroes where the header
    /// allows that, or gets a place, whose bytes are zeroes.
    pub(super) fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let run = {
                let mut state = self.state();
                let mut run = self.run_locked(&mut state, at..range.end)?;
                if run.place == Place::Nowhere && self.shape.has_parent {
                    run = self.cover(&mut state, at..at + run.length)?;
                }
                run
            };
            if let Place::File(place) = run.place {
                let end = (place + run.length).min(self.storage.size());
                if place < end {
                    self.storage.write_zeroes_at(place..end, mode)?;
                }
            }
            at += run.length;
        }
        Ok(())
    }

    /// Hides the parent in `range`, which has no places and lies in one table.
    fn cover(&self, state: &mut State, range: Range<u64>) -> Result<Run> {
        let (grain, per_table) = (self.shape.grain, self.shape.directories.entries);
        let first_whole = range.start.next_multiple_of(grain);
        let end_whole = if range.end == self.shape.size { range.end } else { range.end / grain * grain };
        if self.shape.zeroed_grains && first_whole == range.start && first_whole < end_whole {
            let table = range.start / grain / per_table;
            self.ensure_table(state, table)?;
            if let Some(entries) = state.tables.entries_mut(table)? {
                for index in first_whole / grain..end_whole.div_ceil(grain) {
                    entries[usize::try_from(index % per_table).unwrap_or(0)] = ZERO_GRAIN;
                }
            }
            return Ok(Run { length: end_whole - range.start, place: Place::Zero });
        }
        let end =
            if self.shape.zeroed_grains && first_whole > range.start { first_whole.min(range.end) } else { range.end };
        self.allocate(state, range.start..end)?;
        // What was taken reads as zeroes already.
        Ok(Run { length: end - range.start, place: Place::Zero })
    }

    /// Puts tables behind durable data.
    pub(super) fn write_back(&self) -> Result<()> {
        self.state().tables.write_back()
    }

    /// Marks the extent as open for writing, durably, and makes its last grain whole.
    pub(super) fn mark_in_use(&self) -> Result<()> {
        let state = self.state();
        if self.storage.size() < state.next_free {
            self.storage.set_size(state.next_free)?;
        }
        self.set_unclean(1)
    }

    /// Cuts off what was allocated ahead and marks the extent as closed, once everything else is durable.
    pub(super) fn close(&self) -> Result<()> {
        let mut state = self.state();
        state.tables.write_back()?;
        self.storage.set_size(state.next_free)?;
        self.storage.flush()?;
        self.set_unclean(0)
    }

    fn set_unclean(&self, value: u8) -> Result<()> {
        self.storage.write_at(&[value], offset_of!(SparseHeader, unclean_shutdown) as u64)?;
        self.storage.flush()
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "VMDK: a sparse extent's file reaches 2 TiB, and its tables can only name sectors below that",
    )
    .with_remedy("use subformat=twoGbMaxExtentSparse, or another format")
}
