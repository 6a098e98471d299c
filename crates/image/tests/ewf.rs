//! E01: evidence that ewfacquire and EnCase made, in one file and in several; and what lies.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockReadExt, ErrorKind, Memory};
use transload_image::{
    Access, CheckReport, CheckRequest, Format, OpenSettings, ReferenceGate, Source, open_path, properties,
};
use transload_testkit::{Corpus, Random, conformance, disks, witness};

/// Noise, zeroes and text, in sectors and no whole number of chunks.
fn disk() -> Vec<u8> {
    let mut random = Random::new(4);
    let mut disk = Vec::new();
    for _ in 0..22 {
        disk.extend(random.bytes(60_000));
        disk.resize(disk.len() + 40_000, 0);
        disk.extend(include_bytes!("ewf.rs"));
    }
    disk.truncate(disk.len() / 512 * 512);
    assert!(!disk.len().is_multiple_of(32 << 10));
    disk
}

/// Has ewfacquire make evidence of `raw`, and returns its first file.
fn acquire(folder: &Path, raw: &Path, format: &str, more: &[&str]) -> PathBuf {
    let target = folder.join(format!("{format}-{}", more.concat().replace(' ', "")));
    let size = fs::metadata(raw).expect("the test's own").len().to_string();
    let fixed = [
        "-q", "-u", "-C", "c", "-D", "d", "-E", "e", "-N", "n", "-e", "x", "-m", "fixed", "-M", "physical", "-o", "0",
        "-w",
    ];
    let names = [target.to_str().expect("the test's own"), raw.to_str().expect("the test's own")];
    let own = ["-f", format, "-B", &size, "-t", names[0]];
    witness::must("ewfacquire", fixed.iter().chain(&own).chain(more).chain(&names[1..]));
    let name = target.file_name().expect("the test's own").to_str().expect("the test's own").to_owned();
    let firsts = ["E01", "e01", "s01"].map(|ending| folder.join(format!("{name}.{ending}")));
    firsts.into_iter().find(|first| first.exists()).expect("the test's own")
}

fn check(path: &Path) -> CheckReport {
    let source = Source::from_path(path, Access::ReadOnly).expect("the test's own");
    let check = Format::by_name("ewf").and_then(|format| format.check).expect("the test's own");
    check(CheckRequest { source, gate: &ReferenceGate::SameDirectory, repair: false }).expect("the test's own")
}

#[test]
fn what_ewfacquire_makes_is_read_and_sound() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    let disk = disk();
    fs::write(&raw, &disk).unwrap();
    let expected = Memory::from(disk);
    let whole: &[&str] = &["-c", "best"];
    let cases: &[(&str, &[&str])] = &[
        ("encase1", whole),
        ("encase5", whole),
        ("encase6", whole),
        ("encase7", whole),
        ("ftk", whole),
        ("linen7", whole),
        ("smart", whole),
        ("ewf", whole),
        ("ewfx", whole),
        ("encase6", &["-c", "none"]),
        ("encase6", &["-c", "empty-block"]),
        ("encase6", &["-c", "fast", "-b", "256"]),
        ("encase6", &["-c", "none", "-S", "1048576"]),
        ("smart", &["-c", "fast", "-S", "1048576"]),
        ("encase1", &["-c", "none", "-S", "1048576"]),
    ];
    let mut several = 0;
    for (format, more) in cases {
        let path = acquire(folder.path(), &raw, format, more);
        let opened =
            open_path(&path, &OpenSettings::default()).unwrap_or_else(|error| panic!("{format} {more:?}: {error}"));
        conformance::read(&*opened.device, &expected).assert();
        let info = &opened.layers[0].info;
        let described = Format::by_name("ewf").and_then(|format| format.describe).unwrap();
        let described = described(&Source::from_path(&path, Access::ReadOnly).unwrap()).unwrap();
        assert_eq!(described.virtual_size, expected.read_vec(0, 0).map(|_| opened.device.size()).unwrap());
        several += u32::from(info.extents.len() > 1);
        let report = check(&path);
        assert!(report.is_clean() && report.total_units > 10, "{format} {more:?}: {report:?}");
    }
    assert!(several >= 3, "{several} images in several files");
}

#[test]
fn images_of_the_corpus_have_the_digest_that_they_note() {
    let Some(corpus) = Corpus::get() else { return };
    let mut tested = 0;
    for entry in corpus.of_format("ewf") {
        let path = corpus.file(entry);
        if entry.path.ends_with(".E02") {
            let error = open_path(&path, &OpenSettings::default()).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            continue;
        }
        let opened = open_path(&path, &OpenSettings::default()).unwrap();
        let report = check(&path);
        assert!(report.is_clean(), "{}: {report:?}", entry.path);
        assert_eq!(opened.layers[0].info.details["md5"].len(), 32);
        if entry.path.contains("ext2") {
            let raw = corpus.entry("dfvfs/ext2.raw").unwrap();
            assert_eq!(Some(disks::sha256(&*opened.device)), raw.sha256);
        }
        properties::device(&*opened.device);
        tested += 1;
    }
    assert!(tested >= 3, "{tested}");
}

