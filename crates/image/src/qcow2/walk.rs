//! Walking every structure of an image to count what refers to which cluster, and finding what is wrong on the way.
//!
//! Tables that several snapshots share are read once and counted as often as they are referred to, so that the work is
//! bounded by the file and not by what its tables claim. Metadata is counted before guest data: whatever is met second
//! shows the overlap.

use std::collections::BTreeMap;

use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::bitmap;
use super::holes::Holes;
use super::layout::{L1_BYTES_MAX, VERSION_3, entry, extension};
use super::map::{BITMAP_ALL_ALLOCATED, compressed_range};
use super::open::{ParsedHeader, TableLocation};
use super::refcounts::StoredCounts;
use super::references::{References, Use};
use super::snapshot;
use super::tables::{index, read_padded};
use crate::{CheckReport, Finding, FindingKind};

/// Bytes of all bitmaps' tables, or of all snapshots' L1 tables, that are looked at. It is QEMU's limit on one bitmap, and
/// 65536 snapshots of a disk of 1 TiB; a sparse file may claim any number.
const TABLES_BYTES_MAX: u64 = 1 << 30;
/// Bytes of an encryption header: LUKS has 2 MiB of key material by default.
const ENCRYPTION_HEADER_MAX: u64 = 64 << 20;
/// Bytes of a table that are read at once.
const READ: u64 = 1 << 20;

/// Changes of entries that are remembered; what goes beyond stays as it is. A sound image has none.
const MENDS_MAX: usize = 1 << 20;

/// A change of one descriptor that takes a contradiction out of it and no byte from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mend {
    /// The descriptor's first byte in the file.
    pub place: u64,
    pub descriptor: u64,
}

/// An L2 table and who refers to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct L2Reference {
    pub offset: u64,
    /// L1 entries of all L1 tables that name it.
    pub weight: u64,
    /// The active L1 table is among them.
    pub active: bool,
}

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Walk {
    /// How often each cluster is referred to.
    pub references: References,
    /// The L2 tables that could be read, in the order of their places.
    pub l2_tables: Vec<L2Reference>,
    /// The stored counts, without blocks that cannot be used.
    pub stored: StoredCounts,
    /// Refcount blocks that were counted.
    pub blocks: Vec<u64>,
    /// Refcount blocks that cannot be used where they are.
    pub unusable_blocks: u64,
    /// Something is wrong that may hide references: what looks unused may be in use.
    pub incomplete: bool,
    /// What is to be written where entries were found that can be mended; they are counted as if that had been done.
    pub mends: Vec<Mend>,
}

impl Walk {
    /// Takes back the references to the refcount table and its blocks.
    pub(crate) fn forget_refcount_structures(&mut self, header: &ParsedHeader) -> Result<()> {
        let table = header.refcount_table;
        self.references.remove_table(table.offset, table.entries * 8)?;
        for block in self.blocks.drain(..) {
            self.references.remove_table(block, header.geometry.cluster_size())?;
        }
        Ok(())
    }
}

/// Walks all structures of `file` and adds what is wrong with them to `report`. With `repair`, the caller writes the
/// `mends` of the answer, and the report says so.
///
/// # Errors
/// `TooLarge` when there are more references than can be counted; what reading answers.
pub(crate) fn walk(
    file: &dyn BlockRead,
    header: &ParsedHeader,
    report: &mut CheckReport,
    repair: bool,
) -> Result<Walk> {
    let stored = StoredCounts::read(file, header)?;
    let mut walker = Walker {
        file,
        header,
        report,
        end: header.geometry.round_up(file.size()),
        references: References::new(header.geometry),
        holes: Holes::default(),
        incomplete: false,
        repair,
        mends: Vec::new(),
    };
    walker.table("header", 0, header.geometry.cluster_size())?;
    walker.table("refcount table", header.refcount_table.offset, header.refcount_table.entries * 8)?;
    let (stored, blocks, unusable_blocks) = walker.refcount_blocks(stored)?;
    let l1_tables = walker.l1_tables()?;
    walker.bitmaps()?;
    walker.encryption_header()?;
    let l2_tables = walker.l2_tables(&l1_tables)?;
    for table in &l2_tables {
        walker.l2_entries(*table)?;
    }
    let Walker { references, incomplete, mends, .. } = walker;
    Ok(Walk { references, l2_tables, stored, blocks, unusable_blocks, incomplete, mends })
}

struct Walker<'a> {
    file: &'a dyn BlockRead,
    header: &'a ParsedHeader,
    report: &'a mut CheckReport,
    /// The file's length in whole clusters.
    end: u64,
    references: References,
    holes: Holes,
    incomplete: bool,
    repair: bool,
    mends: Vec<Mend>,
}

