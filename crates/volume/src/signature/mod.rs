//! What a volume holds, by its superblock: filesystems, encrypted volumes, members of groups, swap.
//!
//! It reads a few sectors at places that each format fixes, follows no reference but to a label's place, and believes no
//! number further than that. Names are those of `blkid`.

mod containers;
mod linux;
mod microsoft;
mod other;

use std::fmt;
use std::ops::Range;

use transload_block::{BlockRead, BlockReadExt, Result};

use crate::Guid;

/// What a volume can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Linux ext2.
    Ext2,
    /// Linux ext3: ext2 with a journal.
    Ext3,
    /// Linux ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT with 12-bit entries.
    Fat12,
    /// FAT with 16-bit entries.
    Fat16,
    /// FAT with 32-bit entries.
    Fat32,
    /// exFAT.
    ExFat,
    /// NTFS.
    Ntfs,
    /// Microsoft's ReFS.
    ReFs,
    /// ISO 9660.
    Iso9660,
    /// UDF.
    Udf,
    /// squashfs, version 4.
    Squashfs,
    /// EROFS.
    Erofs,
    /// F2FS.
    F2fs,
    /// cramfs.
    Cramfs,
    /// Apple HFS+.
    HfsPlus,
    /// Apple APFS.
    Apfs,
    /// The BSDs' UFS.
    Ufs,
    /// VMware's VMFS.
    Vmfs,
    /// Linux swap.
    Swap,
    /// An encrypted volume of LUKS, version 1.
    Luks1,
    /// An encrypted volume of LUKS, version 2.
    Luks2,
    /// An encrypted volume of Microsoft's BitLocker.
    BitLocker,
    /// A physical volume of LVM2.
    LvmPhysicalVolume,
    /// A member of a Linux software RAID.
    LinuxRaid,
    /// A member of a ZFS pool.
    ZfsMember,
    /// A part of a Ceph BlueStore.
    BlueStore,
}

/// What a format is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// It holds files.
    Filesystem,
    /// It holds something that only a key opens.
    Encrypted,
    /// It is part of a larger whole.
    Member,
    /// Memory is put there.
    Swap,
}

impl Format {
    /// The name that `blkid` and `mount` have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Fat12 | Self::Fat16 | Self::Fat32 => "vfat",
            Self::ExFat => "exfat",
            Self::Ntfs => "ntfs",
            Self::ReFs => "ReFS",
            Self::Iso9660 => "iso9660",
            Self::Udf => "udf",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::F2fs => "f2fs",
            Self::Cramfs => "cramfs",
            Self::HfsPlus => "hfsplus",
            Self::Apfs => "apfs",
            Self::Ufs => "ufs",
            Self::Vmfs => "VMFS_volume_member",
            Self::Swap => "swap",
            Self::Luks1 | Self::Luks2 => "crypto_LUKS",
            Self::BitLocker => "BitLocker",
            Self::LvmPhysicalVolume => "LVM2_member",
            Self::LinuxRaid => "linux_raid_member",
            Self::ZfsMember => "zfs_member",
            Self::BlueStore => "ceph_bluestore",
        }
    }

    /// The version or variant, where the name leaves it open.
    #[must_use]
    pub const fn variant(self) -> Option<&'static str> {
        match self {
            Self::Fat12 => Some("FAT12"),
            Self::Fat16 => Some("FAT16"),
            Self::Fat32 => Some("FAT32"),
            Self::Luks1 => Some("1"),
            Self::Luks2 => Some("2"),
            _ => None,
        }
    }

    /// What it is used for.
    #[must_use]
    pub const fn usage(self) -> Usage {
        match self {
            Self::Luks1 | Self::Luks2 | Self::BitLocker => Usage::Encrypted,
            Self::LvmPhysicalVolume | Self::LinuxRaid | Self::ZfsMember | Self::BlueStore | Self::Vmfs => Usage::Member,
            Self::Swap => Usage::Swap,
            _ => Usage::Filesystem,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A superblock that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it is.
    pub format: Format,
    /// Its name for people, where it has one.
    pub label: Option<String>,
    /// What tells it from others, as `/dev/disk/by-uuid` spells it, where it has such a thing.
    pub uuid: Option<String>,
}

impl Signature {
    fn new(format: Format) -> Self {
        Self { format, label: None, uuid: None }
    }

    fn with_label(mut self, label: Option<String>) -> Self {
        self.label = label.filter(|label| !label.is_empty());
        self
    }

    fn with_uuid(mut self, uuid: Option<String>) -> Self {
        self.uuid = uuid.filter(|uuid| !uuid.is_empty());
        self
    }

    /// The sixteen bytes of a UUID, unless they are all zero.
    fn with_uuid_bytes(self, bytes: &[u8]) -> Self {
        let uuid = <[u8; 16]>::try_from(bytes).ok().map(Guid).filter(|uuid| *uuid != Guid::NIL);
        self.with_uuid(uuid.map(|uuid| uuid.to_string()))
    }

    /// Whether its first sector ends with 55 AA and is no partition table all the same.
    pub(crate) fn is_boot_sector(&self) -> bool {
        use Format::{BitLocker, ExFat, Fat12, Fat16, Fat32, Ntfs, ReFs};
        matches!(self.format, Fat12 | Fat16 | Fat32 | ExFat | Ntfs | ReFs | BitLocker)
    }
}

/// A format's own look at a volume.
type Probe = fn(&Volume<'_>) -> Result<Option<Signature>>;

/// In the order in which they are believed: what holds something else comes before what it may hold in plain sight.
const PROBES: &[Probe] = &[
    containers::luks,
    containers::bitlocker,
    containers::lvm,
    containers::raid,
    linux::xfs,
    microsoft::exfat,
    microsoft::ntfs,
    microsoft::refs,
    linux::squashfs,
    microsoft::fat,
    linux::ext,
    linux::f2fs,
    linux::erofs,
    linux::btrfs,
    linux::swap,
    other::hfs_plus,
    other::apfs,
    other::optical,
    other::ufs,
    other::vmfs,
    linux::cramfs,
    containers::bluestore,
    containers::zfs,
];

/// Says what `device` holds; `None` for nothing that is known.
///
/// # Errors
/// What the device answers. Broken contents are no error: they are just not recognised.
pub fn probe(device: &dyn BlockRead) -> Result<Option<Signature>> {
    let volume = Volume { device };
    for probe in PROBES {
        if let Some(found) = probe(&volume)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The bytes of a volume, as far as it has them.
struct Volume<'a> {
    device: &'a dyn BlockRead,
}

impl Volume<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    /// The `length` bytes at `offset`; `None` when the volume ends before them.
    fn bytes(&self, offset: u64, length: u32) -> Result<Option<Vec<u8>>> {
        match offset.checked_add(u64::from(length)) {
            Some(end) if end <= self.size() => self.device.read_vec(offset, u64::from(length)).map(Some),
            _ => Ok(None),
        }
    }

    /// As [`bytes`](Self::bytes), when they have `magic` at `at`.
    fn block(&self, offset: u64, length: u32, at: usize, magic: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.bytes(offset, length)?.filter(|block| block.get(at..).is_some_and(|rest| rest.starts_with(magic))))
    }
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// The bytes at a place that a format fixes, inside a block whose length the caller chose.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Text in a field of fixed length: up to the first zero, without blanks at the end.
fn text(bytes: &[u8], range: Range<usize>) -> Option<String> {
    let field = bytes.get(range)?;
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = String::from_utf8_lossy(&field[..end]);
    Some(text.trim_end().to_owned())
}

/// UTF-16 text of either byte order, up to the first zero.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
