//! Headers and tables of VHD, VHDX and VDI that lie. The places are those of the specifications.

use std::path::Path;

use transload_block::ErrorKind::{Corrupt, TooLarge, Unsupported};

use super::{Case, Lie, index, lie, patched, sound, subfolder, write};

/// The footers' and the header's checksums are right again after each lie: it is the value that is wrong.
pub(super) fn vhd(folder: &Path) -> Vec<Lie> {
    const TABLE: u64 = 1536;
    let folder = subfolder(folder, "vhd");
    let sound = sound(&folder, "vpc", "force_size=on", false);
    let end = sound.len() as u64 - 512;
    let both = |at: u64, bytes: &[u8]| vec![(at, bytes.to_vec()), (end + at, bytes.to_vec())];
    let header = |at: u64, bytes: &[u8]| vec![(512 + at, bytes.to_vec())];
    let cases: Vec<Case> = vec![
        ("version 2", Unsupported, both(12, &[0, 2, 0, 0])),
        ("a kind that nobody knows", Corrupt, both(60, &[0, 0, 0, 9])),
        ("a disk of 2041 GiB", TooLarge, both(48, &(2041_u64 << 30).to_be_bytes())),
        ("a disk of 16 EiB", TooLarge, both(48, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0])),
        ("half a sector", Corrupt, both(48, &((4_u64 << 20) + 256).to_be_bytes())),
        ("a header behind the file", Corrupt, both(16, &(1_u64 << 50).to_be_bytes())),
        ("a header at the end of 64 bits", Corrupt, both(16, &(u64::MAX - 511).to_be_bytes())),
        ("a header that is none", Corrupt, header(0, b"cxsparsE")),
        ("version 3 of the header", Unsupported, header(24, &[0, 3, 0, 0])),
        ("a table behind the file", Corrupt, header(16, &(1_u64 << 50).to_be_bytes())),
        ("a table at the end of 64 bits", Corrupt, header(16, &(u64::MAX - 3).to_be_bytes())),
        ("a table of one entry", Corrupt, header(28, &[0, 0, 0, 1])),
        ("blocks of nothing", Corrupt, header(32, &[0; 4])),
        ("blocks of 3 MiB", Corrupt, header(32, &[0, 0x30, 0, 0])),
        // What a table of 1,073,741,825 entries would be needed for.
        (
            "blocks of a sector and a disk of 512 GiB",
            Corrupt,
            [both(48, &((512_u64 << 30) + 512).to_be_bytes()), header(32, &[0, 0, 2, 0]), header(28, &[0x40, 0, 0, 1])]
                .concat(),
        ),
        ("a block behind the file", Corrupt, vec![(TABLE, vec![0x7f, 0, 0, 0])]),
        ("a block over the header", Corrupt, vec![(TABLE, vec![0; 4])]),
        ("a child without a parent", Corrupt, both(60, &[0, 0, 0, 4])),
    ];
    let sealed = |bytes: &mut Vec<u8>| {
        let end = bytes.len() - 512;
        for (at, length, field) in [(0, 512, 64), (512, 1024, 36), (end, 512, 64)] {
            let part = &mut bytes[at..at + length];
            part[field..field + 4].fill(0);
            let sum: u32 = part.iter().map(|byte| u32::from(*byte)).sum();
            part[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
        }
    };
    written(&folder, "vhd", &sound, &cases, sealed)
}

