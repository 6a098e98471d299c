//! Opens a VDI: the one place that sees the numbers of its header.
//!
//! A header that is let through here has a map that lies between it and the blocks, inside the file, with an entry for
//! every block of the disk. Entries are looked at when they are used.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};
use std::sync::Arc;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::device::{Shape, Vdi};
use super::error::Fault;
use super::layout::{BLOCK_MIN, BLOCKS_MAX, HEADER_OFFSET, Header0, Header1, PreHeader, SIGNATURE, swap_uuid};
use crate::{Access, ContentId, ImageInfo, ImageWrite, Layer, OpenRequest, ParentReference, Source};

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dynamic,
    Fixed,
    Undo,
    Differencing,
}

impl Kind {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Dynamic => 1,
            Self::Fixed => 2,
            Self::Undo => 3,
            Self::Differencing => 4,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Fixed => "fixed",
            Self::Undo => "undo",
            Self::Differencing => "differencing",
        }
    }

    fn from_number(number: u32) -> Result<Self, Fault> {
        [Self::Dynamic, Self::Fixed, Self::Undo, Self::Differencing]
            .into_iter()
            .find(|kind| kind.number() == number)
            .ok_or(Fault::Kind(number))
    }
}

/// Where the fields stand that change, in bytes from the front of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub size: u64,
    pub blocks: u64,
    pub allocated: u64,
    pub modification_uuid: u64,
}

/// A header that was found sound.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub version: (u16, u16),
    pub kind: Kind,
    pub flags: u32,
    pub comment: String,
    pub size: u64,
    /// Bytes of a block, a power of two.
    pub block: u64,
    /// Bytes in front of each block in the file.
    pub extra: u64,
    pub blocks: u64,
    pub allocated: u32,
    pub map: u64,
    pub data: u64,
    /// These in the order of their text.
    pub uuid: [u8; 16],
    pub modification: [u8; 16],
    pub parent: Option<[u8; 16]>,
    pub parent_modification: Option<[u8; 16]>,
    pub places: Places,
}

impl Header {
    /// Reads and checks the header and the place of the map.
    pub(super) fn read(bytes: &dyn BlockRead) -> Result<Self> {
        let front = HEADER_OFFSET + size_of::<Header1>();
        let length = usize::try_from(bytes.size()).unwrap_or(front).min(front);
        let mut head = vec![0; length];
        bytes.read_at(&mut head, 0)?;
        let header = Self::parse(&head)?;
        header.check(bytes.size())?;
        Ok(header)
    }

    fn parse(head: &[u8]) -> Result<Self, Fault> {
        let (pre, rest) = PreHeader::read_from_prefix(head).map_err(|_| too_short(head, HEADER_OFFSET))?;
        if pre.signature.get() != SIGNATURE {
            return Err(Fault::Signature);
        }
        let version = (pre.major.get(), pre.minor.get());
        match version.0 {
            0 => {
                let needed = HEADER_OFFSET + size_of::<Header0>();
                let (header, _) = Header0::read_from_prefix(rest).map_err(|_| too_short(head, needed))?;
                Self::from_v0(&header, version)
            }
            1 => {
                let needed = HEADER_OFFSET + size_of::<Header1>();
                let (header, _) = Header1::read_from_prefix(rest).map_err(|_| too_short(head, needed))?;
                Self::from_v1(&header, version)
            }
            _ => Err(Fault::Version { major: version.0, minor: version.1 }),
        }
    }

    fn from_v0(header: &Header0, version: (u16, u16)) -> Result<Self, Fault> {
        let map = (HEADER_OFFSET + size_of::<Header0>()) as u64;
        let blocks = u64::from(header.blocks.get());
        let at = |field: usize| (HEADER_OFFSET + field) as u64;
        Ok(Self {
            version,
            kind: Kind::from_number(header.kind.get())?,
            flags: header.flags.get(),
            comment: text(&header.comment),
            size: header.size.get(),
            block: block_size(header.block_size.get())?,
            extra: 0,
            blocks,
            allocated: header.allocated.get(),
            map,
            data: map + blocks * 4,
            uuid: swap_uuid(header.uuid),
            modification: swap_uuid(header.modification_uuid),
            parent: some_uuid(header.parent_uuid),
            parent_modification: None,
            places: Places {
                size: at(offset_of!(Header0, size)),
                blocks: at(offset_of!(Header0, blocks)),
                allocated: at(offset_of!(Header0, allocated)),
                modification_uuid: at(offset_of!(Header0, modification_uuid)),
            },
        })
    }

    fn from_v1(header: &Header1, version: (u16, u16)) -> Result<Self, Fault> {
        let found = header.header_size.get();
        if u64::from(found) < size_of::<Header1>() as u64 {
            return Err(Fault::HeaderSize { found, needed: size_of::<Header1>() });
        }
        let at = |field: usize| (HEADER_OFFSET + field) as u64;
        let (map, end) = (u64::from(header.map_offset.get()), HEADER_OFFSET as u64 + u64::from(found));
        if map < end {
            return Err(Fault::MapOverHeader { map, end });
        }
        Ok(Self {
            version,
            kind: Kind::from_number(header.kind.get())?,
            flags: header.flags.get(),
            comment: text(&header.comment),
            size: header.size.get(),
            block: block_size(header.block_size.get())?,
            extra: u64::from(header.block_extra.get()),
            blocks: u64::from(header.blocks.get()),
            allocated: header.allocated.get(),
            map,
            data: u64::from(header.data_offset.get()),
            uuid: swap_uuid(header.uuid),
            modification: swap_uuid(header.modification_uuid),
            parent: some_uuid(header.parent_uuid),
            parent_modification: some_uuid(header.parent_modification_uuid),
            places: Places {
                size: at(offset_of!(Header1, size)),
                blocks: at(offset_of!(Header1, blocks)),
                allocated: at(offset_of!(Header1, allocated)),
                modification_uuid: at(offset_of!(Header1, modification_uuid)),
            },
        })
    }