/// A small image in one file.
fn small(folder: &Path) -> Vec<u8> {
    let raw = folder.join("small.raw");
    fs::write(&raw, &disk()[..150 * 512]).expect("the test's own");
    fs::read(acquire(folder, &raw, "encase6", &["-c", "empty-block"])).expect("the test's own")
}

fn open(bytes: Vec<u8>) -> transload_block::Result<transload_image::Opened> {
    let settings = OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() };
    transload_image::open(Source::new(Arc::new(Memory::from(bytes))), &settings)
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = small(folder.path());
    let path = folder.path().join("damaged.E01");
    let find = |kind: &[u8]| bytes.windows(kind.len()).position(|window| window == kind).unwrap();
    let damaged = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    // A stored chunk, and the MD5.
    damaged(find(b"sectors") + 76 + 1000);
    let opened = open_path(&path, &OpenSettings::default()).unwrap();
    assert_eq!(opened.device.read_vec(0, 1).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(check(&path).corruptions, 1);
    damaged(find(b"hash\0") + 76);
    assert!(check(&path).findings[0].message.contains("MD5"));
    // The entries of the table: only a check reads their checksum, and what they lead to is seen to be wrong.
    damaged(find(b"table\0") + 76 + 24);
    assert!(check(&path).corruptions >= 2);
    // The header of the table: its second copy is used.
    damaged(find(b"table\0") + 76);
    let opened = open_path(&path, &OpenSettings::default()).unwrap();
    assert!(opened.device.read_vec(0, 150 * 512).unwrap() == disk()[..150 * 512]);
    assert_eq!(opened.layers[0].info.warnings.len(), 1);
    // A section's descriptor, and the volume.
    for at in [find(b"sectors") + 16, find(b"volume") + 80] {
        damaged(at);
        assert_eq!(open_path(&path, &OpenSettings::default()).map(drop).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    for length in [13, 100, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(open(bytes[..length].to_vec()).map(drop).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
    }
}

#[test]
fn files_that_are_missing_or_belong_to_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    fs::write(&raw, disk()).unwrap();
    let path = acquire(folder.path(), &raw, "encase6", &["-c", "none", "-S", "1048576"]);
    let second = path.with_extension("E02");
    let whole = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    assert_eq!(open_path(&path, &OpenSettings::default()).map(drop).unwrap_err().kind(), ErrorKind::Io);
    fs::copy(&path, &second).unwrap();
    let error = open_path(&path, &OpenSettings::default()).map(drop).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("number 1"), "{error}");
    fs::write(&second, &whole).unwrap();
    let closed = OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() };
    assert_eq!(open_path(&path, &closed).map(drop).unwrap_err().kind(), ErrorKind::Denied);
    // ewfacquire gives its images no identity; EnCase does.
    identify(&path, b"volume", 1);
    assert!(open_path(&path, &OpenSettings::default()).is_ok());
    identify(&second, b"data", 2);
    let error = open_path(&path, &OpenSettings::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("another image"), "{error}");
    identify(&second, b"data", 1);
    assert!(open_path(&path, &OpenSettings::default()).is_ok());
}

/// Sets what a file's image is known by.
fn identify(path: &Path, section: &[u8], identity: u8) {
    let mut bytes = fs::read(path).expect("the test's own");
    let section = bytes.windows(section.len()).position(|window| window == section).expect("the test's own") + 76;
    bytes[section + 64..section + 80].fill(identity);
    let sum = transload_image::codec::adler32(&bytes[section..section + 1048]);
    bytes[section + 1048..section + 1052].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, bytes).expect("the test's own");
}

#[test]
fn relatives_are_refused_by_name() {
    for (signature, name) in [(b"EVF2\x0d\x0a\x81\0", "Ex01"), (b"LVF\x09\x0d\x0a\xff\0", "logical")] {
        let error = open([&signature[..], &[0; 500]].concat()).map(drop).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(name), "{error}");
    }
}

#[test]
fn any_damage_ends_in_bytes_or_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let whole = small(folder.path());
    let mut random = Random::new(8);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = usize::try_from(random.range(bytes.len() as u64, 1).start).unwrap();
        bytes[at] = random.bytes(1)[0];
        properties::ewf_open(&bytes);
    }
}
