//! The tables of a hosted sparse extent: both copies of the directory and of every table, and the grains they name.
//!
//! Readers use the first directory unless it is broken as a whole; so does the check. A table that differs between its
//! copies is restored from the first one, or from the second where only that one is sound.

use std::mem::offset_of;
use std::ops::Range;

use transload_block::{BlockRead, BlockStatus, Result, Storage};

use super::{ExtentFile, Findings};
use crate::vmdk::error::Fault;
use crate::vmdk::header::{DirectoryPlace, HostedHeader};
use crate::vmdk::layout::{DIRECTORY_MAX, SECTOR, SparseHeader};

/// Sectors of the file whose use is recorded at once: 64 MiB of bits. A longer file is gone over several times.
const WINDOW: u64 = 1 << 29;

/// Checks the extent in `file`, which holds `sectors` of the disk.
pub(super) fn check(file: &ExtentFile, header: &HostedHeader, sectors: u64, findings: &mut Findings<'_>) -> Result<()> {
    let DirectoryPlace::Sector(gd) = header.gd else { return Err(Fault::NoDirectory.into()) };
    let grains = sectors.div_ceil(header.grain_sectors);
    let tables = grains.div_ceil(header.gtes_per_gt);
    if tables * 4 > DIRECTORY_MAX {
        return Err(Fault::DirectoryTooLarge { what: "grain directory", bytes: tables * 4, most: DIRECTORY_MAX }.into());
    }
    if gd.saturating_mul(SECTOR).saturating_add(tables * 4) > file.bytes.size() && header.rgd.is_none() {
        let (what, sector, bytes, file) = ("grain directory", gd, tables * 4, file.bytes.size());
        return Err(Fault::OutsideFile { what, sector, bytes, file }.into());
    }
    let mut check = Check {
        file: &*file.bytes,
        storage: file.storage.as_deref(),
        header,
        gd,
        grains,
        tables,
        size: file.bytes.size(),
        findings,
        hole: 0..0,
        entries: [Entries::default(), Entries::default()],
    };
    check.findings.report.total_units += grains;
    check.tables()?;
    check.use_of_space()?;
    check.mark()
}

struct Check<'a, 'b> {
    file: &'a dyn BlockRead,
    storage: Option<&'a dyn Storage>,
    header: &'a HostedHeader,
    gd: u64,
    grains: u64,
    tables: u64,
    size: u64,
    findings: &'a mut Findings<'b>,
    /// A part of the file known to hold nothing but zeroes: where the tables of an empty disk are.
    hole: Range<u64>,
    /// Parts of both directories.
    entries: [Entries; 2],
}

/// A part of a directory, read at once.
#[derive(Default)]
struct Entries {
    start: u64,
    bytes: Vec<u8>,
}

/// Bytes of a directory that are read at once.
const STEP: u64 = 64 << 10;

/// One copy of a table, as far as it can be read.
#[derive(Debug, PartialEq, Eq)]
enum Copy {
    /// The directory has no table here.
    Absent,
    /// The directory's entry leads nowhere.
    Lost {
        sector: u32,
    },
    Table {
        place: u64,
        entries: Vec<u32>,
        bad: u64,
    },
}

impl Copy {
    fn is_sound(&self) -> bool {
        matches!(self, Self::Absent | Self::Table { bad: 0, .. })
    }
}

impl Check<'_, '_> {
    /// Compares and validates both copies of every table.
    fn tables(&mut self) -> Result<()> {
        for index in 0..self.tables {
            let first = self.copy(self.gd, index)?;
            let Some(rgd) = self.header.rgd else {
                self.report_alone(index, &first, "grain");
                continue;
            };
            let second = self.copy(rgd, index)?;
            self.compare(index, &first, &second, rgd)?;
        }
        Ok(())
    }

