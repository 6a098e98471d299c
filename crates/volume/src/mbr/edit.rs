//! Making and changing a master boot record.

use std::ops::Range;

use transload_block::{Error, ErrorKind, Result};
use zerocopy::little_endian::U32;

use super::{Entry, Logical, MAX_LOGICAL, Mbr, PROTECTIVE, is_extended, write};
use crate::edit::{Change, NewPartition, Wish, gaps, no_partition};
use crate::{Identifiers, Kind};

/// Sectors that 32 bits can count.
const MOST_SECTORS: u64 = u32::MAX as u64;
/// The number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

/// A number of sectors or a place, which a [`Wish`] was granted below 2^32.
fn low_bits(sectors: u64) -> u32 {
    u32::try_from(sectors).expect("the gaps of an MBR end where 32 bits do")
}

impl Mbr {
    /// An empty table for a disk of `disk` bytes.
    pub(crate) fn create(disk: u64, sector_size: u32, ids: &Identifiers) -> Result<Self> {
        if disk / u64::from(sector_size) < 2 {
            return Err(invalid(format!("a disk of {disk} bytes has no room for a partition")));
        }
        let mut record = Box::new(write::empty());
        record.signature = U32::new(ids.signature());
        Ok(Self { sector_size, record, logicals: Vec::new(), findings: Vec::new(), is_whole: true })
    }

    /// Refuses a table that could not be written as it was read.
    pub(super) fn check_editable(&self) -> Result<()> {
        if self.is_whole {
            return Ok(());
        }
        let (kind, text) = match self.findings.iter().find(|finding| finding.severity == crate::Severity::Damage) {
            Some(finding) => (ErrorKind::Corrupt, finding.text.clone()),
            None => (ErrorKind::Unsupported, String::from("a chain of logical partitions that no program makes")),
        };
        Err(Error::new(kind, format!("the table is not edited: {text}")))
    }

    /// Refuses a disk that partitions reach behind.
    pub(crate) fn check_fit(&self, disk: u64) -> Result<()> {
        match self.partitions().iter().find(|partition| partition.range.end > disk) {
            None => Ok(()),
            Some(partition) => {
                let (number, end) = (partition.number, partition.range.end);
                Err(invalid(format!("partition {number} ends at byte {end}, and the disk has {disk}")))
            }
        }
    }

    fn extended(&self) -> Option<Range<u64>> {
        let entry = self.record.entries.iter().find(|entry| is_extended(entry.kind) && !entry.is_unused())?;
        let start = u64::from(entry.start.get());
        Some(start..start + u64::from(entry.sectors.get()))
    }

    pub(crate) fn add(&mut self, disk: u64, new: &NewPartition, alignment: u64) -> Result<u32> {
        self.check_editable()?;
        let kind = self.byte(new.kind)?;
        if !new.name.is_empty() || new.guid.is_some() || new.attributes != 0 {
            return Err(invalid("an MBR has no room for names, GUIDs and attributes"));
        }
        let unit = u64::from(self.sector_size);
        let wish = Wish::new(new, alignment, unit)?;
        let disk = (disk / unit).min(1 << 32);
        let number = if new.logical {
            self.add_logical(&wish, new, kind, disk)
        } else {
            self.add_primary(&wish, new, kind, disk)
        }?;
        if new.active {
            self.change(number, &Change { active: Some(true), ..Change::default() })?;
        }
        Ok(number)
    }

    /// The byte for a type, unless it says what only the table itself may say.
    fn byte(&self, kind: Kind) -> Result<u8> {
        match kind {
            Kind::Mbr(0 | PROTECTIVE) | Kind::Gpt(_) => Err(invalid(format!("the type {kind} in an MBR"))),
            Kind::Mbr(code) => Ok(code),
        }
    }

    fn add_primary(&mut self, wish: &Wish, new: &NewPartition, kind: u8, disk: u64) -> Result<u32> {
        if is_extended(kind) && self.extended().is_some() {
            return Err(invalid("there is an extended partition already"));
        }
        let free = |slot: &usize| self.record.entries[*slot].is_unused();
        let slot = match new.number {
            Some(number @ 1..=4) if free(&(number as usize - 1)) => number as usize - 1,
            Some(number @ 1..=4) => return Err(invalid(format!("there is a partition {number} already"))),
            Some(number) => return Err(invalid(format!("partition {number} of the four of an MBR"))),
            None => (0..4).find(free).ok_or_else(|| {
                invalid("all four entries of the MBR are taken")
                    .with_remedy("put partitions into an extended one (type=extended, then logical), or use a GPT")
            })?,
        };
        let used = self.record.entries.iter().filter(|entry| !entry.is_unused()).map(|entry| {
            let start = u64::from(entry.start.get());
            start..start + u64::from(entry.sectors.get())
        });
        let range = wish.place(&gaps(1..disk, used.collect()), MOST_SECTORS)?;
        let (start, sectors) = (low_bits(range.start), low_bits(range.end - range.start));
        self.record.entries[slot] = Entry::new(0, kind, start, sectors, range.start);
        Ok(u32::try_from(slot).expect("one of four") + 1)
    }

