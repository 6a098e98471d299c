//! Checks an image's metadata: both footers, and where the blocks stand.
//!
//! A repair writes footers: the one that counts over one that is missing, damaged or different. What a table says is
//! never changed, since nothing tells which of two blocks in one place is right.

use transload_block::{Error, ErrorKind, Result};
use zerocopy::IntoBytes;

use super::error::Fault;
use super::layout::{FOOTER_BYTES, HEADER_BYTES, SECTOR, UNUSED};
use super::map::Shape;
use super::open::{Body, Image};
use crate::{CheckReport, CheckRequest, Finding, FindingKind};

/// Blocks with a place that are compared with each other: 64 MiB of sector numbers. The largest disk of usual blocks has
/// a sixteenth of that.
const BLOCKS_MAX: usize = 16 << 20;
/// Entries of a table that are read at a time, in bytes.
const STEP: u64 = 64 << 10;

/// Checks the metadata, and repairs footers if asked.
#[expect(clippy::needless_pass_by_value, reason = "the row of the format gives its requests away")]
pub(super) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    let name = request.source.display_name();
    check_image(&request).map_err(|error| error.context(name))
}

fn check_image(request: &CheckRequest<'_>) -> Result<CheckReport> {
    let file = &**request.source.bytes();
    let image = Image::read(file)?;
    let mut report = CheckReport { image_end_offset: file.size(), ..CheckReport::default() };
    check_footers(request, &image, &mut report)?;
    match &image.body {
        Body::Fixed => {
            report.total_units = image.size / SECTOR;
            report.allocated_units = report.total_units;
        }
        Body::Sparse { header_offset, shape, .. } => {
            report.total_units = shape.blocks();
            let end = image.end_of_blocks(file.size());
            let metadata = [
                0..FOOTER_BYTES,
                *header_offset..header_offset + HEADER_BYTES,
                shape.table..shape.table + shape.blocks() * 4,
            ];
            Blocks { shape, metadata: &metadata, end, report: &mut report }.check(request)?;
        }
    }
    Ok(report)
}

fn check_footers(request: &CheckRequest<'_>, image: &Image, report: &mut CheckReport) -> Result<()> {
    let (right, ends) = (image.footer, image.ends);
    // What counts may itself have a wrong checksum, in a fixed disk that has no copy of it.
    let sealed = right.sealed();
    let mut wrong = Vec::new();
    if matches!(image.body, Body::Sparse { .. }) && ends.front != Some(sealed) {
        wrong.push(("the copy of the footer at the file's start", 0));
    }
    let size = request.source.bytes().size();
    // A footer from before 2004 is one byte shorter than it reads.
    match ends.back {
        Some((back, _)) if back == sealed => {}
        Some((back, before)) if back.unique_id == sealed.unique_id => wrong.push(("the footer", before)),
        _ => wrong.push(("the footer at the file's end", image.end_of_blocks(size))),
    }
    for (what, place) in wrong {
        if request.repair {
            let storage = request.source.storage()?;
            if storage.size() < place + FOOTER_BYTES {
                storage.set_size(place + FOOTER_BYTES)?;
            }
            storage.write_at(sealed.as_bytes(), place)?;
            storage.flush()?;
        }
        let message = format!("{what} is missing, damaged or another than the one that counts");
        report.add(Finding { kind: FindingKind::Corruption, message, fixed: request.repair });
    }
    Ok(())
}

struct Blocks<'a> {
    shape: &'a Shape,
    /// Where no block may stand.
    metadata: &'a [std::ops::Range<u64>],
    /// The byte behind the last block.
    end: u64,
    report: &'a mut CheckReport,
}

impl Blocks<'_> {
    fn check(&mut self, request: &CheckRequest<'_>) -> Result<()> {
        let file = &**request.source.bytes();
        let table = self.shape.blocks() * 4;
        let mut places: Vec<u32> = Vec::new();
        let mut at = 0;
        while at < table {
            let mut bytes = vec![0; usize::try_from(STEP.min(table - at)).expect("at most 64 KiB")];
            file.read_at(&mut bytes, self.shape.table + at)?;
            let (words, _) = bytes.as_chunks::<4>();
            for (index, word) in words.iter().enumerate() {
                let sector = u32::from_be_bytes(*word);
                if sector == UNUSED {
                    continue;
                }
                self.report.allocated_units += 1;
                if self.is_sound(at / 4 + index as u64, sector) {
                    if places.len() == BLOCKS_MAX {
                        let what = format!("VHD: more than {BLOCKS_MAX} blocks cannot be checked");
                        return Err(Error::new(ErrorKind::TooLarge, what));
                    }
                    places.push(sector);
                }
            }
            at += bytes.len() as u64;
        }
        self.compare(places);
        Ok(())
    }

    /// Whether the block stands where one may.
    fn is_sound(&mut self, block: u64, sector: u32) -> bool {
        let offset = u64::from(sector) * SECTOR;
        let bytes = self.shape.bitmap() + self.shape.bytes_in(block);
        let (end, file) = (offset + bytes, self.end);
        if offset < FOOTER_BYTES || end > file {
            self.corruption(|| Fault::BlockPlace { block, sector, offset, bytes, file }.to_string());
            return false;
        }
        if let Some(metadata) = self.metadata.iter().find(|range| offset < range.end && range.start < end) {
            let metadata = metadata.clone();
            self.corruption(|| {
                format!(
                    "block {block}: its bytes {offset} to {end} overlap metadata at {} to {}",
                    metadata.start, metadata.end
                )
            });
            return false;
        }
        true
    }

    /// Finds blocks that share bytes, and what no block has.
    fn compare(&mut self, mut places: Vec<u32>) {
        places.sort_unstable();
        let stride = self.shape.stride();
        for pair in places.windows(2) {
            let (one, other) = (u64::from(pair[0]) * SECTOR, u64::from(pair[1]) * SECTOR);
            // The last block of the disk may be cut off in the file, and is then the last there too.
            if other < one + stride && (other == one || one + stride <= self.end) {
                self.corruption(|| format!("the blocks at bytes {one} and {other} of the file overlap"));
            }
        }
        let last = places.last().map_or(0, |sector| u64::from(*sector) * SECTOR + stride);
        let in_use = self.metadata.iter().map(|range| range.end).max().unwrap_or(0).max(last);
        // A parent's name and padding may stand behind; a whole block is lost when the file was not closed.
        if in_use + stride <= self.end {
            let lost = self.end - in_use;
            let message = format!("{lost} bytes in front of the footer at the file's end belong to no block");
            self.report.add(Finding { kind: FindingKind::Leak, message, fixed: false });
        }
    }

    /// Counts a corruption; the message is made for those that are kept.
    fn corruption(&mut self, message: impl FnOnce() -> String) {
        let kept = self.report.findings.len() < CheckReport::MAX_FINDINGS;
        let message = if kept { message() } else { String::new() };
        self.report.add(Finding { kind: FindingKind::Corruption, message, fixed: false });
    }
}