    fn compare(&mut self, index: u64, first: &Copy, second: &Copy, rgd: u64) -> Result<()> {
        let same = match (first, second) {
            (Copy::Table { entries: one, .. }, Copy::Table { entries: other, .. }) => {
                one == other || (one.iter().chain(other).all(|entry| *entry == 0))
            }
            (Copy::Absent, Copy::Absent) => true,
            _ => false,
        };
        if same {
            self.report_alone(index, first, "grain");
            return Ok(());
        }
        let (from, to, directory) =
            if first.is_sound() && !matches!((first, second), (Copy::Absent, Copy::Table { bad: 0, .. })) {
                (first, second, rgd)
            } else if second.is_sound() {
                (second, first, self.gd)
            } else {
                self.report_alone(index, first, "grain");
                self.report_alone(index, second, "redundant grain");
                return Ok(());
            };
        let fixed = self.restore(index, from, to, directory)?;
        let which = if directory == rgd { "redundant grain" } else { "grain" };
        let what = match to {
            Copy::Lost { sector } => format!("its directory entry {sector} leads outside the file"),
            Copy::Absent => "it is missing".to_owned(),
            Copy::Table { bad: 0, .. } => "it differs from the other copy".to_owned(),
            Copy::Table { bad, .. } => format!("{bad} entries lead outside the file or into its tables"),
        };
        self.findings.corruption(&format!("{which} table {index}: {what}"), fixed);
        Ok(())
    }

    fn report_alone(&mut self, index: u64, copy: &Copy, which: &str) {
        match copy {
            Copy::Lost { sector } => self
                .findings
                .corruption(&format!("{which} directory: entry {index} is sector {sector}, outside the file"), false),
            Copy::Table { bad, .. } if *bad > 0 => {
                let message = format!("{which} table {index}: {bad} entries lead outside the file or into its tables");
                self.findings.corruption(&message, false);
            }
            Copy::Absent | Copy::Table { .. } => {}
        }
    }

    /// Makes the copy `to`, which `directory` leads to, equal to `from`. Answers whether it could.
    fn restore(&mut self, index: u64, from: &Copy, to: &Copy, directory: u64) -> Result<bool> {
        let (Some(storage), Copy::Table { entries, .. }) = (self.storage, from) else { return Ok(false) };
        let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        bytes.resize(usize::try_from(self.header.gt_bytes()).unwrap_or(0), 0);
        if let Copy::Table { place, .. } = to {
            self.hole = 0..0;
            storage.write_at(&bytes, *place)?;
            storage.flush()?;
            return Ok(true);
        }
        // The table's old place is unknown: it gets a new one at the end, and the directory learns of it afterwards.
        let place = storage.size().next_multiple_of(SECTOR);
        let Ok(sector) = u32::try_from(place / SECTOR) else { return Ok(false) };
        let entry = directory * SECTOR + index * 4;
        if entry + 4 > self.size {
            return Ok(false);
        }
        self.entries = [Entries::default(), Entries::default()];
        self.hole = 0..0;
        storage.set_size(place + (bytes.len() as u64).next_multiple_of(SECTOR))?;
        storage.write_at(&bytes, place)?;
        storage.flush()?;
        storage.write_at(&sector.to_le_bytes(), entry)?;
        storage.flush()?;
        self.size = storage.size();
        Ok(true)
    }

    fn copy(&mut self, directory: u64, index: u64) -> Result<Copy> {
        let sector = match self.directory_entry(directory, index)? {
            None => return Ok(Copy::Lost { sector: 0 }),
            Some(0) => return Ok(Copy::Absent),
            Some(sector) => sector,
        };
        let place = u64::from(sector) * SECTOR;
        if place + self.header.gt_bytes() > self.size {
            return Ok(Copy::Lost { sector });
        }
        let entries = self.entries_at(place)?;
        // Slots behind the last grain of the disk mean nothing to anybody.
        let slots = self.grains.saturating_sub(index * self.header.gtes_per_gt);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        let bad = entries.iter().take(slots).filter(|entry| self.grain_place(**entry).is_err()).count() as u64;
        Ok(Copy::Table { place, entries, bad })
    }

