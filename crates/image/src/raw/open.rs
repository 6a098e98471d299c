//! Opens a raw disk: its file, as it is.

use std::sync::Arc;

use transload_block::{BlockRead, Result};

use super::disk::RawDisk;
use crate::{Access, ImageInfo, ImageWrite, Layer, OpenRequest};

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
    let info = ImageInfo { format: super::FORMAT.name.to_owned(), virtual_size: device.size(), ..ImageInfo::default() };
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent: None, content_ids: Vec::new() })
}
