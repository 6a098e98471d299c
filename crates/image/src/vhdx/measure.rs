//! How many bytes a new image needs.

use transload_block::{BlockStatus, Result};

use super::options::NewImage;
use crate::{Measure, MeasureRequest};

/// Says how many bytes a new image needs; the row's `measure`.
pub(crate) fn measure(request: MeasureRequest<'_>) -> Result<Measure> {
    let image = NewImage::new(request.size, request.options)?;
    let (all, block_size) = (image.geometry.blocks(), image.geometry.block_size);
    let (mut blocks, mut seen) = (0, 0);
    for extent in request.extents.iter().filter(|extent| extent.status == BlockStatus::Data) {
        let (first, end) = (extent.offset / block_size, extent.end().div_ceil(block_size).min(all));
        blocks += end.saturating_sub(first.max(seen));
        seen = seen.max(end);
    }
    let blocks = if image.fixed { all } else { blocks };
    Ok(Measure { required: image.file_length(blocks), fully_allocated: image.file_length(all) })
}
