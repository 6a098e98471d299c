//! The bytes of a VDI file: VirtualBox's `VDICore.h`. All integers little-endian.

use std::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the signature stands: behind the text that a person sees first.
pub(super) const SIGNATURE_OFFSET: usize = 0x40;
/// The signature of every version.
pub(super) const SIGNATURE: u32 = 0xbeda_107f;
/// The text of a new image. Readers ignore it; VirtualBox wrote a different one in every era.
pub(super) const FILE_INFO: &[u8] = b"<<< Oracle VirtualBox Disk Image >>>\n";

/// Map entry of a block that has no place: a parent shows, or zeroes.
pub(super) const BLOCK_FREE: u32 = u32::MAX;
/// Map entry of a block of zeroes: what was discarded, or zeroed over a parent.
pub(super) const BLOCK_ZERO: u32 = u32::MAX - 1;

/// The unit in which sizes of disks are counted.
pub(super) const SECTOR: u64 = 512;
/// The smallest block: a sector.
pub(super) const BLOCK_MIN: u64 = SECTOR;
/// Most blocks of a disk: the two highest numbers mean something else.
pub(super) const BLOCKS_MAX: u64 = BLOCK_ZERO as u64;

/// In front of every version's header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct PreHeader {
    /// For eyes only.
    pub file_info: [u8; 64],
    pub signature: U32,
    pub minor: U16,
    pub major: U16,
}

/// Cylinders, heads, sectors, bytes of a sector; zeroes where VirtualBox shall work them out.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Geometry {
    pub cylinders: U32,
    pub heads: U32,
    pub sectors: U32,
    pub sector_size: U32,
}

/// The header of version 0.0, behind which the map and then the blocks follow without a gap.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header0 {
    pub kind: U32,
    pub flags: U32,
    pub comment: [u8; 256],
    pub geometry: Geometry,
    pub size: U64,
    pub block_size: U32,
    pub blocks: U32,
    pub allocated: U32,
    pub uuid: [u8; 16],
    pub modification_uuid: [u8; 16],
    pub parent_uuid: [u8; 16],
}

/// The header of versions 1.0 and 1.1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header1 {
    /// Bytes of this header, the 16 of a second geometry that may follow included.
    pub header_size: U32,
    pub kind: U32,
    pub flags: U32,
    pub comment: [u8; 256],
    /// Where the map stands.
    pub map_offset: U32,
    /// Where block 0 of the file stands.
    pub data_offset: U32,
    pub legacy_geometry: Geometry,
    pub unused: U32,
    /// The virtual size in bytes.
    pub size: U64,
    pub block_size: U32,
    /// Bytes in front of each block that are not the guest's.
    pub block_extra: U32,
    /// Entries of the map.
    pub blocks: U32,
    /// Blocks of the file: the next one gets this number.
    pub allocated: U32,
    pub uuid: [u8; 16],
    /// Another one whenever a session changed the disk.
    pub modification_uuid: [u8; 16],
    pub parent_uuid: [u8; 16],
    /// The parent's modification UUID when this image was made.
    pub parent_modification_uuid: [u8; 16],
}

/// Where the versions' headers begin.
pub(super) const HEADER_OFFSET: usize = size_of::<PreHeader>();

const _: () = assert!(HEADER_OFFSET == 0x48 && size_of::<Header0>() == 348 && size_of::<Header1>() == 384);

/// A UUID between the order of the file, in which VirtualBox keeps the first three fields little-endian, and the order of
/// its text. The exchange is its own reverse.
pub(super) const fn swap_uuid(uuid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = uuid;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}
