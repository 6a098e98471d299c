//! Changing tables: what a change says, and where a new partition finds room. The tables' own rules are in `mbr::edit` and
//! `gpt::edit`.

use std::ops::Range;

use transload_block::{BlockWrite, Error, ErrorKind, Result, ZeroMode};

use crate::gpt::{self, Gpt};
use crate::mbr::Mbr;
use crate::{Guid, Identifiers, Kind, Scheme, Table};

/// How large a new partition is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// This many bytes, rounded up to a whole sector, in the first gap that has them.
    Exact(u64),
    /// All of the largest gap.
    Rest,
}

/// A partition that is to be.
#[derive(Clone, Debug)]
pub struct NewPartition {
    /// How large.
    pub size: Size,
    /// Where it begins, in bytes; in the first gap that suits when not given.
    pub start: Option<u64>,
    /// What for.
    pub kind: Kind,
    /// Its name, which only a GPT has room for.
    pub name: String,
    /// Its own GUID, which only a GPT has room for; derived when not given.
    pub guid: Option<Guid>,
    /// The attributes of a GPT entry.
    pub attributes: u64,
    /// Whether the BIOS is to boot from it.
    pub active: bool,
    /// Whether an MBR is to have it in its extended partition.
    pub logical: bool,
    /// Its number; the first free one when not given.
    pub number: Option<u32>,
}

impl NewPartition {
    /// A partition of `kind` and of `size`, with nothing else asked for.
    #[must_use]
    pub fn new(kind: Kind, size: Size) -> Self {
        Self {
            size,
            start: None,
            kind,
            name: String::new(),
            guid: None,
            attributes: 0,
            active: false,
            logical: false,
            number: None,
        }
    }
}

/// What is to be different of a partition.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Its type.
    pub kind: Option<Kind>,
    /// Its name.
    pub name: Option<String>,
    /// Its own GUID.
    pub guid: Option<Guid>,
    /// The attributes of a GPT entry, before `active` is heeded.
    pub attributes: Option<u64>,
    /// Whether the BIOS boots from it. In an MBR one partition at most is active: the others then are not any more.
    pub active: Option<bool>,
}

/// Where partitions of new tables begin: what every disk, RAID and cluster is aligned to.
pub const ALIGNMENT: u64 = 1 << 20;

/// The room that a new table has made for itself, and what was there before is cleared of.
const CLEARED: u64 = 1 << 20;

impl Table {
    /// An empty table for a disk of `disk` bytes, identified by `ids`.
    ///
    /// # Errors
    /// `InvalidInput` when the disk is too small for it, or `sector_size` is neither 512 nor 4096.
    pub fn create(scheme: Scheme, disk: u64, sector_size: u32, ids: &Identifiers) -> Result<Self> {
        if !matches!(sector_size, 512 | 4096) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("sectors of {sector_size} bytes, must be 512 or 4096"),
            ));
        }
        match scheme {
            Scheme::Mbr => Mbr::create(disk, sector_size, ids).map(Self::Mbr),
            Scheme::Gpt => Gpt::create(disk, sector_size, ids).map(Self::Gpt),
        }
    }

    /// Adds a partition to a table on a disk of `disk` bytes, with its start at a multiple of `alignment` bytes unless it is
    /// given, and answers its number.
    ///
    /// # Errors
    /// `InvalidInput` when there is no room for it, its number is taken, or the table has no place for what it is to have;
    /// as [`delete`](Self::delete) for a table that cannot be edited.
    pub fn add(&mut self, disk: u64, new: &NewPartition, alignment: u64, ids: &Identifiers) -> Result<u32> {
        match self {
            Self::Mbr(mbr) => mbr.add(disk, new, alignment),
            Self::Gpt(gpt) => gpt.add(disk, new, alignment, ids),
        }
    }

    /// Removes partition `number`. What it holds stays where it is, and is no partition any more. Behind a logical
    /// partition the numbers of the others become less by one.
    ///
    /// # Errors
    /// `InvalidInput` when there is none, or when it is an extended one with partitions in it; `Corrupt` when the chain of
    /// logical partitions is broken, `Unsupported` when it has a shape that is not written.
    pub fn delete(&mut self, number: u32) -> Result<()> {
        match self {
            Self::Mbr(mbr) => mbr.delete(number),
            Self::Gpt(gpt) => gpt.delete(number),
        }
    }

    /// Changes partition `number`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn change(&mut self, number: u32, change: &Change) -> Result<()> {
        match self {
            Self::Mbr(mbr) => mbr.change(number, change),
            Self::Gpt(gpt) => gpt.change(number, change),
        }
    }

    /// Makes the table one for a disk of `disk` bytes, whatever size the disk had: the backup GPT then belongs to its
    /// end. An MBR has nothing to move.
    ///
    /// # Errors
    /// `InvalidInput` when a partition does not fit before the end.
    pub fn fit(&mut self, disk: u64) -> Result<()> {
        match self {
            Self::Mbr(mbr) => mbr.check_fit(disk),
            Self::Gpt(gpt) => gpt.fit(disk),
        }
    }

    /// Writes the table to the disk that it was read from or made for, with everything that belongs to it, and flushes. Boot
    /// code stays.
    ///
    /// # Errors
    /// What the device answers; the disk may have part of the new table then.
    pub fn write(&self, device: &dyn BlockWrite) -> Result<()> {
        match self {
            Self::Mbr(mbr) => mbr.write(device),
            Self::Gpt(gpt) => gpt.write(device),
        }
    }

    /// As [`write`](Self::write), on a disk that had another table, a filesystem or nothing: the first mebibyte and the
    /// headers of a GPT are cleared before, so that nobody finds what was there.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn initialise(&self, device: &dyn BlockWrite) -> Result<()> {
        gpt::wipe(device)?;
        device.write_zeroes_at(0..CLEARED.min(device.size()), ZeroMode::Unmap)?;
        self.write(device)
    }
}

