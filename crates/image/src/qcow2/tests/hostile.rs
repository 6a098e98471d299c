//! Headers and tables that lie: each ends in the right kind of error, at once and in little memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{ErrorKind, Memory, Result, Storage};

use super::super::fuzz_open;
use super::super::layout::{extension, incompatible};
use super::super::tables::index;
use super::Dice;
use super::model::new_device;
use super::try_open;
use crate::{Access, ImageWrite, Source};

const CLUSTER: u64 = 65_536;

/// A small image with data, its L1 table at cluster `l1`.
fn image(options: &str) -> Vec<u8> {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new(0));
    let device = new_device(&storage, 4 << 20, options, 1 << 20);
    transload_block::BlockWrite::write_at(&device, &vec![0x5a; 1 << 20], 0).unwrap();
    device.finish().unwrap();
    let mut bytes = vec![0; index(storage.size())];
    storage.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn put(bytes: &mut [u8], at: u64, value: &[u8]) {
    bytes[index(at)..index(at) + value.len()].copy_from_slice(value);
}

fn number(bytes: &[u8], at: u64) -> u64 {
    u64::from_be_bytes(bytes[index(at)..index(at) + 8].try_into().unwrap())
}

/// Opens an image and reads all of it.
fn read_whole(bytes: Vec<u8>) -> Result<()> {
    let layer = try_open(Source::new(Arc::new(Memory::from(bytes))), Access::ReadOnly, None)?;
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while at < layer.device.size().min(64 << 20) {
        let length = (layer.device.size() - at).min(1 << 20);
        layer.device.block_status(at..layer.device.size())?;
        layer.device.read_at(&mut buffer[..index(length)], at)?;
        at += length;
    }
    Ok(())
}

