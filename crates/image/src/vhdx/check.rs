//! Checks a VHDX: headers, region tables, log, and every entry of the block allocation table.
//!
//! What the reader refuses altogether is an error of the check itself. Repair touches no guest data: it replays the log,
//! and writes the damaged one of two headers or region tables anew from the sound one. Space that no block uses is not
//! counted as lost: Hyper-V lets files grow ahead of their blocks.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{ErrorKind, Result, Storage};

use super::create::region_table;
use super::journal::Journal;
use super::layout::{BITMAP_BYTES, MIB, OFFSET_MASK, REGION_TABLES, STATE_MASK, payload};
use super::map::Map;
use super::open::Image;
use super::replay::replay;
use super::sectors::Sectors;
use crate::{CheckReport, CheckRequest, Finding, FindingKind};

/// Memory for the table while it is gone through.
const CACHE_BYTES: usize = 1 << 20;

/// Checks the image, and repairs it if asked.
///
/// # Errors
/// What opening answers for an image that cannot be read at all; `ReadOnly` when a repair has nothing to write to.
#[expect(clippy::needless_pass_by_value, reason = "the table of formats hands requests over")]
pub(crate) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let mut image = Image::read(request.source.bytes())?;
    let storage = if request.repair { Some(request.source.storage()?) } else { None };
    let mut corrupt = |message: String, fixed: bool| {
        report.add(Finding { kind: FindingKind::Corruption, message, fixed });
    };
    if image.dirty {
        corrupt("log: it holds changes that are not in the file".to_owned(), storage.is_some());
    }
    if image.log_without_entries {
        corrupt(
            "log: the header names it, and no entry of it counts, which is no sound image".to_owned(),
            storage.is_some(),
        );
    }
    if let Some(fault) = &image.header.other {
        corrupt(fault.to_string(), storage.is_some());
    }
    if let Some((number, problem)) = &image.regions.damaged {
        corrupt(format!("region table {}: {problem}", number + 1), storage.is_some());
    }
    if let Some(storage) = storage {
        repair(storage, &image)?;
        image = Image::read(request.source.bytes())?;
    }
    Walk::new(&image)?.walk(&mut report)?;
    Ok(report)
}

fn repair(storage: &Arc<dyn Storage>, image: &Image) -> Result<()> {
    replay(storage, &image.header)?;
    if let Some((number, _)) = &image.regions.damaged {
        storage.write_at(&region_table(&image.regions.all), REGION_TABLES[*number])?;
        storage.flush()?;
    }
    let header = super::open::read_header(&**storage)?;
    if header.other.is_some() {
        // The next header goes where the damaged one is.
        Journal::new(&header).renew(&**storage)?;
    }
    Ok(())
}

/// Goes over the table and notes which MiB of the file are in use.
struct Walk<'a> {
    image: &'a Image,
    map: Map,
    sectors: Sectors,
    /// A bit for each MiB of the file.
    used: Vec<u64>,
}

impl<'a> Walk<'a> {
    fn new(image: &'a Image) -> Result<Self> {
        // What is behind the largest file that blocks can fill is used by none of them.
        let words = image.file.size().min(128 << 40).div_ceil(MIB).div_ceil(64);
        let used = vec![0; usize::try_from(words).unwrap_or(0)];
        Ok(Self { image, map: Map::new(image), sectors: Sectors::new(CACHE_BYTES), used })
    }

    fn walk(mut self, report: &mut CheckReport) -> Result<()> {
        let geometry = self.map.geometry;
        report.total_units = geometry.blocks();
        report.image_end_offset =
            self.image.regions.all.iter().map(|region| region.offset + region.length).max().unwrap_or(MIB);
        for block in 0..geometry.blocks() {
            let start = block * geometry.block_size;
            match self.block(block, start..(start + geometry.block_size).min(geometry.size)) {
                Ok(None) => {}
                Ok(Some((place, alone))) => {
                    report.allocated_units += 1;
                    report.image_end_offset = report.image_end_offset.max(place + geometry.block_size);
                    if !alone {
                        let message = format!("block {block}: some of its bytes from {place:#x} on are another's too");
                        report.add(Finding { kind: FindingKind::Corruption, message, fixed: false });
                    }
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let message = error.to_string();
                    let message = message.strip_prefix("corrupt: ").unwrap_or(&message).to_owned();
                    report.add(Finding { kind: FindingKind::Corruption, message, fixed: false });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Checks a block; when it is present, where it stands, and whether nobody else does.
    fn block(&mut self, block: u64, range: Range<u64>) -> Result<Option<(u64, bool)>> {
        let file = Arc::clone(&self.image.file);
        let entry = self.map.payload(&mut self.sectors, &*file, block)?;
        // The first run meets every rule for the entry, and for its sector bitmap where it has one.
        self.map.run(&mut self.sectors, &*file, range)?;
        let state = entry & STATE_MASK;
        if !matches!(state, payload::FULLY_PRESENT | payload::PARTIALLY_PRESENT) {
            return Ok(None);
        }
        let place = entry & OFFSET_MASK;
        let mut alone = self.claim(place, self.map.geometry.block_size);
        let first_of_chunk = block.is_multiple_of(self.map.geometry.chunk_ratio());
        if self.map.geometry.has_parent
            && first_of_chunk
            && let Some(bitmap) = self.map.bitmap_place(&mut self.sectors, &*file, block)?
        {
            alone &= self.claim(bitmap, BITMAP_BYTES);
        }
        Ok(Some((place, alone)))
    }

    /// Takes a part of the file; whether it was free.
    fn claim(&mut self, place: u64, length: u64) -> bool {
        let mut free = true;
        for mib in place / MIB..(place + length).div_ceil(MIB) {
            let Some(word) = usize::try_from(mib / 64).ok().and_then(|index| self.used.get_mut(index)) else {
                continue;
            };
            free &= *word >> (mib % 64) & 1 == 0;
            *word |= 1 << (mib % 64);
        }
        free
    }
}