/// Where a new partition is to stand, all in sectors.
pub(crate) struct Wish {
    /// `None` for all there is.
    pub(crate) sectors: Option<u64>,
    pub(crate) start: Option<u64>,
    pub(crate) alignment: u64,
}

impl Wish {
    /// The wish in sectors of `unit` bytes.
    pub(crate) fn new(new: &NewPartition, alignment: u64, unit: u64) -> Result<Self> {
        let wrong = |text: String| Err(Error::new(ErrorKind::InvalidInput, text));
        let sectors = match new.size {
            Size::Exact(0) => return wrong(String::from("a partition of no bytes")),
            Size::Exact(bytes) => Some(bytes.div_ceil(unit)),
            Size::Rest => None,
        };
        let start = match new.start {
            Some(start) if !start.is_multiple_of(unit) => {
                return wrong(format!("byte {start} is no start of a sector of {unit} bytes"));
            }
            start => start.map(|start| start / unit),
        };
        if !alignment.is_multiple_of(unit) || alignment == 0 {
            return wrong(format!("an alignment of {alignment} bytes, must be a multiple of {unit}"));
        }
        Ok(Self { sectors, start, alignment: alignment / unit })
    }

    /// The place among `gaps` that the wish is granted, at most `longest` sectors.
    pub(crate) fn place(&self, gaps: &[Range<u64>], longest: u64) -> Result<Range<u64>> {
        let places = gaps.iter().filter_map(|gap| self.place_in(gap, longest));
        let found = match self.sectors {
            Some(_) => places.min_by_key(|place| place.start),
            None => places.max_by_key(|place| (place.end - place.start, u64::MAX - place.start)),
        };
        found.ok_or_else(|| {
            let largest = gaps.iter().filter_map(|gap| Self { sectors: None, ..*self }.place_in(gap, longest));
            let largest = largest.map(|place| place.end - place.start).max().unwrap_or(0);
            let wanted = self.sectors.map_or(String::from("the rest"), |sectors| format!("{sectors} sectors"));
            let at = self.start.map_or(String::new(), |start| format!(" at sector {start}"));
            let text = format!("there is no room for {wanted}{at}: the largest gap has {largest} sectors");
            Error::new(ErrorKind::InvalidInput, text)
        })
    }

    fn place_in(&self, gap: &Range<u64>, longest: u64) -> Option<Range<u64>> {
        let start = match self.start {
            Some(start) if gap.contains(&start) => start,
            Some(_) => return None,
            None => gap.start.checked_next_multiple_of(self.alignment)?,
        };
        let end = match self.sectors {
            Some(sectors) if sectors <= longest => start.checked_add(sectors)?,
            Some(_) => return None,
            None => {
                let end = gap.end.min(start.saturating_add(longest));
                // An end on the grid leaves the next one where it would begin anyway.
                let aligned = end / self.alignment * self.alignment;
                if aligned > start { aligned } else { end }
            }
        };
        (start < end && end <= gap.end).then_some(start..end)
    }
}

/// What `used` leaves of `bounds`.
pub(crate) fn gaps(bounds: Range<u64>, mut used: Vec<Range<u64>>) -> Vec<Range<u64>> {
    used.sort_by_key(|range| range.start);
    let mut gaps = Vec::new();
    let mut at = bounds.start;
    for range in used {
        if range.start > at {
            gaps.push(at..range.start.min(bounds.end));
        }
        at = at.max(range.end);
    }
    if at < bounds.end {
        gaps.push(at..bounds.end);
    }
    gaps.retain(|gap| gap.start < gap.end);
    gaps
}

/// The error for a partition that is not there.
pub(crate) fn no_partition(number: u32) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("there is no partition {number}"))
}

#[cfg(test)]
mod tests {
    use super::{Wish, gaps};

    #[test]
    fn gaps_are_what_is_left() {
        type Pairs = &'static [(u64, u64)];
        let cases: [(Pairs, Pairs); 5] = [
            (&[], &[(10, 100)]),
            (&[(50, 60), (0, 20), (55, 70)], &[(20, 50), (70, 100)]),
            (&[(10, 100)], &[]),
            (&[(0, 5), (90, 200)], &[(10, 90)]),
            (&[(150, 200)], &[(10, 100)]),
        ];
        let ranges = |pairs: &[(u64, u64)]| pairs.iter().map(|(start, end)| *start..*end).collect::<Vec<_>>();
        for (used, left) in cases {
            assert_eq!(gaps(10..100, ranges(used)), ranges(left), "{used:?}");
        }
    }

    #[test]
    fn the_first_gap_has_what_has_a_size_and_the_largest_has_the_rest() {
        let gaps = [1..40, 64..200, 300..2000];
        let place = |sectors, start| Wish { sectors, start, alignment: 16 }.place(&gaps, u64::MAX).ok();
        assert_eq!(place(Some(24), None), Some(16..40));
        assert_eq!(place(Some(25), None), Some(64..89));
        assert_eq!(place(None, None), Some(304..2000));
        assert_eq!(place(None, Some(3)), Some(3..32));
        assert_eq!(place(Some(2000), None), None);
        assert_eq!(place(Some(10), Some(50)), None);
        assert_eq!(place(Some(10), Some(199)), None);
        assert_eq!(Wish { sectors: None, start: None, alignment: 16 }.place(&gaps, 100).ok(), Some(64..160));
    }
}
