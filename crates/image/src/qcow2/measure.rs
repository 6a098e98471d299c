//! How many bytes a new image needs, by the arithmetic of `qemu-img measure`.
//!
//! Both answers count the tables of a fully allocated disk, so `required` is an upper bound for every writer here: an
//! image with fewer L2 tables is smaller.

use transload_block::{BlockStatus, Result};

use super::ahead::refcount_clusters;
use super::options::{NewImage, Preallocation};
use crate::{Measure, MeasureRequest};

/// Says how many bytes a new image needs; the row's `measure`.
pub(crate) fn measure(request: MeasureRequest<'_>) -> Result<Measure> {
    let image = NewImage::new(request.size, request.options)?;
    let cluster_size = image.geometry.cluster_size();
    let virtual_clusters = image.guest_clusters();
    let all_written = matches!(image.preallocation, Preallocation::Falloc | Preallocation::Full);
    let data = if all_written || image.backing.is_some() {
        // How much of an overlay differs from its backing file is not known from the extents.
        virtual_clusters
    } else {
        let mut seen = 0;
        let mut clusters = 0;
        for extent in request.extents.iter().filter(|extent| extent.status == BlockStatus::Data) {
            let (first, end) = (extent.offset / cluster_size, extent.end().min(image.size).div_ceil(cluster_size));
            clusters += end.saturating_sub(first.max(seen));
            seen = seen.max(end);
        }
        clusters
    };

    let l2_tables = virtual_clusters.div_ceil(image.geometry.l2_entries());
    let l1_clusters = (l2_tables * 8).div_ceil(cluster_size);
    let others = 1 + l1_clusters + l2_tables + virtual_clusters;
    let (table, blocks) = refcount_clusters(&image, others)?;
    let fully_allocated = (others + table + blocks) * cluster_size;
    Ok(Measure { required: fully_allocated - (virtual_clusters - data) * cluster_size, fully_allocated })
}