type Lie = (&'static str, ErrorKind, fn(&mut Vec<u8>));

const LIES: &[Lie] = &[
    ("no bytes", ErrorKind::Corrupt, |bytes| bytes.clear()),
    ("half a header", ErrorKind::Corrupt, |bytes| bytes.truncate(60)),
    ("half a version 3 header", ErrorKind::Corrupt, |bytes| bytes.truncate(90)),
    ("another magic", ErrorKind::NotThisFormat, |bytes| put(bytes, 0, b"QFI\xfa")),
    ("version 4", ErrorKind::Unsupported, |bytes| put(bytes, 4, &[0, 0, 0, 4])),
    ("cluster bits 0", ErrorKind::Corrupt, |bytes| put(bytes, 20, &[0; 4])),
    ("cluster bits 8", ErrorKind::Corrupt, |bytes| put(bytes, 20, &[0, 0, 0, 8])),
    ("cluster bits 22", ErrorKind::Corrupt, |bytes| put(bytes, 20, &[0, 0, 0, 22])),
    ("cluster bits 63", ErrorKind::Corrupt, |bytes| put(bytes, 20, &[0, 0, 0, 63])),
    ("cluster bits 2^31", ErrorKind::Corrupt, |bytes| put(bytes, 20, &[0x80, 0, 0, 0])),
    ("a disk of 16 EiB", ErrorKind::Corrupt, |bytes| put(bytes, 24, &[0xff; 8])),
    ("a disk of 1 PiB with a small L1 table", ErrorKind::Corrupt, |bytes| put(bytes, 24, &[0, 4, 0, 0, 0, 0, 0, 0])),
    ("an L1 table of 32 GiB", ErrorKind::Corrupt, |bytes| put(bytes, 36, &[0xff; 4])),
    ("an L1 table in the file and too large", ErrorKind::TooLarge, |bytes| {
        bytes.resize(64 << 20, 0);
        put(bytes, 36, &[0, 0x50, 0, 0]);
    }),
    ("no L1 entries", ErrorKind::Corrupt, |bytes| put(bytes, 36, &[0; 4])),
    ("L1 table unaligned", ErrorKind::Corrupt, |bytes| put(bytes, 47, &[8])),
    ("L1 table on the header", ErrorKind::Corrupt, |bytes| put(bytes, 40, &[0; 8])),
    ("L1 table behind the file", ErrorKind::Corrupt, |bytes| put(bytes, 40, &[0, 0, 0, 0x7f, 0, 0, 0, 0])),
    ("L1 table at the end of 64 bits", ErrorKind::Corrupt, |bytes| {
        put(bytes, 40, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }),
    ("refcount table on the L1 table", ErrorKind::Corrupt, |bytes| {
        let l1 = number(bytes, 40);
        put(bytes, 48, &l1.to_be_bytes());
    }),
    ("refcount table of no clusters", ErrorKind::Corrupt, |bytes| put(bytes, 56, &[0; 4])),
    ("refcount table of 2^32 clusters", ErrorKind::Corrupt, |bytes| put(bytes, 56, &[0xff; 4])),
    ("refcount order 7", ErrorKind::Corrupt, |bytes| put(bytes, 96, &[0, 0, 0, 7])),
    ("header length 96", ErrorKind::Corrupt, |bytes| put(bytes, 100, &[0, 0, 0, 96])),
    ("header length 107", ErrorKind::Corrupt, |bytes| put(bytes, 100, &[0, 0, 0, 107])),
    ("header length 2^32", ErrorKind::Corrupt, |bytes| put(bytes, 100, &[0xff; 4])),
    ("AES", ErrorKind::Unsupported, |bytes| put(bytes, 32, &[0, 0, 0, 1])),
    ("encryption 3", ErrorKind::Unsupported, |bytes| put(bytes, 32, &[0, 0, 0, 3])),
    ("compression type without its bit", ErrorKind::Corrupt, |bytes| put(bytes, 104, &[1])),
    ("compression bit without a type", ErrorKind::Corrupt, |bytes| {
        put(bytes, 72, &incompatible::COMPRESSION_TYPE.to_be_bytes());
    }),
    ("compression type 9", ErrorKind::Unsupported, |bytes| {
        put(bytes, 72, &incompatible::COMPRESSION_TYPE.to_be_bytes());
        put(bytes, 104, &[9]);
    }),
    ("65537 snapshots", ErrorKind::TooLarge, |bytes| put(bytes, 60, &[0, 1, 0, 1])),
    ("a snapshot table behind the file", ErrorKind::Corrupt, |bytes| {
        put(bytes, 60, &[0, 0, 0, 1]);
        put(bytes, 64, &[0x7f, 0, 0, 0, 0, 0, 0, 0]);
    }),
    ("a snapshot entry that goes on for ever", ErrorKind::Corrupt, |bytes| {
        let end = bytes.len() as u64;
        bytes.resize(index(end + CLUSTER), 0);
        put(bytes, 60, &[0, 0, 0, 1]);
        put(bytes, 64, &end.to_be_bytes());
        put(bytes, end + 36, &[0xff; 4]);
    }),
    ("an extension longer than the cluster", ErrorKind::Corrupt, |bytes| {
        put(bytes, 112, &extension::BACKING_FORMAT.to_be_bytes());
        put(bytes, 116, &[0xff; 4]);
    }),
    ("a bitmaps extension of 3 bytes", ErrorKind::Corrupt, |bytes| {
        put(bytes, 112, &extension::BITMAPS.to_be_bytes());
        put(bytes, 116, &[0, 0, 0, 3]);
    }),
    ("a backing file name outside the first cluster", ErrorKind::Corrupt, |bytes| {
        put(bytes, 8, &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9]);
    }),
    ("a backing file name of 1024 bytes", ErrorKind::Corrupt, |bytes| {
        put(bytes, 8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0]);
    }),
    ("a backing file name that is no text", ErrorKind::Corrupt, |bytes| {
        put(bytes, 8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 4]);
        put(bytes, 512, &[0xff, 0xfe, 0xff, 0xff]);
    }),
    ("a data file without a name", ErrorKind::Unsupported, |bytes| {
        put(bytes, 72, &incompatible::DATA_FILE.to_be_bytes());
    }),
    ("extended L2 entries in small clusters", ErrorKind::Corrupt, |bytes| {
        put(bytes, 72, &incompatible::EXTENDED_L2.to_be_bytes());
        put(bytes, 20, &[0, 0, 0, 13]);
        put(bytes, 36, &[0, 0, 1, 0]);
    }),
    ("an L1 entry with reserved bits", ErrorKind::Corrupt, |bytes| change_l1(bytes, |entry| entry | 1)),
    ("an L2 table at an odd place", ErrorKind::Corrupt, |bytes| change_l1(bytes, |entry| entry | 512)),
    ("an L2 table behind the file", ErrorKind::Corrupt, |bytes| change_l1(bytes, |entry| entry | 1 << 50)),
    ("an L2 table that is the L1 table", ErrorKind::Corrupt, |bytes| {
        let l1 = number(bytes, 40);
        change_l1(bytes, |entry| entry & !0xff_ffff_ffff_ffff | l1);
        // Its own entry is then an L2 entry too, and a sound one; the next is not.
        put(bytes, l1 + 8, &[0, 0, 0, 0, 0, 0, 0, 2]);
    }),
    ("an L2 entry with reserved bits", ErrorKind::Corrupt, |bytes| change_l2(bytes, |entry| entry | (1 << 57))),
    ("a cluster at an odd place", ErrorKind::Corrupt, |bytes| change_l2(bytes, |entry| entry | 1024)),
    ("a cluster behind the file", ErrorKind::Corrupt, |bytes| change_l2(bytes, |entry| entry | 1 << 54)),
    ("a compressed cluster behind the file", ErrorKind::Corrupt, |bytes| change_l2(bytes, |_| (1 << 62) | (1 << 50))),
    ("a compressed cluster that is none", ErrorKind::Corrupt, |bytes| change_l2(bytes, |_| (1 << 62) | (5 * CLUSTER))),
];

