//! A bundle as a disk: the images of every snapshot behind each other, and the snapshots over each other.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Chain, Concat, Error, ErrorKind, Extent, Result, Slice,
};

use super::FORMAT;
use super::description::{Description, Guid, Image, Kind, Storage};
use super::image::Header;
use crate::mapped::{Mapped, corrupt};
use crate::{Access, ExtentInfo, FileIdentity, ImageInfo, Layer, OpenRequest, Source};

/// The most files of a bundle that are open at once: each keeps some tens of kilobytes of its map.
const IMAGES_MAX: usize = 2048;

/// What a description says, without a look at the images.
///
/// # Errors
/// `Corrupt` when a snapshot has no image for a part of the disk.
pub(super) fn info(description: &Description, chain: &[Guid], source: &Source) -> Result<ImageInfo> {
    let mut info = ImageInfo {
        format: FORMAT.name.to_owned(),
        variant: Some("bundle".to_owned()),
        virtual_size: description.size,
        file_size: Some(source.bytes().size()),
        allocated_size: source.allocated_size(),
        ..ImageInfo::default()
    };
    for guid in chain {
        for (index, storage) in description.storages.iter().enumerate() {
            let image = image_of(storage, index, *guid)?;
            let kind = image.kind.name().to_owned();
            info.extents.push(ExtentInfo { kind, size: storage.size, file: Some(image.file.clone()) });
        }
    }
    let chain: Vec<_> = chain.iter().map(Guid::to_string).collect();
    info.details.insert("snapshot-chain".to_owned(), chain.join(" on "));
    if description.shots.len() > chain.len() {
        let all: Vec<_> = description.shots.iter().map(|(guid, _)| guid.to_string()).collect();
        info.details.insert("snapshots".to_owned(), all.join(", "));
    }
    Ok(info)
}

fn image_of(storage: &Storage, index: usize, guid: Guid) -> Result<&Image> {
    storage
        .images
        .iter()
        .find(|image| image.guid == guid)
        .ok_or_else(|| corrupt(format!("Parallels description: storage {index} has no image of snapshot {guid}")))
}

/// Opens every image of the chain that the request asks for.
pub(super) fn open(request: &OpenRequest<'_>, description: &Description) -> Result<Layer> {
    if request.access == Access::ReadWrite {
        let error = Error::new(ErrorKind::Unsupported, format!("{} is only read", FORMAT.title));
        return Err(error.with_remedy("convert it to qcow2"));
    }
    let chain = description.chain(request.options.text("snapshot"))?;
    let info = info(description, &chain, &request.source)?;
    let images = chain.len() * description.storages.len();
    if images > IMAGES_MAX {
        let what = format!("Parallels bundle: {images} files at once, more than {IMAGES_MAX}");
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    let mut opener = Opener {
        request,
        seen: request.source.identity().into_iter().collect(),
        cache_bytes: request.cache_bytes / images.max(1),
        info,
    };
    let mut layers = Vec::new();
    for guid in &chain {
        let parts = description.storages.iter().enumerate();
        let parts = parts.map(|(index, storage)| opener.part(storage, image_of(storage, index, *guid)?));
        layers.push(Arc::new(Concat::new(parts.collect::<Result<_>>()?)?) as Arc<dyn BlockRead>);
    }
    let device: Arc<dyn BlockRead> = match <[_; 1]>::try_from(layers) {
        Ok([only]) => only,
        Err(several) => Arc::new(Chain::new(several)),
    };
    let (source, info) = (request.source.clone(), opener.info);
    Ok(Layer { format: &FORMAT, source, device, writer: None, info, parent: None, content_ids: Vec::new() })
}

struct Opener<'a> {
    request: &'a OpenRequest<'a>,
    /// The files that are open, none of which can be two images.
    seen: HashSet<FileIdentity>,
    /// What each image may keep in memory.
    cache_bytes: usize,
    info: ImageInfo,
}

impl Opener<'_> {
    /// One image, as long as its storage.
    fn part(&mut self, storage: &Storage, image: &Image) -> Result<Arc<dyn BlockRead>> {
        let source = self.source(&image.file)?;
        let name = source.display_name();
        self.device(storage, image, &source).map_err(|error| error.context(name))
    }

    /// The file of this name. A bundle that was moved may say where its files once were: there they have the same names.
    fn source(&self, name: &str) -> Result<Source> {
        let open = |name: &str| self.request.gate.open(&self.request.source, name, Access::ReadOnly);
        let beside = name.strip_prefix('/').and_then(|path| path.rsplit('/').next());
        match (open(name), beside) {
            (Err(error), Some(beside)) => open(beside).map_err(|_| error),
            (found, _) => found,
        }
    }

    fn device(&mut self, storage: &Storage, image: &Image, source: &Source) -> Result<Arc<dyn BlockRead>> {
        if source.identity().is_some_and(|identity| !self.seen.insert(identity)) {
            return Err(corrupt("this file is named twice in the bundle".to_owned()));
        }
        let file = Arc::clone(source.bytes());
        self.info.file_size = self.info.file_size.map(|sum| sum.saturating_add(file.size()));
        self.info.allocated_size =
            self.info.allocated_size.zip(source.allocated_size()).map(|(sum, more)| sum.saturating_add(more));
        let device: Arc<dyn BlockRead> = match image.kind {
            Kind::Plain => Arc::new(Plain(file)),
            Kind::Compressed => {
                let header = Header::read(&*file)?;
                self.info.dirty |= header.in_use;
                self.info.cluster_size = self.info.cluster_size.max(Some(header.block));
                let (size, block) = (header.size, header.block);
                Arc::new(Mapped::new(file, header, size, block, self.cache_bytes))
            }
        };
        match device.size() {
            size if size < storage.size => Err(corrupt(format!(
                "Parallels {} image: it holds {size} bytes of a part of the disk that has {}",
                image.kind.name(),
                storage.size
            ))),
            size if size > storage.size => Ok(Arc::new(Slice::new(device, 0..storage.size)?)),
            _ => Ok(device),
        }
    }
}

/// The bytes of a plain image. They hide what is below everywhere: a hole of the file is zeroes of the disk.
#[derive(Debug)]
struct Plain(Arc<dyn BlockRead>);

impl BlockRead for Plain {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn limits(&self) -> BlockLimits {
        self.0.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let extent = self.0.block_status(range)?;
        let status = if extent.status == BlockStatus::Hole { BlockStatus::Zero } else { extent.status };
        Ok(Extent { status, ..extent })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        self.0.capabilities()
    }
}
