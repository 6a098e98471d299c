//! The bytes of a VHD: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0. All integers big-endian;
//! places in the block allocation table are counted in sectors of 512 bytes.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;

/// What a footer begins with.
pub(super) const FOOTER_COOKIE: [u8; 8] = *b"conectix";
/// What the dynamic disk header begins with.
pub(super) const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
/// The format version 1.0, of footer and header; the upper half is what a reader has to know.
pub(super) const VERSION: u32 = 0x0001_0000;
/// A data or table offset of a structure that does not exist.
pub(super) const NOWHERE: u64 = u64::MAX;
/// The entry of a block that has no place.
pub(super) const UNUSED: u32 = u32::MAX;

/// Bytes of a footer.
pub(super) const FOOTER_BYTES: u64 = 512;
/// Bytes of a footer by Virtual PC before 2004, which left out the last reserved one.
pub(super) const OLD_FOOTER_BYTES: u64 = 511;
/// Bytes of the dynamic disk header.
pub(super) const HEADER_BYTES: u64 = 1024;

/// Values of [`Footer::disk_type`].
pub(super) mod disk_type {
    pub(in super::super) const FIXED: u32 = 2;
    pub(in super::super) const DYNAMIC: u32 = 3;
    pub(in super::super) const DIFFERENCING: u32 = 4;
}

/// The bit of [`Footer::features`] that is always set.
pub(super) const FEATURE_RESERVED: u32 = 2;

/// The largest disk: 2040 GiB, behind which the sectors of a dynamic disk and its tables have no numbers left. What
/// Windows, XenServer and QEMU take.
pub(super) const SIZE_MAX: u64 = 2040 << 30;
/// The smallest block, in bytes: one sector.
pub(super) const BLOCK_MIN: u64 = SECTOR;
/// The longest file name in a parent locator, in bytes: Windows has paths of up to 32767 characters of two bytes.
pub(super) const LOCATOR_MAX: u64 = 64 << 10;

/// The hard disk footer: the last sector of the file, and of a disk that is not fixed also its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Footer {
    pub cookie: [u8; 8],
    pub features: U32,
    pub version: U32,
    /// The byte at which the dynamic disk header stands; [`NOWHERE`] in a fixed disk.
    pub data_offset: U64,
    /// Seconds since 2000-01-01 00:00 UTC when the image was made.
    pub time_stamp: U32,
    /// Who made it.
    pub creator_application: [u8; 4],
    pub creator_version: U32,
    /// `Wi2k` or `Mac `.
    pub creator_host_os: [u8; 4],
    /// Bytes of the disk when it was made.
    pub original_size: U64,
    /// Bytes of the disk now.
    pub current_size: U64,
    pub cylinders: U16,
    pub heads: u8,
    pub sectors_per_track: u8,
    pub disk_type: U32,
    /// See [`checksum`].
    pub checksum: U32,
    /// By what children know the disk.
    pub unique_id: [u8; 16],
    /// 1 while a machine that uses the disk is suspended.
    pub saved_state: u8,
    pub reserved: [u8; 427],
}
const _: () = assert!(size_of::<Footer>() == 512);

/// The dynamic disk header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DynamicHeader {
    pub cookie: [u8; 8],
    /// [`NOWHERE`].
    pub data_offset: U64,
    /// The byte at which the block allocation table stands.
    pub table_offset: U64,
    pub version: U32,
    /// Entries of the table.
    pub max_table_entries: U32,
    /// Bytes of a block, without its bitmap: a power of two.
    pub block_size: U32,
    /// See [`checksum`].
    pub checksum: U32,
    /// The parent's [`Footer::unique_id`].
    pub parent_unique_id: [u8; 16],
    /// When the parent was changed last; 0 in what Windows writes.
    pub parent_time_stamp: U32,
    pub reserved: U32,
    /// The parent's name in UTF-16.
    pub parent_name: [u8; 512],
    pub locators: [ParentLocator; 8],
    pub padding: [u8; 256],
}
const _: () = assert!(size_of::<DynamicHeader>() == 1024);

/// Where one of the parent's names stands.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ParentLocator {
    /// What kind of name it is; see [`platform`].
    pub platform_code: [u8; 4],
    /// Room for the name: in sectors by the specification, in bytes in what Windows writes. Nothing depends on it.
    pub data_space: U32,
    /// Bytes of the name.
    pub data_length: U32,
    pub reserved: U32,
    /// The byte at which it stands.
    pub data_offset: U64,
}
const _: () = assert!(size_of::<ParentLocator>() == 24);

/// Values of [`ParentLocator::platform_code`].
pub(super) mod platform {
    /// Absolute Windows path in UTF-16.
    pub(in super::super) const W2KU: [u8; 4] = *b"W2ku";
    /// Relative Windows path in UTF-16.
    pub(in super::super) const W2RU: [u8; 4] = *b"W2ru";
    /// Absolute Windows path in the system's encoding; no longer written.
    pub(in super::super) const WI2K: [u8; 4] = *b"Wi2k";
    /// Relative Windows path in the system's encoding; no longer written.
    pub(in super::super) const WI2R: [u8; 4] = *b"Wi2r";
    /// A file URL in UTF-8.
    pub(in super::super) const MACX: [u8; 4] = *b"MacX";
    /// No name.
    pub(in super::super) const NONE: [u8; 4] = [0; 4];
}

/// The checksum of a structure whose own field for it stands at `field`: the complement of the sum of all other bytes.
pub(super) fn checksum(bytes: &[u8], field: usize) -> u32 {
    let (front, rest) = bytes.split_at(field);
    // 1024 bytes add up to less than 2^18.
    !front.iter().chain(&rest[4..]).map(|byte| u32::from(*byte)).sum::<u32>()
}

impl Footer {
    const CHECKSUM: usize = std::mem::offset_of!(Self, checksum);

    /// Whether it is a footer of the one version that there is, by its first fields, or of another one, by its checksum.
    pub(super) fn is_footer(&self) -> bool {
        self.cookie == FOOTER_COOKIE && (self.version.get() == VERSION || self.is_sound())
    }

    /// Whether its checksum is right.
    pub(super) fn is_sound(&self) -> bool {
        self.checksum.get() == checksum(self.as_bytes(), Self::CHECKSUM)
    }

    /// The same with the right checksum.
    pub(super) fn sealed(mut self) -> Self {
        self.checksum = checksum(self.as_bytes(), Self::CHECKSUM).into();
        self
    }
}

impl DynamicHeader {
    const CHECKSUM: usize = std::mem::offset_of!(Self, checksum);

    /// The checksum that it should have.
    pub(super) fn right_checksum(&self) -> u32 {
        checksum(self.as_bytes(), Self::CHECKSUM)
    }

    /// The same with the right checksum.
    pub(super) fn sealed(mut self) -> Self {
        self.checksum = self.right_checksum().into();
        self
    }
}
