//! The driver against models, made-up files and real ones.

use std::path::PathBuf;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockStatus, BlockWrite, ErrorKind, Memory, Storage, ZeroMode};
use transload_testkit::{Corpus, Random, conformance, disks};

use super::fuzz;
use super::layout::{HEADERS, REGION_TABLES, checksum, payload};
use crate::{
    Access, CheckReport, CheckRequest, CreateRequest, IdSource, ImageWrite, Layer, OpenRequest, OpenSettings,
    OptionValues, ReferenceGate, ResizeRequest, Source, TargetFiles, open_path,
};

const MIB: u64 = 1 << 20;

/// A target of one file.
#[derive(Debug)]
struct OneFile(Arc<dyn Storage>);

impl TargetFiles for OneFile {
    fn name(&self) -> &str {
        "a.vhdx"
    }

    fn primary(&self) -> transload_block::Result<Arc<dyn Storage>> {
        Ok(Arc::clone(&self.0))
    }

    fn sibling(&self, name: &str) -> transload_block::Result<Arc<dyn Storage>> {
        Err(transload_block::Error::new(ErrorKind::Unsupported, name))
    }
}

pub(super) fn create(
    storage: &Arc<dyn Storage>,
    size: u64,
    options: &str,
) -> transload_block::Result<Arc<dyn ImageWrite>> {
    let files = OneFile(Arc::clone(storage));
    let options = OptionValues::parse(super::options::CREATE_OPTIONS, [options])?;
    let ids = IdSource::from_material(b"test");
    super::create::create(CreateRequest {
        files: &files,
        size,
        options: &options,
        ids: &ids,
        backing: None,
        cache_bytes: 1 << 20,
    })
}

pub(super) fn open(source: Source, access: Access) -> transload_block::Result<Layer> {
    let options = OptionValues::default();
    let request = OpenRequest { source, gate: &ReferenceGate::Deny, options: &options, access, cache_bytes: 1 << 20 };
    super::layer::open(request)
}

pub(super) fn check(source: Source, repair: bool) -> transload_block::Result<CheckReport> {
    super::check::check(CheckRequest { source, gate: &ReferenceGate::Deny, repair })
}

fn memory() -> (Arc<Memory>, Arc<dyn Storage>) {
    let memory = Arc::new(Memory::default());
    (Arc::clone(&memory), memory)
}

fn new_image(size: u64, options: &str) -> Arc<Memory> {
    let (memory, storage) = memory();
    create(&storage, size, options).unwrap().finish().unwrap();
    memory
}

/// An image with something in it.
fn small() -> Vec<u8> {
    let (memory, storage) = memory();
    let image = create(&storage, 5 * MIB + 512, "block_size=1M").unwrap();
    image.write_at(&[7; 3000], MIB - 1000).unwrap();
    image.finish().unwrap();
    memory.to_vec()
}

#[test]
fn a_new_image_keeps_the_contract() {
    for (seed, options) in (0..).zip([
        "block_size=1M",
        "subformat=fixed,block_size=1M",
        "block_size=2M,block_state_zero=off",
        "block_size=1M,logical_sector_size=4096",
    ]) {
        let (_, storage) = memory();
        let image = create(&storage, 12 * MIB + 512, options).unwrap();
        conformance::write(&*image, seed).assert();
        image.finish().unwrap();
        assert!(check(Source::new(storage), false).unwrap().is_clean());
    }
}

#[test]
fn an_image_opened_again_keeps_the_contract() {
    for options in ["block_size=1M", "subformat=fixed,block_size=1M", "block_size=1M,logical_sector_size=4096"] {
        let image: Arc<dyn Storage> = new_image(9 * MIB + 1024, options);
        let layer = open(Source::writable(Arc::clone(&image)), Access::ReadWrite).unwrap();
        conformance::write(&**layer.writer.as_ref().unwrap(), 5).assert();
        layer.writer.unwrap().finish().unwrap();
        let source = Source::new(Arc::clone(&image) as Arc<dyn BlockRead>);
        let again = open(source.clone(), Access::ReadOnly).unwrap();
        conformance::read(&*again.device, &*layer.device).assert();
        assert!(!again.info.dirty && again.info.warnings.is_empty());
        assert!(check(source, false).unwrap().is_clean());
    }
}