    /// Entry `index` of the directory at sector `directory`; `None` when it is outside the file.
    fn directory_entry(&mut self, directory: u64, index: u64) -> Result<Option<u32>> {
        let at = directory.checked_mul(SECTOR).and_then(|at| at.checked_add(index * 4));
        let Some(at) = at.filter(|at| at.checked_add(4).is_some_and(|end| end <= self.size)) else { return Ok(None) };
        let part = &mut self.entries[usize::from(directory != self.gd)];
        let inside = |part: &Entries| at >= part.start && at + 4 <= part.start + part.bytes.len() as u64;
        if !inside(part) {
            part.start = at;
            part.bytes.resize(usize::try_from(STEP.min(self.size - at)).unwrap_or(4), 0);
            self.file.read_at(&mut part.bytes, at)?;
        }
        let from = usize::try_from(at - part.start).unwrap_or(0);
        Ok(part.bytes[from..].first_chunk::<4>().map(|word| u32::from_le_bytes(*word)))
    }

    /// The entries of the table at byte `place`; none for a table that is a hole of the file.
    fn entries_at(&mut self, place: u64) -> Result<Vec<u32>> {
        let end = place + self.header.gt_bytes();
        let inside = |hole: &Range<u64>| hole.start <= place && end <= hole.end;
        if !inside(&self.hole) {
            let status = self.file.block_status(place..self.size)?;
            if status.status != BlockStatus::Data {
                self.hole = status.range();
            }
        }
        if inside(&self.hole) {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; usize::try_from(self.header.gt_bytes()).unwrap_or(0)];
        self.file.read_at(&mut bytes, place)?;
        let (words, _) = bytes.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// The sectors of the file that a table entry names, `None` for none; an error for those that cannot be a grain.
    fn grain_place(&self, entry: u32) -> Result<Option<Range<u64>>, ()> {
        let start = u64::from(entry);
        match entry {
            0 => Ok(None),
            1 if self.header.zeroed_grains => Ok(None),
            // The last grain of the file may be cut off where the disk ends.
            _ if start >= self.header.overhead.max(1) && start * SECTOR < self.size => {
                Ok(Some(start..start + self.header.grain_sectors))
            }
            _ => Err(()),
        }
    }

    /// Finds sectors of the file that two grains use and those that none does.
    fn use_of_space(&mut self) -> Result<()> {
        let file_sectors = self.size.div_ceil(SECTOR);
        let (mut end, mut leak, mut allocated) = (self.header.overhead.min(file_sectors), None::<Range<u64>>, 0);
        let mut window = 0..WINDOW.min(file_sectors);
        loop {
            let mut used = Bits::new(&window);
            used.set(&(0..self.header.overhead));
            let mut seen = 0;
            for index in 0..self.tables {
                seen += self.mark_table(index, &mut used, &mut end)?;
            }
            allocated = seen.max(allocated);
            for free in used.gaps() {
                match &mut leak {
                    Some(leak) if leak.end == free.start => leak.end = free.end,
                    _ => {
                        let before = leak.replace(free);
                        self.report_leak(before, file_sectors)?;
                    }
                }
            }
            if window.end == file_sectors {
                break;
            }
            window = window.end..(window.end + WINDOW).min(file_sectors);
        }
        self.report_leak(leak, file_sectors)?;
        self.findings.report.allocated_units += allocated;
        let report = &mut self.findings.report;
        report.image_end_offset = report.image_end_offset.max(end.min(self.size.div_ceil(SECTOR)) * SECTOR);
        Ok(())
    }

    /// Marks what table `index` and its grains use, and answers how many grains it has.
    fn mark_table(&mut self, index: u64, used: &mut Bits, end: &mut u64) -> Result<u64> {
        let gt_sectors = self.header.gt_bytes().div_ceil(SECTOR);
        if let Some(rgd) = self.header.rgd
            && let Copy::Table { place, .. } = self.copy(rgd, index)?
        {
            used.set(&(place / SECTOR..place / SECTOR + gt_sectors));
            *end = (*end).max(place / SECTOR + gt_sectors);
        }
        let Copy::Table { place, entries, .. } = self.copy(self.gd, index)? else { return Ok(0) };
        used.set(&(place / SECTOR..place / SECTOR + gt_sectors));
        *end = (*end).max(place / SECTOR + gt_sectors);
        let mut count = 0;
        for (slot, entry) in entries.iter().enumerate() {
            let grain = index * self.header.gtes_per_gt + slot as u64;
            if let Ok(Some(sectors)) = self.grain_place(*entry) {
                // What a slot behind the disk's end names is kept all the same: the disk may have been longer.
                let on_disk = grain < self.grains;
                count += u64::from(on_disk);
                *end = (*end).max(sectors.end);
                if used.set(&sectors) && on_disk {
                    let message =
                        format!("grain {grain}: its sector {} belongs to another grain or table", sectors.start);
                    self.findings.corruption(&message, false);
                }
            }
        }
        Ok(count)
    }

    /// Reports unused space of at least a grain, and cuts it off at the end of the file.
    fn report_leak(&mut self, leak: Option<Range<u64>>, file_sectors: u64) -> Result<()> {
        let Some(leak) = leak.filter(|leak| leak.end - leak.start >= self.header.grain_sectors) else { return Ok(()) };
        let mut fixed = false;
        if leak.end == file_sectors
            && let Some(storage) = self.storage
        {
            storage.set_size(leak.start * SECTOR)?;
            fixed = true;
        }
        let message = format!("sectors {} to {} of the file are not used", leak.start, leak.end - 1);
        self.findings.leak(&message, fixed);
        Ok(())
    }

    /// Looks at the mark of an open extent, last: until everything else is mended it stays.
    fn mark(&mut self) -> Result<()> {
        if !self.header.unclean {
            return Ok(());
        }
        let report = &self.findings.report;
        let sound = report.corruptions == report.corruptions_fixed;
        let mut fixed = false;
        if let (Some(storage), true) = (self.storage, sound) {
            storage.flush()?;
            storage.write_at(&[0], offset_of!(SparseHeader, unclean_shutdown) as u64)?;
            storage.flush()?;
            fixed = true;
        }
        self.findings.leak("the extent was not closed", fixed);
        Ok(())
    }
}

/// Which sectors of a window are used.
struct Bits {
    window: Range<u64>,
    words: Vec<u64>,
}

impl Bits {
    fn new(window: &Range<u64>) -> Self {
        let words = usize::try_from((window.end - window.start).div_ceil(64)).unwrap_or(0);
        Self { window: window.clone(), words: vec![0; words] }
    }

