//! Devices against a flat array of bytes, under random operations.

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;
use transload_block::{
    BlockRead, BlockReadExt, BlockStatus, BlockWrite, Chain, Concat, FileBlock, Memory, Slice, Storage, ZeroMode,
    is_all_zero,
};
use transload_testkit::{CrashStorage, Overlay, Random};

/// What can happen to a disk. Places are fractions of its size, so that they fit whatever that is.
#[derive(Clone, Debug)]
enum Step {
    Write { start: u16, length: u16, seed: u64 },
    Zero { start: u16, length: u16, keep: bool },
    Read { start: u16, length: u16 },
    Status { start: u16, length: u16 },
    Resize { size: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<u16>(), any::<u16>(), any::<u64>())
            .prop_map(|(start, length, seed)| Step::Write { start, length, seed }),
        2 => (any::<u16>(), any::<u16>(), any::<bool>())
            .prop_map(|(start, length, keep)| Step::Zero { start, length, keep }),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(start, length)| Step::Read { start, length }),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(start, length)| Step::Status { start, length }),
        1 => any::<u16>().prop_map(|size| Step::Resize { size }),
    ];
    prop::collection::vec(step, 1..40)
}

/// A range inside `size` bytes: short more often than long.
fn range(start: u16, length: u16, size: usize) -> Range<usize> {
    let start = size * usize::from(start) / usize::from(u16::MAX);
    let longest = if length.is_multiple_of(4) { size } else { 6000 };
    let length = longest * usize::from(length) / usize::from(u16::MAX);
    start..(start + length).min(size)
}

fn wide(range: &Range<usize>) -> Range<u64> {
    range.start as u64..range.end as u64
}

/// Does a step to the device and to the array, and compares. `storage` is the device where its end can be moved.
fn take(step: &Step, device: &dyn BlockWrite, storage: Option<&dyn Storage>, flat: &mut Vec<u8>) {
    match *step {
        Step::Write { start, length, seed } => {
            let place = range(start, length, flat.len());
            let bytes = Random::new(seed).bytes(place.len());
            device.write_at(&bytes, place.start as u64).expect("a write inside the size");
            flat[place].copy_from_slice(&bytes);
        }
        Step::Zero { start, length, keep } => {
            let place = range(start, length, flat.len());
            let mode = if keep { ZeroMode::KeepAllocated } else { ZeroMode::Unmap };
            device.write_zeroes_at(wide(&place), mode).expect("a zeroing inside the size");
            flat[place].fill(0);
        }
        Step::Read { start, length } => {
            let place = range(start, length, flat.len());
            let found = device.read_vec(place.start as u64, place.len() as u64).expect("a read inside the size");
            assert_eq!(found, flat[place], "bytes at {start}");
        }
        Step::Status { start, length } => {
            let place = range(start, length, flat.len());
            if !place.is_empty() {
                let extent = device.block_status(wide(&place)).expect("a status inside the size");
                assert!(extent.offset == place.start as u64 && extent.length > 0 && extent.end() <= place.end as u64);
                let end = usize::try_from(extent.end()).expect("inside the array");
                assert!(!extent.status.reads_zero() || is_all_zero(&flat[place.start..end]), "{extent:?}");
            }
        }
        Step::Resize { size } => {
            if let Some(storage) = storage {
                let size = usize::from(size) * 5;
                storage.set_size(size as u64).expect("a new size");
                flat.resize(size, 0);
            }
        }
    }
}

fn compare(device: &dyn BlockRead, flat: &[u8]) {
    assert_eq!(device.size(), flat.len() as u64);
    let found = device.read_vec(0, device.size()).expect("all of the device");
    assert!(found == flat, "differs at {:?}", found.iter().zip(flat).position(|(found, flat)| found != flat));
    let extents: Vec<_> = device.extents().map(|extent| extent.expect("a status")).collect();
    assert_eq!(extents.iter().map(|extent| extent.length).sum::<u64>(), device.size());
    assert!(extents.windows(2).all(|pair| pair[0].status != pair[1].status && pair[0].end() == pair[1].offset));
}

/// A layer with some units written.
fn layer(size: u64, unit: u32, seed: u64) -> Arc<Overlay> {
    let layer = Overlay::new(size, unit);
    let mut random = Random::new(seed);
    for _ in 0..random.below(8) {
        let place = random.range(size, 20_000);
        let bytes = random.bytes(usize::try_from(place.end - place.start).expect("small"));
        if random.below(3) == 0 {
            layer.write_zeroes_at(place, ZeroMode::Unmap).expect("inside");
        } else {
            layer.write_at(&bytes, place.start).expect("inside");
        }
    }
    Arc::new(layer)
}

