//! The file of a compressed image while it grows from front to back: allocation, reference counts and large writes.
//!
//! Clusters are handed out in ascending order. Compressed units share clusters: each starts at the byte behind the last
//! one, and may go over into the next cluster where that is a new one. Where a plain cluster comes between, the rest of the
//! cluster before it stays free; a later unit that is small enough goes there ([`Gaps`]). A refcount block is written as
//! soon as nothing in its range can change, so memory does not grow with the file; the refcount table, eight bytes for
//! 2 GiB of file with the usual sizes, comes at the end.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};

use super::ahead::check_refcount_table;
use super::options::NewImage;

/// Bytes that are gathered before they are written: few enough to be in the core's own cache still when they are.
const BUFFER: usize = 1 << 20;

/// The growing file.
#[derive(Debug)]
pub(crate) struct PackedFile {
    storage: Arc<dyn Storage>,
    image: NewImage,
    /// Clusters that are allocated and not yet written.
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file; a multiple of the cluster size.
    buffer_offset: u64,
    /// Where the next compressed unit may go: inside a cluster of `buffer` that has room left.
    packing: Option<u64>,
    /// Room that was left free before a plain cluster.
    gaps: Gaps,
    /// Reference counts from cluster `counts_first` on, up to the last allocated cluster.
    counts: Vec<u16>,
    /// A multiple of the counts in a refcount block.
    counts_first: u64,
    /// Offsets of the refcount blocks that are already allocated.
    blocks: Vec<u64>,
}

impl PackedFile {
    /// A file whose first `reserved` clusters are in use and written by somebody else.
    pub(crate) fn new(storage: Arc<dyn Storage>, image: &NewImage, reserved: u64) -> Result<Self> {
        let reserved_count = usize::try_from(reserved).map_err(|_| Error::new(ErrorKind::TooLarge, "L1 table"))?;
        let offset = reserved * image.geometry.cluster_size();
        if storage.size() < offset {
            storage.set_size(offset)?;
        }
        Ok(Self {
            storage,
            image: image.clone(),
            buffer: Vec::new(),
            buffer_offset: offset,
            packing: None,
            gaps: Gaps::default(),
            counts: vec![1; reserved_count],
            counts_first: 0,
            blocks: Vec::new(),
        })
    }

    /// Adds a cluster of its own for `bytes`, a whole cluster, and returns its offset.
    pub(crate) fn append_cluster(&mut self, bytes: &[u8]) -> Result<u64> {
        let offset = self.push_cluster(bytes);
        self.write_if_full()?;
        Ok(offset)
    }

    /// Adds `bytes`, less than a cluster, in the smallest gap that has room for them or else behind the last compressed
    /// unit, and returns their offset.
    pub(crate) fn append_packed(&mut self, bytes: &[u8]) -> Result<u64> {
        if let Some(offset) = self.gaps.take(bytes.len() as u64) {
            self.fill_gap(offset, bytes)?;
            return Ok(offset);
        }
        let offset = self.packing.filter(|offset| self.fits(*offset, bytes.len())).unwrap_or_else(|| {
            self.stop_packing();
            self.end()
        });
        let end = offset + bytes.len() as u64;
        while self.end() < end {
            self.buffer.resize(self.buffer.len() + self.cluster(), 0);
            self.counts.push(0);
        }
        let at = self.in_buffer(offset);
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
        for cluster in offset / self.image.geometry.cluster_size()..end.div_ceil(self.image.geometry.cluster_size()) {
            let slot = self.count_slot(cluster);
            self.counts[slot] += 1;
        }
        self.packing = (!end.is_multiple_of(self.image.geometry.cluster_size())).then_some(end);
        self.write_if_full()?;
        Ok(offset)
    }

    /// Puts a unit into a gap: in memory still, or in the file already.
    fn fill_gap(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if offset >= self.buffer_offset {
            let at = self.in_buffer(offset);
            self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
        } else {
            self.storage.write_at(bytes, offset)?;
        }
        let slot = self.count_slot(offset / self.image.geometry.cluster_size());
        self.counts[slot] += 1;
        self.leave_gap(offset + bytes.len() as u64);
        Ok(())
    }

