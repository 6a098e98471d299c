//! Opens an existing image for writing.
//!
//! The caller has opened the same image for reading, so every rule that reading needs is checked; here are those that only
//! writing needs: nothing compressed, nothing marked as read-only, both copies of the grain directory sound.

use std::collections::HashMap;
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};

use super::{Content, DescriptorPlace, Directories, Part, SparseExtent, SparseShape, WritableDisk};
use crate::vmdk::directory;
use crate::vmdk::error::Fault;
use crate::vmdk::extent_line::{ExtentAccess, ExtentKind, ExtentLine};
use crate::vmdk::header::{DirectoryPlace, HostedHeader};
use crate::vmdk::hosted;
use crate::vmdk::image::Image;
use crate::vmdk::layout::{DESCRIPTOR_MAX, SECTOR};
use crate::vmdk::map::Dialect;
use crate::{Access, ReferenceGate, Source};

/// Opens the extents of `image`, whose first file is `source`, for writing.
///
/// # Errors
/// `ReadOnly` for an image or an extent that may not be written; `Unsupported` for kinds that are only read; `Corrupt`
/// when the copies of a grain directory are not both sound; what the gate and the files answer.
pub(crate) fn open_for_writing(
    image: &Image,
    source: &Source,
    gate: &ReferenceGate,
    cache_bytes: usize,
) -> Result<Arc<WritableDisk>> {
    let extents = &image.descriptor.extents;
    let cache_bytes = cache_bytes / extents.len().max(1);
    let has_parent = image.descriptor.parent()?.is_some();
    let mut opener = Opener { image, source, gate, cache_bytes, has_parent, files: HashMap::new() };
    let (mut parts, mut start) = (Vec::new(), 0);
    for (index, line) in extents.iter().enumerate().filter(|(_, line)| line.sectors > 0) {
        let end = start + line.sectors * SECTOR;
        let content = opener.content(index, line).map_err(|error| {
            error.context(format!("extent {} ({})", index + 1, line.name.as_deref().unwrap_or_default()))
        })?;
        parts.push(Part { range: start..end, content });
        start = end;
    }
    Ok(Arc::new(WritableDisk::open(parts, descriptor_place(image, source)?)))
}

struct Opener<'a> {
    image: &'a Image,
    source: &'a Source,
    gate: &'a ReferenceGate,
    cache_bytes: usize,
    has_parent: bool,
    /// Files that are open already, since several flat extents may share one.
    files: HashMap<String, Arc<dyn Storage>>,
}

impl Opener<'_> {
    fn content(&mut self, index: usize, line: &ExtentLine) -> Result<Content> {
        if line.kind == ExtentKind::Zero {
            return Ok(Content::Zero);
        }
        if line.access != ExtentAccess::ReadWrite {
            return Err(Error::new(ErrorKind::ReadOnly, "the descriptor does not allow writing (RDONLY)"));
        }
        let storage = self.storage(index, line.name.as_deref().unwrap_or_default())?;
        match line.kind {
            ExtentKind::Flat | ExtentKind::Vmfs => Ok(Content::Flat { storage, offset: line.offset * SECTOR }),
            ExtentKind::Sparse => self.sparse(storage, line).map(Content::Sparse),
            kind => Err(unsupported(&format!("an extent of type {} is only read", kind.as_str()))),
        }
    }

    fn storage(&mut self, index: usize, name: &str) -> Result<Arc<dyn Storage>> {
        if self.image.own == Some(index) {
            return self.source.storage().cloned();
        }
        if let Some(storage) = self.files.get(name) {
            return Ok(Arc::clone(storage));
        }
        let storage = Arc::clone(self.gate.open(self.source, name, Access::ReadWrite)?.storage()?);
        self.files.insert(name.to_owned(), Arc::clone(&storage));
        Ok(storage)
    }

    fn sparse(&self, storage: Arc<dyn Storage>, line: &ExtentLine) -> Result<SparseExtent> {
        let header = hosted::read_header(&*storage)?.header;
        if header.compressed {
            return Err(unsupported("a compressed image (streamOptimized) is only written from front to back"));
        }
        let gd = sound_directory(&*storage, &header, line.sectors)?;
        let shape = SparseShape {
            size: line.sectors * SECTOR,
            grain: header.grain_bytes(),
            directories: Directories { gd, rgd: header.rgd, entries: header.gtes_per_gt },
            overhead: header.overhead.min(u64::from(u32::MAX)) * SECTOR,
            zeroed_grains: header.zeroed_grains,
            has_parent: self.has_parent,
            stale: 0,
        };
        Ok(SparseExtent::new(storage, shape, self.cache_bytes))
    }
}

/// The sector of the grain directory, when it and its copy are both sound: what is written goes to both.
fn sound_directory(storage: &dyn Storage, header: &HostedHeader, sectors: u64) -> Result<u64> {
    let DirectoryPlace::Sector(gd) = header.gd else { return Err(Fault::NoDirectory.into()) };
    let dialect = Dialect::Hosted { zeroed_grains: header.zeroed_grains, compressed: false };
    let entries = sectors.div_ceil(header.grain_sectors).div_ceil(header.gtes_per_gt);
    match directory::choose(storage, header, dialect, entries)?.warning {
        None => Ok(gd),
        Some(warning) => Err(Error::new(ErrorKind::Corrupt, warning).with_remedy("run check --repair first")),
    }
}

fn descriptor_place(image: &Image, source: &Source) -> Result<DescriptorPlace> {
    let storage = Arc::clone(source.storage()?);
    let embedded = image.hosted.as_ref().and_then(|hosted| hosted.header.descriptor);
    let room = embedded.map(|(sector, sectors)| sector * SECTOR..(sector + sectors) * SECTOR);
    let (start, length) = match &room {
        Some(room) => (room.start, room.end - room.start),
        None => (0, storage.size()),
    };
    let mut text = vec![0; usize::try_from(length.min(DESCRIPTOR_MAX)).unwrap_or(0)];
    storage.read_at(&mut text, start)?;
    if room.is_some() {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        text.truncate(end);
    }
    Ok(DescriptorPlace { storage, room, text })
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("VMDK: {what}")).with_remedy("convert it to a new image")
}
