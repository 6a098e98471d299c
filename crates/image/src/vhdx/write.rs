//! Writing at random places.
//!
//! A block gets its place when it is first written or reserved: the next free bytes at the file's end, which read as
//! zeroes, so that writing a part of a block needs nothing else. Entries change in memory and reach the file with
//! [`Vhdx::commit`], behind the data: a crash leaves the old content or the new, never somebody else's bytes. Space is
//! never used twice.
//!
//! An image that exists is changed through its log ([`Journal`]), one entry for each commit, and a block's changes are in
//! one commit. A new image appears only when it is whole; until its first `finish` its tables are written straight to
//! their place, behind the data all the same.
//!
//! In a disk with a parent a new block is partially present: sectors show the parent until their bit is set, which is done
//! once their data is written.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use transload_block::{BlockWrite, Error, ErrorKind, Reserve, Result, Storage, ZeroMode, check_range, check_span};

use super::device::Vhdx;
use super::error::Fault;
use super::journal::{FileLength, Journal, write_in_place};
use super::layout::{
    BITMAP_BYTES, CHUNK_SECTORS, LOG_SECTOR, MIB, OFFSET_MASK, RawDataSector, STATE_MASK, bitmap, payload,
};
use super::map::{Place, Run};
use super::sectors::Sectors;
use crate::ImageWrite;

/// How far the file is made longer at a time; what is left over goes when the image is finished.
const GROWTH: u64 = 64 << 20;
/// The most sectors that the changes of one block touch: its entry, its bitmap's entry, and 64 KiB of bits with an end on
/// either side.
const BLOCK_CHANGES: usize = 20;

/// What is behind the device's mutex.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) sectors: Sectors,
    /// Where the next block goes: behind everything in use, a multiple of 1 MiB.
    next_free: u64,
    /// `None` for an image that is read, and for a new one until its first `finish`.
    journal: Option<Journal>,
    /// How many changed sectors are too many.
    changes_max: usize,
}

impl State {
    pub(super) const fn reading(sectors: Sectors) -> Self {
        Self { sectors, next_free: 0, journal: None, changes_max: 0 }
    }

    /// For an image whose file ends at `end`. A new one has no journal until it is finished.
    pub(super) fn writing(cache_bytes: usize, end: u64, journal: Option<Journal>) -> Self {
        let sectors = Sectors::new(cache_bytes / 2);
        let room = (cache_bytes / 2 / size_of::<RawDataSector>()).max(4 * BLOCK_CHANGES);
        let changes_max = journal.as_ref().map_or(room, |journal| room.min(journal.sectors_max()));
        Self { sectors, next_free: end.next_multiple_of(MIB), journal, changes_max }
    }
}

/// What a device needs to be written.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(super) storage: Arc<dyn Storage>,
    /// Bytes at the front of the file that may hold anything: those of a block device that was written before.
    stale: u64,
    /// The journal of a new image, which begins when the image is finished.
    after: RwLock<InUse>,
}

/// Whether changes are under way.
#[derive(Debug)]
pub(crate) struct InUse {
    begun: bool,
    /// What a new image goes on with behind its `finish`.
    next: Option<Journal>,
}

impl Writing {
    /// An image that exists: nothing changes before the first write.
    pub(super) fn existing(storage: Arc<dyn Storage>) -> Self {
        Self { storage, stale: 0, after: RwLock::new(InUse { begun: false, next: None }) }
    }

    /// A new image, over `stale` bytes of something else.
    pub(super) fn created(storage: Arc<dyn Storage>, stale: u64, journal: Journal) -> Self {
        Self { storage, stale, after: RwLock::new(InUse { begun: true, next: Some(journal) }) }
    }
}