    /// Leaves the cluster that was packed last, whose rest becomes a gap.
    fn stop_packing(&mut self) {
        if let Some(offset) = self.packing.take() {
            self.leave_gap(offset);
        }
    }

    /// What is free from `offset` to the end of its cluster may be filled later, if the cluster can count one more unit.
    fn leave_gap(&mut self, offset: u64) {
        let end = offset.next_multiple_of(self.image.geometry.cluster_size());
        if offset < end && self.counts_one_more(offset) {
            self.gaps.add(offset..end);
        }
    }

    /// Adds the reference counts of everything, writes all that is left, and returns where the refcount table stands and
    /// how many clusters it has.
    pub(crate) fn finish(mut self) -> Result<(u64, u64)> {
        let per_block = self.image.geometry.refcount_block_entries();
        let cluster_size = self.image.geometry.cluster_size();
        let written = self.blocks.len() as u64;
        let data_end = self.end() / cluster_size;
        let (mut table, mut blocks) = (1, 0);
        loop {
            let needed_blocks = (data_end + table + blocks).div_ceil(per_block) - written;
            let needed_table = ((written + needed_blocks) * 8).div_ceil(cluster_size);
            if (needed_table, needed_blocks) == (table, blocks) {
                break;
            }
            (table, blocks) = (needed_table.max(table), needed_blocks.max(blocks));
        }
        check_refcount_table(&self.image, table)?;

        let last = self.counts.len() + index(table + blocks)?;
        self.counts.resize(last, 1);
        let counts = std::mem::take(&mut self.counts);
        for block in counts.chunks(index(per_block)?) {
            let offset = self.end();
            self.buffer.extend_from_slice(&refcount_block(&self.image, block));
            self.blocks.push(offset);
        }
        let table_offset = self.end();
        let mut bytes: Vec<u8> = self.blocks.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        bytes.resize(index(table * cluster_size)?, 0);
        self.buffer.extend_from_slice(&bytes);
        self.packing = None;
        self.gaps = Gaps::default();
        self.write_buffer()?;
        Ok((table_offset, table))
    }

    /// The byte behind the last allocated cluster.
    fn end(&self) -> u64 {
        self.buffer_offset + self.buffer.len() as u64
    }

    fn cluster(&self) -> usize {
        1 << self.image.geometry.cluster_bits
    }

    fn in_buffer(&self, offset: u64) -> usize {
        usize::try_from(offset - self.buffer_offset).expect("the offset lies in the buffer")
    }

    fn count_slot(&self, cluster: u64) -> usize {
        usize::try_from(cluster - self.counts_first).expect("the cluster's count is in memory")
    }

    /// Whether a unit of `length` bytes may start at `offset`, inside a cluster that other units are in.
    fn fits(&self, offset: u64, length: usize) -> bool {
        let cluster_end = offset.next_multiple_of(self.image.geometry.cluster_size());
        self.counts_one_more(offset) && (offset + length as u64 <= cluster_end || cluster_end == self.end())
    }

    /// Whether the reference count of the cluster around `offset` has room for one more unit.
    fn counts_one_more(&self, offset: u64) -> bool {
        let count = self.counts[self.count_slot(offset / self.image.geometry.cluster_size())];
        u64::from(count) < self.image.geometry.refcount_max().min(u64::from(u16::MAX))
    }

    fn push_cluster(&mut self, bytes: &[u8]) -> u64 {
        debug_assert_eq!(bytes.len(), self.cluster());
        let offset = self.end();
        self.buffer.extend_from_slice(bytes);
        self.counts.push(1);
        offset
    }

