//! Opening one layer, and what `info` shows.

use std::sync::Arc;

use transload_block::{BlockRead, Result};

use super::device::Vhdx;
use super::journal::Journal;
use super::open::{Image, read_header};
use super::replay::replay;
use super::write::{State, Writing};
use crate::{Access, ContentId, ImageInfo, ImageWrite, Layer, OpenRequest, ParentReference, Source};

/// Says what the image says of itself; its parent is not opened.
///
/// # Errors
/// As [`Image::read`].
pub(crate) fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(info(source, &Image::read(source.bytes())?))
}

/// Opens one layer. For writing, the log is replayed into the file first.
///
/// # Errors
/// As [`Image::read`].
pub(crate) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, access, cache_bytes, .. } = request;
    let mut image = Image::read(source.bytes())?;
    let info = info(&source, &image);
    let (device, writer): (Arc<dyn BlockRead>, Option<Arc<dyn ImageWrite>>) = match access {
        Access::ReadOnly => (Arc::new(Vhdx::open(&image, cache_bytes)), None),
        Access::ReadWrite => {
            let storage = source.storage()?;
            replay(storage, &image.header)?;
            image.header = read_header(&**storage)?;
            let journal = Journal::new(&image.header);
            let state = State::writing(cache_bytes, storage.size(), Some(journal));
            let writing = Writing::existing(Arc::clone(storage));
            let file = Arc::clone(storage) as Arc<dyn BlockRead>;
            let device = Arc::new(Vhdx::new(&image, file, state, Some(writing)));
            (Arc::clone(&device) as Arc<dyn BlockRead>, Some(device))
        }
    };
    let parent = image.metadata.parent.as_ref().map(|locator| ParentReference {
        names: locator.names(),
        format: Some("vhdx".to_owned()),
        content_id: locator.linkage().map(|guid| ContentId::Uuid(guid.text_order())),
        modified: None,
    });
    // By this a child knows the disk.
    let content_ids = vec![ContentId::Uuid(image.header.raw.data_write_guid.text_order())];
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent, content_ids })
}

fn info(source: &Source, image: &Image) -> ImageInfo {
    let metadata = &image.metadata;
    let variant = match (metadata.has_parent, metadata.fixed) {
        (true, _) => "differencing",
        (false, true) => "fixed",
        (false, false) => "dynamic",
    };
    let mut info = ImageInfo {
        format: "vhdx".to_owned(),
        variant: Some(variant.to_owned()),
        virtual_size: metadata.size,
        file_size: Some(source.bytes().size()),
        cluster_size: Some(metadata.block_size),
        dirty: image.dirty,
        warnings: image.warnings.clone(),
        ..ImageInfo::default()
    };
    let mut detail = |name: &str, value: String| info.details.insert(name.to_owned(), value);
    detail("disk-id", metadata.disk_id.to_string());
    detail("data-write-guid", image.header.raw.data_write_guid.to_string());
    detail("file-write-guid", image.header.raw.file_write_guid.to_string());
    detail("logical-sector-size", metadata.logical_sector.to_string());
    detail("physical-sector-size", metadata.physical_sector.to_string());
    detail("log-size", image.header.log().length.to_string());
    if let Some(locator) = &metadata.parent {
        for (key, value) in &locator.pairs {
            detail(&key.replace('_', "-"), value.clone());
        }
        info.backing_file = locator.names().into_iter().next();
        info.backing_format = Some("vhdx".to_owned());
    }
    if image.dirty {
        info.warnings.push("the image was not closed: its log holds changes that are not in the file yet".to_owned());
    }
    info
}
