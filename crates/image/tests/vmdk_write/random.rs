//! The kinds that are written at random places.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use transload_block::{BlockStatus, ErrorKind, ZeroMode};
use transload_image::{CreateRequest, IdSource, ImageWrite};

use crate::folder::{Folder, VMDK, parse};
use crate::witness;

const KINDS: [&str; 5] = ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "vmfs"];

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}

fn raw(folder: &Folder, size: u64, writes: &[(u64, Vec<u8>)]) -> std::path::PathBuf {
    let path = folder.folder().join("expected.raw");
    let file = fs::File::create(&path).unwrap();
    file.set_len(size.next_multiple_of(512)).unwrap();
    for (offset, bytes) in writes {
        file.write_all_at(bytes, *offset).unwrap();
    }
    path
}

#[test]
fn every_kind_and_size_is_what_the_witnesses_read() {
    for kind in KINDS {
        for size in [1, 512, 65_535, 65_537, (1 << 20) + 513, (70 << 20) + 1000, 5_368_709_632] {
            let folder = Folder::new("disk.vmdk");
            let image = folder.create(size, &format!("subformat={kind}")).unwrap();
            assert_eq!(image.size(), size.next_multiple_of(512));
            let mut writes = Vec::new();
            for (number, offset) in [0, 70_000, 1 << 20, 33 << 20, 2_146_435_072 - 500, size.saturating_sub(3000)]
                .into_iter()
                .enumerate()
                .filter(|(_, offset)| *offset < size)
            {
                let length = usize::try_from((size - offset).min(150_000)).unwrap();
                writes.push((offset, noise(number as u64 + 1, length)));
            }
            for (offset, bytes) in &writes {
                image.write_at(bytes, *offset).unwrap();
            }
            image.finish().unwrap();
            witness::judge(&folder.path(), &raw(&folder, size, &writes), size);
            if size < 1 << 30 {
                let verdict = witness::openstack(&folder.path());
                assert_eq!(verdict.starts_with("safe vmdk"), kind == "monolithicSparse", "{kind}: {verdict}");
            }
        }
    }
}

#[test]
fn room_is_set_aside_for_flat_kinds_and_for_no_others() {
    use std::os::unix::fs::MetadataExt;
    let size = (5 << 20) + 512;
    for kind in ["monolithicFlat", "twoGbMaxExtentFlat", "vmfs"] {
        for (mode, least) in [("off", 0), ("falloc", size), ("full", size)] {
            let folder = Folder::new("disk.vmdk");
            let image = folder.create(size, &format!("subformat={kind},preallocation={mode}")).unwrap();
            let bytes = noise(5, 70_000);
            image.write_at(&bytes, 100_000).unwrap();
            image.finish().unwrap();
            let writes = [(100_000, bytes)];
            witness::judge(&folder.path(), &raw(&folder, size, &writes), size);
            let name = if kind == "twoGbMaxExtentFlat" { "disk-f001.vmdk" } else { "disk-flat.vmdk" };
            let used = fs::metadata(folder.folder().join(name)).unwrap().blocks() * 512;
            assert!(used >= least && (used >= size) == (mode != "off"), "{kind} {mode}: {used} bytes are allocated");
        }
    }
    for kind in ["monolithicSparse", "twoGbMaxExtentSparse"] {
        let error = Folder::new("disk.vmdk").create(size, &format!("subformat={kind},preallocation=full")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("flat")), "{error}");
    }
}

#[test]
fn a_disk_of_3_tib_has_data_at_both_ends() {
    let size = (3_u64 << 40) + 512;
    let folder = Folder::new("disk.vmdk");
    let image = folder.create(size, "").unwrap();
    let writes = vec![(0, noise(1, 4096)), (size - 4096, noise(2, 4096))];
    for (offset, bytes) in &writes {
        image.write_at(bytes, *offset).unwrap();
    }
    image.finish().unwrap();
    witness::judge_metadata(&folder.path(), size);
    for (offset, bytes) in &writes {
        assert!(witness::read_8_sectors(&folder.path(), *offset, folder.folder()) == *bytes, "at {offset}");
    }
}

#[test]
fn a_hole_of_64_tib_takes_less_than_a_second() {
    let started = Instant::now();
    let folder = Folder::new("disk.vmdk");
    let image = folder.create(64 << 40, "").unwrap();
    image.finish().unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    witness::judge_metadata(&folder.path(), 64 << 40);
}