#[test]
fn what_is_written_is_read() {
    for sample in disks::samples() {
        let (_, storage) = memory();
        let image = create(&storage, sample.size, "").unwrap();
        sample.write_to(&*image);
        image.finish().unwrap();
        let layer = open(Source::new(storage), Access::ReadOnly).unwrap();
        let expected = sample.memory();
        expected.set_size(sample.size.next_multiple_of(512)).unwrap();
        conformance::read(&*layer.device, &expected).assert();
    }
}

#[test]
fn the_largest_disk_has_a_table_and_little_else() {
    let (_, storage) = memory();
    let size = 64 << 40;
    let image = create(&storage, size, "").unwrap();
    image.write_at(b"last", size - 4).unwrap();
    image.finish().unwrap();
    assert!(storage.size() < 80 * MIB, "{}", storage.size());
    let layer = open(Source::new(storage), Access::ReadOnly).unwrap();
    assert_eq!(layer.device.read_vec(size - 5, 5).unwrap(), b"\0last");
    let (_, storage) = memory();
    assert_eq!(create(&storage, size + 1, "").unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn options_are_checked() {
    for bad in [
        "block_size=3M",
        "block_size=512k",
        "block_size=512M",
        "log_size=1000",
        "log_size=65M",
        "logical_sector_size=1024",
    ] {
        let (_, storage) = memory();
        assert_eq!(create(&storage, MIB, bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
    }
}

#[test]
fn the_same_work_gives_the_same_file() {
    assert!(small() == small());
    let work = || {
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(small()));
        let writer = open(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap().writer.unwrap();
        writer.write_at(&[9; 70_000], 3 * MIB).unwrap();
        writer.finish().unwrap();
        storage.read_vec(0, storage.size()).unwrap()
    };
    let first = work();
    assert!(first == work());
    // Who hangs from the disk notices that it was changed.
    let id = |bytes: &[u8]| {
        let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
        open(source, Access::ReadOnly).unwrap().content_ids
    };
    assert_ne!(id(&first), id(&small()));
}

#[test]
fn block_devices_with_old_bytes_are_taken() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(vec![0xee; 20 << 20]));
    let image = create(&storage, 4 * MIB, "block_size=1M").unwrap();
    image.write_at(&[1; 10], 5000).unwrap();
    image.finish().unwrap();
    let layer = open(Source::new(storage), Access::ReadOnly).unwrap();
    let mut expected = vec![0; 4 << 20];
    expected[5000..5010].fill(1);
    assert!(layer.device.read_vec(0, 4 * MIB).unwrap() == expected);
}

/// Makes the checksum of a header or region table right again.
fn seal(bytes: &mut [u8], at: u64) {
    let at = usize::try_from(at).unwrap();
    let length = if at < 192 << 10 { 4096 } else { 64 << 10 };
    let sum = checksum(&bytes[at..at + length]);
    bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
}

fn refused(bytes: Vec<u8>, kind: ErrorKind, words: &str) {
    let source = Source::new(Arc::new(Memory::from(bytes)));
    let error = match open(source, Access::ReadOnly) {
        Ok(layer) => layer.device.read_vec(0, layer.device.size()).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), kind, "{words}: {error}");
    assert!(error.to_string().contains(words), "{words}: {error}");
}

#[test]
fn broken_rules_are_named() {
    let change = |at: u64, new: &[u8]| {
        let mut bytes = small();
        let at = usize::try_from(at).unwrap();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    // Both copies of what there are two of.
    let both = |inside: u64, new: &[u8], places: [u64; 2]| {
        let mut bytes = small();
        for place in places {
            let at = usize::try_from(place + inside).unwrap();
            bytes[at..at + new.len()].copy_from_slice(new);
            seal(&mut bytes, place);
        }
        bytes
    };
    let (metadata, bat) = (2 * MIB, 3 * MIB);
    let item = metadata + (64 << 10);
    use ErrorKind::{Corrupt, NotThisFormat, Unsupported};
    refused(change(0, b"VHDXFILE"), NotThisFormat, "vhdxfile");
    refused(small()[..900_000].to_vec(), Corrupt, "the file has 900000 bytes");
    refused(both(66, &[2, 0], HEADERS), Unsupported, "version 2");
    refused(both(72, &(MIB + 4096).to_le_bytes(), HEADERS), Corrupt, "multiples of 1 MiB");
    refused(both(72, &(1_u64 << 40).to_le_bytes(), HEADERS), Corrupt, "log: 1048576 bytes at offset 0x10000000000");
    refused(both(72, &(2 * MIB).to_le_bytes(), HEADERS), Corrupt, "overlap");
    refused(
        both(8, &[9; 8], HEADERS).tap(|bytes| bytes[65536 + 20] ^= 1).tap(|b| seal(b, HEADERS[0])),
        Corrupt,
        "same sequence",
    );
    refused(
        both(16, &[0xaa; 16], REGION_TABLES),
        Unsupported,
        "region aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa is required",
    );
    refused(both(8, &[0xff; 4], REGION_TABLES), Corrupt, "4294967295 entries");
    refused(both(8, &[1, 0, 0, 0], REGION_TABLES), Corrupt, "no metadata region");
    refused(both(32, &(2 * MIB).to_le_bytes(), REGION_TABLES), Corrupt, "overlap");
    refused(change(metadata, b"Metadata"), Corrupt, "signature");
    refused(change(metadata + 10, &[0xff; 2]), Corrupt, "65535 entries");
    refused(change(metadata + 32, &[0xbb; 16]), Unsupported, "metadata item bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb");
    refused(change(metadata + 48, &[1, 0, 0, 0]), Corrupt, "at offset 1");
    refused(change(metadata + 52, &[0xff; 4]), Corrupt, "4294967295 bytes");
    refused(change(metadata + 52, &[9, 0, 0, 0]), Corrupt, "overlap");
    refused(change(item, &[0, 0, 0x18, 0]), Corrupt, "block size is 1572864");
    refused(change(item + 4, &[2, 0, 0, 0]), Corrupt, "no parent locator");
    refused(change(item + 8, &[1, 0, 0, 0, 0, 0, 0, 0]), Corrupt, "virtual disk size is 1");
    refused(change(item + 8, &(65_u64 << 40).to_le_bytes()), Corrupt, "virtual disk size");
    refused(change(item + 8, &(1_u64 << 40).to_le_bytes()), Corrupt, "entries are needed");
    refused(change(item + 32, &[0, 4, 0, 0]), Corrupt, "logical sector size is 1024");
    refused(change(bat, &[4]), Corrupt, "block 0: its entry 0x0000000000400004 has the state 4");
    refused(change(bat, &((4 * MIB) | payload::PARTIALLY_PRESENT).to_le_bytes()), Corrupt, "without a parent");
    refused(change(bat, &(1_u64 << 60 | 6).to_le_bytes()), Corrupt, "reach behind the file's");
    refused(change(bat, &((2 * MIB) | 6).to_le_bytes()), Corrupt, "inside the metadata region");
    refused(change(bat, &6_u64.to_le_bytes()), Corrupt, "inside the headers");
}

/// The log is looked at before the regions are, and its place is as much a lie as theirs.
#[test]
fn a_dirty_log_outside_the_file_is_corrupt() {
    for (offset, length, words) in [
        (!(MIB - 1), MIB, "log"),
        (1 << 40, MIB, "log: 1048576 bytes at offset 0x10000000000"),
        (MIB, 64 * MIB, "log: 67108864 bytes"),
        (MIB + 4096, MIB, "multiples of 1 MiB"),
        (0, MIB, "log"),
    ] {
        let mut bytes = small();
        for at in HEADERS {
            let header = usize::try_from(at).unwrap();
            bytes[header + 48..header + 64].fill(9);
            bytes[header + 68..header + 72].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
            bytes[header + 72..header + 80].copy_from_slice(&offset.to_le_bytes());
            seal(&mut bytes, at);
        }
        refused(bytes, ErrorKind::Corrupt, words);
    }
}

/// QEMU leaves such a file when it is killed between naming the log and its first entry. By the specification it is corrupt.
#[test]
fn a_log_without_an_entry_that_counts_is_read_and_mended() {
    let mut bytes = small();
    for at in HEADERS {
        let header = usize::try_from(at).unwrap();
        bytes[header + 48..header + 64].fill(9);
        seal(&mut bytes, at);
    }
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes));
    let source = Source::writable(Arc::clone(&storage));
    let layer = open(source.clone(), Access::ReadOnly).unwrap();
    assert!(!layer.info.dirty && layer.info.warnings.len() == 1, "{:?}", layer.info);
    assert_eq!(layer.device.read_vec(MIB, 1).unwrap(), [7]);
    assert_eq!(check(source.clone(), false).unwrap().corruptions, 1);
    assert!(check(source.clone(), true).unwrap().is_clean());
    assert_eq!(check(source.clone(), false).unwrap().corruptions, 0);
    assert!(open(source, Access::ReadOnly).unwrap().info.warnings.is_empty());
}

