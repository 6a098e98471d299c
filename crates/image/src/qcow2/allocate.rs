//! Refcounts, and the clusters they leave free.
//!
//! The refcount table is in memory (at most 8 MiB); refcount blocks are cached and written back when they are in the way.
//! A block in memory may be written at any time: what it has more than the file is only a leak, and what it has less is
//! put into it by [`Refcounts::release`] alone, whose caller knows that nothing in the file refers to those clusters any
//! more. New blocks are written before the table refers to them.
//!
//! The search for free clusters goes on where the last one ended and falls back only to what was released since.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use transload_block::{Error, ErrorKind, Result, Storage};

use super::error::Qcow2Error;
use super::layout::{self, entry};
use super::open::{Geometry, ParsedHeader};
use super::refcounts::{get_count, set_count};
use super::tables::{encode, index, read_padded};

/// The smallest step by which the file is made longer; otherwise it is half its size.
const GROWTH_MIN: u64 = 1 << 20;
/// The largest such step.
const GROWTH_MAX: u64 = 1 << 30;
/// Where in the header the refcount table's offset and, right behind it, its clusters stand.
const HEADER_REFCOUNT_TABLE: u64 = 48;

/// A refcount block in memory.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    dirty: bool,
    /// When it was last asked for.
    used: u64,
}

/// The refcounts of an image that is written.
#[derive(Debug)]
pub(crate) struct Refcounts {
    geometry: Geometry,
    table: Vec<u64>,
    table_offset: u64,
    /// Entries that the file does not have yet.
    table_dirty: BTreeSet<u64>,
    blocks: HashMap<u64, Block>,
    blocks_limit: usize,
    clock: u64,
    /// No cluster before it is free, but for those not yet released.
    next_free: u64,
    /// Clusters that hold what the header refers to: never free, whatever their refcount says.
    fixed: Vec<(Range<u64>, &'static str)>,
    /// The file was made longer than it needs to be.
    grown: bool,
}

impl Refcounts {
    pub(crate) fn load(header: &ParsedHeader, file: &dyn Storage, cache_bytes: usize) -> Result<Self> {
        let geometry = header.geometry;
        let location = header.refcount_table;
        let mut bytes = vec![0; index(location.entries * 8)];
        read_padded(file, &mut bytes, location.offset)?;
        let number = |chunk: &[u8]| u64::from_be_bytes(chunk.try_into().expect("chunks of eight"));
        let clusters = |offset: u64, length: u64| {
            offset / geometry.cluster_size()..(offset + length).div_ceil(geometry.cluster_size())
        };
        let mut fixed = vec![(0..1, "header"), (clusters(location.offset, location.entries * 8), "refcount table")];
        if header.l1.entries > 0 {
            fixed.push((clusters(header.l1.offset, header.l1.entries * 8), "L1 table"));
        }
        if header.nb_snapshots > 0 {
            fixed.push((clusters(header.snapshots_offset, 1), "snapshot table"));
        }
        Ok(Self {
            geometry,
            table: bytes.chunks_exact(8).map(number).collect(),
            table_offset: location.offset,
            table_dirty: BTreeSet::new(),
            blocks: HashMap::new(),
            blocks_limit: (cache_bytes / index(geometry.cluster_size())).max(4),
            clock: 0,
            next_free: 0,
            fixed,
            grown: false,
        })
    }

    /// What of the header's structures stands in `clusters`.
    pub(crate) fn structure_in(&self, clusters: &Range<u64>) -> Option<&'static str> {
        let meets = |fixed: &Range<u64>| fixed.start < clusters.end && clusters.start < fixed.end;
        self.fixed.iter().find(|(fixed, _)| meets(fixed)).map(|(_, structure)| *structure)
    }

