//! A new image for random writing.

use transload_block::{BlockStatus, Error, ErrorKind, Extent, Result, Storage, ZeroMode};

use std::sync::Arc;

use super::ahead::Ahead;
use super::device::Qcow2;
use super::options::{NewImage, Preallocation};
use crate::{CreateRequest, ImageWrite};

/// Bytes that zeroes are written in.
const CHUNK: u64 = 1 << 20;

/// Makes a new image and opens it for random writing.
///
/// # Errors
/// What is wrong with the options; as [`write_new_image`].
pub(crate) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let image = NewImage::new(request.size, request.options)?;
    let storage = request.files.primary()?;
    let data_file = match &image.data_file {
        Some(data_file) => {
            let file = request.files.sibling(&data_file.name)?;
            file.set_size(image.size)?;
            Some(file)
        }
        None => None,
    };
    write_new_image(&*storage, &image)?;
    Ok(Arc::new(Qcow2::open_for_writing(storage, data_file, request.cache_bytes)?))
}

/// Writes the metadata of `image` into `storage`, which is empty or a block device, and sets aside what its
/// preallocation asks for. The header comes last: before it, the storage holds no qcow2 image.
///
/// # Errors
/// As [`Ahead::new`]; `Unsupported` when room is asked for and the storage cannot promise it; what the storage answers.
pub(crate) fn write_new_image(storage: &dyn Storage, image: &NewImage) -> Result<()> {
    let whole = Extent { offset: 0, length: image.size, status: BlockStatus::Data };
    let allocated = image.preallocation != Preallocation::Off && image.size > 0;
    let ahead = Ahead::new(image, if allocated { std::slice::from_ref(&whole) } else { &[] })?;
    let cluster_size = image.geometry.cluster_size();
    let (data, end) = (ahead.metadata_clusters() * cluster_size, ahead.clusters() * cluster_size);

    // What a block device held before must not show.
    let reused = storage.size() > 0;
    if storage.size() < end {
        storage.set_size(end)?;
    }
    let mut cluster = vec![0; 1 << image.geometry.cluster_bits];
    if reused {
        storage.write_at(&cluster, 0)?;
    }
    for index in 1..ahead.metadata_clusters() {
        let offset = index * cluster_size;
        if ahead.fill_metadata(index, &mut cluster) {
            storage.write_at(&cluster, offset)?;
        } else if reused {
            storage.write_zeroes_at(offset..offset + cluster_size, ZeroMode::Unmap)?;
        }
    }
    match image.preallocation {
        Preallocation::Full => write_zeroes(storage, data, end)?,
        Preallocation::Off => {}
        _ if reused => storage.write_zeroes_at(data..end, ZeroMode::KeepAllocated)?,
        Preallocation::Falloc => storage.allocate(data..end).map_err(cannot_allocate)?,
        Preallocation::Metadata => {}
    }
    ahead.fill_metadata(0, &mut cluster);
    storage.write_at(&cluster, 0)
}

fn write_zeroes(storage: &dyn Storage, start: u64, end: u64) -> Result<()> {
    let zeroes = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let step = (end - at).min(CHUNK);
        storage.write_at(&zeroes[..usize::try_from(step).unwrap_or(zeroes.len())], at)?;
        at += step;
    }
    Ok(())
}

fn cannot_allocate(error: Error) -> Error {
    let error = error.context("option preallocation=falloc");
    if error.kind() == ErrorKind::Unsupported { error.with_remedy("use -o preallocation=full") } else { error }
}