trait Tap: Sized {
    fn tap(mut self, act: impl FnOnce(&mut Self)) -> Self {
        act(&mut self);
        self
    }
}
impl Tap for Vec<u8> {}

#[test]
fn one_sound_copy_is_enough_and_check_mends_the_other() {
    for damaged in [HEADERS[0], HEADERS[1], REGION_TABLES[0], REGION_TABLES[1]] {
        let mut bytes = small();
        bytes[usize::try_from(damaged).unwrap() + 100] ^= 1;
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes));
        let source = Source::writable(Arc::clone(&storage));
        assert_eq!(open(source.clone(), Access::ReadOnly).unwrap().info.warnings.len(), 1);
        assert_eq!(check(source.clone(), false).unwrap().corruptions, 1);
        assert!(check(source.clone(), true).unwrap().is_clean());
        assert_eq!(check(source.clone(), false).unwrap().corruptions, 0);
        assert_eq!(open(source, Access::ReadOnly).unwrap().device.read_vec(MIB, 1).unwrap(), [7]);
    }
}

#[test]
fn check_finds_blocks_on_top_of_each_other() {
    let mut bytes = small();
    let bat = 3 << 20;
    let entry: [u8; 8] = bytes[bat..bat + 8].try_into().unwrap();
    bytes[bat + 16..bat + 24].copy_from_slice(&entry);
    let report = check(Source::new(Arc::new(Memory::from(bytes))), false).unwrap();
    assert_eq!((report.corruptions, report.allocated_units, report.total_units), (1, 3, 6));
}

