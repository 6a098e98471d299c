//! The order in which tables reach the file.
//!
//! Tables change in memory. [`Qcow2::write_tables`] puts them into the file so that a crash between any two writes leaves
//! at worst clusters that are counted and not used:
//!
//! ```text
//! refcount blocks ─► barrier ─► refcount table entries of new blocks
//!       ─► barrier (also makes guest data durable that was written before its entry was) ─► L2 slices
//!       ─► barrier ─► L1 entries ─► barrier
//!       ─► wait for requests that still use old places ─► take freed clusters out of the refcounts, in memory
//! ```
//!
//! - Refcounts only rise before an entry that needs them is written, so no cluster is ever in use with refcount 0.
//! - Guest data is written before its L2 entry changes, in memory too, so an entry never shows bytes of somebody else.
//!   What was reserved is the exception: it is unspecified until its owner has written it.
//! - A new L2 table is written before its L1 entry.
//! - A cluster that lost its last use is not given out again before the file no longer refers to it: not to data that
//!   would show through an old entry after a crash, and not while a request may still be under way to it.
//!
//! With `lazy_refcounts` the dirty bit stands in the file from the first write to [`ImageWrite::finish`](crate::ImageWrite::finish): after a crash the
//! refcounts are rebuilt from the L2 tables. Only the barriers of the refcounts are left out then; data still comes before the
//! L2 entries that refer to it, and these before L1 entries.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use transload_block::{Error, ErrorKind, Result, ZeroMode};

use super::device::Qcow2;
use super::layout::{autoclear, incompatible};
use super::tables::encode;
use super::writing::{State, Writing};

/// Where in the header the incompatible features stand.
const HEADER_INCOMPATIBLE: u64 = 72;
/// Where in the header the autoclear features stand.
const HEADER_AUTOCLEAR: u64 = 88;
/// Freed runs of clusters that are remembered before they are dealt with.
const FREED_MAX: usize = 1 << 15;