#[test]
fn the_layout_follows_the_reservations_and_not_the_threads() {
    let file = |order: &[u64]| {
        let folder = Folder::new("disk.vmdk");
        let image = folder.create(64 << 20, "").unwrap();
        let reserve = image.capabilities().reserve.unwrap();
        for segment in 0..16_u64 {
            reserve.reserve(segment << 21..(segment << 21) + (1 << 20)).unwrap();
        }
        std::thread::scope(|scope| {
            for segment in order {
                let image = &image;
                scope.spawn(move || image.write_at(&noise(*segment, 1 << 20), segment << 21).unwrap());
            }
        });
        image.finish().unwrap();
        fs::read(folder.path()).unwrap()
    };
    let ascending: Vec<_> = (0..16).collect();
    let descending: Vec<_> = (0..16).rev().collect();
    assert!(file(&ascending) == file(&descending));
}

#[test]
fn reserved_space_is_one_piece_of_the_file() {
    let folder = Folder::new("disk.vmdk");
    let image = folder.create(64 << 20, "").unwrap();
    let capabilities = image.capabilities();
    capabilities.reserve.unwrap().reserve(1000..(4 << 20)).unwrap();
    let extent = capabilities.host_extents.unwrap().host_extent(1000..(4 << 20)).unwrap();
    assert_eq!((extent.length, extent.location.unwrap().offset % 65536), ((4 << 20) - 1000, 1000));
}

#[test]
fn an_image_stands_open_until_it_is_finished_and_both_tables_are_equal() {
    let folder = Folder::new("disk.vmdk");
    let image = folder.create(100 << 20, "").unwrap();
    image.write_at(&[1; 100], 40 << 20).unwrap();
    assert_eq!(fs::read(folder.path()).unwrap()[72], 1);
    image.finish().unwrap();
    let file = fs::read(folder.path()).unwrap();
    assert_eq!((file[72], file.len()), (0, 2 << 16), "closed, and nothing allocated ahead is left");
    let place = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize * 512;
    let (rgd, gd) =
        (u64::from_le_bytes(file[48..56].try_into().unwrap()), u64::from_le_bytes(file[56..64].try_into().unwrap()));
    for table in 0..4 {
        let at = |directory: u64| place(usize::try_from(directory).unwrap() * 512 + table * 4);
        assert_ne!(at(rgd), at(gd));
        assert_eq!(file[at(rgd)..at(rgd) + 2048], file[at(gd)..at(gd) + 2048]);
    }
    // Writing goes on after it, and needs another finish.
    image.write_at(&[2; 100], 0).unwrap();
    assert_eq!(fs::read(folder.path()).unwrap()[72], 1);
    image.finish().unwrap();
    assert_eq!(fs::read(folder.path()).unwrap().len(), 3 << 16);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let refused = |name: &str, options: &str| Folder::new(name).create(1 << 20, options).unwrap_err().kind();
    assert_eq!(refused("a.vmdk", "subformat=streamOptimized"), ErrorKind::Unsupported);
    assert_eq!(refused("a.vmdk", "subformat=vmfs,zeroed_grain=on"), ErrorKind::InvalidInput);
    assert_eq!(refused("a.vmdk", "subformat=monolithicFlat,backing_file=x.vmdk"), ErrorKind::InvalidInput);
    assert_eq!(refused("a.vmdk", "layout=front"), ErrorKind::InvalidInput);
    assert_eq!(refused("a.vmdk", "backing_file=b.vmdk"), ErrorKind::InvalidInput);
    assert_eq!(refused("a.vmdk", "backing_fmt=vmdk"), ErrorKind::InvalidInput);
    assert_eq!(refused("a\"b.vmdk", "subformat=monolithicFlat"), ErrorKind::InvalidInput);
    let huge = Folder::new("a.vmdk").create(u64::MAX - 5, "").unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::TooLarge);
}

#[test]
fn names_that_are_not_ascii_are_kept_where_readers_need_them() {
    let folder = Folder::new("dürer.vmdk");
    let image = folder.create(1 << 20, "subformat=twoGbMaxExtentSparse").unwrap();
    image.write_at(&[5; 70_000], 100).unwrap();
    image.finish().unwrap();
    assert!(folder.folder().join("dürer-s001.vmdk").exists());
    witness::judge(&folder.path(), &raw(&folder, 1 << 20, &[(100, vec![5; 70_000])]), 1 << 20);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize, u8),
    Zero(u64, u64, bool),
    Reserve(u64, u64),
    Flush,
    Finish,
}

const SPAN: u64 = 4 << 20;

