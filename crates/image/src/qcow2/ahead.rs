//! An image whose tables stand in front of its data, worked out before the first byte is written.
//!
//! ```text
//! header │ refcount table │ refcount blocks │ L1 table │ L2 tables │ data clusters in guest order
//! ```
//!
//! What is known beforehand is which clusters will hold data: the runs. From them every byte of every table follows by
//! arithmetic, so that the tables of a disk of any size are written cluster by cluster and never kept in memory; what is
//! kept is proportional to the number of runs alone. Three writers use it: a new image for random writing (no runs, or
//! one that is the whole disk when it is preallocated), and the sink that writes to a pipe.

use transload_block::{BlockStatus, Error, ErrorKind, Extent, Result};

use super::header_write::{TablePlaces, header_bytes};
use super::layout::{REFCOUNT_TABLE_BYTES_MAX, entry};
use super::options::NewImage;

/// Guest clusters that follow each other and hold data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// First guest cluster.
    guest: u64,
    /// Clusters, at least one.
    count: u64,
    /// Data clusters of all runs before.
    before: u64,
}

/// L1 entries that follow each other and have an L2 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tables {
    /// First L1 entry.
    l1_index: u64,
    /// L2 tables, at least one.
    count: u64,
    /// L2 tables of all runs before.
    before: u64,
}

/// Where everything of such an image stands.
#[derive(Debug)]
pub(crate) struct Ahead {
    image: NewImage,
    header: Vec<u8>,
    runs: Vec<Run>,
    tables: Vec<Tables>,
    /// First cluster of each part; parts follow each other in the order of these fields.
    refcount_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
    end: u64,
    /// The subclusters that an entry of a data cluster marks as allocated, where entries are extended.
    subclusters: u64,
}

/// The bitmap of an extended L2 entry whose subclusters are all allocated.
const ALL_ALLOCATED: u64 = 0xffff_ffff;

impl Ahead {
    /// Lays out `image` for the data of `extents`, which ascend and do not overlap.
    ///
    /// # Errors
    /// `InvalidInput` when the extents do not ascend or reach behind the disk; `TooLarge` when the refcount table would
    /// exceed its limit; as [`header_bytes`].
    pub(crate) fn new(image: &NewImage, extents: &[Extent]) -> Result<Self> {
        let runs = data_runs(image, extents)?;
        let tables = table_runs(&runs, image.geometry.l2_entries());
        let data_clusters = runs.last().map_or(0, |run| run.before + run.count);
        let l2_tables = tables.last().map_or(0, |run| run.before + run.count);
        let l1_clusters = (image.l1_entries() * 8).div_ceil(image.geometry.cluster_size());
        let others = 1 + l1_clusters + l2_tables + data_clusters;
        let (table_clusters, block_count) = refcount_clusters(image, others)?;

        let refcount_blocks = 1 + table_clusters;
        let l1 = refcount_blocks + block_count;
        let l2 = l1 + l1_clusters;
        let data = l2 + l2_tables;
        let end = data + data_clusters;
        let places = TablePlaces {
            l1_offset: l1 * image.geometry.cluster_size(),
            l1_entries: image.l1_entries(),
            refcount_table_offset: image.geometry.cluster_size(),
            refcount_table_clusters: table_clusters,
        };
        let header = header_bytes(image, places)?;
        // Subclusters of an overlay stay unallocated, so that its backing file shows through room that is only set aside.
        let subclusters = if image.backing.is_some() { 0 } else { ALL_ALLOCATED };
        Ok(Self { image: image.clone(), header, runs, tables, refcount_blocks, l1, l2, data, end, subclusters })
    }

    /// Clusters in front of the data.
    pub(crate) fn metadata_clusters(&self) -> u64 {
        self.data
    }

    /// Clusters of the whole file.
    pub(crate) fn clusters(&self) -> u64 {
        self.end
    }

