//! The bytes of a VHDX: Microsoft's [MS-VHDX], version 2 of the virtual hard disk. All integers little-endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::guid::Guid;

/// The unit in which structures stand in the file, and in which the block allocation table counts (section 2.5.1).
pub(crate) const MIB: u64 = 1 << 20;
/// The unit of the log, and of every change of metadata (section 2.3).
pub(crate) const LOG_SECTOR: u64 = 4096;

/// The first eight bytes of the file (section 2.2.1).
pub(crate) const FILE_SIGNATURE: [u8; 8] = *b"vhdxfile";
/// Where the two headers stand (section 2.2).
pub(crate) const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Where the two region tables stand (section 2.2).
pub(crate) const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a region table and of a metadata table, which their checksum and their entries are within.
pub(crate) const TABLE_BYTES: usize = 64 << 10;
/// The most entries of either table: what fits behind its header of one entry's length.
pub(crate) const TABLE_ENTRIES_MAX: u32 = 2047;
/// The bytes in front of every log, region and block: identifier, headers and region tables (section 2.2).
pub(crate) const HEADER_SECTION: u64 = MIB;

/// The signature of a header.
pub(crate) const HEADER_SIGNATURE: [u8; 4] = *b"head";
/// The only version of the format.
pub(crate) const VERSION: u16 = 1;
/// The only version of the log.
pub(crate) const LOG_VERSION: u16 = 0;

/// A header (section 2.2.2), padded to 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub signature: [u8; 4],
    /// CRC-32C of the 4 KiB, with this field taken as zero.
    pub checksum: U32,
    /// Of two sound headers, the one with the larger number counts.
    pub sequence_number: U64,
    /// Changes when the file is opened for writing and anything in it is changed.
    pub file_write_guid: Guid,
    /// Changes before what a guest sees does: by it a child knows its parent.
    pub data_write_guid: Guid,
    /// The entries of the log that count have this; zero when the log is empty.
    pub log_guid: Guid,
    pub log_version: U16,
    pub version: U16,
    pub log_length: U32,
    pub log_offset: U64,
}
const _: () = assert!(size_of::<RawHeader>() == 80);
/// Bytes of a header with its padding.
pub(crate) const HEADER_BYTES: usize = 4096;

/// The signature of a region table.
pub(crate) const REGION_SIGNATURE: [u8; 4] = *b"regi";

/// The head of a region table (section 2.2.3.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRegionHeader {
    pub signature: [u8; 4],
    /// CRC-32C of the 64 KiB, with this field taken as zero.
    pub checksum: U32,
    pub entry_count: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<RawRegionHeader>() == 16);

/// An entry of a region table (section 2.2.3.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRegion {
    pub guid: Guid,
    pub file_offset: U64,
    pub length: U32,
    /// Bit 0: who does not know the region may not open the file.
    pub required: U32,
}
const _: () = assert!(size_of::<RawRegion>() == 32);

/// The region with the block allocation table.
pub(crate) const BAT_REGION: Guid = Guid::new(0x2dc2_7766, 0xf623, 0x4200, *b"\x9d\x64\x11\x5e\x9b\xfd\x4a\x08");
/// The region with the metadata.
pub(crate) const METADATA_REGION: Guid = Guid::new(0x8b7c_a206, 0x4790, 0x4b9a, *b"\xb8\xfe\x57\x5f\x05\x0f\x88\x6e");

/// The signature of a metadata table.
pub(crate) const METADATA_SIGNATURE: [u8; 8] = *b"metadata";

/// The head of a metadata table (section 2.6.1.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawMetadataHeader {
    pub signature: [u8; 8],
    pub reserved: U16,
    pub entry_count: U16,
    pub reserved2: [u8; 20],
}
const _: () = assert!(size_of::<RawMetadataHeader>() == 32);

/// An entry of a metadata table (section 2.6.1.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawMetadataEntry {
    pub item_id: Guid,
    /// From the region's start; behind the table of 64 KiB.
    pub offset: U32,
    pub length: U32,
    /// [`item_flags`].
    pub flags: U32,
    pub reserved: U32,
}
const _: () = assert!(size_of::<RawMetadataEntry>() == 32);

/// Bits of a metadata entry's flags.
pub(crate) mod item_flags {
    /// The item is a user's, not the system's.
    pub(crate) const USER: u32 = 1;
    /// The item describes the disk, not the file.
    pub(crate) const VIRTUAL_DISK: u32 = 2;
    /// Who does not know the item may not open the file.
    pub(crate) const REQUIRED: u32 = 4;
}

/// The longest metadata item (section 2.6.1.2).
pub(crate) const ITEM_BYTES_MAX: u32 = 1 << 20;

/// Metadata items (section 2.6.2).
pub(crate) const FILE_PARAMETERS: Guid = Guid::new(0xcaa1_6737, 0xfa36, 0x4d43, *b"\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b");
pub(crate) const VIRTUAL_DISK_SIZE: Guid = Guid::new(0x2fa5_4224, 0xcd1b, 0x4876, *b"\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8");
pub(crate) const VIRTUAL_DISK_ID: Guid = Guid::new(0xbeca_12ab, 0xb2e6, 0x4523, *b"\x93\xef\xc3\x09\xe0\x00\xc7\x46");
pub(crate) const LOGICAL_SECTOR_SIZE: Guid =
    Guid::new(0x8141_bf1d, 0xa96f, 0x4709, *b"\xba\x47\xf2\x33\xa8\xfa\xab\x5f");
