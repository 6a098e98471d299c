//! The bytes of a master boot record and of the extended boot records that logical partitions hang from.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The 16 bytes of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Entry {
    /// 0x80 for the partition that the BIOS boots from.
    pub(crate) status: u8,
    /// Cylinder, head and sector are written for old BIOSes and never read: they cannot say what `start` says.
    pub(crate) first_chs: [u8; 3],
    pub(crate) kind: u8,
    pub(crate) last_chs: [u8; 3],
    /// In sectors, from the start of the disk; in an extended boot record from that record, or, of a link, from the
    /// extended partition.
    pub(crate) start: U32,
    pub(crate) sectors: U32,
}

/// The first sector's first 512 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) boot_code: [u8; 440],
    /// By which Windows and Linux tell disks apart.
    pub(crate) signature: U32,
    /// 0, or 0x5A5A on a disk that is protected against copying.
    pub(crate) reserved: U16,
    pub(crate) entries: [Entry; 4],
    pub(crate) magic: U16,
}

const _: () = assert!(size_of::<Entry>() == 16 && size_of::<Record>() == 512);

/// 55 AA at the end of the sector.
pub(crate) const MAGIC: u16 = 0xaa55;
/// The type of the entry that covers a GPT.
pub(crate) const PROTECTIVE: u8 = 0xee;

/// Whether a partition of this type holds a chain of logical ones: extended for CHS, for LBA, and Linux's own.
pub(crate) const fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

impl Entry {
    /// Nothing stands in the slot: Linux takes an entry without a type or without sectors for unused.
    pub(crate) fn is_unused(&self) -> bool {
        self.kind == 0 || self.sectors.get() == 0
    }

    /// An entry for `sectors` from `start` on; `absolute` is where that is on the disk, for the cylinders.
    pub(crate) fn new(status: u8, kind: u8, start: u32, sectors: u32, absolute: u64) -> Self {
        let last = absolute + u64::from(sectors.max(1)) - 1;
        Self {
            status,
            kind,
            first_chs: chs(absolute),
            last_chs: chs(last),
            start: U32::new(start),
            sectors: U32::new(sectors),
        }
    }
}

/// Cylinder, head and sector of `lba` for 255 heads and 63 sectors; the largest there are where they do not reach.
fn chs(lba: u64) -> [u8; 3] {
    const HEADS: u64 = 255;
    const SECTORS: u64 = 63;
    let (cylinder, head, sector) = (lba / (HEADS * SECTORS), lba / SECTORS % HEADS, lba % SECTORS + 1);
    match (u16::try_from(cylinder), u8::try_from(head), u8::try_from(sector)) {
        (Ok(cylinder @ 0..=1023), Ok(head), Ok(sector)) => {
            let [low, high] = cylinder.to_le_bytes();
            [head, sector | high << 6, low]
        }
        _ => [0xfe, 0xff, 0xff],
    }
}

#[cfg(test)]
mod tests {
    use super::chs;

    #[test]
    fn cylinders_are_those_of_fdisk() {
        // What sfdisk writes for these sectors.
        let cases = [
            (2048, [0x20, 0x21, 0x00]),
            (1, [0x00, 0x02, 0x00]),
            (16_065 * 1023, [0x00, 0xc1, 0xff]),
            (16_065 * 1024, [0xfe, 0xff, 0xff]),
            (u64::MAX, [0xfe, 0xff, 0xff]),
        ];
        for (lba, bytes) in cases {
            assert_eq!(chs(lba), bytes, "{lba}");
        }
    }
}