    /// Marks `sectors` as far as they lie in the window, and answers whether one was marked and the window holds the
    /// first of them, so that a double use is found once.
    fn set(&mut self, sectors: &Range<u64>) -> bool {
        let start = sectors.start.max(self.window.start);
        let end = sectors.end.min(self.window.end);
        let mut twice = false;
        let mut at = start;
        while at < end {
            let bit = at - self.window.start;
            let count = (64 - bit % 64).min(end - at);
            let mask = (u64::MAX >> (64 - count)) << (bit % 64);
            let word = &mut self.words[usize::try_from(bit / 64).unwrap_or(0)];
            twice |= *word & mask != 0;
            *word |= mask;
            at += count;
        }
        twice && self.window.contains(&sectors.start)
    }

    /// The runs that are not marked.
    fn gaps(&self) -> Vec<Range<u64>> {
        let length = self.window.end - self.window.start;
        let mut gaps: Vec<Range<u64>> = Vec::new();
        for (index, word) in self.words.iter().enumerate().filter(|(_, word)| **word != u64::MAX) {
            let base = index as u64 * 64;
            for bit in (0..64).filter(|bit| word >> bit & 1 == 0 && base + bit < length) {
                let sector = self.window.start + base + bit;
                match gaps.last_mut() {
                    Some(gap) if gap.end == sector => gap.end += 1,
                    _ => gaps.push(sector..sector + 1),
                }
            }
        }
        gaps
    }
}
