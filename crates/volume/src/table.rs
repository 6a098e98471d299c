//! A partition table as its readers and editors see it, whichever kind it is.

use std::fmt;
use std::ops::Range;

use transload_block::{BlockRead, Result};

use crate::gpt::Gpt;
use crate::mbr::Mbr;
use crate::{Guid, Kind};

/// The kinds of partition table that are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// The table in the first sector, with four entries and a chain of further ones.
    Mbr,
    /// The GUID partition table of UEFI, with a copy at the end of the disk.
    Gpt,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "MBR",
            Self::Gpt => "GPT",
        })
    }
}

/// A partition table: what stands on the disk, and what was found wrong with it.
#[derive(Clone, Debug)]
pub enum Table {
    /// An MBR.
    Mbr(Mbr),
    /// A GPT.
    Gpt(Gpt),
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost by it: a spare copy is damaged, a table was not enlarged with its disk.
    Warning,
    /// A rule is broken, and what the table says cannot be relied on as a whole.
    Damage,
}

/// Something that is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is, with the numbers.
    pub text: String,
}

impl Finding {
    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into() }
    }

    pub(crate) fn damage(text: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, text: text.into() }
    }
}

/// Where in its table a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// In the table itself.
    Primary,
    /// In an MBR: the partition that holds the chain of the logical ones, and no data.
    Extended,
    /// In an MBR: a link of that chain.
    Logical,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// As Linux numbers it.
    pub number: u32,
    /// The bytes of the disk, as the table says; they may reach behind the disk's end, which is a finding.
    pub range: Range<u64>,
    /// What it is for.
    pub kind: Kind,
    /// Where it stands.
    pub role: Role,
    /// The name in a GPT; empty where there is none.
    pub name: String,
    /// What tells it from others: its own GUID in a GPT.
    pub guid: Option<Guid>,
    /// The attributes of a GPT entry; 0 in an MBR.
    pub attributes: u64,
    /// Marked for the BIOS to boot from.
    pub active: bool,
}

impl Partition {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// What tells a disk from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskId {
    /// The signature of an MBR.
    Signature(u32),
    /// The GUID of a GPT.
    Guid(Guid),
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature(number) => write!(f, "{number:08x}"),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

impl Table {
    /// Which kind it is.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Mbr(_) => Scheme::Mbr,
            Self::Gpt(_) => Scheme::Gpt,
        }
    }

    /// The unit that its numbers count in, in bytes.
    #[must_use]
    pub fn sector_size(&self) -> u32 {
        match self {
            Self::Mbr(mbr) => mbr.sector_size(),
            Self::Gpt(gpt) => gpt.sector_size(),
        }
    }

    /// What tells the disk from others.
    #[must_use]
    pub fn id(&self) -> DiskId {
        match self {
            Self::Mbr(mbr) => DiskId::Signature(mbr.signature()),
            Self::Gpt(gpt) => DiskId::Guid(gpt.disk_guid()),
        }
    }

    /// The partitions in the order of their numbers.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Mbr(mbr) => mbr.partitions(),
            Self::Gpt(gpt) => gpt.partitions(),
        }
    }

    /// What was found wrong when it was read.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Mbr(mbr) => mbr.findings(),
            Self::Gpt(gpt) => gpt.findings(),
        }
    }
}

/// So many findings tell what is wrong with a table; a table of lies has as many as entries.
const MOST_FINDINGS: usize = 100;

/// The first findings of many, and how many more there are.
pub(crate) fn limited(mut findings: Vec<Finding>) -> Vec<Finding> {
    let more = findings.len().saturating_sub(MOST_FINDINGS);
    if more > 0 {
        let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Warning);
        findings.truncate(MOST_FINDINGS);
        findings.push(Finding { severity: worst, text: format!("and {more} more") });
    }
    findings
}

/// What is wrong with partitions beside each other: those that reach behind the disk, and those that overlap.
pub(crate) fn check_ranges(partitions: &[Partition], disk: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Partition { number, range, .. } in partitions.iter().filter(|partition| partition.range.end > disk) {
        let (start, end) = (range.start, range.end);
        let text = format!("partition {number} occupies the bytes {start} to {end}, and the disk ends at {disk}");
        findings.push(Finding::damage(text));
    }
    let mut sorted: Vec<_> = partitions.iter().filter(|partition| partition.role != Role::Extended).collect();
    sorted.sort_by_key(|partition| (partition.range.start, partition.number));
    let mut furthest: Option<&Partition> = None;
    for partition in sorted {
        if let Some(before) = furthest.filter(|before| before.range.end > partition.range.start) {
            let (one, other, at) = (before.number, partition.number, partition.range.start);
            findings.push(Finding::damage(format!("partitions {one} and {other} overlap at byte {at}")));
        }
        if furthest.is_none_or(|before| before.range.end < partition.range.end) {
            furthest = Some(partition);
        }
    }
    findings
}

/// Reads the sector at `lba`, or nothing when the disk has none.
pub(crate) fn read_sector(device: &dyn BlockRead, sector_size: u32, lba: u64) -> Result<Option<Vec<u8>>> {
    let length = u64::from(sector_size);
    let Some(start) = lba.checked_mul(length) else { return Ok(None) };
    if start.checked_add(length).is_none_or(|end| end > device.size()) {
        return Ok(None);
    }
    let mut sector = vec![0; sector_size as usize];
    device.read_at(&mut sector, start)?;
    Ok(Some(sector))
}
