//! The reference counts that a file stores: reading, changing in place, and writing them anew.
//!
//! Nothing here allocates clusters of an image that is open for writing; that is the device's business. These are for an
//! image that nobody else has open: `check`, `resize`, and the opening of an image that was not closed.

use std::collections::HashMap;

use transload_block::{BlockRead, Error, ErrorKind, Result, Storage};

use super::layout::{REFCOUNT_TABLE_BYTES_MAX, entry};
use super::open::{Geometry, ParsedHeader};
use super::references::References;
use super::tables::{index, read_padded};

/// Bytes of refcount blocks that are kept at most.
const CACHE_BYTES: usize = 16 << 20;

/// Where the refcount table's offset stands in the header; its length in clusters follows.
const HEADER_REFCOUNT_TABLE: u64 = 48;

/// The stored counts.
#[derive(Debug)]
pub(crate) struct StoredCounts {
    geometry: Geometry,
    /// The table's entries, with those blocks set to zero that are not usable.
    table: Vec<u64>,
    blocks: HashMap<u64, Vec<u8>>,
}

impl StoredCounts {
    /// Reads the refcount table.
    pub(crate) fn read(file: &dyn BlockRead, header: &ParsedHeader) -> Result<Self> {
        let mut bytes = vec![0; index(header.refcount_table.entries * 8)];
        read_padded(file, &mut bytes, header.refcount_table.offset)?;
        let number = |chunk: &[u8]| u64::from_be_bytes(chunk.try_into().expect("chunks of eight"));
        let table = bytes.chunks_exact(8).map(number).collect();
        Ok(Self { geometry: header.geometry, table, blocks: HashMap::new() })
    }

    /// The table's entries.
    pub(crate) fn table(&self) -> &[u64] {
        &self.table
    }

    /// Treats block `at` as missing from here on.
    pub(crate) fn drop_block(&mut self, at: usize) {
        self.table[at] = 0;
        self.blocks.remove(&(at as u64));
    }

    /// Whether there is a block for `cluster`.
    pub(crate) fn has_block(&self, cluster: u64) -> bool {
        let block = cluster / self.geometry.refcount_block_entries();
        usize::try_from(block).ok().and_then(|block| self.table.get(block)).is_some_and(|offset| *offset != 0)
    }

    /// The count of `cluster`; 0 where there is no block.
    pub(crate) fn get(&mut self, file: &dyn BlockRead, cluster: u64) -> Result<u64> {
        let per_block = self.geometry.refcount_block_entries();
        let order = self.geometry.refcount_order;
        let block = self.block(file, cluster / per_block)?;
        Ok(block.map_or(0, |bytes| get_count(bytes, order, cluster % per_block)))
    }

    /// Block number `at`.
    fn block(&mut self, file: &dyn BlockRead, at: u64) -> Result<Option<&Vec<u8>>> {
        let offset = usize::try_from(at).ok().and_then(|at| self.table.get(at)).copied().unwrap_or(0);
        if offset == 0 {
            return Ok(None);
        }
        if !self.blocks.contains_key(&at) {
            if (self.blocks.len() + 1) << self.geometry.cluster_bits > CACHE_BYTES {
                self.blocks.clear();
            }
            let mut bytes = vec![0; 1 << self.geometry.cluster_bits];
            read_padded(file, &mut bytes, offset & entry::REFCOUNT_BLOCK_OFFSET)?;
            self.blocks.insert(at, bytes);
        }
        Ok(self.blocks.get(&at))
    }

    /// Sets the counts of some clusters, all of which have a block and all of whose counts fit, and writes the blocks.
    /// The clusters ascend.
    pub(crate) fn set_all(&mut self, storage: &dyn Storage, counts: &[(u64, u64)]) -> Result<()> {
        let per_block = self.geometry.refcount_block_entries();
        let order = self.geometry.refcount_order;
        for group in counts.chunk_by(|one, next| one.0 / per_block == next.0 / per_block) {
            let at = group[0].0 / per_block;
            let Some(bytes) = self.block(storage, at)? else { continue };
            let mut bytes = bytes.clone();
            for (cluster, count) in group {
                set_count(&mut bytes, order, cluster % per_block, *count);
            }
            let offset = self.table[index(at)] & entry::REFCOUNT_BLOCK_OFFSET;
            extend_to(storage, offset + self.geometry.cluster_size())?;
            storage.write_at(&bytes, offset)?;
            self.blocks.insert(at, bytes);
        }
        Ok(())
    }

    /// Takes the clusters from byte `start` to byte `end`, which lie behind everything that is counted, into use: sets
    /// their counts to one, and adds the blocks for that behind them. Answers where the file then ends, or `None`, with
    /// nothing changed, when the table has no room for a block that is needed.
    pub(crate) fn claim(
        &mut self,
        storage: &dyn Storage,
        header: &ParsedHeader,
        start: u64,
        end: u64,
    ) -> Result<Option<u64>> {
        let (cluster_size, per_block) = (self.geometry.cluster_size(), self.geometry.refcount_block_entries());
        let first = start / cluster_size;
        let mut last = end / cluster_size;
        let mut new_blocks = Vec::new();
        // Every new block is a cluster that must be counted too.
        let mut at = first / per_block;
        while at * per_block < last {
            match usize::try_from(at).ok().and_then(|at| self.table.get(at)) {
                None => return Ok(None),
                Some(0) => {
                    new_blocks.push((at, last));
                    last += 1;
                }
                Some(_) => {}
            }
            at += 1;
        }
        extend_to(storage, last * cluster_size)?;
        for (at, cluster) in &new_blocks {
            let mut bytes = vec![0; index(cluster_size)];
            for counted in (first..last).filter(|counted| counted / per_block == *at) {
                set_count(&mut bytes, self.geometry.refcount_order, counted % per_block, 1);
            }
            storage.write_at(&bytes, cluster * cluster_size)?;
        }
        let counts: Vec<_> =
            (first..last).filter(|cluster| self.has_block(*cluster)).map(|cluster| (cluster, 1)).collect();
        self.set_all(storage, &counts)?;
        storage.flush()?;
        for (at, cluster) in new_blocks {
            let offset = cluster * cluster_size;
            storage.write_at(&offset.to_be_bytes(), header.refcount_table.offset + at * 8)?;
            self.table[index(at)] = offset;
        }
        storage.flush()?;
        Ok(Some(last * cluster_size))
    }
}