    /// Adds a partition to the chain, at the place in it that its place on the disk is.
    fn add_logical(&mut self, wish: &Wish, new: &NewPartition, kind: u8, disk: u64) -> Result<u32> {
        if is_extended(kind) || new.number.is_some() {
            return Err(invalid("a logical partition is numbered by its place, and holds no others"));
        }
        let extended = self.extended().filter(|range| range.end <= disk).ok_or_else(|| {
            invalid("there is no extended partition for a logical one to be in")
                .with_remedy("add one with type=extended")
        })?;
        if self.logicals.len() >= MAX_LOGICAL {
            return Err(invalid(format!("there are {MAX_LOGICAL} logical partitions already")));
        }
        // Every partition has its record with it; the first record's sector belongs to the chain in any case.
        let used = self.logicals.iter().map(|logical| logical.record..logical.start + u64::from(logical.sectors));
        let head = extended.start..extended.start + 1;
        let gaps = gaps(extended.clone(), used.chain([head]).collect());
        // The record takes a sector, from which the partition keeps the distance of the alignment.
        let rooms: Vec<_> =
            gaps.iter().map(|gap| gap.start + u64::from(gap.start != extended.start + 1)..gap.end).collect();
        let range = wish.place(&rooms, MOST_SECTORS)?;
        let has_first = self.logicals.iter().any(|logical| logical.record == extended.start);
        let gap = gaps.iter().find(|gap| gap.contains(&range.start)).map_or(range.start - 1, |gap| gap.start);
        let record = if gap == extended.start + 1 && !has_first {
            extended.start
        } else {
            range.start.saturating_sub(wish.alignment).max(gap)
        };
        let logical =
            Logical { record, start: range.start, sectors: low_bits(range.end - range.start), kind, active: false };
        // The record at the start of the extended partition is the first of the chain, wherever its partition is.
        let is_behind = |other: &Logical| other.start > logical.start && other.record != extended.start;
        let at = if record == extended.start { Some(0) } else { self.logicals.iter().position(is_behind) };
        let at = at.unwrap_or(self.logicals.len());
        self.logicals.insert(at, logical);
        Ok(FIRST_LOGICAL + u32::try_from(at).expect("few"))
    }

    /// The place of logical partition `number` in the chain.
    fn logical(&self, number: u32) -> Result<usize> {
        let at = number.checked_sub(FIRST_LOGICAL).map(|at| at as usize).filter(|at| *at < self.logicals.len());
        at.ok_or_else(|| no_partition(number))
    }

    /// The place of primary partition `number` among the entries; none for a logical one.
    fn slot(&self, number: u32) -> Result<Option<usize>> {
        match number {
            0 => Err(no_partition(number)),
            1..FIRST_LOGICAL if self.record.entries[number as usize - 1].is_unused() => Err(no_partition(number)),
            1..FIRST_LOGICAL => Ok(Some(number as usize - 1)),
            _ => Ok(None),
        }
    }

    pub(crate) fn delete(&mut self, number: u32) -> Result<()> {
        self.check_editable()?;
        let Some(slot) = self.slot(number)? else {
            let at = self.logical(number)?;
            self.logicals.remove(at);
            return Ok(());
        };
        if is_extended(self.record.entries[slot].kind) && !self.logicals.is_empty() {
            let count = self.logicals.len();
            return Err(invalid(format!("the extended partition {number} has {count} logical ones in it"))
                .with_remedy("delete these as well"));
        }
        self.record.entries[slot] = Entry::default();
        Ok(())
    }

    pub(crate) fn change(&mut self, number: u32, change: &Change) -> Result<()> {
        self.check_editable()?;
        if change.name.is_some() || change.guid.is_some() || change.attributes.is_some() {
            return Err(invalid("an MBR has no room for names, GUIDs and attributes"));
        }
        let slot = self.slot(number)?;
        let kind = change.kind.map(|kind| self.byte(kind)).transpose()?;
        let old = match slot {
            Some(slot) => self.record.entries[slot].kind,
            None => self.logicals[self.logical(number)?].kind,
        };
        let kind = kind.unwrap_or(old);
        if is_extended(kind) != is_extended(old) {
            return Err(invalid(format!("partition {number} of type {old:02x} cannot become one of type {kind:02x}"))
                .with_remedy("delete it, and add another"));
        }
        if change.active == Some(true) {
            self.record.entries.iter_mut().for_each(|entry| entry.status = 0);
            self.logicals.iter_mut().for_each(|logical| logical.active = false);
        }
        match slot {
            Some(slot) => {
                let entry = &mut self.record.entries[slot];
                entry.kind = kind;
                entry.status = change.active.map_or(entry.status, |active| if active { 0x80 } else { 0 });
            }
            None => {
                let at = self.logical(number)?;
                self.logicals[at].kind = kind;
                self.logicals[at].active = change.active.unwrap_or(self.logicals[at].active);
            }
        }
        Ok(())
    }
}