pub(crate) const PHYSICAL_SECTOR_SIZE: Guid =
    Guid::new(0xcda3_48c7, 0x445d, 0x4471, *b"\x9c\xc9\xe9\x88\x52\x51\xc5\x56");
pub(crate) const PARENT_LOCATOR: Guid = Guid::new(0xa8d3_5f2d, 0xb30b, 0x454d, *b"\xab\xf7\xd3\xd8\x48\x34\xab\x0c");
/// The only type of parent locator: that of VHDX.
pub(crate) const LOCATOR_VHDX: Guid = Guid::new(0xb04a_efb7, 0xd19e, 0x4a81, *b"\xb7\x89\x25\xb8\xe9\x44\x59\x13");

/// Bits of the file parameters.
pub(crate) mod file_flags {
    /// Blocks are never taken back: a fixed disk.
    pub(crate) const LEAVE_BLOCK_ALLOCATED: u32 = 1;
    /// The disk hangs from a parent.
    pub(crate) const HAS_PARENT: u32 = 2;
}

/// Sizes of a block (section 2.6.2.1).
pub(crate) const BLOCK_SIZES: std::ops::RangeInclusive<u64> = MIB..=256 * MIB;
/// The largest disk (section 2.6.2.2).
pub(crate) const DISK_MAX: u64 = 64 << 40;
/// Sectors of the disk that one sector bitmap block tells of (section 2.4): 1 MiB of bits.
pub(crate) const CHUNK_SECTORS: u64 = 1 << 23;
/// Bytes of a sector bitmap block.
pub(crate) const BITMAP_BYTES: u64 = MIB;

/// The head of a parent locator (section 2.6.2.6.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawLocatorHeader {
    pub locator_type: Guid,
    pub reserved: U16,
    pub key_value_count: U16,
}
const _: () = assert!(size_of::<RawLocatorHeader>() == 20);

/// An entry of a parent locator (section 2.6.2.6.2); offsets count from the locator's start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawLocatorEntry {
    pub key_offset: U32,
    pub value_offset: U32,
    pub key_length: U16,
    pub value_length: U16,
}
const _: () = assert!(size_of::<RawLocatorEntry>() == 12);

/// States of a payload block (section 2.5.1.1).
pub(crate) mod payload {
    pub(crate) const NOT_PRESENT: u64 = 0;
    pub(crate) const UNDEFINED: u64 = 1;
    pub(crate) const ZERO: u64 = 2;
    pub(crate) const UNMAPPED: u64 = 3;
    pub(crate) const FULLY_PRESENT: u64 = 6;
    pub(crate) const PARTIALLY_PRESENT: u64 = 7;
}

/// States of a sector bitmap block (section 2.5.1.2).
pub(crate) mod bitmap {
    pub(crate) const NOT_PRESENT: u64 = 0;
    pub(crate) const PRESENT: u64 = 6;
}

/// The state in an entry of the block allocation table.
pub(crate) const STATE_MASK: u64 = 7;
/// The file offset in an entry, in bytes: the field counts MiB from bit 20 on.
pub(crate) const OFFSET_MASK: u64 = !(MIB - 1);

/// The signature of a log entry.
pub(crate) const LOG_SIGNATURE: [u8; 4] = *b"loge";

/// The head of a log entry (section 2.3.1.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawLogHeader {
    pub signature: [u8; 4],
    /// CRC-32C of the whole entry, with this field taken as zero.
    pub checksum: U32,
    /// Bytes of the entry.
    pub entry_length: U32,
    /// Where in the log the first entry stands that has to be replayed, as of this one.
    pub tail: U32,
    pub sequence_number: U64,
    pub descriptor_count: U32,
    pub reserved: U32,
    pub log_guid: Guid,
    /// The file had at least this length, durably, when the entry was written.
    pub flushed_file_offset: U64,
    /// All structures of the file fit into this length.
    pub last_file_offset: U64,
}
const _: () = assert!(size_of::<RawLogHeader>() == 64);

/// A descriptor of either kind (sections 2.3.1.2 and 2.3.1.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawDescriptor {
    pub signature: [u8; 4],
    /// `desc`: the last four bytes of the sector. `zero`: reserved.
    pub trailing: [u8; 4],
    /// `desc`: the first eight bytes of the sector. `zero`: how many bytes become zero.
    pub leading: [u8; 8],
    /// Where in the file.
    pub file_offset: U64,
    /// That of the entry.
    pub sequence_number: U64,
}
const _: () = assert!(size_of::<RawDescriptor>() == 32);
/// The signature of a descriptor whose sector stands in a data sector.
pub(crate) const DATA_DESCRIPTOR: [u8; 4] = *b"desc";
/// The signature of a descriptor of a range of zeroes.
pub(crate) const ZERO_DESCRIPTOR: [u8; 4] = *b"zero";

/// A data sector of the log (section 2.3.1.4): a sector of the file without its first eight and last four bytes, which
/// stand in the descriptor.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawDataSector {
    pub signature: [u8; 4],
    pub sequence_high: U32,
    pub data: [u8; 4084],
    pub sequence_low: U32,
}
const _: () = assert!(size_of::<RawDataSector>() as u64 == LOG_SECTOR);
/// The signature of a data sector.
pub(crate) const DATA_SECTOR: [u8; 4] = *b"data";

/// The CRC-32C of `bytes`, whose four bytes at 4 are the checksum itself and are taken as zero.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let (front, rest) = bytes.split_at(4);
    let crc = crc32c::crc32c_append(crc32c::crc32c(front), &[0; 4]);
    crc32c::crc32c_append(crc, &rest[4..])
}
