//! Random requests against a flat model, in every geometry, judged by qemu-img.

use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, BlockWrite, Memory, Reserve, Storage, ZeroMode};
use transload_testkit::conformance;

use super::super::create::write_new_image;
use super::super::device::Qcow2;
use super::super::options::NewImage;
use super::super::witness::{Scratch, assert_same_disk, assert_sound, options, qemu_read};
use super::{Dice, assert_status_is_true, read_all};
use crate::ImageWrite;

/// A new image in memory, opened for writing.
pub(super) fn new_device(storage: &Arc<dyn Storage>, size: u64, text: &str, cache: usize) -> Qcow2 {
    write_new_image(&**storage, &NewImage::new(size, &options(text)).unwrap()).unwrap();
    Qcow2::open_for_writing(Arc::clone(storage), None, cache).unwrap()
}

/// A range that is often aligned, often at the end, and of very different lengths.
pub(super) fn any_range(dice: &mut Dice, size: u64, unit: u64) -> std::ops::Range<u64> {
    let longest = [unit / 2, unit * 3, size][usize::try_from(dice.below(3)).unwrap()].clamp(1, 3 << 20);
    let mut start = dice.below(size);
    let mut end = size.min(start + 1 + dice.below(longest));
    if dice.below(2) == 0 {
        start -= start % unit;
        end = size.min(end.next_multiple_of(unit));
    }
    start..end
}

/// Makes one random change to the device and to the model.
pub(super) fn change(device: &Qcow2, model: &mut [u8], dice: &mut Dice) -> transload_block::Result<()> {
    let unit = u64::from(device.limits().granularity);
    let range = any_range(dice, model.len() as u64, unit);
    let place = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
    let kind = dice.below(10);
    let byte = u8::try_from(dice.below(255)).unwrap() + 1;
    match kind {
        0..=4 => {
            model[place.clone()].fill(byte);
            device.write_at(&model[place], range.start)
        }
        5 => {
            model[place.clone()].fill(byte);
            device.reserve(range.clone())?;
            device.write_at(&model[place], range.start)
        }
        6 => {
            model[place].fill(0);
            device.write_zeroes_at(range, ZeroMode::KeepAllocated)
        }
        7 | 8 => {
            model[place].fill(0);
            device.write_zeroes_at(range, ZeroMode::Unmap)
        }
        _ => device.flush(),
    }
}

const GEOMETRIES: &[&str] = &[
    "",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=512,compat=0.10",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=1k,refcount_bits=2",
    "cluster_size=2k,refcount_bits=4,lazy_refcounts=on",
    "cluster_size=64k,refcount_bits=8,compat=1.1",
    "cluster_size=2M,refcount_bits=32",
    "compat=0.10",
    "extended_l2=on,cluster_size=16k",
    "extended_l2=on,cluster_size=128k",
    "extended_l2=on,cluster_size=2M,lazy_refcounts=on",
    "preallocation=metadata",
];

#[test]
fn random_requests_agree_with_a_flat_model_and_with_qemu() {
    let scratch = Scratch::new();
    for (number, text) in GEOMETRIES.iter().enumerate() {
        let size: u64 = if text.contains("2M") { 9 << 20 } else { (3 << 20) + 512 * 7 };
        let storage: Arc<dyn Storage> = scratch.target(&format!("{number}.qcow2")).0;
        // Little memory, so that tables are written and read again all the time.
        let device = new_device(&storage, size, text, 64 << 10);
        let mut model = vec![0; usize::try_from(size).unwrap()];
        let mut dice = Dice::new(number as u64 + 1);
        for step in 0..150 {
            change(&device, &mut model, &mut dice).unwrap_or_else(|error| panic!("{text}: step {step}: {error}"));
            if step % 25 == 0 {
                assert!(read_all(&device) == model, "{text}: step {step}");
                assert_status_is_true(&device, &model);
            }
        }
        assert!(read_all(&device) == model, "{text}");
        device.finish().unwrap();
        let path = scratch.path(&format!("{number}.qcow2"));
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &model, text);
        drop(device);
        // Once more, on what is now an existing image.
        let device = Qcow2::open_for_writing(storage, None, 1 << 20).unwrap();
        assert!(read_all(&device) == model, "{text}: reopened");
        for _ in 0..60 {
            change(&device, &mut model, &mut dice).unwrap();
        }
        device.finish().unwrap();
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &model, text);
    }
}

