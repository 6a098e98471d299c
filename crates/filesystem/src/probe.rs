//! Which filesystem a device holds.

use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockWrite, Error, ErrorKind, Result};

use crate::contract::{FileKind, FileSystem, Timestamp};
use crate::fields::corrupt;
use crate::write::FileSystemWrite;
use crate::{btrfs, exfat, ext, fat, iso, ntfs, squashfs, xfs};

/// The filesystems that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// ext2, ext3 and ext4.
    Ext,
    /// FAT12, FAT16 and FAT32.
    Fat,
    /// exFAT.
    ExFat,
    /// NTFS.
    Ntfs,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// ISO 9660, with Rock Ridge and Joliet.
    Iso,
    /// squashfs.
    Squashfs,
    /// The files of the host, which no device holds.
    Host,
}

impl Kind {
    /// The name that `mount -t` has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Fat => "vfat",
            Self::ExFat => "exfat",
            Self::Ntfs => "ntfs",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Iso => "iso9660",
            Self::Squashfs => "squashfs",
            Self::Host => "host",
        }
    }
}

/// Says which filesystem `device` holds; `None` where there is none that is known.
///
/// # Errors
/// What the device answers.
pub fn probe(device: &dyn BlockRead) -> Result<Option<Kind>> {
    let head = device.read_vec(0, device.size().min(4096))?;
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let kind = if at(0, b"XFSB") {
        Kind::Xfs
    } else if at(0, b"hsqs") {
        Kind::Squashfs
    } else if at(3, b"NTFS    ") {
        Kind::Ntfs
    } else if at(3, b"EXFAT   ") {
        Kind::ExFat
    } else if at(0x438, &[0x53, 0xEF]) {
        Kind::Ext
    } else if fat::looks_like(&head) {
        Kind::Fat
    } else if at_far(device, 0x1_0040, b"_BHRfS_M")? {
        Kind::Btrfs
    } else if at_far(device, 0x8001, b"CD001")? {
        Kind::Iso
    } else {
        return Ok(None);
    };
    Ok(Some(kind))
}

fn at_far(device: &dyn BlockRead, offset: u64, magic: &[u8]) -> Result<bool> {
    if device.size() < offset + magic.len() as u64 {
        return Ok(false);
    }
    Ok(device.read_vec(offset, magic.len() as u64)? == magic)
}

/// Opens the filesystem that `device` holds, for reading.
///
/// Nothing is written: a journal that was not played back is, in memory.
///
/// # Errors
/// `NotThisFormat` when there is none that is known; `Corrupt`, `Unsupported`.
pub fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let filesystem = match probe(&*device)? {
        Some(Kind::Ext) => ext::open(device),
        Some(Kind::Fat) => fat::open(device),
        Some(Kind::Ntfs) => ntfs::open(device),
        Some(Kind::ExFat) => exfat::open(device),
        Some(Kind::Iso) => iso::open(device),
        Some(Kind::Xfs) => xfs::open(device),
        Some(Kind::Btrfs) => btrfs::open(device),
        Some(Kind::Squashfs) => squashfs::open(device),
        Some(Kind::Host) | None => Err(Error::new(ErrorKind::NotThisFormat, "no filesystem that is known")),
    }?;
    check_root(&*filesystem)?;
    Ok(filesystem)
}

/// A filesystem whose root is a file or a link has nothing that a path could lead to. A root that cannot be read at all is
/// told when it is: until then the label and the like are still of use.
fn check_root(filesystem: &dyn FileSystem) -> Result<()> {
    match filesystem.stat(filesystem.root()) {
        Ok(root) if root.kind != FileKind::Directory => Err(corrupt("the root is no folder")),
        _ => Ok(()),
    }
}

/// Opens the filesystem that `device` holds, for reading and writing. Files that bring no time of their own get `now`.
///
/// # Errors
/// As [`open`]; `Unsupported` for a filesystem that is not written here, or that has to be checked first.
pub fn open_writable(device: Arc<dyn BlockWrite>, now: Timestamp) -> Result<Arc<dyn FileSystemWrite>> {
    let filesystem = match probe(&*device)? {
        Some(Kind::Ext) => ext::open_writable(device, now),
        Some(Kind::Fat) => fat::open_writable(device, now),
        Some(kind) => Err(Error::new(ErrorKind::Unsupported, format!("writing to {}", kind.name()))),
        None => Err(Error::new(ErrorKind::NotThisFormat, "no filesystem that is known")),
    }?;
    check_root(&*filesystem)?;
    Ok(filesystem)
}
