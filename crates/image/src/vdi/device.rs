//! A VDI that is open: where its blocks stand, and how a block gets a place.
//!
//! A block gets the next free one of the file when it is first written or reserved. The file grows in large steps of
//! bytes that read as zeroes, so that writing a part of a block needs nothing else. What is new in the map stays in memory
//! until the data is durable, and goes into the file in this order:
//!
//! ```text
//! data ──► flush ──► number of blocks in the header ──► flush ──► entries of the map
//! ```
//!
//! A crash leaves the old content or the new. It may leave blocks that nothing refers to, never an entry for a block that
//! VirtualBox, which trusts the header's number, would give away again.
//!
//! One mutex guards map and allocation. It is held while places are looked up, never while payload moves.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{BlockRead, Error, ErrorKind, Result, Storage, ZeroMode};

use super::check::Census;
use super::error::Fault;
use super::layout::{BLOCK_FREE, BLOCK_ZERO, swap_uuid};
use super::map::{BlockMap, PAGE, slot};
use super::open::{Header, Places};
use crate::IdSource;
use crate::place::{Place, Run};

/// How far the file is made longer at a time; what is left over goes when the image is finished.
const GROWTH: u64 = 64 << 20;

/// What the device has to know of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub size: u64,
    pub block: u64,
    pub extra: u64,
    pub blocks: u64,
    pub map: u64,
    pub data: u64,
    pub has_parent: bool,
    pub fixed: bool,
    pub places: Places,
    /// Bytes at the front of the file that may hold anything: those of a block device that was written before.
    pub stale: u64,
}

impl Shape {
    /// Where the guest's bytes of block `index` of the file begin.
    pub(super) const fn block_offset(&self, index: u64) -> u64 {
        self.data + index * (self.block + self.extra) + self.extra
    }

    /// Where `count` blocks of the file end.
    pub(super) const fn end_of(&self, count: u64) -> u64 {
        self.data + count * (self.block + self.extra)
    }

    /// The bytes of the disk that `block` holds; fewer in the last one.
    pub(super) fn bytes_in(&self, block: u64) -> u64 {
        self.size.saturating_sub(block * self.block).min(self.block)
    }
}

/// An image that is open for reading, or also for writing.
#[derive(Debug)]
pub(super) struct Vdi {
    pub(super) file: Arc<dyn BlockRead>,
    pub(super) storage: Option<Arc<dyn Storage>>,
    pub(super) shape: Shape,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    map: BlockMap,
    /// The number of the next block of the file.
    next: u64,
    /// What the header says of that.
    recorded: u64,
    /// The modification UUID in the file, until the first write changes it.
    unchanged: Option<[u8; 16]>,
}

impl Vdi {
    pub(super) fn for_reading(file: Arc<dyn BlockRead>, shape: Shape, cache_bytes: usize) -> Self {
        let map = BlockMap::new(shape.map, shape.blocks, cache_bytes);
        Self { file, storage: None, shape, state: Mutex::new(State { map, next: 0, recorded: 0, unchanged: None }) }
    }

    /// An image that exists. Nothing changes before the first write.
    ///
    /// # Errors
    /// `Corrupt` when the map gives one block of the file to two of the disk, or names one that is not there: writing
    /// would make it worse.
    pub(super) fn for_writing(storage: Arc<dyn Storage>, header: &Header, cache_bytes: usize) -> Result<Self> {
        // What stands behind the last block that is referred to is left over from a crash, and may be anything.
        let shape = Shape { stale: storage.size(), ..header.shape() };
        let census = Census::take(&*storage, &shape, &mut |fault| Err(fault.into()))?;
        let (next, recorded) = (census.end, u64::from(header.allocated));
        let map = BlockMap::new(shape.map, shape.blocks, cache_bytes);
        let state = State { map, next, recorded, unchanged: Some(header.modification) };
        let file = Arc::clone(&storage) as Arc<dyn BlockRead>;
        Ok(Self { file, storage: Some(storage), shape, state: Mutex::new(state) })
    }

    /// An image that was just made, with `allocated` blocks.
    pub(super) fn created(storage: Arc<dyn Storage>, shape: Shape, allocated: u64, cache_bytes: usize) -> Self {
        let map = BlockMap::new(shape.map, shape.blocks, cache_bytes);
        let state = State { map, next: allocated, recorded: allocated, unchanged: None };
        let file = Arc::clone(&storage) as Arc<dyn BlockRead>;
        Self { file, storage: Some(storage), shape, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread cannot have left an entry half changed: they are single words.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn writable(&self) -> Result<&dyn Storage> {
        self.storage.as_deref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "VDI: opened for reading"))
    }

    /// Where the bytes at the start of `range` stand; the answer ends at the latest with the page of the map.
    pub(super) fn run(&self, range: Range<u64>) -> Result<Run> {
        self.run_locked(&mut self.state(), range)
    }

    pub(super) fn run_locked(&self, state: &mut State, range: Range<u64>) -> Result<Run> {
        let block = self.shape.block;
        let page = range.start / block / PAGE;
        let end = range.end.min((page + 1) * PAGE * block);
        let entries = self.page(state, page)?;
        let place = self.place(range.start, entries[slot(range.start / block)])?;
        let mut at = (range.start / block + 1) * block;
        while at < end && place.continues(at - range.start, self.place(at, entries[slot(at / block)])?) {
            at += block;
        }
        Ok(Run { length: at.min(end) - range.start, place })
    }