/// What a guest sees of layers: the plain definition, byte by byte.
fn flatten(layers: &[Arc<Overlay>]) -> Vec<u8> {
    let Some((top, below)) = layers.split_first() else { return Vec::new() };
    let mut seen = flatten(below);
    seen.resize(usize::try_from(top.size()).expect("small"), 0);
    for extent in top.extents().map(|extent| extent.expect("a status")) {
        if extent.status != BlockStatus::Hole {
            let bytes = top.read_vec(extent.offset, extent.length).expect("inside");
            seen[usize::try_from(extent.offset).expect("small")..][..bytes.len()].copy_from_slice(&bytes);
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_of_three_is_a_flat_disk(
        sizes in prop::array::uniform3(1_u64..200_000),
        units in prop::array::uniform3(0_u32..10),
        seed: u64,
        steps in steps(),
    ) {
        let layers: Vec<_> = (0..3).map(|depth| layer(sizes[depth], 128 << units[depth], seed ^ depth as u64)).collect();
        let mut flat = flatten(&layers);
        let below = || layers[1..].iter().map(|layer| Arc::clone(layer) as Arc<dyn BlockRead>);
        let lower = flatten(&layers[1..]);
        let reader = Chain::new(layers.iter().map(|layer| Arc::clone(layer) as Arc<dyn BlockRead>).collect());
        compare(&reader, &flat);
        let chain = Chain::writable(layers[0].clone(), below().collect());
        for step in &steps {
            take(step, &chain, None, &mut flat);
        }
        compare(&chain, &flat);
        // The reader is on the same layers, and those below the top are as they were.
        compare(&reader, &flat);
        prop_assert!(flatten(&layers[1..]) == lower);
    }

    #[test]
    fn slices_of_concats_of_slices_are_a_flat_disk(
        sizes in prop::collection::vec(0_u64..90_000, 1..5),
        cut in prop::array::uniform2(0_u64..1000),
        seed: u64,
        steps in steps(),
    ) {
        let disks: Vec<_> = sizes.iter().map(|size| layer(*size + 2000, 512, seed ^ size)).collect();
        let part = |disk: &Arc<Overlay>| {
            let window = cut[0]..disk.size() - cut[1];
            Arc::new(Slice::writable(Arc::clone(disk) as Arc<dyn BlockWrite>, window).expect("inside")) as Arc<dyn BlockWrite>
        };
        let joined = Arc::new(Concat::writable(disks.iter().map(part).collect()).expect("small"));
        let whole = joined.size();
        let window = whole / 7..whole - whole / 5;
        let slice = Slice::writable(Arc::clone(&joined) as Arc<dyn BlockWrite>, window.clone()).expect("inside");
        let mut flat = slice.read_vec(0, slice.size()).expect("inside");
        let outside = |joined: &Concat| {
            let front = joined.read_vec(0, window.start).expect("inside");
            (front, joined.read_vec(window.end, whole - window.end).expect("inside"))
        };
        let before = outside(&joined);
        compare(&slice, &flat);
        for step in &steps {
            take(step, &slice, None, &mut flat);
        }
        compare(&slice, &flat);
        prop_assert!(outside(&joined) == before);
    }

    #[test]
    fn memory_is_a_vec(size in 0_usize..300_000, seed: u64, steps in steps()) {
        let mut flat = Random::new(seed).bytes(size);
        let disk = Memory::from(flat.clone());
        for step in &steps {
            take(step, &disk, Some(&disk), &mut flat);
        }
        compare(&disk, &flat);
        prop_assert!(disk.to_vec() == flat);
        prop_assert!(disk.clone().to_vec() == flat);
    }

    #[test]
    fn a_file_is_a_vec(size in 0_u64..300_000, steps in steps()) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk");
        std::fs::File::create(&path).and_then(|file| file.set_len(size)).expect("a new file");
        let file = FileBlock::open(&path, true).expect("the new file");
        let mut flat = vec![0; usize::try_from(size).expect("small")];
        for step in &steps {
            take(step, &file, Some(&file), &mut flat);
        }
        compare(&file, &flat);
        file.flush().expect("a flush");
        prop_assert!(std::fs::read(&path).expect("the file") == flat);
        compare(&FileBlock::open(&path, false).expect("the file"), &flat);
    }

    #[test]
    fn the_last_crash_without_loss_is_the_file(steps in steps()) {
        let disk = CrashStorage::default();
        let mut flat = Vec::new();
        for step in &steps {
            take(step, &disk, Some(&disk), &mut flat);
        }
        disk.flush().expect("a flush");
        let last = disk.crashes(1, 1).last().expect("one crash");
        prop_assert!(last.file.to_vec() == flat);
    }
}
