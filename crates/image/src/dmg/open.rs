//! Opens a UDIF image: trailer, tables, and what the chunks of all tables are together.

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::FORMAT;
use super::device::Udif;
use super::tables::{self, Chunk, Method, SECTOR, Table};
use super::trailer::Trailer;
use crate::mapped::corrupt;
use crate::{Access, ImageInfo, Layer, OpenRequest, Source};

/// An image whose tables were found sound.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) trailer: Trailer,
    pub(super) tables: Vec<Table>,
    /// Bytes of the disk.
    pub(super) size: u64,
}

impl Image {
    pub(super) fn read(file: &dyn BlockRead) -> Result<Self> {
        let trailer = Trailer::read(file)?;
        let tables = tables::read(file, &trailer)?;
        let mut image = Self { trailer, tables, size: 0 };
        let chunks = image.chunks();
        if let Some(pair) = chunks.array_windows().find(|[one, next]| one.end() > next.start) {
            let [one, next] = pair;
            let what = format!(
                "DMG tables: one chunk holds bytes {} to {} of the disk, the next one begins at byte {}",
                one.start,
                one.end(),
                next.start
            );
            return Err(corrupt(what));
        }
        let end = chunks.last().map_or(0, Chunk::end);
        let noted = image.trailer.sectors.checked_mul(SECTOR).filter(|size| *size <= u64::MAX / 2);
        image.size = match noted {
            Some(0) => end,
            Some(size) if size >= end => size,
            _ => {
                let sectors = image.trailer.sectors;
                return Err(corrupt(format!("DMG tables: they end at byte {end} of a disk of {sectors} sectors")));
            }
        };
        Ok(image)
    }

    /// The chunks of all tables in the order of the disk.
    pub(super) fn chunks(&self) -> Vec<Chunk> {
        let mut chunks: Vec<_> = self.tables.iter().flat_map(|table| table.chunks.iter().copied()).collect();
        chunks.sort_by_key(|chunk| chunk.start);
        chunks
    }

    /// What most of the image's packed chunks are packed with.
    fn method(&self) -> Method {
        let packed =
            || self.tables.iter().flat_map(|table| &table.chunks).filter(|chunk| chunk.method.codec().is_some());
        let methods = [Method::Zlib, Method::Bzip2, Method::Lzfse, Method::Lzma, Method::Adc];
        let count = |method: &Method| packed().filter(|chunk| chunk.method == *method).count();
        let most = methods.into_iter().map(|method| (count(&method), method)).max_by_key(|(count, _)| *count);
        most.filter(|(count, _)| *count > 0).map_or(Method::Raw, |(_, method)| method)
    }

    fn info(&self, source: &Source) -> ImageInfo {
        let method = self.method();
        let mut info = ImageInfo {
            format: FORMAT.name.to_owned(),
            variant: Some(method.variant().to_owned()),
            virtual_size: self.size,
            file_size: Some(source.bytes().size()),
            allocated_size: source.allocated_size(),
            compression: method.codec().map(str::to_owned),
            ..ImageInfo::default()
        };
        let names: Vec<_> = self.tables.iter().map(|table| table.name.as_str()).collect();
        if names.len() <= 64 {
            info.details.insert("tables".to_owned(), names.join("; "));
        }
        info
    }
}

pub(super) fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Image::read(&**source.bytes())?.info(source))
}

pub(super) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, access, cache_bytes, .. } = request;
    if access == Access::ReadWrite {
        let error = Error::new(ErrorKind::Unsupported, format!("{} is only read", FORMAT.title));
        return Err(error.with_remedy("convert it to another format"));
    }
    let file = Arc::clone(source.bytes());
    let image = Image::read(&*file)?;
    let info = image.info(&source);
    let device = Arc::new(Udif::new(file, image.size, image.chunks(), cache_bytes));
    Ok(Layer { format: &FORMAT, source, device, writer: None, info, parent: None, content_ids: Vec::new() })
}