impl Vhdx {
    fn writing(&self) -> Result<&Writing> {
        self.writing.as_ref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "VHDX: opened for reading"))
    }

    /// Runs `write` between marking the file as changed and any `finish`. `first` describes the write, should it be the
    /// first since the image was opened.
    fn change<T>(&self, first: impl Fn() -> Vec<u8>, write: impl FnOnce(&Writing) -> Result<T>) -> Result<T> {
        let writing = self.writing()?;
        loop {
            let in_use = writing.after.read().unwrap_or_else(PoisonError::into_inner);
            if in_use.begun {
                return write(writing);
            }
            drop(in_use);
            let mut in_use = writing.after.write().unwrap_or_else(PoisonError::into_inner);
            if !in_use.begun {
                if let Some(journal) = &mut self.state().journal {
                    journal.begin(&*writing.storage, &first())?;
                }
                in_use.begun = true;
            }
            // A `finish` may slip in here; then it is begun again.
        }
    }

    /// Writes what changed in the tables, behind the data it tells of, and makes both durable.
    fn commit(&self, writing: &Writing, state: &mut State) -> Result<()> {
        let storage = &*writing.storage;
        storage.flush()?;
        if state.sectors.changes() == 0 {
            return Ok(());
        }
        let changes: Vec<_> = state.sectors.changed().collect();
        match &mut state.journal {
            Some(journal) => {
                let length = FileLength { flushed: state.next_free.min(storage.size()), last: state.next_free };
                journal.commit(storage, &changes, length)?;
            }
            None => {
                write_in_place(storage, &changes)?;
                storage.flush()?;
            }
        }
        state.sectors.settle();
        Ok(())
    }

    /// Makes room for the changes of one more block in what is committed at once.
    fn relieve(&self, writing: &Writing, state: &mut State) -> Result<()> {
        if state.sectors.changes() + BLOCK_CHANGES > state.changes_max {
            self.commit(writing, state)?;
        }
        Ok(())
    }

    /// Takes `length` bytes behind everything in use; they read as zeroes.
    fn take(&self, writing: &Writing, state: &mut State, length: u64) -> Result<u64> {
        let (storage, place) = (&*writing.storage, state.next_free);
        let end = place + length;
        if storage.size() < end {
            // A generous step may exceed a limit that the image itself will not.
            storage.set_size(end + GROWTH).or_else(|_| storage.set_size(end))?;
        }
        if place < writing.stale {
            storage.write_zeroes_at(place..end.min(writing.stale), ZeroMode::Unmap)?;
        }
        state.next_free = end;
        Ok(place)
    }

    fn set_entry(&self, state: &mut State, number: u64, entry: u64) -> Result<()> {
        let at = self.map.bat + number * 8;
        let inside = usize::try_from(at % LOG_SECTOR).expect("inside a sector");
        let sector = state.sectors.change(&*self.file, at - at % LOG_SECTOR)?;
        sector[inside..inside + 8].copy_from_slice(&entry.to_le_bytes());
        Ok(())
    }

    /// Gives `block` a place, unless it has one. Answers its entry.
    fn allocate(&self, writing: &Writing, state: &mut State, block: u64) -> Result<u64> {
        let entry = self.map.payload(&mut state.sectors, &*self.file, block)?;
        let new = match entry & STATE_MASK {
            payload::FULLY_PRESENT | payload::PARTIALLY_PRESENT => {
                self.map.block_place(&*self.file, block, entry)?;
                return Ok(entry);
            }
            payload::NOT_PRESENT if self.map.geometry.has_parent => payload::PARTIALLY_PRESENT,
            payload::NOT_PRESENT | payload::UNDEFINED | payload::ZERO | payload::UNMAPPED => payload::FULLY_PRESENT,
            state => return Err(Fault::BlockState { block, entry, state }.into()),
        };
        self.relieve(writing, state)?;
        if new == payload::PARTIALLY_PRESENT {
            self.ensure_bitmap(writing, state, block)?;
            // Bits of a block that was not present mean nothing, and would from now on.
            let start = block * self.map.geometry.block_size;
            self.set_bits(state, start..start + self.map.geometry.block_size, false)?;
        }
        let entry = self.take(writing, state, self.map.geometry.block_size)? | new;
        self.set_entry(state, self.map.geometry.payload_entry(block), entry)?;
        Ok(entry)
    }

    fn ensure_bitmap(&self, writing: &Writing, state: &mut State, block: u64) -> Result<()> {
        if self.map.bitmap_place(&mut state.sectors, &*self.file, block)?.is_none() {
            let place = self.take(writing, state, BITMAP_BYTES)?;
            let chunk = block / self.map.geometry.chunk_ratio();
            self.set_entry(state, self.map.geometry.bitmap_entry(chunk), place | bitmap::PRESENT)?;
        }
        Ok(())
    }

    /// Says of the sectors that `range`, in one block, touches whether they are in this file.
    fn set_bits(&self, state: &mut State, range: Range<u64>, present: bool) -> Result<()> {
        let geometry = self.map.geometry;
        let block = range.start / geometry.block_size;
        let Some(place) = self.map.bitmap_place(&mut state.sectors, &*self.file, block)? else {
            let chunk = block / geometry.chunk_ratio();
            return Err(Fault::NoBitmap { block, chunk, entry: 0 }.into());
        };
        let first = range.start / geometry.sector % CHUNK_SECTORS;
        let end = first + (range.end.div_ceil(geometry.sector) - range.start / geometry.sector);
        let per_sector = LOG_SECTOR * 8;
        let mut bit = first;
        while bit < end {
            let at = place + bit / per_sector * LOG_SECTOR;
            let until = end.min((bit / per_sector + 1) * per_sector);
            let sector = state.sectors.change(&*self.file, at)?;
            for bit in bit..until {
                let byte = &mut sector[usize::try_from(bit % per_sector / 8).expect("inside a sector")];
                *byte = *byte & !(1 << (bit % 8)) | u8::from(present) << (bit % 8);
            }
            bit = until;
        }
        Ok(())
    }

    /// Gives the bytes at the start of `range` a place to be written to, and answers where and how many they are.
    fn prepare(&self, writing: &Writing, state: &mut State, range: &Range<u64>) -> Result<(u64, u64)> {
        let block_size = self.map.geometry.block_size;
        let inside = range.start % block_size;
        let entry = self.allocate(writing, state, range.start / block_size)?;
        let place = (entry & OFFSET_MASK) + inside;
        let mut length = (range.end - range.start).min(block_size - inside);
        if entry & STATE_MASK == payload::PARTIALLY_PRESENT {
            self.fill_edges(writing, state, range.start..range.start + length)?;
            return Ok((place, length));
        }
        // Blocks that follow each other are written at once.
        while range.start + length < range.end && !self.map.geometry.has_parent {
            let at = range.start + length;
            let entry = self.allocate(writing, state, at / block_size)?;
            if entry & OFFSET_MASK != place + length {
                break;
            }
            length += (range.end - at).min(block_size);
        }
        Ok((place, length))
    }

    /// Makes the first and the last sector of `range`, in one block that is partially present, wholly the file's where the
    /// range has only a part of them: the rest becomes zeroes, as this layer alone has it. Who writes over a parent writes
    /// whole sectors.
    fn fill_edges(&self, writing: &Writing, state: &mut State, range: Range<u64>) -> Result<()> {
        let unit = self.map.geometry.sector;
        let first = range.start / unit * unit;
        let last = (range.end - 1) / unit * unit;
        for sector in [first, last] {
            let end = sector + unit;
            if sector >= range.start && end <= range.end {
                continue;
            }
            let run = self.map.run(&mut state.sectors, &*self.file, sector..end)?;
            if run.place == Place::Hole {
                let block_size = self.map.geometry.block_size;
                let entry = self.map.payload(&mut state.sectors, &*self.file, sector / block_size)?;
                let place = (entry & OFFSET_MASK) + sector % block_size;
                writing.storage.write_zeroes_at(place..place + unit, ZeroMode::KeepAllocated)?;
                self.relieve(writing, state)?;
                self.set_bits(state, sector..end, true)?;
            }
        }
        Ok(())
    }

    /// Says that the sectors of `range` are in this file, where their blocks are partially present.
    fn mark_present(&self, writing: &Writing, range: Range<u64>) -> Result<()> {
        if !self.map.geometry.has_parent {
            return Ok(());
        }
        let mut state = self.state();
        let block = range.start / self.map.geometry.block_size;
        let entry = self.map.payload(&mut state.sectors, &*self.file, block)?;
        if entry & STATE_MASK == payload::PARTIALLY_PRESENT {
            self.relieve(writing, &mut state)?;
            self.set_bits(&mut state, range, true)?;
        }
        Ok(())
    }

    /// Makes the bytes at the start of `range` read as zeroes, and answers how many they are.
    fn zero_some(&self, writing: &Writing, range: Range<u64>, mode: ZeroMode) -> Result<u64> {
        let geometry = self.map.geometry;
        let mut state = self.state();
        if !geometry.has_parent {
            let run = self.map.run(&mut state.sectors, &*self.file, range)?;
            drop(state);
            return self.zero_run(writing, run, mode);
        }
        let block = range.start / geometry.block_size;
        let (start, end) = (block * geometry.block_size, (block + 1) * geometry.block_size);
        let range = range.start..range.end.min(end);
        let length = range.end - range.start;
        let entry = self.map.payload(&mut state.sectors, &*self.file, block)?;
        match entry & STATE_MASK {
            payload::NOT_PRESENT if range.start == start && range.end == end.min(geometry.size) => {
                self.relieve(writing, &mut state)?;
                self.set_entry(&mut state, geometry.payload_entry(block), payload::ZERO)?;
                return Ok(length);
            }
            payload::UNDEFINED | payload::ZERO | payload::UNMAPPED => return Ok(length),
            _ => {}
        }
        let (place, length) = self.prepare(writing, &mut state, &range)?;
        drop(state);
        self.zero_run(writing, Run { place: Place::File(place), length }, mode)?;
        self.mark_present(writing, range)?;
        Ok(length)
    }

    fn zero_run(&self, writing: &Writing, run: Run, mode: ZeroMode) -> Result<u64> {
        if let Place::File(place) = run.place {
            writing.storage.write_zeroes_at(place..place + run.length, mode)?;
        }
        Ok(run.length)
    }
}

