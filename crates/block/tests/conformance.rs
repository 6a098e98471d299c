//! Every device of the crate goes through the conformance suite.

use std::sync::Arc;

use transload_block::{
    BlockRead, BlockReadExt, BlockWrite, Chain, Concat, ErrorKind, FileBlock, Memory, Slice, Storage, ZeroMode, Zeros,
};
use transload_testkit::disks::{huge, samples};
use transload_testkit::{CrashStorage, Misbehaving, Overlay, Random, ShortIo, conformance};

/// A disk of random bytes, holes and zeroes.
fn patchwork(size: u64, seed: u64) -> Memory {
    let disk = Memory::default();
    disk.set_size(size).expect("memory takes it");
    let mut random = Random::new(seed);
    for _ in 0..12 {
        let range = random.range(size, 100_000);
        let bytes = random.bytes(usize::try_from(range.end - range.start).expect("small"));
        disk.write_at(&bytes, range.start).expect("memory takes it");
    }
    disk
}

fn shared(disk: &Memory) -> Arc<dyn BlockRead> {
    Arc::new(disk.clone())
}

#[test]
fn memory() {
    for sample in samples() {
        let disk = sample.memory();
        conformance::read(&disk, &disk.clone()).assert();
    }
    for size in [0, 1, 4095, 65_536, 700_001] {
        conformance::storage(&patchwork(size, size), 1).assert();
    }
    let disk = huge().memory();
    conformance::read(&disk, &disk.clone()).assert();
    conformance::write(&disk, 2).assert();
}

#[test]
fn zeros() {
    for size in [0, 1, 5 << 20, 3 << 40] {
        let expected = Memory::default();
        expected.set_size(size).unwrap();
        conformance::read(&Zeros::new(size), &expected).assert();
    }
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    for sample in samples() {
        sample.save(&path);
        let expected = sample.memory();
        conformance::read(&FileBlock::open(&path, false).unwrap(), &expected).assert();
        conformance::read(&FileBlock::open(&path, true).unwrap(), &expected).assert();
    }
    conformance::read_only(&FileBlock::open(&path, false).unwrap()).assert();
    conformance::storage(&FileBlock::open(&path, true).unwrap(), 3).assert();
}

/// A memory file system has other ways to zero and to find holes than a disk has.
#[test]
fn files_in_memory() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: no memory file system at /dev/shm");
        return;
    };
    let path = folder.path().join("disk");
    huge().save(&path);
    conformance::read(&FileBlock::open(&path, false).unwrap(), &huge().memory()).assert();
    conformance::write(&FileBlock::open(&path, true).unwrap(), 4).assert();
}

#[test]
fn slices() {
    let disk = patchwork(900_000, 5);
    for range in [0..900_000, 0..0, 900_000..900_000, 65_536..131_072, 12_345..654_321, 511..512] {
        let expected = Memory::from(disk.read_vec(range.start, range.end - range.start).unwrap());
        conformance::read(&Slice::new(shared(&disk), range.clone()).unwrap(), &expected).assert();
        let inner = Arc::new(disk.clone());
        let slice = Slice::writable(Arc::clone(&inner) as Arc<dyn BlockWrite>, range.clone()).unwrap();
        conformance::write(&slice, 6).assert();
        let (before, behind) = (0..range.start, range.end..900_000);
        for outside in [before, behind] {
            let length = outside.end - outside.start;
            assert_eq!(inner.read_vec(outside.start, length).unwrap(), disk.read_vec(outside.start, length).unwrap());
        }
    }
    let reversed = std::ops::Range { start: 2, end: 1 };
    for range in [0..900_001, reversed, u64::MAX..u64::MAX] {
        assert_eq!(Slice::new(shared(&disk), range).unwrap_err().kind(), ErrorKind::OutOfRange);
    }
    conformance::read_only(&Slice::new(shared(&disk), 10..20).unwrap()).assert();
}

#[test]
fn concats() {
    let sizes = [100_000, 0, 1, 65_536, 511, 200_000];
    let disks: Vec<_> = sizes.iter().map(|size| patchwork(*size, *size)).collect();
    let expected = Memory::from(disks.iter().flat_map(Memory::to_vec).collect::<Vec<_>>());
    conformance::read(&Concat::new(disks.iter().map(shared).collect()).unwrap(), &expected).assert();
    let parts = disks.iter().map(|disk| Arc::new(disk.clone()) as Arc<dyn BlockWrite>).collect();
    conformance::write(&Concat::writable(parts).unwrap(), 7).assert();
    conformance::write(&Concat::writable(Vec::new()).unwrap(), 8).assert();
    conformance::read_only(&Concat::new(disks.iter().map(shared).collect()).unwrap()).assert();
    let endless: Vec<Arc<dyn BlockRead>> = vec![Arc::new(Zeros::new(u64::MAX)), Arc::new(Zeros::new(1))];
    assert_eq!(Concat::new(endless).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn chains() {
    for unit in [64, 512, 4096, 65_536] {
        let base = patchwork(700_001, 9);
        let (top, middle) = (Arc::new(Overlay::new(900_000, unit)), Arc::new(Overlay::new(800_000, 4096)));
        let mut expected = base.to_vec();
        expected.resize(900_000, 0);
        let chain = Chain::new(vec![Arc::clone(&top) as Arc<dyn BlockRead>, middle.clone(), shared(&base)]);
        conformance::read(&chain, &Memory::from(expected)).assert();
        conformance::read_only(&chain).assert();
        let chain = Chain::writable(top, vec![middle.clone(), shared(&base)]);
        conformance::write(&chain, 10).assert();
        let untouched = middle.block_status(0..800_000).unwrap();
        assert_eq!(untouched.length, 800_000, "a layer below the top was written");
    }
    conformance::read(&Chain::new(Vec::new()), &Memory::new(0)).assert();
    conformance::write(&Chain::writable(Arc::new(patchwork(100_000, 11)), Vec::new()), 12).assert();
    conformance::layer(&Overlay::new(100_000, 512), &Memory::new(100_000)).assert();
    conformance::write(&Overlay::new(1_000_000, 4096), 13).assert();
}

#[test]
fn storages_of_the_testkit() {
    conformance::storage(&Misbehaving::new(Arc::new(patchwork(300_000, 14))), 15).assert();
    conformance::storage(&CrashStorage::new(patchwork(300_000, 16)), 17).assert();
    // Short counts and interruptions beneath the loops are not seen above them.
    for seed in 0..4 {
        conformance::storage(&ShortIo::new(patchwork(300_000, seed), seed), seed).assert();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn block_devices() {
    use std::process::Command;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, patchwork(3 << 20, 18).to_vec()).unwrap();
    let answer = Command::new("losetup").args(["--find", "--show"]).arg(&path).output();
    let Some(answer) = answer.ok().filter(|answer| answer.status.success()) else {
        eprintln!("SKIPPED: losetup cannot make a block device here");
        return;
    };
    let node = std::path::PathBuf::from(String::from_utf8(answer.stdout).unwrap().trim());
    let verdict = FileBlock::open(&node, true).map(|device| {
        device.write_zeroes_at(0..100, ZeroMode::Unmap).unwrap();
        conformance::storage(&device, 19)
    });
    Command::new("losetup").arg("--detach").arg(&node).status().unwrap();
    verdict.unwrap().assert();
}
