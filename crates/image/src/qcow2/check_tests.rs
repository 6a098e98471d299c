//! Checking and mending: the verdict of `qemu-img check` on the same images is the measure.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use transload_block::{FileBlock, Memory, Result, Storage};
use transload_testkit::Corpus;

use super::check::{check, fuzz_check, rebuild_refcounts};
use super::layout::{entry, incompatible};
use super::open::ParsedHeader;
use super::witness::{
    Failing, Scratch, assert_same_disk, assert_sound, mixed_disk, must_run, noise, qemu_check, qemu_read,
};
use crate::{CheckReport, CheckRequest, ReferenceGate, Source};

fn check_source(source: Source, repair: bool) -> Result<CheckReport> {
    check(CheckRequest { source, gate: &ReferenceGate::Deny, repair })
}

fn check_path(path: &Path, repair: bool) -> CheckReport {
    let file = Arc::new(FileBlock::open(path, repair).unwrap());
    let source = if repair { Source::writable(file) } else { Source::new(file) };
    check_source(source, repair).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn number(verdict: &Value, key: &str) -> u64 {
    verdict.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// Compares a report on a sound image with QEMU's, number by number.
fn assert_agrees_when_sound(path: &Path) {
    let (ours, theirs) = (check_path(path, false), qemu_check(path));
    let what = format!("{}: {theirs} {:?}", path.display(), ours.findings);
    assert!(ours.is_clean(), "{what}");
    assert_eq!(number(&theirs, "corruptions") + number(&theirs, "leaks"), 0, "{what}");
    assert_eq!(ours.total_units, number(&theirs, "total-clusters"), "{what}");
    assert_eq!(ours.allocated_units, number(&theirs, "allocated-clusters"), "{what}");
    assert_eq!(ours.compressed_units, number(&theirs, "compressed-clusters"), "{what}");
    assert_eq!(ours.image_end_offset, number(&theirs, "image-end-offset"), "{what}");
}

/// An image made by qemu-img from a mixed disk.
fn qemu_image(scratch: &Scratch, name: &str, disk: &[u8], arguments: &[&str]) {
    let raw = scratch.path("source.raw");
    std::fs::write(&raw, disk).unwrap();
    let path = scratch.path(name);
    let ends = [raw.to_str().unwrap(), path.to_str().unwrap()];
    must_run("qemu-img", [&["convert", "-O", "qcow2"], arguments, &ends].concat());
}

#[test]
fn sound_images_of_qemu_are_sound() {
    let scratch = Scratch::new();
    let disk = mixed_disk(6_000_128);
    for (index, arguments) in [
        &["-o", "cluster_size=64k"][..],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "cluster_size=512"],
        &["-c", "-o", "cluster_size=16k,extended_l2=on"],
        &["-o", "cluster_size=2M,refcount_bits=64"],
        &["-o", "cluster_size=4k,refcount_bits=1"],
        &["-o", "cluster_size=1k,refcount_bits=2,lazy_refcounts=on"],
        &["-o", "preallocation=metadata"],
        &["-o", "compat=0.10"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{index}.qcow2");
        qemu_image(&scratch, &name, &disk, arguments);
        let path = scratch.path(&name);
        assert_agrees_when_sound(&path);
        // Counts of one bit leave no room for a snapshot.
        if !arguments.iter().any(|argument| argument.contains("refcount_bits=1")) {
            must_run("qemu-img", ["snapshot", "-c", "one", path.to_str().unwrap()]);
            must_run("qemu-img", ["snapshot", "-c", "two", path.to_str().unwrap()]);
        }
        must_run("qemu-io", ["-c", "write -P 7 1M 700k", path.to_str().unwrap()]);
        if !arguments.iter().any(|argument| argument.contains("compat")) {
            for name in ["map", "other"] {
                must_run("qemu-img", ["bitmap", "--add", path.to_str().unwrap(), name]);
                must_run("qemu-io", ["-c", "write -P 7 3M 700k", path.to_str().unwrap()]);
            }
        }
        assert_agrees_when_sound(&path);
    }
}

#[test]
fn an_external_data_file_is_not_counted() {
    let scratch = Scratch::new();
    let path = scratch.path("a.qcow2");
    let option = format!("data_file={}", scratch.path("a.data").display());
    must_run("qemu-img", ["create", "-f", "qcow2", "-o", &option, path.to_str().unwrap(), "10M"]);
    must_run("qemu-io", ["-c", "write -P 7 0 3M", path.to_str().unwrap()]);
    assert_agrees_when_sound(&path);
}

/// A qcow2 file that a test damages by hand.
struct Patient {
    bytes: Vec<u8>,
    header: ParsedHeader,
}

impl Patient {
    fn new(bytes: Vec<u8>) -> Self {
        let header = ParsedHeader::read(&Memory::from(bytes.clone())).unwrap();
        Self { bytes, header }
    }

    fn get(&self, at: u64) -> u64 {
        let at = usize::try_from(at).unwrap();
        u64::from_be_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn set(&mut self, at: u64, value: u64) {
        let at = usize::try_from(at).unwrap();
        self.bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    fn l1(&self) -> u64 {
        self.header.l1.offset
    }

    fn l2(&self) -> u64 {
        self.get(self.l1()) & entry::OFFSET
    }

    /// The place of the first L2 entry with plain data.
    fn data_entry(&self) -> u64 {
        self.data_entries()[0]
    }

    fn data_entries(&self) -> Vec<u64> {
        let plain = |at: &u64| self.get(*at) & entry::OFFSET != 0 && self.get(*at) & entry::COMPRESSED == 0;
        (0..8192).map(|index| self.l2() + index * 8).filter(plain).collect()
    }

    fn refcount_table(&self) -> u64 {
        self.header.refcount_table.offset
    }

    /// The place of the 16-bit count of the cluster at `offset`.
    fn count_place(&self, offset: u64) -> usize {
        usize::try_from(self.get(self.refcount_table()) + offset / 65536 * 2).unwrap()
    }

    fn set_count(&mut self, offset: u64, count: u16) {
        let at = self.count_place(offset);
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
}

/// How a damage is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Found, and mended for good.
    Mended,
    /// Found, and only partly mended.
    Stays,
}

type Damage = (&'static str, fn(&mut Patient), Outcome);

const DAMAGES: &[Damage] = &[
    (
        "leaked cluster",
        |image| {
            let offset = image.bytes.len() as u64;
            image.bytes.resize(image.bytes.len() + 65536, 0xee);
            image.set_count(offset, 1);
        },
        Outcome::Mended,
    ),
    (
        "count too high",
        |image| {
            let host = image.get(image.data_entry()) & entry::OFFSET;
            image.set_count(host, 3);
        },
        Outcome::Mended,
    ),
    (
        "count zero",
        |image| {
            let host = image.get(image.data_entry()) & entry::OFFSET;
            image.set_count(host, 0);
        },
        Outcome::Mended,
    ),
    ("count of the header zero", |image| image.set_count(0, 0), Outcome::Mended),
    ("count of the L2 table two", |image| image.set_count(image.l2(), 2), Outcome::Mended),
    (
        "L2 flag missing",
        |image| {
            let at = image.data_entry();
            image.set(at, image.get(at) & !entry::COPIED);
        },
        Outcome::Mended,
    ),
    ("L1 flag missing", |image| image.set(image.l1(), image.get(image.l1()) & !entry::COPIED), Outcome::Mended),
    (
        "cross-linked data",
        |image| {
            let places = image.data_entries();
            image.set(places[1], image.get(places[0]));
        },
        Outcome::Mended,
    ),
    ("refcount block missing", |image| image.set(image.refcount_table(), 0), Outcome::Mended),
    (
        "refcount block not aligned",
        |image| image.set(image.refcount_table(), image.get(image.refcount_table()) + 512),
        Outcome::Mended,
    ),
    ("refcount block behind the file", |image| image.set(image.refcount_table(), 1 << 40), Outcome::Mended),
    (
        "refcount block twice",
        |image| image.set(image.refcount_table() + 8, image.get(image.refcount_table())),
        Outcome::Mended,
    ),
    ("data behind the file", |image| image.set(image.data_entry(), 1 << 40 | entry::COPIED), Outcome::Stays),
    (
        "data not aligned",
        |image| {
            let at = image.data_entry();
            image.set(at, image.get(at) + 512);
        },
        Outcome::Stays,
    ),
    ("L2 table behind the file", |image| image.set(image.l1(), 1 << 40 | entry::COPIED), Outcome::Stays),
    ("L2 table not aligned", |image| image.set(image.l1(), (image.l2() + 512) | entry::COPIED), Outcome::Stays),
    ("L1 entry with reserved bits", |image| image.set(image.l1(), image.get(image.l1()) | 1), Outcome::Stays),
    (
        "L2 entry with reserved bits",
        |image| {
            let at = image.data_entry();
            image.set(at, image.get(at) | 2);
        },
        Outcome::Stays,
    ),
    ("data over the L1 table", |image| image.set(image.data_entry(), image.l1() | entry::COPIED), Outcome::Stays),
    ("data over the refcount table", |image| image.set(image.data_entry(), 65536 | entry::COPIED), Outcome::Stays),
];

#[test]
fn damage_is_seen_as_qemu_sees_it_and_mended_for_good() {
    let scratch = Scratch::new();
    let disk = [noise(3_000_000, 5), vec![0; 500_000], mixed_disk(2_500_096)].concat();
    qemu_image(&scratch, "sound.qcow2", &disk, &[]);
    let sound = std::fs::read(scratch.path("sound.qcow2")).unwrap();
    for (name, damage, outcome) in DAMAGES {
        let mut patient = Patient::new(sound.clone());
        damage(&mut patient);
        let path = scratch.path("damaged.qcow2");
        std::fs::write(&path, &patient.bytes).unwrap();
        let (ours, theirs) = (check_path(&path, false), qemu_check(&path));
        let what = format!("{name}: {theirs} {:?}", ours.findings);
        assert_eq!(ours.corruptions > 0, number(&theirs, "corruptions") > 0, "{what}");
        assert_eq!(ours.leaks > 0, number(&theirs, "leaks") > 0, "{what}");
        assert!(!ours.is_clean(), "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), patient.bytes, "{name}: a check changes nothing");

        let mended = check_path(&path, true);
        let again = check_path(&path, false);
        let what = format!("{name}: {:?} then {:?}", mended.findings, again.findings);
        assert_eq!(mended.is_clean(), *outcome == Outcome::Mended, "{what}");
        if *outcome == Outcome::Mended {
            assert!(again.findings.is_empty(), "{what}");
            assert_sound(&path);
            if !name.contains("cross") {
                assert_same_disk(&qemu_read(&path), &disk, name);
            }
            must_run("qemu-io", ["-c", "write -P 9 3M 1M", path.to_str().unwrap()]);
            assert_sound(&path);
        }
    }
}

#[test]
fn wrong_counts_of_every_width_are_mended() {
    let scratch = Scratch::new();
    let disk = mixed_disk(1_500_160);
    for bits in [1, 2, 4, 8, 16, 32, 64] {
        qemu_image(&scratch, "a.qcow2", &disk, &["-o", &format!("cluster_size=4k,refcount_bits={bits}")]);
        let path = scratch.path("a.qcow2");
        let mut patient = Patient::new(std::fs::read(&path).unwrap());
        let block = usize::try_from(patient.get(patient.refcount_table())).unwrap();
        patient.bytes[block..block + 64].fill(0);
        std::fs::write(&path, &patient.bytes).unwrap();
        assert!(check_path(&path, false).corruptions > 0, "{bits}");
        assert!(check_path(&path, true).is_clean(), "{bits}");
        assert_sound(&path);
        patient.set(patient.refcount_table(), 0);
        std::fs::write(&path, &patient.bytes).unwrap();
        assert!(check_path(&path, true).is_clean(), "{bits}");
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &disk, "mended");
    }
}

#[test]
fn an_image_with_snapshots_is_mended() {
    let scratch = Scratch::new();
    let disk = mixed_disk(4_000_256);
    qemu_image(&scratch, "a.qcow2", &disk, &[]);
    let path = scratch.path("a.qcow2");
    must_run("qemu-img", ["snapshot", "-c", "one", path.to_str().unwrap()]);
    must_run("qemu-io", ["-c", "write -P 7 1M 700k", path.to_str().unwrap()]);
    let mut patient = Patient::new(std::fs::read(&path).unwrap());
    patient.set(patient.refcount_table(), 0);
    std::fs::write(&path, &patient.bytes).unwrap();
    assert!(check_path(&path, true).is_clean());
    assert_sound(&path);
    must_run("qemu-img", ["snapshot", "-a", "one", path.to_str().unwrap()]);
    assert_same_disk(&qemu_read(&path), &disk, "the snapshot");
    assert_sound(&path);
}

#[test]
fn a_dirty_image_is_mended_and_clean() {
    let scratch = Scratch::new();
    let disk = mixed_disk(2_000_384);
    qemu_image(&scratch, "a.qcow2", &disk, &["-o", "lazy_refcounts=on"]);
    let path = scratch.path("a.qcow2");
    let mut patient = Patient::new(std::fs::read(&path).unwrap());
    patient.set(72, incompatible::DIRTY | incompatible::CORRUPT);
    for host in patient.data_entries().iter().map(|at| patient.get(*at) & entry::OFFSET).collect::<Vec<_>>() {
        patient.set_count(host, 0);
    }
    std::fs::write(&path, &patient.bytes).unwrap();
    let storage = FileBlock::open(&path, true).unwrap();
    rebuild_refcounts(&storage, &ParsedHeader::read(&storage).unwrap()).unwrap();
    let header = ParsedHeader::read(&storage).unwrap();
    assert!(!header.dirty() && !header.corrupt());
    assert_sound(&path);
    assert_same_disk(&qemu_read(&path), &disk, "mended");
}

/// Every state of the file between two writes of a repair can be mended to the same disk.
#[test]
fn a_repair_may_break_off_anywhere() {
    let scratch = Scratch::new();
    let disk = mixed_disk(1_000_448);
    qemu_image(&scratch, "sound.qcow2", &disk, &[]);
    let sound = std::fs::read(scratch.path("sound.qcow2")).unwrap();
    for (name, damage, _) in DAMAGES.iter().filter(|(_, _, outcome)| *outcome == Outcome::Mended) {
        let mut patient = Patient::new(sound.clone());
        damage(&mut patient);
        for writes in 0..20 {
            let storage = Arc::new(Failing::after(writes, patient.bytes.clone()));
            let first = check_source(Source::writable(Arc::clone(&storage) as Arc<dyn Storage>), true);
            let path = scratch.path("broken-off.qcow2");
            std::fs::write(&path, storage.inner.to_vec()).unwrap();
            let before = qemu_read(&path);
            assert!(check_path(&path, true).is_clean(), "{name} after {writes} writes");
            assert_sound(&path);
            if !name.contains("cross") {
                assert_same_disk(&before, &disk, name);
                assert_same_disk(&qemu_read(&path), &disk, name);
            }
            if first.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn lying_tables_end_quickly() {
    let scratch = Scratch::new();
    must_run("qemu-img", ["create", "-f", "qcow2", scratch.path("a.qcow2").to_str().unwrap(), "64G"]);
    let bytes = std::fs::read(scratch.path("a.qcow2")).unwrap();
    // Every L1 entry names the L1 table's own cluster, and it ends up as its own L2 table.
    let mut patient = Patient::new(bytes);
    for at in 0..patient.header.l1.entries {
        patient.set(patient.l1() + at * 8, patient.l1() | entry::COPIED);
    }
    fuzz_check(&patient.bytes);
    let report = check_source(Source::new(Arc::new(Memory::from(patient.bytes))), false).unwrap();
    assert!(report.corruptions > 0);
}

/// A sparse file whose tables claim a million L2 tables and refcount blocks, all of them in holes.
#[test]
fn tables_in_holes_are_not_read() {
    let scratch = Scratch::new();
    let path = scratch.path("a.qcow2");
    must_run("qemu-img", ["create", "-f", "qcow2", path.to_str().unwrap(), "512T"]);
    let mut patient = Patient::new(std::fs::read(&path).unwrap());
    let entries = patient.header.l1.entries;
    assert_eq!(entries, 1 << 20);
    for at in 0..entries {
        patient.set(patient.l1() + at * 8, (1 << 30) + at * 65536);
    }
    for at in 1..8192 {
        patient.set(patient.refcount_table() + at * 8, (1 << 40) + at * 65536);
    }
    std::fs::write(&path, &patient.bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
    let start = std::time::Instant::now();
    let report = check_path(&path, false);
    assert!(report.corruptions > 1 << 20);
    assert!(start.elapsed() < std::time::Duration::from_secs(60));
}

#[test]
fn damaged_bytes_anywhere_never_panic() {
    let scratch = Scratch::new();
    qemu_image(&scratch, "a.qcow2", &mixed_disk(300_000), &["-c", "-o", "cluster_size=512,refcount_bits=8"]);
    must_run("qemu-img", ["snapshot", "-c", "one", scratch.path("a.qcow2").to_str().unwrap()]);
    must_run("qemu-img", ["bitmap", "--add", scratch.path("a.qcow2").to_str().unwrap(), "map"]);
    let sound = std::fs::read(scratch.path("a.qcow2")).unwrap();
    let places = noise(16 * 400, 11);
    for place in places.chunks(16) {
        let mut bytes = sound.clone();
        for hit in place.chunks(4) {
            let at = usize::from(u16::from_le_bytes([hit[0], hit[1]])) * 7 % bytes.len();
            bytes[at] ^= hit[2];
        }
        fuzz_check(&bytes);
    }
}

#[test]
fn the_corpus_is_judged_as_qemu_judges_it() {
    let Some(corpus) = Corpus::get() else { return };
    let mut checked = 0;
    for entry in corpus.of_format("qcow2") {
        let (name, path) = (&entry.path, corpus.file(entry));
        let Ok(file) = FileBlock::open(&path, false) else { continue };
        let theirs = super::witness::run("qemu-img", ["check", "--output=json", "-f", "qcow2", path.to_str().unwrap()]);
        let Ok(theirs) = serde_json::from_slice::<Value>(&theirs.stdout) else {
            // QEMU does not open it, for want of a backing file or because it is broken.
            continue;
        };
        let ours = check_source(Source::new(Arc::new(file)), false).unwrap_or_else(|error| panic!("{name}: {error}"));
        let what = format!("{name}: {theirs} {:?}", ours.findings);
        assert_eq!(ours.corruptions, number(&theirs, "corruptions"), "{what}");
        assert_eq!(ours.leaks, number(&theirs, "leaks"), "{what}");
        assert_eq!(ours.allocated_units, number(&theirs, "allocated-clusters"), "{what}");
        assert_eq!(ours.image_end_offset, number(&theirs, "image-end-offset"), "{what}");
        checked += 1;
    }
    assert!(checked > 0);
}

/// Entries that can be mended without a loss, made wrong by hand: the place of the entry, and what becomes of it.
#[test]
fn entries_that_contradict_themselves_are_mended_as_qemu_mends_them() {
    let scratch = Scratch::new();
    let path = scratch.path("a.qcow2");
    let name = path.to_str().unwrap();
    std::fs::write(scratch.path("base.raw"), vec![7; 1 << 20]).unwrap();
    for (options, backed) in [("cluster_size=64k", false), ("cluster_size=64k", true), ("extended_l2=on", true)] {
        let mut create = vec!["create", "-f", "qcow2", "-o", options];
        if backed {
            create.extend(["-F", "raw", "-b", "base.raw"]);
        }
        create.extend([name, "1M"]);
        must_run("qemu-img", &create);
        // A cluster that keeps its place and reads as zeroes, one with data, and a compressed one.
        must_run(
            "qemu-io",
            ["-c", "write -P 5 0 192k", "-c", "write -z 64k 64k", "-c", "write -c -P 9 256k 64k", name],
        );
        let whole = qemu_read(&path);
        let mut patient = Patient::new(std::fs::read(&path).unwrap());
        let width = patient.header.geometry.l2_entry_size();
        let zero_entry = patient.l2() + width;
        assert_ne!(patient.get(zero_entry) & entry::OFFSET, 0, "the cluster of zeroes has kept its place");
        patient.set(zero_entry, patient.get(zero_entry) + 512);
        let compressed = patient.l2() + 4 * width;
        assert_ne!(patient.get(compressed) & entry::COMPRESSED, 0);
        std::fs::write(&path, &patient.bytes).unwrap();

        let theirs = scratch.path("theirs.qcow2");
        std::fs::copy(&path, &theirs).unwrap();
        let found = check_path(&path, false);
        assert!(found.corruptions > 0 && number(&qemu_check(&path), "corruptions") > 0, "{:?}", found.findings);
        let mended = check_path(&path, true);
        assert!(mended.is_clean() && check_path(&path, false).findings.is_empty(), "{:?}", mended.findings);
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &whole, options);
        must_run("qemu-img", ["check", "-q", "-r", "all", theirs.to_str().unwrap()]);
        must_run("qemu-img", ["compare", name, theirs.to_str().unwrap()]);

        // The flag of a compressed cluster: ours is mended, and QEMU finds nothing afterwards.
        let mut patient = Patient::new(std::fs::read(&path).unwrap());
        patient.set(compressed, patient.get(compressed) | entry::COPIED);
        std::fs::write(&path, &patient.bytes).unwrap();
        assert!(number(&qemu_check(&path), "corruptions") > 0);
        assert!(check_path(&path, true).is_clean());
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &whole, options);
    }
}