    fn check(&self, file: u64) -> Result<(), Fault> {
        let Self { blocks, block, size, map, data, .. } = *self;
        if blocks > BLOCKS_MAX {
            return Err(Fault::TooManyBlocks { blocks });
        }
        // Below 2^32 blocks of below 2^32 bytes: no product or sum here overflows.
        if blocks * block < size {
            return Err(Fault::TooFewBlocks { blocks, block, size });
        }
        if map + blocks * 4 > data {
            return Err(Fault::MapOverData { map, blocks, data });
        }
        if map + blocks * 4 > file {
            return Err(Fault::MapOutside { map, blocks, file });
        }
        if matches!(self.kind, Kind::Undo | Kind::Differencing) && self.parent.is_none() {
            return Err(Fault::NoParent { kind: self.kind.name() });
        }
        Ok(())
    }

    pub(super) fn shape(&self) -> Shape {
        Shape {
            size: self.size,
            block: self.block,
            extra: self.extra,
            blocks: self.blocks,
            map: self.map,
            data: self.data,
            has_parent: self.parent.is_some(),
            fixed: self.kind == Kind::Fixed,
            places: self.places,
            stale: 0,
        }
    }

    fn info(&self, source: &Source) -> ImageInfo {
        let show = |uuid: [u8; 16]| uuid_text(uuid);
        let details = [
            ("version", Some(format!("{}.{}", self.version.0, self.version.1))),
            ("uuid", Some(show(self.uuid))),
            ("modification-uuid", Some(show(self.modification))),
            ("parent-uuid", self.parent.map(show)),
            ("parent-modification-uuid", self.parent_modification.filter(|_| self.parent.is_some()).map(show)),
            ("comment", Some(self.comment.clone()).filter(|comment| !comment.is_empty())),
            ("flags", Some(self.flags).filter(|flags| *flags != 0).map(|flags| format!("{flags:#x}"))),
            ("block-extra-data", Some(self.extra).filter(|extra| *extra != 0).map(|extra| extra.to_string())),
            ("blocks-allocated", Some(self.allocated.to_string())),
        ];
        ImageInfo {
            format: super::FORMAT.name.to_owned(),
            variant: Some(self.kind.name().to_owned()),
            virtual_size: self.size,
            file_size: Some(source.bytes().size()),
            allocated_size: source.allocated_size(),
            cluster_size: Some(self.block),
            backing_file: self.parent.map(|uuid| ContentId::Uuid(uuid).to_string()),
            details: details
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect::<BTreeMap<_, _>>(),
            ..ImageInfo::default()
        }
    }

    fn content_ids(&self) -> Vec<ContentId> {
        let (image, modification) = (self.uuid, self.modification);
        if image == [0; 16] {
            return Vec::new();
        }
        vec![ContentId::Uuid(image), ContentId::ModifiedUuid { image, modification }]
    }

    fn parent_reference(&self) -> Option<ParentReference> {
        let image = self.parent?;
        let content_id = match self.parent_modification {
            Some(modification) => ContentId::ModifiedUuid { image, modification },
            None => ContentId::Uuid(image),
        };
        // VirtualBox hangs a VDI from a disk of any format.
        Some(ParentReference { names: Vec::new(), format: None, content_id: Some(content_id), modified: None })
    }
}

/// Opens a layer.
pub(super) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, access, cache_bytes, .. } = request;
    let header = Header::read(&**source.bytes())?;
    let info = header.info(&source);
    let (device, writer): (Arc<dyn BlockRead>, Option<Arc<dyn ImageWrite>>) = match access {
        Access::ReadOnly => (Arc::new(Vdi::for_reading(Arc::clone(source.bytes()), header.shape(), cache_bytes)), None),
        Access::ReadWrite => {
            let writer = Arc::new(Vdi::for_writing(Arc::clone(source.storage()?), &header, cache_bytes)?);
            (Arc::clone(&writer) as Arc<dyn BlockRead>, Some(writer as Arc<dyn ImageWrite>))
        }
    };
    let (parent, content_ids) = (header.parent_reference(), header.content_ids());
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent, content_ids })
}

/// Describes an image from its header.
pub(super) fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Header::read(&**source.bytes())?.info(source))
}

fn too_short(head: &[u8], needed: usize) -> Fault {
    Fault::TooShort { length: head.len() as u64, needed: needed as u64 }
}

fn block_size(size: u32) -> Result<u64, Fault> {
    match u64::from(size) {
        block if block.is_power_of_two() && block >= BLOCK_MIN => Ok(block),
        _ => Err(Fault::BlockSize(size)),
    }
}

fn some_uuid(stored: [u8; 16]) -> Option<[u8; 16]> {
    (stored != [0; 16]).then(|| swap_uuid(stored))
}

/// A field of text up to its NUL.
fn text(field: &[u8]) -> String {
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..length]).into_owned()
}

fn uuid_text(uuid: [u8; 16]) -> String {
    ContentId::Uuid(uuid).to_string().trim_start_matches("UUID ").to_owned()
}
