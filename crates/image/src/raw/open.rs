//! Opens a raw disk: its file, as it is.

use std::sync::Arc;

use transload_block::{BlockRead, Result};

use super::disk::RawDisk;
use crate::{Access, ImageInfo, ImageWrite, Layer, OpenRequest, Source};

/// Opens any bytes as a disk. For reading, the device is the storage itself, with all it can do.
pub(super) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, access, .. } = request;
    let (device, writer): (Arc<dyn BlockRead>, Option<Arc<dyn ImageWrite>>) = match access {
        Access::ReadOnly => (Arc::clone(source.bytes()), None),
        Access::ReadWrite => {
            let storage = Arc::clone(source.storage()?);
            let size = storage.size();
            let disk = Arc::new(RawDisk::new(storage, size));
            (Arc::clone(&disk) as Arc<dyn BlockRead>, Some(disk))
        }
    };
    let info = describe(&source)?;
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent: None, content_ids: Vec::new() })
}

/// What there is to say of a raw disk.
pub(super) fn describe(source: &Source) -> Result<ImageInfo> {
    let size = source.bytes().size();
    Ok(ImageInfo {
        format: super::FORMAT.name.to_owned(),
        virtual_size: size,
        file_size: Some(size),
        allocated_size: source.allocated_size(),
        ..ImageInfo::default()
    })
}
