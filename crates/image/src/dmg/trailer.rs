//! The last 512 bytes of a UDIF image, which say where everything is.

use transload_block::{BlockRead, Error, ErrorKind, Result, check_range};

use crate::mapped::{corrupt, field};

/// Bytes of the trailer, which says so itself.
pub(super) const TRAILER: usize = 512;
const MAGIC: &[u8; 4] = b"koly";
const VERSION: u32 = 4;

/// Where the fields stand; all numbers are big-endian.
mod at {
    pub(super) const VERSION: usize = 4;
    pub(super) const SIZE: usize = 8;
    pub(super) const DATA_FORK: usize = 24;
    pub(super) const RESOURCE_FORK: usize = 40;
    pub(super) const SEGMENT: usize = 56;
    pub(super) const DATA_CHECKSUM: usize = 80;
    pub(super) const PROPERTY_LIST: usize = 216;
    pub(super) const MASTER_CHECKSUM: usize = 352;
    pub(super) const SECTORS: usize = 492;
}

/// A part of the file that was found to be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A trailer that was found sound.
#[derive(Debug)]
pub(super) struct Trailer {
    pub(super) data_fork: Part,
    pub(super) resource_fork: Part,
    pub(super) property_list: Part,
    /// The CRC-32 of the data fork, where there is one.
    pub(super) data_checksum: Option<u32>,
    /// The CRC-32 of the checksums of all tables, where there is one.
    pub(super) master_checksum: Option<u32>,
    /// Sectors of the disk; 0 when it is not said.
    pub(super) sectors: u64,
}

impl Trailer {
    pub(super) fn read(file: &dyn BlockRead) -> Result<Self> {
        refuse_encrypted(file)?;
        let not_this = || Error::new(ErrorKind::NotThisFormat, "DMG trailer: the magic number is missing");
        let start = file.size().checked_sub(TRAILER as u64).ok_or_else(not_this)?;
        let mut bytes = [0; TRAILER];
        file.read_at(&mut bytes, start)?;
        if !bytes.starts_with(MAGIC) {
            return Err(not_this());
        }
        let be32 = |at: usize| u32::from_be_bytes(field(&bytes, at));
        let be64 = |at: usize| u64::from_be_bytes(field(&bytes, at));
        if (be32(at::VERSION), be32(at::SIZE)) != (VERSION, 512) {
            let (version, size) = (be32(at::VERSION), be32(at::SIZE));
            let what = format!("DMG trailer: version {version} of {size} bytes, where version 4 of 512 is known");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let (segment, segments) = (be32(at::SEGMENT), be32(at::SEGMENT + 4));
        if segment > 1 || segments > 1 {
            let what = format!("DMG trailer: this is segment {segment} of {segments} of a disk image in several files");
            return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("join them with `hdiutil convert`"));
        }
        let part = |at: usize, name: &str| {
            let part = Part { offset: be64(at), length: be64(at + 8) };
            // What is empty may be anywhere.
            let inside = part.length == 0 || check_range(part.offset, part.length, start).is_ok();
            inside.then_some(part).ok_or_else(|| {
                let Part { offset, length } = part;
                corrupt(format!("DMG trailer: the {name} of {length} bytes at byte {offset} is not in front of it"))
            })
        };
        Ok(Self {
            data_fork: part(at::DATA_FORK, "data fork")?,
            resource_fork: part(at::RESOURCE_FORK, "resource fork")?,
            property_list: part(at::PROPERTY_LIST, "property list")?,
            data_checksum: checksum(&bytes[at::DATA_CHECKSUM..]),
            master_checksum: checksum(&bytes[at::MASTER_CHECKSUM..]),
            sectors: be64(at::SECTORS),
        })
    }
}

/// The CRC-32 in a checksum field, where it is one: its kind, its length in bits, and room for 1024 of them.
pub(super) fn checksum(bytes: &[u8]) -> Option<u32> {
    /// CRC-32; 0 is none, and others are not used by Apple's programs.
    const CRC32: u32 = 2;
    let be32 = |at: usize| u32::from_be_bytes(field(bytes, at));
    (be32(0) == CRC32 && be32(4) == 32).then(|| be32(8))
}

/// Names what Apple calls an encrypted image: a container of its own around a disk image.
fn refuse_encrypted(file: &dyn BlockRead) -> Result<()> {
    let mut head = vec![0; usize::try_from(file.size().min(super::ENCRYPTED.len() as u64)).unwrap_or(0)];
    file.read_at(&mut head, 0)?;
    if head == super::ENCRYPTED {
        return Err(Error::new(ErrorKind::Unsupported, "this Apple disk image is encrypted (encrcdsa)")
            .with_remedy("decrypt it with `hdiutil convert` first"));
    }
    Ok(())
}
