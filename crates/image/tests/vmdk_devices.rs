//! VMDK devices under the block contract's suite, and what power cuts leave of one that is written.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use transload_block::{Memory, Storage};
use transload_image::{
    Access, CheckRequest, CreateRequest, Finding, Format, IdSource, ImageWrite, OpenSettings, Opened, OptionValues,
    ReferenceGate, Source, open, open_path,
};
use transload_testkit::conformance::{self, Sentence, Verdict};
use transload_testkit::history::{History, work};
use transload_testkit::{CrashStorage, MemoryTarget, Random};

const VMDK: &Format = &transload_image::vmdk::FORMAT;
const KINDS: [&str; 6] = [
    "subformat=monolithicSparse",
    "subformat=monolithicSparse,zeroed_grain=on",
    "subformat=twoGbMaxExtentSparse",
    "subformat=monolithicFlat",
    "subformat=twoGbMaxExtentFlat",
    "subformat=vmfs",
];

fn create(files: &MemoryTarget, size: u64, options: &str) -> Arc<dyn ImageWrite> {
    let options = OptionValues::parse(VMDK.create_options, [options]).unwrap();
    let ids = IdSource::from_material(b"devices");
    let request = CreateRequest { files, size, options: &options, ids: &ids, backing: None, cache_bytes: 64 << 10 };
    VMDK.create.unwrap()(request).unwrap()
}

/// What the suite found, but for this: it wants a zeroed range to be no hole. The contract asks for that where something
/// would show through; these disks have no parent, and zeroes that take no grain are what a user wants of them.
fn without_holes(mut verdict: Verdict) -> Verdict {
    verdict.failures.retain(|failure| failure.sentence != Sentence::WrittenIsNoHole);
    verdict
}

#[test]
fn new_disks_conform_while_they_are_written_and_when_they_are_read() {
    for (seed, kind) in (1..).zip(KINDS) {
        let files = MemoryTarget::new("disk.vmdk");
        let image = create(&files, (3 << 20) + 512, kind);
        without_holes(conformance::write(&*image, seed)).assert();
        image.finish().unwrap();

        // Opened again from files, for reading and for writing.
        let mut expected = vec![0; usize::try_from(image.size()).unwrap()];
        image.read_at(&mut expected, 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        files.save(folder.path());
        let path = folder.path().join("disk.vmdk");
        let opened = open_path(&path, &OpenSettings::default()).unwrap();
        conformance::read(&*opened.device, &Memory::from(expected)).assert();
        let settings = OpenSettings { access: Access::ReadWrite, ..OpenSettings::default() };
        let opened = open_path(&path, &settings).unwrap();
        let writer = opened.layers[0].writer.as_ref().unwrap();
        without_holes(conformance::write(&**writer, seed + 100)).assert();
    }
}

fn opened(storage: Arc<dyn Storage>) -> Opened {
    let settings = OpenSettings { gate: ReferenceGate::Deny, access: Access::ReadWrite, ..OpenSettings::default() };
    open(Source::writable(storage), &settings).unwrap()
}

/// What stands in two copies cannot change in both at once: that the copies differ is all that may be wrong, in an image
/// that says that it was not closed, and a repair mends it.
fn check_and_repair(left: &Arc<dyn Storage>, dirty: bool, what: &str) {
    let check = |repair| {
        let source = Source::writable(Arc::clone(left));
        let request = CheckRequest { source, gate: &ReferenceGate::Deny, repair };
        let answer = VMDK.check.unwrap()(request);
        assert!(answer.is_ok(), "{what}: {answer:?}");
        answer.unwrap()
    };
    let found = check(false);
    let is_copy = |finding: &&Finding| finding.message.contains("differs from the other copy");
    let copies = found.findings.iter().filter(is_copy).count();
    assert_eq!(found.corruptions, copies as u64, "{what}: {:?}", found.findings);
    assert!(dirty || copies == 0, "{what}: {:?}", found.findings);
    assert!(check(true).is_clean(), "{what}");
    let after = check(false).findings;
    assert!(after.is_empty(), "{what}: {after:?}");
}

#[test]
fn a_power_cut_leaves_old_bytes_or_new_ones_and_a_sound_image() {
    const SIZE: usize = 1 << 20;
    for seed in 0..4 {
        let storage = Arc::new(CrashStorage::default());
        let files = MemoryTarget::new("disk.vmdk").with_storage("disk.vmdk", Arc::clone(&storage) as Arc<dyn Storage>);
        let image = create(&files, SIZE as u64, KINDS[usize::from(seed % 2 == 1)]);
        image.write_at(&[9; 200_000], 60_000).unwrap();
        image.finish().unwrap();
        drop(image);
        let mut model = vec![0; SIZE];
        model[60_000..260_000].fill(9);
        storage.settle();

        let image = opened(Arc::clone(&storage) as Arc<dyn Storage>).layers.remove(0).writer.unwrap();
        let mut history = History::new(model);
        work(&*image, &|| image.finish(), &storage, &mut history, &mut Random::new(seed), 30).unwrap();

        for crash in storage.crashes(seed, 80) {
            let what = format!("seed {seed}");
            let left: Arc<dyn Storage> = Arc::new(crash.file.clone());
            let disk = opened(Arc::clone(&left));
            let mut bytes = vec![0; SIZE];
            disk.device.read_at(&mut bytes, 0).unwrap();
            check_and_repair(&left, disk.layers[0].info.dirty, &what);
            let mut again = vec![0; SIZE];
            opened(left).device.read_at(&mut again, 0).unwrap();
            assert!(again == bytes, "{what}: the repair changed the disk");
            history.check(&crash, &bytes, &what);
        }
    }
}