#[test]
fn parallel_writers_to_one_cluster_do_not_disturb_each_other() {
    for text in ["", "extended_l2=on", "cluster_size=512", "cluster_size=2M"] {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(0));
        let size = 4 << 20;
        let device = new_device(&storage, size, text, 1 << 20);
        // Four threads take turns on neighbouring pieces that are no multiple of anything; one flushes.
        let piece = 3001;
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let device = &device;
                scope.spawn(move || {
                    let mut number = thread;
                    while number * piece < size {
                        let start = number * piece;
                        let end = size.min(start + piece);
                        let byte = u8::try_from(number % 255 + 1).unwrap();
                        device.write_at(&vec![byte; usize::try_from(end - start).unwrap()], start).unwrap();
                        number += 4;
                    }
                });
            }
            scope.spawn(|| (0..20).for_each(|_| device.flush().unwrap()));
        });
        let bytes = read_all(&device);
        for (number, chunk) in bytes.chunks(usize::try_from(piece).unwrap()).enumerate() {
            let byte = u8::try_from(number % 255 + 1).unwrap();
            assert!(chunk.iter().all(|found| *found == byte), "{text}: piece {number}");
        }
    }
}

#[test]
fn discards_beside_writers_never_lend_out_a_cluster_in_use() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new(0));
    let (size, stripe) = (8 << 20, 1 << 20);
    let device = new_device(&storage, size, "cluster_size=4k", 1 << 20);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let device = &device;
            scope.spawn(move || {
                let mut dice = Dice::new(thread + 99);
                let mut model = vec![0; usize::try_from(stripe).unwrap()];
                let base = thread * stripe;
                for _ in 0..150 {
                    let range = any_range(&mut dice, stripe, 4096);
                    let place = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    if dice.below(3) == 0 {
                        model[place].fill(0);
                        device.write_zeroes_at(base + range.start..base + range.end, ZeroMode::Unmap).unwrap();
                    } else {
                        model[place.clone()].fill(u8::try_from(dice.below(255)).unwrap() + 1);
                        device.write_at(&model[place], base + range.start).unwrap();
                    }
                    if dice.below(10) == 0 {
                        device.flush().unwrap();
                    }
                }
                let mut found = vec![0; model.len()];
                device.read_at(&mut found, base).unwrap();
                assert!(found == model, "stripe {thread}");
            });
        }
    });
}

#[test]
fn the_layout_depends_on_the_order_of_reservations_alone() {
    let size = 5 << 20;
    let image = |order: &[u64]| {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(0));
        let device = new_device(&storage, size, "", 1 << 20);
        for part in 0..5 {
            device.reserve(part << 20..(part + 1) << 20).unwrap();
        }
        for part in order {
            let byte = u8::try_from(*part).unwrap() + 1;
            device.write_at(&vec![byte; 1 << 20], part << 20).unwrap();
        }
        device.finish().unwrap();
        let mut bytes = vec![0; usize::try_from(storage.size()).unwrap()];
        storage.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert!(image(&[0, 1, 2, 3, 4]) == image(&[3, 1, 4, 0, 2]));
}

#[test]
fn status_never_goes_back_and_freed_space_is_used_again() {
    // A hole that is written in part leaves zeroes, not a hole, and status never goes back.
    let storage: Arc<dyn Storage> = Arc::new(Memory::new(0));
    let device = new_device(&storage, 1 << 20, "", 1 << 20);
    device.write_at(&[1], 70_000).unwrap();
    assert_eq!(device.block_status(65_536..1 << 20).unwrap().length, 65_536);
    device.write_zeroes_at(0..1 << 20, ZeroMode::Unmap).unwrap();
    assert_eq!(device.block_status(65_536..131_072).unwrap().status, BlockStatus::Zero);
    device.finish().unwrap();
    // Freed space is used again once the freeing is durable.
    let before = storage.size();
    device.write_at(&[2; 65_536], 0).unwrap();
    device.finish().unwrap();
    assert!(storage.size() <= before.max(6 * 65_536), "{before} {}", storage.size());
}

#[test]
fn the_device_keeps_the_block_contract() {
    for (number, text) in GEOMETRIES.iter().enumerate() {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(0));
        let device = new_device(&storage, (3 << 20) + 512 * 5, text, 64 << 10);
        let mut verdict = conformance::write(&device, number as u64);
        if text.contains("compat=0.10") {
            // Without a zero flag and without a backing file, a hole is all the zero there is.
            verdict.failures.retain(|failure| failure.sentence != conformance::Sentence::WrittenIsNoHole);
        }
        verdict.assert();
    }
}