    /// Whether anything is to be written.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.table_dirty.is_empty() || self.blocks.values().any(|block| block.dirty)
    }

    /// Takes up to `wanted` free clusters that stand behind each other, at least one: their refcounts are 1, and the
    /// file reaches over them.
    pub(crate) fn allocate(&mut self, file: &dyn Storage, wanted: u64) -> Result<Range<u64>> {
        let per_block = self.geometry.refcount_block_entries();
        loop {
            let first = self.next_free;
            let block = first / per_block;
            if !self.has_block(block) {
                self.add_block(file, block)?;
                continue;
            }
            let order = self.geometry.refcount_order;
            let bytes = &mut self.block(file, block)?.bytes;
            let slots = first % per_block..per_block;
            let Some(free) = slots.clone().find(|slot| get_count(bytes, order, *slot) == 0) else {
                self.next_free = (block + 1) * per_block;
                continue;
            };
            let end = per_block.min(free.saturating_add(wanted.max(1)));
            let used = (free..end).find(|slot| get_count(bytes, order, *slot) != 0).unwrap_or(end);
            let clusters = block * per_block + free..block * per_block + used;
            if let Some(structure) = self.structure_in(&clusters) {
                let offset = clusters.start * self.geometry.cluster_size();
                return Err(Qcow2Error::RefcountZero { offset, structure }.into());
            }
            self.reach(file, clusters.end)?;
            let block = self.block(file, block)?;
            for slot in free..used {
                set_count(&mut block.bytes, order, slot, 1);
            }
            block.dirty = true;
            self.next_free = clusters.end;
            return Ok(clusters);
        }
    }

    /// Takes one off the refcount of each of `clusters`. What falls to 0 is free. Nothing in the file may refer to what
    /// is released, nor may anybody be using it.
    pub(crate) fn release(&mut self, file: &dyn Storage, clusters: Range<u64>) -> Result<()> {
        let (per_block, order) = (self.geometry.refcount_block_entries(), self.geometry.refcount_order);
        for cluster in clusters {
            let number = cluster / per_block;
            let offset = cluster * self.geometry.cluster_size();
            let none = Qcow2Error::RefcountRange { offset, count: 0, change: -1 };
            if !self.has_block(number) {
                return Err(none.into());
            }
            let block = self.block(file, number)?;
            let count = get_count(&block.bytes, order, cluster % per_block);
            if count == 0 {
                return Err(none.into());
            }
            set_count(&mut block.bytes, order, cluster % per_block, count - 1);
            block.dirty = true;
            if count == 1 {
                self.next_free = self.next_free.min(cluster);
            }
        }
        Ok(())
    }

    /// The refcount of `cluster`.
    pub(crate) fn count(&mut self, file: &dyn Storage, cluster: u64) -> Result<u64> {
        let (per_block, order) = (self.geometry.refcount_block_entries(), self.geometry.refcount_order);
        if !self.has_block(cluster / per_block) {
            return Ok(0);
        }
        let block = self.block(file, cluster / per_block)?;
        Ok(get_count(&block.bytes, order, cluster % per_block))
    }

    /// Writes all blocks, then, when they are durable, the table's entries for new ones. `barrier` makes what was
    /// written durable.
    pub(crate) fn write_back(&mut self, file: &dyn Storage, barrier: &dyn Fn() -> Result<()>) -> Result<()> {
        self.write_blocks(file)?;
        if self.table_dirty.is_empty() {
            return Ok(());
        }
        barrier()?;
        while let Some(number) = self.table_dirty.first().copied() {
            file.write_at(&self.table[index(number)].to_be_bytes(), self.table_offset + number * 8)?;
            self.table_dirty.remove(&number);
        }
        Ok(())
    }

    /// Cuts off what the file was made too long.
    pub(crate) fn trim(&mut self, file: &dyn Storage) -> Result<()> {
        if !self.grown {
            return Ok(());
        }
        let cluster_size = self.geometry.cluster_size();
        let mut end = file.size() / cluster_size;
        while end > 0 && self.count(file, end - 1)? == 0 {
            end -= 1;
        }
        if end * cluster_size < file.size() {
            file.set_size(end * cluster_size)?;
        }
        self.grown = false;
        Ok(())
    }

    /// Makes the file reach over the clusters before `end`.
    fn reach(&mut self, file: &dyn Storage, end: u64) -> Result<()> {
        let too_large = || Error::new(ErrorKind::TooLarge, "image file: its size exceeds 63 bits");
        let end = end.checked_mul(self.geometry.cluster_size()).filter(|end| *end <= i64::MAX.unsigned_abs());
        let (end, size) = (end.ok_or_else(too_large)?, file.size());
        if end <= size {
            return Ok(());
        }
        let step = (size / 2).clamp(GROWTH_MIN, GROWTH_MAX);
        // Ahead of the need where there is room; a full or fixed device may still have just enough.
        match file.set_size(self.geometry.round_up(end.saturating_add(step))) {
            Ok(()) => self.grown = true,
            Err(_) => file.set_size(end)?,
        }
        Ok(())
    }

    fn has_block(&self, number: u64) -> bool {
        self.table.get(usize::try_from(number).unwrap_or(usize::MAX)).is_some_and(|entry| *entry != 0)
    }

    /// The block with that number, which the table has.
    fn block(&mut self, file: &dyn Storage, number: u64) -> Result<&mut Block> {
        self.clock += 1;
        let used = self.clock;
        if !self.blocks.contains_key(&number) {
            let offset = self.block_offset(file, number)?;
            let mut bytes = vec![0; index(self.geometry.cluster_size())];
            read_padded(file, &mut bytes, offset)?;
            self.insert(file, number, Block { bytes, dirty: false, used })?;
        }
        let block = self.blocks.get_mut(&number).expect("inserted above");
        block.used = used;
        Ok(block)
    }

    fn block_offset(&self, file: &dyn Storage, number: u64) -> Result<u64, Qcow2Error> {
        let offset = self.table[index(number)];
        let bad = |rule| Qcow2Error::RefcountBlock { index: number, offset, rule };
        if offset & !entry::REFCOUNT_BLOCK_OFFSET != 0 {
            return Err(bad("has reserved bits set"));
        }
        if !offset.is_multiple_of(self.geometry.cluster_size()) {
            return Err(bad("is not a multiple of the cluster size"));
        }
        if offset >= self.geometry.round_up(file.size()) {
            return Err(bad("lies behind the file's end"));
        }
        let cluster = offset / self.geometry.cluster_size();
        if self.structure_in(&(cluster..cluster + 1)).is_some() {
            return Err(bad("overlaps the header, the L1 table, the refcount table or the snapshot table"));
        }
        Ok(offset)
    }

    /// Keeps a block in memory, for which the one that was not asked for longest may have to go.
    fn insert(&mut self, file: &dyn Storage, number: u64, block: Block) -> Result<()> {
        if self.blocks.len() >= self.blocks_limit {
            let oldest = self.blocks.iter().min_by_key(|(_, block)| block.used).map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                self.write_block(file, oldest)?;
                self.blocks.remove(&oldest);
            }
        }
        self.blocks.insert(number, block);
        Ok(())
    }

    fn write_blocks(&mut self, file: &dyn Storage) -> Result<()> {
        let mut dirty: Vec<_> =
            self.blocks.iter().filter(|(_, block)| block.dirty).map(|(number, _)| *number).collect();
        dirty.sort_unstable();
        dirty.into_iter().try_for_each(|number| self.write_block(file, number))
    }

    fn write_block(&mut self, file: &dyn Storage, number: u64) -> Result<()> {
        let offset = self.table[index(number)];
        if let Some(block) = self.blocks.get_mut(&number).filter(|block| block.dirty) {
            file.write_at(&block.bytes, offset)?;
            block.dirty = false;
        }
        Ok(())
    }

    /// Makes block `number`, the first that is missing from `next_free` on: in the cluster at `next_free`, which it
    /// counts itself.
    fn add_block(&mut self, file: &dyn Storage, number: u64) -> Result<()> {
        if number >= self.table.len() as u64 {
            return self.grow_table(file);
        }
        let cluster = self.next_free;
        if let Some(structure) = self.structure_in(&(cluster..cluster + 1)) {
            let offset = cluster * self.geometry.cluster_size();
            return Err(Qcow2Error::RefcountZero { offset, structure }.into());
        }
        self.reach(file, cluster + 1)?;
        let mut bytes = vec![0; index(self.geometry.cluster_size())];
        let slot = cluster % self.geometry.refcount_block_entries();
        set_count(&mut bytes, self.geometry.refcount_order, slot, 1);
        self.clock += 1;
        self.insert(file, number, Block { bytes, dirty: true, used: self.clock })?;
        self.table[index(number)] = cluster * self.geometry.cluster_size();
        self.table_dirty.insert(number);
        self.next_free = cluster + 1;
        Ok(())
    }

    /// Moves the table to a larger place behind all that it covers, together with the blocks that count that place.
    ///
    /// Everything the new table refers to is written and durable before the header refers to it, and that before the old
    /// table is released.
    fn grow_table(&mut self, file: &dyn Storage) -> Result<()> {
        let (geometry, cluster_size) = (self.geometry, self.geometry.cluster_size());
        let per_block = geometry.refcount_block_entries();
        let old_entries = self.table.len() as u64;
        let start = old_entries * per_block;
        let (mut blocks, mut table_clusters) = (1, 1);
        loop {
            let entries = (old_entries + blocks).max(old_entries + old_entries / 2);
            let new_clusters = (entries * 8).div_ceil(cluster_size).max(table_clusters);
            let new_blocks = (new_clusters + blocks).div_ceil(per_block).max(blocks);
            if (new_clusters, new_blocks) == (table_clusters, blocks) {
                break;
            }
            (table_clusters, blocks) = (new_clusters, new_blocks);
        }
        let length = table_clusters * cluster_size;
        if length > layout::REFCOUNT_TABLE_BYTES_MAX {
            let limit = layout::REFCOUNT_TABLE_BYTES_MAX;
            return Err(Qcow2Error::TableTooLarge { table: "refcount table", length, limit }.into());
        }
        let end = start + blocks + table_clusters;
        self.reach(file, end)?;
        let mut table = self.table.clone();
        table.resize(index(length / 8), 0);
        self.write_blocks(file)?;
        for number in 0..blocks {
            let mut bytes = vec![0; index(cluster_size)];
            let covered = start + number * per_block..start + (number + 1) * per_block;
            for cluster in covered.start..covered.end.min(end) {
                set_count(&mut bytes, geometry.refcount_order, cluster % per_block, 1);
            }
            let place = (start + number) * cluster_size;
            file.write_at(&bytes, place)?;
            table[index(old_entries + number)] = place;
        }
        let table_offset = (start + blocks) * cluster_size;
        file.write_at(&encode(&table), table_offset)?;
        file.flush()?;
        let mut fields = table_offset.to_be_bytes().to_vec();
        fields.extend(u32::try_from(table_clusters).expect("at most 8 MiB").to_be_bytes());
        file.write_at(&fields, HEADER_REFCOUNT_TABLE)?;
        file.flush()?;
        let first_old = self.table_offset / cluster_size;
        let old = first_old..first_old + (old_entries * 8).div_ceil(cluster_size);
        self.table = table;
        self.table_offset = table_offset;
        self.table_dirty.clear();
        let moved = table_offset / cluster_size..end;
        for (range, structure) in &mut self.fixed {
            if *structure == "refcount table" {
                *range = moved.clone();
            }
        }
        self.next_free = end;
        self.release(file, old)
    }
}