fn step() -> impl Strategy<Value = Step> {
    let range = (0..SPAN, prop_oneof![1_u64..2000, 1_u64..300_000, Just(65536)]);
    prop_oneof![
        4 => (range.clone(), any::<u8>()).prop_map(|((offset, length), seed)| {
            Step::Write(offset, usize::try_from(length.min(SPAN - offset)).unwrap(), seed)
        }),
        2 => (range.clone(), any::<bool>()).prop_map(|((offset, length), keep)| Step::Zero(offset, length.min(SPAN - offset), keep)),
        1 => range.prop_map(|(offset, length)| Step::Reserve(offset, length.min(SPAN - offset))),
        1 => Just(Step::Flush),
        1 => Just(Step::Finish),
    ]
}

/// Two pieces of the flat model's size are enough to cross a border: sparse pieces are 2047 MiB, so the model sits around
/// the border of the first two.
fn base(kind: &str) -> u64 {
    match kind {
        "twoGbMaxExtentSparse" => 4_192_256 * 512 - SPAN / 2 - 512,
        "twoGbMaxExtentFlat" => 4_193_792 * 512 - SPAN / 2 - 512,
        _ => 0,
    }
}

fn apply(image: &Arc<dyn ImageWrite>, model: &mut [u8], base: u64, step: &Step) {
    let span = |offset: u64, length: u64| usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
    match step {
        Step::Write(offset, length, seed) => {
            let bytes = noise(u64::from(*seed), *length);
            image.write_at(&bytes, base + offset).unwrap();
            model[span(*offset, *length as u64)].copy_from_slice(&bytes);
        }
        Step::Zero(offset, length, keep) => {
            let mode = if *keep { ZeroMode::KeepAllocated } else { ZeroMode::Unmap };
            image.write_zeroes_at(base + offset..base + offset + length, mode).unwrap();
            model[span(*offset, *length)].fill(0);
        }
        Step::Reserve(offset, length) => {
            // What is reserved is unspecified until it is written: the model writes it.
            if let Some(reserve) = image.capabilities().reserve {
                reserve.reserve(base + offset..base + offset + length).unwrap();
            }
            let bytes = noise(99, usize::try_from(*length).unwrap());
            image.write_at(&bytes, base + offset).unwrap();
            model[span(*offset, *length)].copy_from_slice(&bytes);
        }
        Step::Flush => image.flush().unwrap(),
        Step::Finish => image.finish().unwrap(),
    }
}

fn read_all(image: &Arc<dyn ImageWrite>, base: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    image.read_at(&mut bytes, base).unwrap();
    let mut at = base;
    while at < base + length as u64 {
        let extent = image.block_status(at..base + length as u64).unwrap();
        assert!(extent.offset == at && extent.length > 0);
        if extent.status != BlockStatus::Data {
            let span = usize::try_from(at - base).unwrap()..usize::try_from(extent.end() - base).unwrap();
            assert!(bytes[span].iter().all(|byte| *byte == 0), "{extent:?}");
        }
        at = extent.end();
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_writes_reads_back_as_a_flat_model(
        kind in prop_oneof![
            Just("monolithicSparse"), Just("monolithicSparse,zeroed_grain=on"), Just("twoGbMaxExtentSparse"),
            Just("twoGbMaxExtentFlat"), Just("vmfs")
        ],
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let folder = Folder::new("disk.vmdk");
        let base = base(kind.split(',').next().unwrap());
        let size = base + SPAN + 700;
        let image = folder.create(size, &format!("subformat={kind}")).unwrap();
        let mut model = vec![0; usize::try_from(SPAN).unwrap()];
        for step in &steps {
            apply(&image, &mut model, base, step);
        }
        prop_assert!(read_all(&image, base, model.len()) == model);
        image.finish().unwrap();
        let path = raw(&folder, size, &[(base, model)]);
        witness::judge(&folder.path(), &path, size);
    }
}

#[test]
fn tables_that_leave_the_cache_come_back() {
    let folder = Folder::new("disk.vmdk");
    let size = 4 << 30;
    let image = VMDK.create.unwrap()(CreateRequest {
        files: &folder,
        size,
        options: &parse(""),
        ids: &IdSource::from_material(b"x"),
        backing: None,
        cache_bytes: 0,
    })
    .unwrap();
    let writes: Vec<_> = (0..128_u64).map(|table| (table * 37 % 128 * (32 << 20) + 5, noise(table + 1, 40))).collect();
    for (offset, bytes) in &writes {
        image.write_at(bytes, *offset).unwrap();
    }
    for (offset, bytes) in &writes {
        let mut back = [0; 40];
        image.read_at(&mut back, *offset).unwrap();
        assert_eq!(back[..], bytes[..]);
    }
    image.finish().unwrap();
    witness::judge(&folder.path(), &raw(&folder, size, &writes), size);
}
