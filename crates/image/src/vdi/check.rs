//! Checks the block map: every entry in bounds, no block of the file given away twice, no number wrong.
//!
//! Memory is bounded whatever the header says: the map is read a page at a time, and who shares a block is found out for a
//! window of the file after the other.

use transload_block::{BlockRead, Result, Storage};

use super::compact::compact;
use super::device::Shape;
use super::error::Fault;
use super::layout::{BLOCK_FREE, BLOCK_ZERO};
use super::map::{PAGE, read_entries};
use super::open::Header;
use crate::{CheckReport, CheckRequest, Finding, FindingKind};

/// Blocks of the file that are told apart at once: 16 MiB of bits, which are 128 TiB of blocks of 1 MiB.
const WINDOW: u64 = 1 << 27;

/// What the map says of the whole image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Blocks of the disk that have a place.
    pub allocated: u64,
    /// The number behind the last block of the file that is referred to.
    pub end: u64,
}

impl Census {
    /// Reads the whole map. Each broken rule is told to `report`, which may make it the end.
    ///
    /// # Errors
    /// What the file and `report` answer.
    pub(super) fn take(
        file: &dyn BlockRead,
        shape: &Shape,
        report: &mut dyn FnMut(Fault) -> Result<()>,
    ) -> Result<Self> {
        let mut census = Self::default();
        for_each_entry(file, shape, &mut |block, entry| match shape.checked_block(file, block, entry) {
            Ok(_) => {
                census.allocated += 1;
                census.end = census.end.max(u64::from(entry) + 1);
                Ok(())
            }
            Err(fault) => report(fault),
        })?;
        let mut start = 0;
        while start < census.end {
            let window = start..census.end.min(start + WINDOW);
            let mut seen = vec![0_u64; usize::try_from((window.end - start).div_ceil(64)).unwrap_or(0)];
            for_each_entry(file, shape, &mut |_, entry| {
                let entry = u64::from(entry);
                if !window.contains(&entry) {
                    return Ok(());
                }
                let (word, bit) = (usize::try_from((entry - start) / 64).unwrap_or(0), 1 << ((entry - start) % 64));
                let twice = seen[word] & bit != 0;
                seen[word] |= bit;
                if twice { report(Fault::Shared { entry, uses: "several" }) } else { Ok(()) }
            })?;
            start = window.end;
        }
        Ok(census)
    }
}

/// Calls `visit` with every block that has a place, and its entry.
pub(super) fn for_each_entry(
    file: &dyn BlockRead,
    shape: &Shape,
    visit: &mut dyn FnMut(u64, u32) -> Result<()>,
) -> Result<()> {
    let mut first = 0;
    while first < shape.blocks {
        let count = PAGE.min(shape.blocks - first);
        for (block, entry) in (first..).zip(read_entries(file, shape.map, first, count)?) {
            if !matches!(entry, BLOCK_FREE | BLOCK_ZERO) {
                visit(block, entry)?;
            }
        }
        first += count;
    }
    Ok(())
}

/// Checks an image, and repairs the number of blocks and leaked space if asked.
#[expect(clippy::needless_pass_by_value, reason = "the row of the format gives its requests away")]
pub(super) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    let bytes = request.source.bytes();
    let header = Header::read(&**bytes)?;
    let shape = header.shape();
    let mut report = CheckReport { total_units: shape.blocks, ..CheckReport::default() };
    let census = Census::take(&**bytes, &shape, &mut |fault| {
        report.add(corruption(fault.to_string(), false));
        Ok(())
    })?;
    report.allocated_units = census.allocated;
    report.image_end_offset = shape.end_of(census.end);
    // Where the map itself cannot be trusted nothing may be moved by it.
    let storage = if request.repair && report.corruptions == 0 { Some(&**request.source.storage()?) } else { None };
    let leaked = census.end.saturating_sub(census.allocated);
    let recorded = u64::from(header.allocated);
    if recorded != census.end {
        let what = format!("VDI header: it counts {recorded} blocks in the file, and the map uses {}", census.end);
        // The next writer would give a block away that is in use; what it counts too much is only lost.
        let kind = if recorded < census.end { FindingKind::Corruption } else { FindingKind::Leak };
        report.add(Finding { kind, message: what, fixed: storage.is_some() });
    }
    if leaked > 0 {
        let what = format!("VDI map: {leaked} of the file's {} blocks are used by nothing", census.end);
        report.add(Finding { kind: FindingKind::Leak, message: what, fixed: storage.is_some() });
    }
    let (used, length) = (shape.end_of(census.end), bytes.size());
    if length > used && census.end < shape.blocks {
        let what = format!("VDI: {} bytes behind the last block at byte {used} are used by nothing", length - used);
        report.add(Finding { kind: FindingKind::Leak, message: what, fixed: storage.is_some() });
    }
    if let Some(storage) = storage
        && report.leaks + report.corruptions > 0
    {
        repair(storage, &shape, census)?;
        report.image_end_offset = shape.end_of(census.allocated);
    }
    Ok(report)
}

/// Writes the true number of blocks first, so that nothing is given away twice whatever happens next.
fn repair(storage: &dyn Storage, shape: &Shape, census: Census) -> Result<()> {
    super::compact::write_allocated(storage, shape, census.end)?;
    compact(storage, shape, census)
}

fn corruption(message: String, fixed: bool) -> Finding {
    Finding { kind: FindingKind::Corruption, message, fixed }
}