    /// Fills `cluster` with cluster `index` of the file, one of those in front of the data. Answers whether there is
    /// anything but zeroes in it.
    pub(crate) fn fill_metadata(&self, index: u64, cluster: &mut [u8]) -> bool {
        cluster.fill(0);
        if index == 0 {
            cluster[..self.header.len()].copy_from_slice(&self.header);
            true
        } else if index < self.refcount_blocks {
            self.fill_refcount_table(index - 1, cluster)
        } else if index < self.l1 {
            self.fill_refcount_block(index - self.refcount_blocks, cluster)
        } else if index < self.l2 {
            self.fill_l1(index - self.l1, cluster)
        } else {
            self.fill_l2(index - self.l2, cluster)
        }
    }

    /// The file's cluster for the data of guest cluster `guest`, when it is one of those that were announced.
    pub(crate) fn data_cluster(&self, guest: u64) -> Option<u64> {
        let after = self.runs.partition_point(|run| run.guest <= guest);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (guest - run.guest < run.count).then(|| self.data + run.before + (guest - run.guest))
    }

    fn fill_refcount_table(&self, index: u64, cluster: &mut [u8]) -> bool {
        let first = index * (self.image.geometry.cluster_size() / 8);
        let blocks = self.l1 - self.refcount_blocks;
        for (slot, block) in cluster.chunks_exact_mut(8).zip(first..blocks) {
            let offset = (self.refcount_blocks + block) * self.image.geometry.cluster_size();
            slot.copy_from_slice(&offset.to_be_bytes());
        }
        first < blocks
    }

    fn fill_refcount_block(&self, index: u64, cluster: &mut [u8]) -> bool {
        let per_block = self.image.geometry.refcount_block_entries();
        let ones = self.end.saturating_sub(index * per_block).min(per_block);
        fill_with_ones(self.image.geometry.refcount_order, ones, cluster);
        ones > 0
    }

    fn fill_l1(&self, index: u64, cluster: &mut [u8]) -> bool {
        let per_cluster = self.image.geometry.cluster_size() / 8;
        let (first, end) = (index * per_cluster, (index + 1) * per_cluster);
        let start = self.tables.partition_point(|run| run.l1_index + run.count <= first);
        let mut any = false;
        for run in self.tables[start..].iter().take_while(|run| run.l1_index < end) {
            for entry_index in run.l1_index.max(first)..(run.l1_index + run.count).min(end) {
                let table = self.l2 + run.before + (entry_index - run.l1_index);
                put_entry(cluster, entry_index - first, (table * self.image.geometry.cluster_size()) | entry::COPIED);
                any = true;
            }
        }
        any
    }

    fn fill_l2(&self, index: u64, cluster: &mut [u8]) -> bool {
        let after = self.tables.partition_point(|run| run.before <= index);
        let Some(tables) = after.checked_sub(1).and_then(|at| self.tables.get(at)) else { return false };
        let per_table = self.image.geometry.l2_entries();
        let first = (tables.l1_index + (index - tables.before)) * per_table;
        let end = first + per_table;
        let words = self.image.geometry.l2_entry_size() / 8;
        let start = self.runs.partition_point(|run| run.guest + run.count <= first);
        let mut any = false;
        for run in self.runs[start..].iter().take_while(|run| run.guest < end) {
            for guest in run.guest.max(first)..(run.guest + run.count).min(end) {
                let host = (self.data + run.before + (guest - run.guest)) * self.image.geometry.cluster_size();
                put_entry(cluster, (guest - first) * words, host | entry::COPIED);
                if words == 2 {
                    put_entry(cluster, (guest - first) * words + 1, self.subclusters);
                }
                any = true;
            }
        }
        any
    }
}

