//! The master boot record: four entries in the first sector, one of which may hold a chain of further ones.
//!
//! ```text
//! sector 0   │ boot code │ signature │ 4 entries │ 55 AA │
//! extended   │ EBR: one partition, one link ──► EBR: one partition, one link ──► …   each a sector like the first
//! ```
//!
//! Cylinders are ignored, sectors count. A record with an entry of type EE belongs to a GPT ([`crate::gpt`]); it is
//! *protective* when there is nothing else in it, *hybrid* when there is.
//!
//! What is wrong with a chain (a cycle, a link out of the extended partition) ends it and becomes a finding: the
//! partitions before it are there all the same. A table with a broken chain is not edited.

mod edit;
mod layout;
mod read;
mod write;

use crate::table::{check_ranges, limited};
use crate::{Finding, Kind, Partition, Role};

pub(crate) use layout::{Entry, MAGIC, PROTECTIVE, Record, is_extended};
pub(crate) use read::read;
pub(crate) use write::protective;

/// More logical partitions than any system hands out, and few enough that following them is no work.
pub(crate) const MAX_LOGICAL: usize = 1024;

/// A master boot record with its chain.
#[derive(Clone, Debug)]
pub struct Mbr {
    sector_size: u32,
    /// The first sector's first 512 bytes, as they were read or are to be written.
    record: Box<Record>,
    /// In the order of the chain.
    logicals: Vec<Logical>,
    findings: Vec<Finding>,
    /// The chain was read to its end, so that it can be written again.
    is_whole: bool,
}

/// A logical partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Logical {
    /// The sector of its extended boot record.
    record: u64,
    /// Its first sector, from the start of the disk.
    start: u64,
    sectors: u32,
    kind: u8,
    active: bool,
}

impl Mbr {
    pub(crate) fn sector_size(&self) -> u32 {
        self.sector_size
    }

    pub(crate) fn signature(&self) -> u32 {
        self.record.signature.get()
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(crate) fn partitions(&self) -> Vec<Partition> {
        let entries = (1..).zip(&self.record.entries).filter(|(_, entry)| !entry.is_unused());
        let primaries = entries.map(|(number, entry)| {
            let role = if is_extended(entry.kind) { Role::Extended } else { Role::Primary };
            let start = u64::from(entry.start.get());
            self.partition(number, role, start, entry.sectors.get(), entry.kind, entry.status & 0x80 != 0)
        });
        let logicals = (5..).zip(&self.logicals).map(|(number, logical)| {
            self.partition(number, Role::Logical, logical.start, logical.sectors, logical.kind, logical.active)
        });
        primaries.chain(logicals).collect()
    }

    fn partition(&self, number: u32, role: Role, start: u64, sectors: u32, kind: u8, active: bool) -> Partition {
        // 33 bits of sectors times at most 16 of their size stay far below 64.
        let start = start * u64::from(self.sector_size);
        let end = start + u64::from(sectors) * u64::from(self.sector_size);
        let kind = Kind::Mbr(kind);
        Partition { number, range: start..end, kind, role, name: String::new(), guid: None, attributes: 0, active }
    }

    fn check(&mut self, disk: u64) {
        self.findings.extend(limited(check_ranges(&self.partitions(), disk)));
    }
}

impl Mbr {
    /// The types of the entries that are used.
    pub(crate) fn kinds(&self) -> Vec<u8> {
        self.record.entries.iter().filter(|entry| !entry.is_unused()).map(|entry| entry.kind).collect()
    }

    pub(crate) fn note(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}