    fn write_if_full(&mut self) -> Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.write_buffer()?;
        self.add_complete_blocks()
    }

    /// Writes the buffer, but for the last cluster where more compressed units may go into it.
    fn write_buffer(&mut self) -> Result<()> {
        let kept = match self.packing {
            Some(offset) if offset.next_multiple_of(self.image.geometry.cluster_size()) == self.end() => self.cluster(),
            _ => 0,
        };
        if kept == 0 {
            self.stop_packing();
        }
        let written = self.buffer.len() - kept;
        let end = self.buffer_offset + written as u64;
        if self.storage.size() < end {
            self.storage.set_size(end)?;
        }
        self.storage.write_at(&self.buffer[..written], self.buffer_offset)?;
        self.buffer.drain(..written);
        self.buffer_offset = end;
        Ok(())
    }

    /// Adds the refcount blocks of all clusters that are written, as far as they fill blocks.
    fn add_complete_blocks(&mut self) -> Result<()> {
        let per_block = self.image.geometry.refcount_block_entries();
        while self.counts_first + per_block <= self.buffer_offset / self.image.geometry.cluster_size() {
            let block: Range<usize> = 0..index(per_block)?;
            let bytes = refcount_block(&self.image, &self.counts[block.clone()]);
            self.counts.drain(block);
            self.counts_first += per_block;
            self.gaps.forget_before(self.counts_first * self.image.geometry.cluster_size());
            let offset = self.push_cluster(&bytes);
            self.blocks.push(offset);
            check_refcount_table(
                &self.image,
                (self.blocks.len() as u64 * 8).div_ceil(self.image.geometry.cluster_size()),
            )?;
        }
        Ok(())
    }
}

/// Room at the ends of clusters, each inside one cluster whose reference count is still in memory.
#[derive(Debug, Default)]
struct Gaps {
    ranges: Vec<Range<u64>>,
}

impl Gaps {
    /// How many are remembered. A unit seldom needs more to choose from, and the search goes through all.
    const MOST: usize = 64;

    /// Remembers a gap; the smallest is forgotten where there are too many.
    fn add(&mut self, range: Range<u64>) {
        self.ranges.push(range);
        if self.ranges.len() > Self::MOST
            && let Some(smallest) = self.smallest(0)
        {
            self.ranges.swap_remove(smallest);
        }
    }

    /// Takes out the smallest gap of at least `length` bytes, and answers where it begins.
    fn take(&mut self, length: u64) -> Option<u64> {
        let best = self.smallest(length)?;
        Some(self.ranges.swap_remove(best).start)
    }

    /// Where the smallest gap of at least `length` bytes stands among the others, the first in the file of equals.
    fn smallest(&self, length: u64) -> Option<usize> {
        let sizes = self.ranges.iter().enumerate().map(|(at, gap)| (gap.end - gap.start, gap.start, at));
        sizes.filter(|(size, ..)| *size >= length).min().map(|(.., at)| at)
    }

    /// Forgets what begins before `offset`.
    fn forget_before(&mut self, offset: u64) {
        self.ranges.retain(|gap| gap.start >= offset);
    }
}

fn index(value: u64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::new(ErrorKind::TooLarge, format!("{value} does not fit in memory")))
}

/// A refcount block that begins with `counts`, all of which fit in its entries.
fn refcount_block(image: &NewImage, counts: &[u16]) -> Vec<u8> {
    let mut block = vec![0; 1 << image.geometry.cluster_bits];
    if image.geometry.refcount_order >= 3 {
        let width = 1_usize << (image.geometry.refcount_order - 3);
        for (slot, count) in block.chunks_exact_mut(width).zip(counts) {
            let bytes = u64::from(*count).to_be_bytes();
            slot.copy_from_slice(&bytes[8 - width..]);
        }
    } else {
        let per_byte = 8_usize >> image.geometry.refcount_order;
        for (slot, counts) in block.iter_mut().zip(counts.chunks(per_byte)) {
            for (place, count) in counts.iter().enumerate() {
                let [_, low] = count.to_be_bytes();
                *slot |= low << (place << image.geometry.refcount_order);
            }
        }
    }
    block
}