/// Count `at` of a refcount block.
pub(crate) fn get_count(block: &[u8], order: u32, at: u64) -> u64 {
    let at = index(at);
    if order < 3 {
        let per_byte = 8_usize >> order;
        let byte = u64::from(block[at / per_byte]);
        return byte >> ((at % per_byte) << order) & ((1 << (1 << order)) - 1);
    }
    let width = 1_usize << (order - 3);
    block[at * width..][..width].iter().fold(0, |count, byte| count << 8 | u64::from(*byte))
}

/// Sets count `at` of a refcount block to `count`, which fits.
pub(crate) fn set_count(block: &mut [u8], order: u32, at: u64, count: u64) {
    let at = index(at);
    let bytes = count.to_be_bytes();
    if order < 3 {
        let per_byte = 8_usize >> order;
        let shift = (at % per_byte) << order;
        let mask = ((1_u16 << (1 << order)) - 1).to_be_bytes()[1] << shift;
        let slot = &mut block[at / per_byte];
        *slot = *slot & !mask | (bytes[7] << shift) & mask;
        return;
    }
    let width = 1_usize << (order - 3);
    block[at * width..][..width].copy_from_slice(&bytes[8 - width..]);
}

/// Writes refcount table and blocks anew, behind the end of the file, and lets the header name them.
///
/// `references` counts everything but the old table and its blocks, which are free afterwards. The old ones stand until
/// the header's one write, so a crash leaves the image as it was, or mended.
///
/// # Errors
/// `Corrupt` when a count does not fit the image's refcount width; `TooLarge` when the table would exceed its limit; what
/// the storage answers.
pub(crate) fn write_anew(storage: &dyn Storage, header: &ParsedHeader, references: &References) -> Result<()> {
    let geometry = header.geometry;
    let (cluster_size, per_block) = (geometry.cluster_size(), geometry.refcount_block_entries());
    let file_end = geometry.round_up(storage.size()) / cluster_size;
    let first = references.last().map_or(0, |last| last + 1).max(file_end);
    let mut stretches: Vec<u64> = references.stretches(per_block).into_keys().collect();
    let (mut blocks, mut table) = (0, 0);
    loop {
        // The new structures need counts themselves.
        let end = first + blocks + table;
        let mut at = first / per_block;
        while at * per_block < end {
            if stretches.last().is_none_or(|last| *last < at) {
                stretches.push(at);
            }
            at += 1;
        }
        let needed_table = ((stretches.last().copied().unwrap_or(0) + 1) * 8).div_ceil(cluster_size);
        if (stretches.len() as u64, needed_table) == (blocks, table) {
            break;
        }
        (blocks, table) = (stretches.len() as u64, needed_table.max(table));
    }
    if table * cluster_size > REFCOUNT_TABLE_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("a new refcount table of {} bytes exceeds the limit", table * cluster_size),
        ));
    }
    let end = first + blocks + table;
    extend_to(storage, end * cluster_size)?;
    let mut entries = vec![0; index(table * cluster_size)];
    for (block, stretch) in (first..).zip(&stretches) {
        let bytes = anew_block(geometry, references, *stretch, first..end)?;
        storage.write_at(&bytes, block * cluster_size)?;
        entries[index(stretch * 8)..][..8].copy_from_slice(&(block * cluster_size).to_be_bytes());
    }
    let offset = (first + blocks) * cluster_size;
    storage.write_at(&entries, offset)?;
    storage.flush()?;

    let clusters = u32::try_from(table).expect("bounded by the table's limit");
    let mut fields = offset.to_be_bytes().to_vec();
    fields.extend_from_slice(&clusters.to_be_bytes());
    storage.write_at(&fields, HEADER_REFCOUNT_TABLE)?;
    storage.flush()
}

fn anew_block(
    geometry: Geometry,
    references: &References,
    stretch: u64,
    structures: std::ops::Range<u64>,
) -> Result<Vec<u8>> {
    let per_block = geometry.refcount_block_entries();
    let mut bytes = vec![0; 1 << geometry.cluster_bits];
    for at in 0..per_block {
        let cluster = stretch * per_block + at;
        let count = if structures.contains(&cluster) { 1 } else { references.count(cluster) };
        if count > geometry.refcount_max() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("cluster {cluster}: {count} references do not fit in {} bits", 1 << geometry.refcount_order),
            ));
        }
        if count > 0 {
            set_count(&mut bytes, geometry.refcount_order, at, count);
        }
    }
    Ok(bytes)
}

/// Makes `storage` at least `end` bytes long.
pub(crate) fn extend_to(storage: &dyn Storage, end: u64) -> Result<()> {
    if storage.size() < end { storage.set_size(end) } else { Ok(()) }
}
