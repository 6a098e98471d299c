//! Opens hosted sparse extents: `KDMV`, compressed or not.
//!
//! "Virtual Disk Format 5.0", "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents". A header whose
//! directory is at the end is completed from the footer, which the specification gives precedence.

use std::sync::Arc;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::cache::BlockCache;
use super::descriptor::Descriptor;
use super::directory;
use super::error::Fault;
use super::header::{DirectoryPlace, HostedHeader};
use super::layout::{DESCRIPTOR_MAX, Marker, SECTOR, marker};
use super::map::{Dialect, Tables};
use super::sparse::Sparse;

/// How far from the end a footer is looked for: files are sometimes padded with zeroes, to whole blocks of a tape or of a
/// target.
const FOOTER_SEARCH: u64 = 1 << 20;

/// A hosted sparse extent's metadata.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    /// The header; with the footer's values where there is one.
    pub header: HostedHeader,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// Reads the header, and the footer if the header sends there.
pub(crate) fn read_header(file: &dyn BlockRead) -> Result<Hosted> {
    let mut sector = [0; 512];
    read_within(file, "header", 0, &mut sector)?;
    let header = HostedHeader::parse(&sector)?;
    if header.gd != DirectoryPlace::Footer {
        return Ok(Hosted { header, warnings: Vec::new() });
    }
    let footer = find_footer(file)?;
    let mut warnings = Vec::new();
    for (what, footer, header) in [
        ("the grain size", footer.grain_sectors, header.grain_sectors),
        ("the number of entries per grain table", footer.gtes_per_gt, header.gtes_per_gt),
    ] {
        if footer != header {
            return Err(Fault::FooterDiffers { what, footer, header }.into());
        }
    }
    if footer.capacity != header.capacity {
        let (footer, header) = (footer.capacity, header.capacity);
        warnings.push(format!("the footer's capacity of {footer} sectors is used, the header says {header}"));
    }
    let descriptor = header.descriptor;
    Ok(Hosted { header: HostedHeader { descriptor, ..footer }, warnings })
}

/// Finds the footer: the header's copy behind a footer marker, the last but one sector in front of zero padding. A whole
/// end-of-stream marker follows it, or the file is cut off.
fn find_footer(file: &dyn BlockRead) -> Result<HostedHeader> {
    const STEP: u64 = 64 << 10;
    let end = file.size() / SECTOR * SECTOR;
    let floor = end.saturating_sub(FOOTER_SEARCH);
    let mut upper = end;
    while upper > floor {
        // Each step overlaps the one before by a sector, so that a marker and its footer are seen together.
        let lower = upper.saturating_sub(STEP).max(floor);
        let until = (upper + SECTOR).min(end);
        let mut bytes = vec![0; usize::try_from(until - lower).expect("at most a step and a sector")];
        file.read_at(&mut bytes, lower)?;
        let sectors: Vec<_> = bytes.chunks_exact(512).collect();
        for (index, pair) in sectors.windows(2).enumerate().rev() {
            if !is_footer_marker(pair[0]) {
                continue;
            }
            let behind = lower + (index as u64 + 2) * SECTOR;
            return match HostedHeader::parse_footer(pair[1])? {
                HostedHeader { gd: DirectoryPlace::Footer, .. } => Err(Fault::NoDirectory.into()),
                _ if file.size() < behind + SECTOR => Err(Fault::NoEndOfStream { bytes: file.size() - behind }.into()),
                footer => Ok(footer),
            };
        }
        upper = lower;
    }
    Err(Fault::NoFooter.into())
}

fn is_footer_marker(sector: &[u8]) -> bool {
    Marker::read_from_bytes(sector).is_ok_and(|found| {
        found.size.get() == 0 && found.kind.get() == marker::FOOTER && found.padding.iter().all(|byte| *byte == 0)
    })
}

/// Reads the embedded descriptor; `None` when there is none, or nothing but padding.
pub(crate) fn embedded_descriptor(file: &dyn BlockRead, header: &HostedHeader) -> Result<Option<Descriptor>> {
    let Some((sector, sectors)) = header.descriptor else { return Ok(None) };
    let bytes = sectors.saturating_mul(SECTOR);
    if bytes > DESCRIPTOR_MAX {
        return Err(Fault::DescriptorTooLong { bytes, most: DESCRIPTOR_MAX }.into());
    }
    let mut text = vec![0; usize::try_from(bytes).expect("at most a megabyte")];
    read_within(file, "descriptor", sector, &mut text)?;
    if text.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
        return Ok(None);
    }
    Ok(Some(Descriptor::parse(&text)?))
}

/// Opens the tables for the first `sectors` of the extent, which are not more than its header's capacity.
pub(crate) fn open(
    file: &Arc<dyn BlockRead>,
    hosted: &mut Hosted,
    sectors: u64,
    cache: &Arc<BlockCache>,
    extent: usize,
) -> Result<Sparse> {
    let header = &hosted.header;
    let dialect = Dialect::Hosted { zeroed_grains: header.zeroed_grains, compressed: header.compressed };
    let entries = sectors.div_ceil(header.grain_sectors).div_ceil(header.gtes_per_gt);
    let directory = directory::choose(&**file, header, dialect, entries)?;
    hosted.warnings.extend(directory.warning);
    let tables = Tables {
        file: Arc::clone(file),
        dialect,
        directory: directory.at,
        entries,
        gtes_per_gt: header.gtes_per_gt,
        grain_bytes: header.grain_bytes(),
        cache: Arc::clone(cache),
        extent,
    };
    Ok(Sparse { tables, size: sectors * SECTOR, markers: header.markers })
}

/// Reads `buf` from `sector`, or says which structure is not all there.
pub(crate) fn read_within(file: &dyn BlockRead, what: &'static str, sector: u64, buf: &mut [u8]) -> Result<()> {
    let (bytes, size) = (buf.len() as u64, file.size());
    match sector.checked_mul(SECTOR) {
        Some(at) if at.checked_add(bytes).is_some_and(|end| end <= size) => file.read_at(buf, at),
        _ => Err(Fault::OutsideFile { what, sector, bytes, file: size }.into()),
    }
}