fn change_l1(bytes: &mut [u8], change: impl Fn(u64) -> u64) {
    let l1 = number(bytes, 40);
    let entry = change(number(bytes, l1));
    put(bytes, l1, &entry.to_be_bytes());
}

fn change_l2(bytes: &mut [u8], change: impl Fn(u64) -> u64) {
    let l2 = number(bytes, number(bytes, 40)) & 0xff_ffff_ffff_fe00;
    let entry = change(number(bytes, l2));
    put(bytes, l2, &entry.to_be_bytes());
}

#[test]
fn every_lie_has_its_kind_within_a_second() {
    let sound = image("");
    read_whole(sound.clone()).unwrap();
    for (what, kind, lie) in LIES {
        let mut bytes = sound.clone();
        lie(&mut bytes);
        let started = Instant::now();
        let error = read_whole(bytes).expect_err(what);
        assert_eq!(error.kind(), *kind, "{what}: {error}");
        assert!(started.elapsed() < Duration::from_secs(1), "{what}: {:?}", started.elapsed());
    }
}

#[test]
fn unknown_features_are_refused_by_the_name_the_image_gives_them() {
    let mut bytes = image("");
    put(&mut bytes, 72, &(1_u64 << 40 | 1 << 41).to_be_bytes());
    put(&mut bytes, 112, &extension::FEATURE_NAMES.to_be_bytes());
    put(&mut bytes, 116, &[0, 0, 0, 48, 0, 40]);
    put(&mut bytes, 122, b"quantum clusters\0");
    put(&mut bytes, 168, &[0; 8]);
    let error = read_whole(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("'quantum clusters' (bit 40)") && text.contains("'unnamed' (bit 41)"), "{text}");
}

#[test]
fn contradicting_subcluster_bits_are_corrupt() {
    let sound = image("extended_l2=on");
    read_whole(sound.clone()).unwrap();
    let l2 = number(&sound, number(&sound, 40)) & 0xff_ffff_ffff_fe00;
    let cases: [(u64, u64); 3] = [(0x1_0000_0001, number(&sound, l2)), (1, 0), (0, number(&sound, l2) | 1)];
    for (bitmap, entry) in cases {
        let mut bytes = sound.clone();
        put(&mut bytes, l2, &entry.to_be_bytes());
        put(&mut bytes, l2 + 8, &bitmap.to_be_bytes());
        assert_eq!(read_whole(bytes).unwrap_err().kind(), ErrorKind::Corrupt, "{bitmap:#x} {entry:#x}");
    }
}

#[test]
fn refcounts_that_lie_do_not_make_the_writer_overwrite_the_header() {
    let sound = image("");
    let block = number(&sound, number(&sound, 48));
    for refcounts in [vec![0_u8; 2], vec![0; 64]] {
        let mut bytes = sound.clone();
        put(&mut bytes, block, &refcounts);
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes));
        let device = super::Qcow2::open_for_writing(Arc::clone(&storage), None, 1 << 20).unwrap();
        let error = transload_block::BlockWrite::write_at(&device, &[1; 100], 2 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let mut magic = [0; 4];
        storage.read_at(&mut magic, 0).unwrap();
        assert_eq!(&magic, b"QFI\xfb");
    }
    for entry in [1_u64, 512, 1 << 60, 0x10000] {
        let mut bytes = sound.clone();
        let table = number(&sound, 48);
        put(&mut bytes, table, &entry.to_be_bytes());
        let device = super::Qcow2::open_for_writing(Arc::new(Memory::from(bytes)), None, 1 << 20).unwrap();
        let error = transload_block::BlockWrite::write_at(&device, &[1; 100], 2 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{entry:#x}: {error}");
    }
}

#[test]
fn changed_bytes_anywhere_in_the_metadata_end_well() {
    for options in ["", "extended_l2=on", "compat=0.10", "cluster_size=512"] {
        let sound = image(options);
        let mut dice = Dice::new(17);
        for _ in 0..150 {
            let mut bytes = sound.clone();
            for _ in 0..=dice.below(4) {
                let limit = [112, 1024, bytes.len() as u64][index(dice.below(3))];
                let at = index(dice.below(limit));
                bytes[at] = dice.roll().to_le_bytes()[0];
            }
            let started = Instant::now();
            fuzz_open(&bytes);
            assert!(started.elapsed() < Duration::from_secs(2));
        }
    }
}