impl Qcow2 {
    /// What writing needs.
    ///
    /// # Errors
    /// `ReadOnly` when the image was opened for reading.
    pub(super) fn writing(&self) -> Result<&Writing> {
        self.writing.as_ref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "qcow2 image: opened for reading"))
    }

    /// The same, having prepared the file for its first change: bits of structures that are not kept up to date are
    /// cleared, and the dirty bit is set where refcounts are lazy.
    pub(super) fn begin(&self) -> Result<&Writing> {
        let writing = self.writing()?;
        if writing.begun.load(Ordering::Acquire) {
            return Ok(writing);
        }
        let _state = writing.lock();
        if writing.begun.load(Ordering::Acquire) {
            return Ok(writing);
        }
        let (header, storage) = (&self.header, &writing.storage);
        let whole = header.geometry.round_up(storage.size());
        if storage.size() < whole {
            storage.set_size(whole)?;
        }
        if let Some(data_file) = &writing.data_file
            && data_file.size() < header.size
        {
            data_file.set_size(header.size)?;
        }
        let kept = header.autoclear & if header.data_file_raw() { autoclear::DATA_FILE_RAW } else { 0 };
        if kept != header.autoclear {
            storage.write_at(&kept.to_be_bytes(), HEADER_AUTOCLEAR)?;
        }
        if header.lazy_refcounts() {
            let features = header.incompatible | incompatible::DIRTY;
            storage.write_at(&features.to_be_bytes(), HEADER_INCOMPATIBLE)?;
        }
        if kept != header.autoclear || header.lazy_refcounts() {
            storage.flush()?;
        }
        writing.begun.store(true, Ordering::Release);
        Ok(writing)
    }

    /// Writes all tables in their order and deals with what was freed.
    pub(super) fn write_tables(&self, writing: &Writing, state: &mut State) -> Result<()> {
        let storage = &*writing.storage;
        let refcount_barrier = || if self.header.lazy_refcounts() { Ok(()) } else { writing.sync() };
        state.refcounts.write_back(storage, &refcount_barrier)?;
        if !state.dirty_slices.is_empty() || !state.dirty_l1.is_empty() {
            writing.sync()?;
            self.write_slices(writing, state)?;
        }
        if !state.dirty_l1.is_empty() {
            writing.sync()?;
            let table = self.l1.location().offset;
            while let Some(at) = state.dirty_l1.first().copied() {
                let entry = self.l1.get(&*self.file, at)?;
                storage.write_at(&entry.to_be_bytes(), table + at * 8)?;
                state.dirty_l1.remove(&at);
            }
        }
        writing.sync()?;
        self.release_freed(writing, state)
    }

    /// Writes the dirty slices, those that stand behind each other in one piece.
    fn write_slices(&self, writing: &Writing, state: &mut State) -> Result<()> {
        const PIECE_MAX: usize = 1 << 20;
        let mut slices = state.dirty_slices.iter().peekable();
        while let Some((place, slice)) = slices.next() {
            let encoded =
                |slice: &super::tables::Slice| encode(&slice.entries.read().unwrap_or_else(PoisonError::into_inner));
            let mut bytes = encoded(slice);
            while bytes.len() < PIECE_MAX
                && let Some((_, next)) = slices.next_if(|(next, _)| **next == place + bytes.len() as u64)
            {
                bytes.extend(encoded(next));
            }
            writing.storage.write_at(&bytes, *place)?;
        }
        for slice in std::mem::take(&mut state.dirty_slices).into_values() {
            slice.mark_clean();
        }
        Ok(())
    }

    /// Takes out of the refcounts what the file no longer refers to, and gives its space back.
    fn release_freed(&self, writing: &Writing, state: &mut State) -> Result<()> {
        if state.freed.is_empty() {
            return Ok(());
        }
        // Whoever resolved a place before its entry changed is done with it when this lock was had for a moment.
        drop(self.in_flight.write().unwrap_or_else(PoisonError::into_inner));
        for freed in std::mem::take(&mut state.freed) {
            state.refcounts.release(&*writing.storage, freed.clusters.clone())?;
            if freed.unmap {
                self.punch(writing, state, freed.clusters)?;
            }
        }
        Ok(())
    }

    /// Gives back the space of those of `clusters` that nobody uses any more.
    fn punch(&self, writing: &Writing, state: &mut State, clusters: Range<u64>) -> Result<()> {
        let (storage, cluster_size) = (&*writing.storage, self.header.geometry.cluster_size());
        let mut at = clusters.start;
        while at < clusters.end {
            let mut end = at;
            while end < clusters.end && state.refcounts.count(storage, end)? == 0 {
                end += 1;
            }
            if at < end {
                storage
                    .write_zeroes_at(at * cluster_size..(end * cluster_size).min(storage.size()), ZeroMode::Unmap)?;
            }
            at = end + 1;
        }
        Ok(())
    }

    /// Writes the tables when those in memory that cannot be dropped have become many.
    pub(super) fn relieve(&self, writing: &Writing, state: &mut State) -> Result<()> {
        if state.dirty_slices.len() > writing.dirty_slices_max || state.freed.len() > FREED_MAX {
            self.write_tables(writing, state)?;
        }
        Ok(())
    }

    /// Makes everything durable and leaves an image that was closed.
    pub(super) fn close(&self) -> Result<()> {
        let writing = self.writing()?;
        let mut state = writing.lock();
        self.write_tables(writing, &mut state)?;
        if state.refcounts.is_dirty() {
            self.write_tables(writing, &mut state)?;
        }
        state.refcounts.trim(&*writing.storage)?;
        if self.header.lazy_refcounts() && writing.begun.swap(false, Ordering::AcqRel) {
            writing.storage.write_at(&self.header.incompatible.to_be_bytes(), HEADER_INCOMPATIBLE)?;
        }
        writing.sync()
    }
}
