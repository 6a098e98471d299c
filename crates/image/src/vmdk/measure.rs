//! How many bytes a new VMDK needs, over all its files.

use transload_block::{BlockStatus, Extent, Result};

use super::create::{FLAT_PIECE_SECTORS, GRAIN_SECTORS, GTES, SPARSE_PIECE_SECTORS, SparseLayout, checked_capacity};
use super::layout::SECTOR;
use super::options::{CreateOptions, Subformat, TableLayout};
use super::sink::directory_sectors;
use crate::{Measure, MeasureRequest};

/// Bytes of a grain.
const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Bytes of a grain that does not compress, with its marker: two stored blocks, header and checksum, in whole sectors.
const STORED_GRAIN: u64 = (12 + GRAIN + 2 + 10 + 4).next_multiple_of(SECTOR);
/// A descriptor file's length, of which only the extents' lines vary: an allowance, not a promise.
const DESCRIPTOR_FILE: u64 = 1024;

/// Says how large an image would be.
///
/// # Errors
/// As [`create`](super::create::create) and [`sink`](super::sink::sink) for the options and the size.
pub(crate) fn measure(request: MeasureRequest<'_>) -> Result<Measure> {
    let options = CreateOptions::new(request.options)?;
    let subformat = options.subformat_or(Subformat::MonolithicSparse)?;
    let capacity = checked_capacity(&options, request.size)?;
    let grains = data_units(request.extents, GRAIN);
    let all = capacity.div_ceil(GRAIN_SECTORS);
    Ok(match subformat {
        Subformat::MonolithicSparse => {
            let front = SparseLayout::new(capacity, true)?.overhead * SECTOR;
            Measure { required: front + grains * GRAIN, fully_allocated: front + all * GRAIN }
        }
        Subformat::TwoGbMaxExtentSparse => {
            let (whole, rest) = (capacity / SPARSE_PIECE_SECTORS, capacity % SPARSE_PIECE_SECTORS);
            let mut front = whole * SparseLayout::new(SPARSE_PIECE_SECTORS, false)?.overhead;
            if rest > 0 || whole == 0 {
                front += SparseLayout::new(rest, false)?.overhead;
            }
            let front = front * SECTOR + descriptor_file(whole + 1);
            Measure { required: front + grains * GRAIN, fully_allocated: front + all * GRAIN }
        }
        Subformat::TwoGbMaxExtentFlat => flat(capacity, capacity.div_ceil(FLAT_PIECE_SECTORS)),
        Subformat::MonolithicFlat | Subformat::Vmfs => flat(capacity, 1),
        Subformat::StreamOptimized => stream(&options, capacity, request.extents, grains),
    })
}

/// A flat image is allocated as its data is; its files are as long as the disk.
fn flat(capacity: u64, pieces: u64) -> Measure {
    let bytes = capacity * SECTOR + descriptor_file(pieces);
    Measure { required: bytes, fully_allocated: bytes }
}

fn stream(options: &CreateOptions, capacity: u64, extents: &[Extent], grains: u64) -> Measure {
    let groups = capacity.div_ceil(GRAIN_SECTORS * GTES);
    let used = data_units(extents, GRAIN * GTES).min(groups);
    let directory = directory_sectors(groups) * SECTOR;
    let front = options.layout != Some(TableLayout::Footer);
    let size = |grains: u64, tables: u64| {
        let tables = if front {
            21 * SECTOR + directory + tables * GTES * 4
        } else {
            // Padding in front, a marker for each table and for directory and footer, and the footer.
            GRAIN + directory + tables * (GTES * 4 + SECTOR) + 3 * SECTOR
        };
        tables + grains * STORED_GRAIN + SECTOR
    };
    Measure { required: size(grains, used), fully_allocated: size(capacity.div_ceil(GRAIN_SECTORS), groups) }
}

/// The units of `unit` bytes that data touches, each once.
fn data_units(extents: &[Extent], unit: u64) -> u64 {
    let (mut count, mut counted_to) = (0, 0);
    for extent in extents.iter().filter(|extent| extent.status == BlockStatus::Data && extent.length > 0) {
        let first = (extent.offset / unit).max(counted_to);
        let end = extent.end().div_ceil(unit);
        if end > first {
            count += end - first;
            counted_to = end;
        }
    }
    count
}

/// Bytes of a descriptor that names `pieces` extents.
const fn descriptor_file(pieces: u64) -> u64 {
    DESCRIPTOR_FILE + pieces * 80
}
