//! How many bytes a new VHD needs.

use transload_block::{BlockStatus, Extent, Result};

use super::create::table_end;
use super::layout::{FOOTER_BYTES, SECTOR};
use super::map::Shape;
use super::options::{CreateOptions, Subformat};
use super::parent::to_utf16;
use crate::{Measure, MeasureRequest};

/// Says how large an image would be.
///
/// # Errors
/// As [`create`](super::create::create) for the options and the size.
pub(super) fn measure(request: MeasureRequest<'_>) -> Result<Measure> {
    let options = CreateOptions::new(request.options)?;
    let size = options.virtual_size(request.size)?;
    if options.subformat == Subformat::Fixed {
        return Ok(Measure { required: size + FOOTER_BYTES, fully_allocated: size + FOOTER_BYTES });
    }
    let shape = Shape { size, block: options.block, table: 0, has_parent: options.backing_file.is_some() };
    let name = options.backing_file.as_ref().map_or(0, |name| {
        let name = name.trim_start_matches("./");
        (to_utf16(name, false).len() as u64 + 4).next_multiple_of(SECTOR)
    });
    let front = table_end(&shape) + name + FOOTER_BYTES;
    let of = |blocks: u64| front + blocks * shape.stride();
    Ok(Measure { required: of(data_blocks(request.extents, shape.block)), fully_allocated: of(shape.blocks()) })
}

/// The blocks of `block` bytes that data touches, each once.
fn data_blocks(extents: &[Extent], block: u64) -> u64 {
    let (mut count, mut counted_to) = (0, 0);
    for extent in extents.iter().filter(|extent| extent.status == BlockStatus::Data && extent.length > 0) {
        let (first, end) = ((extent.offset / block).max(counted_to), extent.end().div_ceil(block));
        if end > first {
            count += end - first;
            counted_to = end;
        }
    }
    count
}
