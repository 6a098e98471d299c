//! The GUID partition table of UEFI 2.10, chapter 5, for sectors of 512 and of 4096 bytes.
//!
//! ```text
//! sector 0 │ 1      │ 2 …     │ first usable … last usable │ …       │ last
//! guard    │ header │ entries │ partitions                 │ entries │ header
//! ```
//!
//! Both copies are read. One that is damaged is replaced by the other, which is said; a table is written as both. What the
//! sector size is stands nowhere: it is where a sound header is found.
//!
//! The entries are kept as they stand on disk, whatever is behind the fields that we know of.

mod edit;
mod layout;
mod read;
mod write;

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use crate::table::{check_ranges, limited};
use crate::{Finding, Guid, Kind, Partition, Role};

use layout::{Entry, Header};

pub(crate) use read::{Guard, Read, has_header, read};
pub(crate) use write::wipe;

/// A GUID partition table.
#[derive(Clone, Debug)]
pub struct Gpt {
    sector_size: u32,
    /// Of the copy that was used.
    header: Header,
    /// Where the other copy stood that the one that was used names, and the copy itself: both are cleared when the table is
    /// written to other places.
    former: Vec<u64>,
    /// The array of that copy: `entry_count` times `entry_size` bytes.
    array: Vec<u8>,
    findings: Vec<Finding>,
}

impl Gpt {
    pub(crate) fn sector_size(&self) -> u32 {
        self.sector_size
    }

    pub(crate) fn disk_guid(&self) -> Guid {
        Guid::from_disk(self.header.disk_guid)
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(crate) fn note(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The size of an entry, which was checked to be one.
    fn entry_size(&self) -> usize {
        self.header.entry_size.get() as usize
    }

    /// The entries that are used, with their numbers.
    fn entries(&self) -> impl Iterator<Item = (u32, Entry)> {
        let entries = (1..).zip(self.array.chunks_exact(self.entry_size()));
        entries.filter_map(|(number, bytes)| {
            let (entry, _) = Entry::read_from_prefix(bytes).ok()?;
            (Guid::from_disk(entry.kind) != Guid::NIL).then_some((number, entry))
        })
    }

    pub(crate) fn partitions(&self) -> Vec<Partition> {
        self.entries().filter_map(|(number, entry)| self.partition(number, &entry)).collect()
    }

    /// The partition that an entry describes; none when it ends before it begins or behind 64 bits of bytes.
    fn partition(&self, number: u32, entry: &Entry) -> Option<Partition> {
        let unit = u64::from(self.sector_size);
        let (first, last) = (entry.first.get(), entry.last.get());
        let end = last.checked_add(1).filter(|end| *end > first)?.checked_mul(unit)?;
        Some(Partition {
            number,
            range: first * unit..end,
            kind: Kind::Gpt(Guid::from_disk(entry.kind)),
            role: Role::Primary,
            name: name(&entry.name),
            guid: Some(Guid::from_disk(entry.guid)),
            attributes: entry.attributes.get(),
            active: entry.attributes.get() & layout::LEGACY_BOOT != 0,
        })
    }

    /// Finds what is wrong among the entries of a disk of `size` bytes.
    fn check(&mut self, size: u64) {
        let partitions = self.partitions();
        let mut findings = check_ranges(&partitions, size);
        let (first_usable, last_usable) = (self.header.first_usable.get(), self.header.last_usable.get());
        let mut guids: BTreeMap<Guid, u32> = BTreeMap::new();
        for (number, entry) in self.entries() {
            let (first, last) = (entry.first.get(), entry.last.get());
            if self.partition(number, &entry).is_none() {
                findings.push(Finding::damage(format!(
                    "entry {number} has the sectors {first} to {last}, which is no range"
                )));
            } else if first < first_usable || last > last_usable {
                findings.push(Finding::damage(format!(
                    "partition {number} has the sectors {first} to {last}, and {first_usable} to {last_usable} may be used"
                )));
            }
            let guid = Guid::from_disk(entry.guid);
            if let Some(before) = guids.insert(guid, number) {
                findings.push(Finding::warning(format!("partitions {before} and {number} have the same GUID, {guid}")));
            }
        }
        self.findings.extend(limited(findings));
    }
}

/// The text of a name: up to the first zero, for some programs leave garbage behind it.
fn name(units: &[[u8; 2]; 36]) -> String {
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
