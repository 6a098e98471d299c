//! Opens a VMDK: finds its descriptor, its extents and the parent it names.
//!
//! ```text
//! first bytes ──► Image { descriptor, header } ──► describe(): ImageInfo          no other file is touched
//!                                              └─► open(): extents through the gate ──► VmdkDevice
//! ```
//!
//! The descriptor rules: the sizes in its extent lines are the disk's, and the capacity in a sparse header, which writers
//! round up to whole grains, is only a bound. A sparse extent without a descriptor is refused, alone or not: nothing in it
//! tells the whole of a disk from its first two gigabytes.

use std::sync::Arc;

use transload_block::{BlockRead, Result};

use super::descriptor::{ParentId, ParentLink};
use super::extents::{self, Extents};
use super::image::{Image, base_name};
use super::read::VmdkDevice;
use super::write::open_for_writing;
use crate::{Access, ContentId, ImageInfo, ImageWrite, Layer, OpenRequest, ParentReference, Source};

/// Opens a layer.
pub(super) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, gate, access, cache_bytes, .. } = request;
    let image = Image::read(&source)?;
    let Extents { parts, info: found } = extents::open(&image, &source, gate, cache_bytes)?;
    let mut info = image.info(&source)?;
    info.file_size = Some(found.file_size);
    info.allocated_size = found.allocated_size;
    info.dirty |= found.dirty;
    info.cluster_size = found.grain_bytes;
    info.compression = found.compressed.then(|| "zlib".to_owned());
    info.warnings.extend(found.warnings);
    let writer = match access {
        Access::ReadWrite => Some(open_for_writing(&image, &source, gate, cache_bytes)?),
        Access::ReadOnly => None,
    };
    let device: Arc<dyn BlockRead> = match &writer {
        Some(writer) => Arc::clone(writer) as Arc<dyn BlockRead>,
        None => Arc::new(VmdkDevice::new(parts)),
    };
    Ok(Layer {
        format: &super::FORMAT,
        source,
        device,
        writer: writer.map(|writer| writer as Arc<dyn ImageWrite>),
        info,
        parent: image.descriptor.parent()?.map(parent_reference),
        content_ids: image.content_ids(),
    })
}

/// Describes an image from its first file alone.
pub(super) fn describe(source: &Source) -> Result<ImageInfo> {
    let image = Image::read(source)?;
    let mut info = image.info(source)?;
    for refusal in image.refusals() {
        info.warnings.push(refusal.to_string());
    }
    Ok(info)
}

/// A path from the root of a file system, or of a system other than this one.
fn is_elsewhere(path: &str) -> bool {
    path.starts_with('/') || path.contains('\\') || path.as_bytes().get(1) == Some(&b':')
}

/// The names and the identity to look for.
fn parent_reference(link: ParentLink) -> ParentReference {
    let mut names: Vec<String> = Vec::new();
    if let Some(hint) = link.hint {
        let base = base_name(&hint).to_owned();
        let moved = is_elsewhere(&hint) && !base.is_empty() && base != hint;
        names.push(hint);
        names.extend(moved.then_some(base));
    }
    let content_id = link.id.map(|id| match id {
        ParentId::Cid(cid) => ContentId::VmdkCid(cid),
        ParentId::Uuid(uuid) => ContentId::Uuid(uuid),
    });
    // Only VMDKs have a CID; VirtualBox hangs a VMDK from a disk of any format by its UUID.
    let format = matches!(content_id, Some(ContentId::VmdkCid(_))).then(|| super::FORMAT.name.to_owned());
    ParentReference { names, format, content_id, modified: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_looked_for_by_name_and_then_by_base_name() {
        let names = |hint: &str| parent_reference(ParentLink { hint: Some(hint.to_owned()), id: None }).names;
        assert_eq!(names("base.vmdk"), ["base.vmdk"]);
        assert_eq!(names("../vm/base.vmdk"), ["../vm/base.vmdk"]);
        assert_eq!(names("/vmfs/volumes/1/vm/base.vmdk"), ["/vmfs/volumes/1/vm/base.vmdk", "base.vmdk"]);
        assert_eq!(names("C:\\VMs\\base.vmdk"), ["C:\\VMs\\base.vmdk", "base.vmdk"]);
        assert_eq!(names("C:base.vmdk"), ["C:base.vmdk", "base.vmdk"]);
        assert_eq!(names("\\\\host\\share\\base.vmdk"), ["\\\\host\\share\\base.vmdk", "base.vmdk"]);
        let by_cid = parent_reference(ParentLink { hint: None, id: Some(ParentId::Cid(7)) });
        assert_eq!((by_cid.names.len(), by_cid.format.as_deref()), (0, Some("vmdk")));
    }
}