impl BlockWrite for Vhdx {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.writing()?;
        let end = check_range(offset, buf.len() as u64, self.map.geometry.size)?;
        if buf.is_empty() {
            return Ok(());
        }
        let describe = || [&offset.to_le_bytes(), blake3::hash(buf).as_bytes().as_slice()].concat();
        self.change(describe, |writing| {
            let (mut rest, mut at) = (buf, offset);
            while !rest.is_empty() {
                let (place, length) = self.prepare(writing, &mut self.state(), &(at..end))?;
                let (piece, behind) = rest.split_at(usize::try_from(length).unwrap_or(rest.len()));
                writing.storage.write_at(piece, place)?;
                self.mark_present(writing, at..at + length)?;
                at += length;
                rest = behind;
            }
            Ok(())
        })
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.writing()?;
        check_span(&range, self.map.geometry.size)?;
        if range.is_empty() {
            return Ok(());
        }
        let describe = || format!("zero {}..{}", range.start, range.end).into_bytes();
        self.change(describe, |writing| {
            let mut at = range.start;
            while at < range.end {
                at += self.zero_some(writing, at..range.end, mode)?;
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<()> {
        let Ok(writing) = self.writing() else { return Ok(()) };
        self.commit(writing, &mut self.state())
    }
}

impl Reserve for Vhdx {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.writing()?;
        check_span(&range, self.map.geometry.size)?;
        if range.is_empty() {
            return Ok(());
        }
        let describe = || format!("reserve {}..{}", range.start, range.end).into_bytes();
        self.change(describe, |writing| {
            let mut state = self.state();
            let blocks = range.start / self.map.geometry.block_size..=(range.end - 1) / self.map.geometry.block_size;
            for block in blocks {
                self.allocate(writing, &mut state, block)?;
            }
            Ok(())
        })
    }
}

impl ImageWrite for Vhdx {
    fn finish(&self) -> Result<()> {
        let writing = self.writing()?;
        let mut in_use = writing.after.write().unwrap_or_else(PoisonError::into_inner);
        let storage = &*writing.storage;
        if in_use.begun {
            let mut guard = self.state();
            let state = &mut *guard;
            self.commit(writing, state)?;
            // What the log holds is in its place, durably, before the header says that the log is empty.
            storage.flush()?;
            match &mut state.journal {
                Some(journal) => journal.close(storage)?,
                journal @ None => {
                    *journal = in_use.next.take();
                    let room = journal.as_ref().map_or(0, Journal::sectors_max);
                    state.changes_max = state.changes_max.min(room);
                }
            }
            if storage.size() > state.next_free {
                storage.set_size(state.next_free)?;
            }
            in_use.begun = false;
        }
        storage.flush()
    }
}