/// An L1 table with how many (active or snapshots) are at that very place.
type L1Tables = BTreeMap<(u64, u64), L2Reference>;

impl Walker<'_> {
    fn corruption(&mut self, message: String) {
        self.report.add(Finding { kind: FindingKind::Corruption, message, fixed: false });
    }

    /// A corruption behind which references may be hidden.
    fn hiding(&mut self, message: String) {
        self.incomplete = true;
        self.corruption(message);
    }

    /// A corruption of an entry that goes away when its descriptor becomes another. Answers whether it will.
    fn mendable(&mut self, table: L2Reference, slot: u64, descriptor: u64, message: String) -> bool {
        let fixed = self.repair && self.mends.len() < MENDS_MAX;
        if fixed {
            let place = table.offset + slot * self.header.geometry.l2_entry_size();
            self.mends.push(Mend { place, descriptor });
        }
        self.report.add(Finding { kind: FindingKind::Corruption, message, fixed });
        fixed
    }

    fn inside(&self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.end)
    }

    /// Counts a table that stands for itself. Answers whether it lies where a table may.
    fn table(&mut self, name: &str, offset: u64, length: u64) -> Result<bool> {
        if length == 0 {
            return Ok(false);
        }
        if !offset.is_multiple_of(self.header.geometry.cluster_size()) {
            self.hiding(format!("{name}: offset {offset:#x} is not a multiple of the cluster size"));
            return Ok(false);
        }
        if !self.inside(offset, length) {
            self.hiding(format!("{name}: {length} bytes at {offset:#x} reach behind the file"));
            return Ok(false);
        }
        if let Some(cluster) = self.references.add(offset, length, 1, Use::Metadata)? {
            let place = cluster * self.header.geometry.cluster_size();
            self.corruption(format!("{name} at {offset:#x}: cluster at {place:#x} holds another table"));
        }
        Ok(true)
    }

    fn refcount_blocks(&mut self, mut stored: StoredCounts) -> Result<(StoredCounts, Vec<u64>, u64)> {
        let cluster_size = self.header.geometry.cluster_size();
        let mut blocks = Vec::new();
        let mut unusable = 0;
        for at in 0..stored.table().len() {
            let entry = stored.table()[at];
            if entry == 0 {
                continue;
            }
            let offset = entry & entry::REFCOUNT_BLOCK_OFFSET;
            let problem = if entry != offset {
                "has reserved bits set"
            } else if !offset.is_multiple_of(cluster_size) {
                "is not a multiple of the cluster size"
            } else if !self.inside(offset, cluster_size) {
                "reaches behind the file"
            } else if self.references.add(offset, cluster_size, 1, Use::Metadata)?.is_some() {
                blocks.push(offset);
                "is a cluster that holds another table"
            } else {
                blocks.push(offset);
                continue;
            };
            self.corruption(format!("refcount table entry {at}: block offset {entry:#x} {problem}"));
            stored.drop_block(at);
            unusable += 1;
        }
        Ok((stored, blocks, unusable))
    }

    /// Counts the L1 tables and the snapshot table, and gathers the L1 tables that can be read.
    fn l1_tables(&mut self) -> Result<L1Tables> {
        let mut tables = L1Tables::new();
        let active = self.header.l1;
        if active.entries > 0 && self.table("L1 table", active.offset, active.entries * 8)? {
            let reference = L2Reference { offset: active.offset, weight: 1, active: true };
            tables.insert((active.offset, active.entries), reference);
        }
        if self.header.nb_snapshots == 0 {
            return Ok(tables);
        }
        let (snapshots, end) = match snapshot::read_table_and_end(self.file, self.header) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.hiding(error.to_string());
                return Ok(tables);
            }
            Err(error) => return Err(error),
        };
        self.table("snapshot table", self.header.snapshots_offset, end - self.header.snapshots_offset)?;
        let mut bytes = 0_u64;
        for snapshot in snapshots {
            let TableLocation { offset, entries } = snapshot.l1;
            let name = format!("snapshot '{}': L1 table", snapshot.name);
            if entries * 8 > L1_BYTES_MAX {
                self.hiding(format!("{name}: {entries} entries exceed the limit"));
                continue;
            }
            if entries == 0 || !self.table(&name, offset, entries * 8)? {
                continue;
            }
            bytes += entries * 8;
            if bytes > self.end.min(TABLES_BYTES_MAX) {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "{name}: the L1 tables of all snapshots together are longer than 1 GiB or the file of {} bytes",
                        self.end
                    ),
                ));
            }
            let new = L2Reference { offset, weight: 0, active: false };
            tables.entry((offset, entries)).or_insert(new).weight += 1;
        }
        Ok(tables)
    }

    /// Reads all L1 tables and counts the L2 tables they name.
    fn l2_tables(&mut self, l1_tables: &L1Tables) -> Result<Vec<L2Reference>> {
        let cluster_size = self.header.geometry.cluster_size();
        let mut found: Vec<L2Reference> = Vec::new();
        for ((offset, entries), l1) in l1_tables {
            for (at, entry) in read_numbers(self.file, &mut self.holes, *offset, *entries)? {
                if entry & entry::L1_RESERVED != 0 {
                    self.corruption(format!(
                        "L1 table at {offset:#x}, entry {at}: {entry:#018x} has reserved bits set"
                    ));
                }
                let l2 = entry & entry::OFFSET;
                if l2 == 0 {
                    continue;
                }
                if !l2.is_multiple_of(cluster_size) || !self.inside(l2, cluster_size) {
                    self.hiding(format!(
                        "L1 table at {offset:#x}, entry {at}: L2 table at {l2:#x} is not a cluster of the file"
                    ));
                    continue;
                }
                found.push(L2Reference { offset: l2, ..*l1 });
            }
            merge(&mut found);
        }
        for table in &found {
            if let Some(cluster) = self.references.add(table.offset, cluster_size, table.weight, Use::Metadata)? {
                let place = cluster * cluster_size;
                self.corruption(format!("L2 table at {place:#x}: the cluster holds another table"));
            }
        }
        Ok(found)
    }

    /// Counts the clusters that the entries of an L2 table name.
    fn l2_entries(&mut self, table: L2Reference) -> Result<()> {
        let geometry = self.header.geometry;
        let words = usize::from(geometry.extended_l2) + 1;
        let numbers: Vec<(u64, u64)> =
            read_numbers(self.file, &mut self.holes, table.offset, geometry.cluster_size() / 8)?;
        // Only what is not zero was handed out, so the bitmap is looked up by its place.
        let mut at = 0;
        while at < numbers.len() {
            let (place, number) = numbers[at];
            let (slot, is_bitmap) = (place / words as u64, words == 2 && place % 2 == 1);
            let (descriptor, bitmap) = if is_bitmap {
                (0, number)
            } else {
                let next = numbers.get(at + 1).filter(|next| words == 2 && next.0 == place + 1);
                at += usize::from(next.is_some());
                (number, next.map_or(0, |next| next.1))
            };
            at += 1;
            self.l2_entry(table, slot, descriptor, bitmap)?;
        }
        Ok(())
    }

    fn l2_entry(&mut self, table: L2Reference, slot: u64, descriptor: u64, bitmap: u64) -> Result<()> {
        let geometry = self.header.geometry;
        let cluster_size = geometry.cluster_size();
        let named = |what: &str| format!("L2 table at {:#x}, entry {slot}: {descriptor:#018x} {what}", table.offset);
        if descriptor & entry::COMPRESSED != 0 {
            return self.compressed_entry(table, slot, descriptor, bitmap);
        }
        if descriptor & entry::L2_RESERVED != 0 {
            self.corruption(named("has reserved bits set"));
        }
        if descriptor & entry::ZERO != 0 && (geometry.extended_l2 || self.header.version < VERSION_3) {
            self.corruption(named("has bit 0 set, which means nothing here"));
        }
        if bitmap >> 32 & bitmap & BITMAP_ALL_ALLOCATED != 0 {
            self.corruption(named(&format!("has subclusters both allocated and zero: {bitmap:#018x}")));
        }
        let host = descriptor & entry::OFFSET;
        let there = host != 0 || (self.header.has_data_file() && descriptor & entry::COPIED != 0);
        if !there {
            if bitmap & BITMAP_ALL_ALLOCATED != 0 {
                self.corruption(named("has allocated subclusters and no host cluster"));
            }
            return Ok(());
        }
        if !host.is_multiple_of(cluster_size) {
            let message = named("has a host offset that is not a multiple of the cluster size");
            // A cluster that was only set aside, and reads as zeroes without it: the entry does not need it.
            let only_set_aside = if geometry.extended_l2 {
                bitmap & BITMAP_ALL_ALLOCATED == 0 && descriptor & entry::ZERO == 0
            } else {
                descriptor & entry::ZERO != 0 && self.header.version >= VERSION_3
            };
            if only_set_aside && descriptor & entry::L2_RESERVED == 0 {
                let zeroes = if geometry.extended_l2 { 0 } else { entry::ZERO };
                if self.mendable(table, slot, zeroes, message) {
                    return Ok(());
                }
                self.incomplete = true;
            } else {
                self.hiding(message);
            }
        }
        self.count_unit(table, false);
        if self.header.has_data_file() {
            return Ok(());
        }
        if !self.inside(host, 1) {
            self.hiding(named("has a host offset behind the file"));
            return Ok(());
        }
        if self.references.add(host & !(cluster_size - 1), cluster_size, table.weight, Use::Data)?.is_some() {
            self.corruption(named("names a cluster that holds a table"));
        }
        Ok(())
    }

    fn compressed_entry(&mut self, table: L2Reference, slot: u64, descriptor: u64, bitmap: u64) -> Result<()> {
        let named = |what: &str| format!("L2 table at {:#x}, entry {slot}: {descriptor:#018x} {what}", table.offset);
        if descriptor & entry::COPIED != 0 {
            // It is written in place nowhere, so the flag alone is wrong.
            self.mendable(table, slot, descriptor & !entry::COPIED, named("is compressed and has the COPIED flag"));
        }
        if self.header.has_data_file() {
            self.corruption(named("is compressed in an image with an external data file"));
            return Ok(());
        }
        if bitmap != 0 {
            self.corruption(named("is compressed and has subclusters"));
        }
        self.count_unit(table, true);
        let range = compressed_range(self.header.geometry, descriptor & !entry::COPIED);
        if !self.inside(range.offset, range.length) {
            self.hiding(named("names compressed bytes behind the file"));
            return Ok(());
        }
        if self.references.add(range.offset, range.length, table.weight, Use::Data)?.is_some() {
            self.corruption(named("names a cluster that holds a table"));
        }
        Ok(())
    }

    fn count_unit(&mut self, table: L2Reference, compressed: bool) {
        if table.active {
            self.report.allocated_units += 1;
            self.report.compressed_units += u64::from(compressed);
        }
    }

    fn bitmaps(&mut self) -> Result<()> {
        let directory = match bitmap::read_directory(self.file, self.header) {
            Ok(Some(directory)) => directory,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.hiding(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.table("bitmap directory", directory.offset, directory.length)?;
        let cluster_size = self.header.geometry.cluster_size();
        let mut bytes = 0_u64;
        for bitmap in directory.bitmaps {
            let TableLocation { offset, entries } = bitmap.table;
            let name = format!("bitmap '{}'", bitmap.info.name);
            bytes = bytes.saturating_add(entries * 8);
            if bytes > self.end.min(TABLES_BYTES_MAX) {
                self.hiding(format!("{name}: table of {entries} entries exceeds the limit or the file"));
                continue;
            }
            if !self.table(&format!("{name}: table"), offset, entries * 8)? {
                continue;
            }
            for (at, entry) in read_numbers(self.file, &mut self.holes, offset, entries)? {
                let place = entry & entry::OFFSET;
                if entry & !(entry::OFFSET | 1) != 0 || (place != 0 && entry & 1 != 0) {
                    self.corruption(format!("{name}: table entry {at}: {entry:#018x} has reserved bits set"));
                }
                if place != 0 {
                    self.table(&format!("{name}: cluster of table entry {at}"), place, cluster_size)?;
                }
            }
        }
        Ok(())
    }

    fn encryption_header(&mut self) -> Result<()> {
        let Some(found) = self.header.extensions.iter().find(|found| found.kind == extension::CRYPTO_HEADER) else {
            return Ok(());
        };
        let number = |at: usize| {
            found.data.get(at..at + 8).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        let (Some(offset), Some(length)) = (number(0), number(8)) else {
            self.hiding("encryption header extension: shorter than 16 bytes".to_owned());
            return Ok(());
        };
        if length > ENCRYPTION_HEADER_MAX {
            self.hiding(format!("encryption header: {length} bytes exceed the limit"));
            return Ok(());
        }
        self.table("encryption header", offset, length).map(drop)
    }
}

/// Brings references to the same table together.
fn merge(found: &mut Vec<L2Reference>) {
    found.sort_unstable_by_key(|table| table.offset);
    found.dedup_by(|next, kept| {
        let same = next.offset == kept.offset;
        if same {
            kept.weight += next.weight;
            kept.active |= next.active;
        }
        same
    });
}

/// Reads the numbers of a table that are not zero, each with its place. Stretches that are known to be a hole are not
/// read.
pub(crate) fn read_numbers(
    file: &dyn BlockRead,
    holes: &mut Holes,
    offset: u64,
    entries: u64,
) -> Result<Vec<(u64, u64)>> {
    let mut numbers = Vec::new();
    let length = entries * 8;
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < length {
        let step = READ.min(length - at);
        if !holes.cover(file, offset + at, step)? {
            bytes.resize(index(step), 0);
            read_padded(file, &mut bytes, offset + at)?;
            for (number, place) in bytes.chunks_exact(8).zip(at / 8..) {
                let number = u64::from_be_bytes(number.try_into().expect("chunks of eight"));
                if number != 0 {
                    numbers.push((place, number));
                }
            }
        }
        at += step;
    }
    Ok(numbers)
}
