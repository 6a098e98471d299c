//! Random work on every kind of image, read back, and opened after power cuts at many places.

use std::sync::Arc;

use transload::block::{BlockReadExt, Storage};
use transload::image::{
    Access, CheckRequest, CreateRequest, Format, IdSource, OpenSettings, Opened, ReferenceGate, Source, open, open_path,
};
use transload_testkit::history::{History, work};
use transload_testkit::{CrashStorage, MemoryTarget, Random, witness};

use crate::clock;
use crate::kinds::{Kind, written_at_random};

const MIB: u64 = 1 << 20;

#[test]
#[ignore = "long: cargo xtask soak"]
fn random_work_survives_in_every_kind_and_every_crash() {
    let kinds = written_at_random();
    let mut rounds = 0;
    for seed in clock::seeds(kinds.len() as u64) {
        let kind = &kinds[usize::try_from(seed % kinds.len() as u64).unwrap()];
        eprintln!("seed {seed}: {} {}", kind.format.name, kind.options);
        round(kind, seed);
        rounds += 1;
    }
    eprintln!("{rounds} images were worked on, and their crashes opened");
}

fn round(kind: &Kind, seed: u64) {
    let what = format!("{} {}, seed {seed}", kind.format.name, kind.options);
    let mut random = Random::new(seed);
    let size = (MIB + random.below(3 * MIB)) / 512 * 512;
    let name = format!("disk.{}", kind.format.extensions[0]);
    let storage = Arc::new(CrashStorage::default());
    let files = MemoryTarget::new(&name).with_storage(&name, Arc::clone(&storage) as Arc<dyn Storage>);
    let request = CreateRequest {
        files: &files,
        size,
        options: &kind.values(),
        ids: &IdSource::from_material(&seed.to_le_bytes()),
        backing: None,
        cache_bytes: 32 << 10,
    };
    let image = kind.format.create.unwrap()(request).unwrap();
    image.finish().unwrap();
    storage.settle();
    let mut history = History::new(image.read_vec(0, image.size()).unwrap());
    if files.names().len() > 1 {
        // Its bytes are in other files: the work is done, and read back from a folder.
        work(&*image, &|| image.finish(), &storage, &mut history, &mut random, 60).unwrap();
        return read_back(kind, &files, &name, &history, &what);
    }
    drop(image);
    let opened = reopen(kind.format, Arc::clone(&storage) as Arc<dyn Storage>, Access::ReadWrite, &what);
    let writer = opened.layers[0].writer.clone().unwrap();
    work(&*writer, &|| writer.finish(), &storage, &mut history, &mut random, 60).unwrap();
    drop((opened, writer));
    read_back(kind, &files, &name, &history, &what);
    for crash in storage.crashes(seed, 60) {
        let left: Arc<dyn Storage> = Arc::new(crash.file.clone());
        let read = |access| {
            let opened = reopen(kind.format, Arc::clone(&left), access, &format!("{what}: {}", crash.survived));
            let found = opened.device.read_vec(0, opened.device.size());
            found.unwrap_or_else(|error| panic!("{what}, {} events, {}: {error}", crash.events, crash.survived))
        };
        let found = read(Access::ReadOnly);
        history.check(&crash, &found, &what);
        if let Some(check) = kind.format.check {
            let source = Source::writable(Arc::clone(&left));
            let report = check(CheckRequest { source, gate: &ReferenceGate::Deny, repair: true });
            let report = report.unwrap_or_else(|error| panic!("{what}, {}: {error}", crash.survived));
            // Space may be lost. Nothing else may be wrong, or stay so.
            let mended = report.corruptions == report.corruptions_fixed;
            assert!(mended, "{what}, {}: {:?}", crash.survived, report.findings);
        }
        assert!(read(Access::ReadOnly) == found, "{what}, {}: a repair changed the disk", crash.survived);
    }
}

fn reopen(format: &'static Format, storage: Arc<dyn Storage>, access: Access, what: &str) -> Opened {
    let settings = OpenSettings { format: Some(format), gate: ReferenceGate::Deny, access, ..OpenSettings::default() };
    open(Source::writable(storage), &settings).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// The image from files, by our reader and by QEMU's.
fn read_back(kind: &Kind, files: &MemoryTarget, name: &str, history: &History, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    files.save(folder.path());
    let path = folder.path().join(name);
    let settings = OpenSettings { format: Some(kind.format), ..OpenSettings::default() };
    let device = open_path(&path, &settings).unwrap().device;
    assert!(device.read_vec(0, device.size()).unwrap() == history.now(), "{what}: read back");
    if let Some(format) = kind.qemu_name() {
        let raw = folder.path().join("expected.raw");
        std::fs::write(&raw, history.now()).unwrap();
        witness::assert_same_guest(&path, format, &raw, "raw");
    }
}