/// Checksums are right again after each lie, where a table or header has one.
pub(super) fn vhdx(folder: &Path) -> Vec<Lie> {
    const MIB: u64 = 1 << 20;
    const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
    const REGIONS: [u64; 2] = [192 << 10, 256 << 10];
    let folder = subfolder(folder, "vhdx");
    let sound = sound(&folder, "vhdx", "block_size=1M", false);
    let long = |at: u64| u64::from_le_bytes(sound[index(at)..index(at) + 8].try_into().expect("8 bytes"));
    // The first region of QEMU's table is the block allocation table, the second the metadata.
    let (bat, metadata) = (long(REGIONS[0] + 32), long(REGIONS[0] + 64));
    let both = |places: [u64; 2], at: u64, bytes: &[u8]| places.map(|place| (place + at, bytes.to_vec())).to_vec();
    let items = metadata + (64 << 10);
    let number = |value: u64| value.to_le_bytes().to_vec();
    let dirty = |offset: u64, length: u32| {
        let log = [&[9; 16][..], &[0, 0, 1, 0], &length.to_le_bytes(), &offset.to_le_bytes()].concat();
        both(HEADERS, 48, &log)
    };
    let cases: Vec<Case> = vec![
        ("version 2", Unsupported, both(HEADERS, 66, &[2, 0])),
        ("a log behind the file", Corrupt, both(HEADERS, 72, &(1_u64 << 50).to_le_bytes())),
        ("a dirty log behind the file", Corrupt, dirty(1 << 50, 1 << 20)),
        ("a dirty log at the end of 64 bits", Corrupt, dirty(!(MIB - 1), 1 << 20)),
        ("a dirty log of 4 GiB", Corrupt, dirty(MIB, 0xfff0_0000)),
        (
            "a region that is required and not known",
            Unsupported,
            [both(REGIONS, 16, &[0xaa; 16]), both(REGIONS, 44, &[1, 0, 0, 0])].concat(),
        ),
        ("2^32 regions", Corrupt, both(REGIONS, 8, &[0xff; 4])),
        ("a table behind the file", Corrupt, both(REGIONS, 32, &(1_u64 << 50).to_le_bytes())),
        ("a table at the end of 64 bits", Corrupt, both(REGIONS, 32, &(!(MIB - 1)).to_le_bytes())),
        ("a table of nothing", Corrupt, both(REGIONS, 40, &[0; 4])),
        ("regions in one place", Corrupt, both(REGIONS, 32, &metadata.to_le_bytes())),
        ("an item that is required and not known", Unsupported, vec![(metadata + 32, vec![0xbb; 16])]),
        ("65535 items", Corrupt, vec![(metadata + 10, vec![0xff; 2])]),
        ("an item of 4 GiB", Corrupt, vec![(metadata + 52, vec![0xff; 4])]),
        ("an item outside of its region", Corrupt, vec![(metadata + 48, vec![0, 0, 0x10, 0])]),
        ("a block of nothing", Corrupt, vec![(items, vec![0; 4])]),
        ("a block of 512 MiB", Corrupt, vec![(items, vec![0, 0, 0, 0x20])]),
        ("a parent without a locator", Corrupt, vec![(items + 4, vec![2, 0, 0, 0])]),
        ("a disk of 16 EiB", Corrupt, vec![(items + 8, vec![0xff; 8])]),
        ("a disk of 64 TiB with a table of 4 MiB", Corrupt, vec![(items + 8, number(64 << 40))]),
        ("a block behind the file", Corrupt, vec![(bat, number((1 << 50) | 6))]),
        ("a block at the end of 64 bits", Corrupt, vec![(bat, number(!(MIB - 1) | 6))]),
        ("a block that is the metadata", Corrupt, vec![(bat, number(metadata | 6))]),
        ("a block that is the header", Corrupt, vec![(bat, number(6))]),
        ("a state that is reserved", Corrupt, vec![(bat, number((long(bat) & !7) | 5))]),
        ("a part of a block without a parent", Corrupt, vec![(bat, number(long(bat) | 7))]),
    ];
    let sealed = |bytes: &mut Vec<u8>| {
        for (at, length) in [(HEADERS[0], 4096), (HEADERS[1], 4096), (REGIONS[0], 65_536), (REGIONS[1], 65_536)] {
            let part = &mut bytes[index(at)..index(at) + length];
            part[4..8].fill(0);
            let sum = crc32c(part);
            part[4..8].copy_from_slice(&sum.to_le_bytes());
        }
    };
    written(&folder, "vhdx", &sound, &cases, sealed)
}

/// The checksum of Castagnoli, bit by bit: few bytes need it here.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82f6_3b78 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

pub(super) fn vdi(folder: &Path) -> Vec<Lie> {
    const SIZE: u64 = 0x170;
    let folder = subfolder(folder, "vdi");
    let sound = sound(&folder, "vdi", "", false);
    let word = |at: u64| u32::from_le_bytes(sound[index(at)..index(at) + 4].try_into().expect("4 bytes"));
    let map = u64::from(word(0x154));
    let number = |value: u32| value.to_le_bytes().to_vec();
    let cases: Vec<Case> = vec![
        ("version 2", Unsupported, vec![(0x46, vec![2, 0])]),
        ("a kind that nobody knows", Unsupported, vec![(0x4c, number(7))]),
        ("a child that names no parent", Corrupt, vec![(0x4c, number(4))]),
        ("a header of 10 bytes", Corrupt, vec![(0x48, number(10))]),
        ("a map over the header", Corrupt, vec![(0x154, number(100))]),
        ("a map behind the file", Corrupt, vec![(0x154, number(0x7000_0000)), (0x158, number(0x7800_0000))]),
        ("a map over the blocks", Corrupt, vec![(0x158, number(u32::try_from(map).unwrap_or(0)))]),
        ("blocks of nothing", Corrupt, vec![(SIZE + 8, number(0))]),
        ("blocks of 3 MiB", Corrupt, vec![(SIZE + 8, number(3 << 20))]),
        ("a disk of 16 EiB", Corrupt, vec![(SIZE, vec![0xff; 8])]),
        ("2^32 - 3 blocks", Corrupt, vec![(SIZE + 16, number(u32::MAX - 2))]),
        ("2^32 - 1 blocks", Corrupt, vec![(SIZE + 16, number(u32::MAX))]),
        ("no blocks", Corrupt, vec![(SIZE + 16, number(0))]),
        ("a block that is not there", Corrupt, vec![(map, number(1000))]),
        ("the last number that is a block's", Corrupt, vec![(map, number(u32::MAX - 2))]),
        ("4 GiB in front of each block", Corrupt, vec![(SIZE + 12, number(u32::MAX))]),
    ];
    written(&folder, "vdi", &sound, &cases, |_| {})
}

/// Writes an image for each case.
fn written(folder: &Path, format: &str, sound: &[u8], cases: &[Case], seal: impl Fn(&mut Vec<u8>)) -> Vec<Lie> {
    let mut lies = Vec::new();
    for (number, (name, kind, patches)) in cases.iter().enumerate() {
        let path = folder.join(format!("{number}.{format}"));
        let patches: Vec<_> = patches.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        let mut bytes = patched(sound, &patches);
        seal(&mut bytes);
        write(&path, &bytes);
        lies.push(lie(format!("{format}: {name}"), path, *kind));
    }
    lies
}
