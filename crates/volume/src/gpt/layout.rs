//! The bytes of a GUID partition table (UEFI 2.10, section 5.3).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `EFI PART`.
pub(crate) const SIGNATURE: [u8; 8] = *b"EFI PART";
/// Version 1.0, the only one there is.
pub(crate) const REVISION: u32 = 0x0001_0000;
/// The fields that are defined, and the least a header has.
pub(crate) const HEADER_SIZE: u32 = 92;
/// The least an entry has; more has to be this times a power of two.
pub(crate) const ENTRY_SIZE: u32 = 128;
/// What the specification reserves for the entries of a new table: 128 of them.
pub(crate) const ENTRY_COUNT: u32 = 128;
/// No system makes an entry array larger than 16 KiB; 4 MiB is where Linux stops, and little memory for a hostile one.
pub(crate) const MAX_ARRAY: u64 = 4 << 20;

/// The first bytes of the sector of a header; what is behind them in the sector is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) signature: [u8; 8],
    pub(crate) revision: U32,
    pub(crate) header_size: U32,
    /// CRC-32 of the header with this field as zero.
    pub(crate) header_crc: U32,
    pub(crate) reserved: U32,
    /// Where this header stands.
    pub(crate) own_lba: U64,
    /// Where the other one stands.
    pub(crate) other_lba: U64,
    pub(crate) first_usable: U64,
    /// Inclusive.
    pub(crate) last_usable: U64,
    pub(crate) disk_guid: [u8; 16],
    pub(crate) entries_lba: U64,
    pub(crate) entry_count: U32,
    pub(crate) entry_size: U32,
    /// CRC-32 of the whole array.
    pub(crate) entries_crc: U32,
}

/// The first bytes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Entry {
    /// All zeroes in an entry that is not used.
    pub(crate) kind: [u8; 16],
    pub(crate) guid: [u8; 16],
    pub(crate) first: U64,
    /// Inclusive.
    pub(crate) last: U64,
    pub(crate) attributes: U64,
    /// UTF-16, little-endian, up to the first zero.
    pub(crate) name: [[u8; 2]; 36],
}

const _: () = assert!(size_of::<Header>() == HEADER_SIZE as usize && size_of::<Entry>() == ENTRY_SIZE as usize);

/// The attribute of a partition that a BIOS may boot from.
pub(crate) const LEGACY_BOOT: u64 = 1 << 2;

/// The CRC-32 of a header in its sector, with the field that holds it as zero.
pub(crate) fn header_crc(sector: &[u8], header_size: usize) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sector[..16]);
    crc.update(&[0; 4]);
    crc.update(&sector[20..header_size]);
    crc.finalize()
}