/// How many clusters the refcount table and the refcount blocks take, for themselves and `others` clusters.
///
/// # Errors
/// `TooLarge` when the table would exceed its limit.
pub(crate) fn refcount_clusters(image: &NewImage, others: u64) -> Result<(u64, u64)> {
    let (mut table, mut blocks) = (1, 1);
    loop {
        let needed_blocks = (others + table + blocks).div_ceil(image.geometry.refcount_block_entries());
        let needed_table = (needed_blocks * 8).div_ceil(image.geometry.cluster_size()).max(1);
        if (needed_table, needed_blocks) == (table, blocks) {
            break;
        }
        // Both only grow from here, so the loop ends.
        (table, blocks) = (needed_table.max(table), needed_blocks.max(blocks));
    }
    check_refcount_table(image, table)?;
    Ok((table, blocks))
}

/// Refuses a refcount table that readers would refuse.
pub(crate) fn check_refcount_table(image: &NewImage, clusters: u64) -> Result<()> {
    let bytes = clusters * image.geometry.cluster_size();
    if bytes <= REFCOUNT_TABLE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        format!("the refcount table of {bytes} bytes exceeds the limit of {REFCOUNT_TABLE_BYTES_MAX}"),
    )
    .with_remedy("choose larger clusters with -o cluster_size"))
}

/// Sets the first `count` reference counts of a block of zeroes to one.
fn fill_with_ones(order: u32, count: u64, block: &mut [u8]) {
    if order >= 3 {
        let width = 1_usize << (order - 3);
        for (slot, _) in block.chunks_exact_mut(width).zip(0..count) {
            slot[width - 1] = 1;
        }
        return;
    }
    // Counts of less than a byte stand in it from the lowest bit on.
    let per_byte = 8 >> order;
    let pattern: u8 = [0xff, 0x55, 0x11][order as usize];
    for (slot, first) in block.iter_mut().zip((0..count).step_by(per_byte)) {
        let here = (count - first).min(per_byte as u64);
        let bits = u32::try_from(here).unwrap_or(8) << order;
        *slot = pattern & u8::try_from((1_u32 << bits) - 1).unwrap_or(u8::MAX);
    }
}

fn put_entry(cluster: &mut [u8], index: u64, value: u64) {
    let at = usize::try_from(index * 8).unwrap_or(usize::MAX);
    if let Some(slot) = cluster.get_mut(at..).and_then(|rest| rest.get_mut(..8)) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// The runs of clusters that any byte of data lies in.
fn data_runs(image: &NewImage, extents: &[Extent]) -> Result<Vec<Run>> {
    let cluster_size = image.geometry.cluster_size();
    let mut runs: Vec<Run> = Vec::new();
    let mut reached = 0;
    for extent in extents {
        let end = extent.offset.checked_add(extent.length).filter(|end| *end <= image.size);
        let (true, Some(end)) = (extent.offset >= reached, end) else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("extent of {} bytes at {} is out of order or behind the disk", extent.length, extent.offset),
            ));
        };
        reached = end;
        if extent.status != BlockStatus::Data || extent.length == 0 {
            continue;
        }
        let (mut guest, guest_end) = (extent.offset / cluster_size, end.div_ceil(cluster_size));
        let mut before = 0;
        if let Some(last) = runs.last_mut() {
            let last_end = last.guest + last.count;
            guest = guest.max(last_end);
            if guest == last_end {
                last.count += guest_end - guest;
                continue;
            }
            before = last.before + last.count;
        }
        runs.push(Run { guest, count: guest_end - guest, before });
    }
    Ok(runs)
}

/// The runs of L1 entries whose L2 table holds an entry of any run.
fn table_runs(runs: &[Run], per_table: u64) -> Vec<Tables> {
    let mut tables: Vec<Tables> = Vec::new();
    for run in runs {
        let (mut first, end) = (run.guest / per_table, (run.guest + run.count).div_ceil(per_table));
        let mut before = 0;
        if let Some(last) = tables.last_mut() {
            let last_end = last.l1_index + last.count;
            first = first.max(last_end);
            if first == last_end {
                last.count += end - first;
                continue;
            }
            before = last.before + last.count;
        }
        tables.push(Tables { l1_index: first, count: end - first, before });
    }
    tables
}
