//! The dialects that are only read, under the suite of the block contract.

use std::fs;

use tempfile::TempDir;
use transload_block::{BlockRead, Memory};
use transload_testkit::{Random, conformance, disks, witness};

use crate::builder::{SeGrain, cowd, descriptor, sesparse};
use crate::open_file;

/// A disk of which `parts` (first sector, sectors, byte) are full of one byte.
fn filled(sectors: usize, parts: &[(usize, usize, u8)]) -> Memory {
    let mut bytes = vec![0; sectors * 512];
    for (first, count, byte) in parts {
        bytes[first * 512..(first + count) * 512].fill(*byte);
    }
    Memory::from(bytes)
}

#[test]
fn a_stream_optimized_disk_keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let (raw, path) = (folder.path().join("d.raw"), folder.path().join("d.vmdk"));
    let mut bytes = vec![0; (3 << 20) + 512];
    for (at, length) in [(0, 70_000), (400_000, 300_000), (3 << 20, 512)] {
        bytes[at..at + length].copy_from_slice(&Random::new(at as u64).bytes(length));
    }
    let disk = Memory::from(bytes);
    disks::save(&disk, &raw);
    witness::convert(&raw, "raw", &path, "vmdk", "subformat=streamOptimized");
    conformance::read(&*open_file(&path).unwrap().device, &disk).assert();
}

#[test]
fn a_cowd_disk_keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.vmdk");
    fs::write(&path, descriptor("vmfsSparse", "", &["RW 9000 VMFSSPARSE \"d-delta.vmdk\""])).unwrap();
    fs::write(folder.path().join("d-delta.vmdk"), cowd(9000, 16, &[(6, 0xc6), (0, 0xc0), (7, 0xc7), (562, 0xcf)]))
        .unwrap();
    let expected = filled(9000, &[(0, 16, 0xc0), (96, 16, 0xc6), (112, 16, 0xc7), (8992, 8, 0xcf)]);
    conformance::read(&*open_file(&path).unwrap().device, &expected).assert();
}

#[test]
fn a_sesparse_disk_keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.vmdk");
    let grains = [
        (0, SeGrain::Zero),
        (1, SeGrain::Stored(5000, 0x51)),
        (2, SeGrain::Stored(5001, 0x52)),
        (3, SeGrain::Stored(7, 0x53)),
        (4097, SeGrain::Unmapped),
        (4098, SeGrain::Stored(6000, 0x54)),
    ];
    fs::write(&path, descriptor("seSparse", "", &["RW 40000 SESPARSE \"d-sesparse.vmdk\""])).unwrap();
    fs::write(folder.path().join("d-sesparse.vmdk"), sesparse(40_000, &grains).0).unwrap();
    let expected = filled(40_000, &[(8, 8, 0x51), (16, 8, 0x52), (24, 8, 0x53), (4098 * 8, 8, 0x54)]);
    let device = open_file(&path).unwrap().device;
    assert_eq!(device.size(), expected.size());
    conformance::read(&*device, &expected).assert();
}