    /// The entries of a page of the map.
    fn page<'a>(&self, state: &'a mut State, page: u64) -> Result<&'a [u32]> {
        if !state.map.has_room(page) {
            self.write_back(state)?;
            state.map.make_room();
        }
        state.map.page(&*self.file, page)
    }

    /// Where the byte at `offset` of the disk stands when its block's entry is `entry`.
    fn place(&self, offset: u64, entry: u32) -> Result<Place> {
        match entry {
            BLOCK_FREE => Ok(Place::Nowhere),
            BLOCK_ZERO => Ok(Place::Zero),
            _ => {
                let start = self.shape.checked_block(&*self.file, offset / self.shape.block, entry)?;
                Ok(Place::File(start + offset % self.shape.block))
            }
        }
    }

    /// Gives every block of `range` a place.
    pub(super) fn allocate(&self, state: &mut State, range: Range<u64>) -> Result<()> {
        let last = (range.end - 1) / self.shape.block;
        for block in range.start / self.shape.block..=last {
            let entry = self.page(state, block / PAGE)?[slot(block)];
            if matches!(entry, BLOCK_FREE | BLOCK_ZERO) {
                let taken = self.take(state)?;
                state.map.set(block, taken);
            }
        }
        Ok(())
    }

    /// Marks every block that `range` touches as zeroes.
    pub(super) fn mark_zero(&self, state: &mut State, range: Range<u64>) -> Result<()> {
        for block in range.start / self.shape.block..range.end.div_ceil(self.shape.block) {
            self.page(state, block / PAGE)?;
            state.map.set(block, BLOCK_ZERO);
        }
        Ok(())
    }

    /// Takes the next block of the file, whose bytes read as zeroes.
    fn take(&self, state: &mut State) -> Result<u32> {
        let storage = self.writable()?;
        let index = state.next;
        if index >= self.shape.blocks {
            return Err(Fault::Leaked { blocks: self.shape.blocks }.into());
        }
        let (start, end) = (self.shape.end_of(index), self.shape.end_of(index + 1));
        if storage.size() < end {
            // No further than the image can ever be. A generous step may exceed a limit that the image will not.
            let generous = (end + GROWTH).min(self.shape.end_of(self.shape.blocks));
            storage.set_size(generous).or_else(|_| storage.set_size(end))?;
        }
        if start < self.shape.stale {
            storage.write_zeroes_at(start..end.min(self.shape.stale), ZeroMode::Unmap)?;
        }
        state.next = index + 1;
        Ok(u32::try_from(index).expect("below the number of blocks"))
    }

    /// Gives the disk another modification UUID with the first write, so that a child of what it was finds out.
    pub(super) fn begin(&self, state: &mut State, describe: impl FnOnce() -> Vec<u8>) -> Result<()> {
        let Some(old) = state.unchanged else { return Ok(()) };
        let storage = self.writable()?;
        let new = IdSource::from_material(&[old.as_slice(), &describe()].concat()).uuid("vdi modification");
        storage.write_at(&swap_uuid(new), self.shape.places.modification_uuid)?;
        storage.flush()?;
        // Blocks that the file has lost its end of are made whole, so that the next ones follow them.
        let end = self.shape.end_of(state.next);
        if storage.size() < end {
            storage.set_size(end)?;
        }
        state.unchanged = None;
        Ok(())
    }

    /// Puts what changed in the map behind durable data.
    pub(super) fn write_back(&self, state: &mut State) -> Result<()> {
        if !state.map.is_dirty() {
            return Ok(());
        }
        let storage = self.writable()?;
        storage.flush()?;
        if state.recorded != state.next {
            let count = u32::try_from(state.next).expect("below the number of blocks");
            storage.write_at(&count.to_le_bytes(), self.shape.places.allocated)?;
            storage.flush()?;
            state.recorded = state.next;
        }
        state.map.write_back(storage)
    }

    /// Cuts off what was allocated ahead, once everything else is in the file.
    pub(super) fn close(&self) -> Result<()> {
        let storage = self.writable()?;
        let mut state = self.state();
        if state.unchanged.is_none() {
            self.write_back(&mut state)?;
            let end = self.shape.end_of(state.next);
            if storage.size() > end {
                storage.set_size(end)?;
            }
        }
        storage.flush()
    }
}

impl Shape {
    /// Where the guest's bytes of `block` begin, when its entry is `entry` and not a special one.
    ///
    /// # Errors
    /// `Corrupt` when there is no such block in the file.
    pub(super) fn checked_block(&self, file: &dyn BlockRead, block: u64, entry: u32) -> Result<u64, Fault> {
        if u64::from(entry) >= self.blocks {
            return Err(Fault::Entry { block, entry, blocks: self.blocks });
        }
        let (offset, bytes) = (self.block_offset(u64::from(entry)), self.bytes_in(block));
        // The rest of the last block holds nothing of the disk, and may be missing.
        match offset + bytes <= file.size() {
            true => Ok(offset),
            false => Err(Fault::BlockOutside { block, bytes, offset, file: file.size() }),
        }
    }
}