#[test]
fn a_disk_grows() {
    for (options, size) in
        [("block_size=1M", 100 * MIB), ("block_size=1M,subformat=fixed", 40 * MIB), ("block_size=1M", 200 << 30)]
    {
        let (_, storage) = memory();
        let image = create(&storage, 5 * MIB + 512, options).unwrap();
        image.write_at(&[5; 512], 5 * MIB).unwrap();
        image.finish().unwrap();
        let resize = |size, shrink| {
            let source = Source::writable(Arc::clone(&storage));
            super::resize::resize(ResizeRequest { source, gate: &ReferenceGate::Deny, size, shrink })
        };
        assert_eq!(resize(MIB, false).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(resize(65 << 40, false).unwrap_err().kind(), ErrorKind::TooLarge);
        resize(size, false).unwrap();
        let layer = open(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap();
        assert_eq!(layer.device.size(), size);
        assert_eq!(layer.device.read_vec(5 * MIB + 511, 3).unwrap(), [5, 0, 0]);
        let writer = layer.writer.unwrap();
        writer.write_at(b"end", size - 3).unwrap();
        writer.finish().unwrap();
        let source = Source::new(Arc::clone(&storage) as Arc<dyn BlockRead>);
        assert_eq!(open(source.clone(), Access::ReadOnly).unwrap().device.read_vec(size - 4, 4).unwrap(), b"\0end");
        assert!(check(source, false).unwrap().is_clean());
    }
}

fn corpus_file(path: &str) -> Option<PathBuf> {
    let corpus = Corpus::get()?;
    Some(corpus.file(corpus.entry(path)?))
}

#[test]
fn real_images_have_the_bytes_that_are_known() {
    let Some(corpus) = Corpus::get() else { return };
    let mut count = 0;
    for entry in corpus.of_format("vhdx") {
        let Some(sha256) = &entry.sha256 else { continue };
        let opened = open_path(&corpus.file(entry), &OpenSettings::default()).unwrap();
        assert_eq!(disks::sha256(&*opened.device), *sha256, "{}", entry.path);
        let report = check(Source::from_path(&corpus.file(entry), Access::ReadOnly).unwrap(), false).unwrap();
        assert!(report.is_clean(), "{}: {report:?}", entry.path);
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn a_differencing_disk_can_be_written_over_its_parent() {
    let Some(child) = corpus_file("dfvfs/fat-differential.vhdx") else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["fat-differential.vhdx", "fat-parent.vhdx"] {
        std::fs::copy(child.with_file_name(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("fat-differential.vhdx");
    let settings = OpenSettings { access: Access::ReadWrite, ..OpenSettings::default() };
    let opened = open_path(&path, &settings).unwrap();
    let model = Memory::from(opened.device.read_vec(0, opened.device.size()).unwrap());
    let writer = opened.writer().unwrap();
    let mut random = Random::new(3);
    for _ in 0..120 {
        let range = random.range(model.size(), 90_000);
        if random.below(4) == 0 {
            writer.write_zeroes_at(range.clone(), ZeroMode::Unmap).unwrap();
            model.write_zeroes_at(range, ZeroMode::Unmap).unwrap();
        } else {
            let bytes = random.bytes(usize::try_from(range.end - range.start).unwrap());
            writer.write_at(&bytes, range.start).unwrap();
            model.write_at(&bytes, range.start).unwrap();
        }
    }
    opened.layers[0].writer.as_ref().unwrap().finish().unwrap();
    let again = open_path(&path, &OpenSettings::default()).unwrap();
    conformance::read(&*again.device, &model).assert();
    assert!(check(Source::from_path(&path, Access::ReadOnly).unwrap(), false).unwrap().is_clean());
    // A parent that was changed behind its child's back is refused.
    let parent = open_path(&folder.path().join("fat-parent.vhdx"), &settings).unwrap();
    parent.writer().unwrap().write_at(&[1], 0).unwrap();
    parent.layers[0].writer.as_ref().unwrap().finish().unwrap();
    assert_eq!(open_path(&path, &OpenSettings::default()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn any_bytes_are_safe_to_open() {
    let sound = small();
    fuzz::fuzz_open(&sound);
    let mut random = Random::new(11);
    // The parts that say something, and few of their bytes at a time.
    let parts =
        [0x1_0000..0x1_0050, 0x3_0000..0x3_0060, 0x20_0000..0x20_00d0, 0x21_0000..0x21_0030, 0x30_0000..0x30_0040];
    for _ in 0..150 {
        let mut bytes = sound.clone();
        for _ in 0..=random.below(3) {
            let part = &parts[usize::try_from(random.below(parts.len() as u64)).unwrap()];
            let at = part.start + usize::try_from(random.below((part.end - part.start) as u64)).unwrap();
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        fuzz::fuzz_behind_checksums(&bytes);
    }
}

#[test]
fn zeroes_need_no_block() {
    let (_, storage) = memory();
    let image = create(&storage, 64 * MIB, "").unwrap();
    let before = storage.size();
    image.write_zeroes_at(0..64 * MIB, ZeroMode::Unmap).unwrap();
    assert_eq!(storage.size(), before);
    assert_eq!(image.block_status(0..64 * MIB).unwrap().status, BlockStatus::Zero);
}
