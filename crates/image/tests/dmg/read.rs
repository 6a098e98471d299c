//! Images of every kind are read as they were meant, also by others.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockReadExt, BlockStatus, Memory};
use transload_image::{
    CheckReport, CheckRequest, Format, Layer, OpenSettings, ReferenceGate, Source, open_path, properties,
};
use transload_testkit::{Corpus, Random, conformance, disks, witness};

use super::builder::{Image, Method, PACKED};

pub(crate) fn open(bytes: Vec<u8>) -> transload_block::Result<Layer> {
    let settings =
        OpenSettings { format: Format::by_name("dmg"), gate: ReferenceGate::Deny, ..OpenSettings::default() };
    let mut opened = transload_image::open(Source::new(Arc::new(Memory::from(bytes))), &settings)?;
    Ok(opened.layers.swap_remove(0))
}

pub(crate) fn check(bytes: Vec<u8>) -> CheckReport {
    let source = Source::new(Arc::new(Memory::from(bytes)));
    let check = Format::by_name("dmg").and_then(|format| format.check).expect("the test's own");
    check(CheckRequest { source, gate: &ReferenceGate::Deny, repair: false }).expect("the test's own")
}

/// Text, noise, zeroes and an odd end.
pub(crate) fn disk() -> Vec<u8> {
    let mut random = Random::new(9);
    let text = include_bytes!("builder.rs");
    let mut disk = Vec::new();
    for (index, length) in [40_000, 90_000, 300_000, 1000, 200_000, 70_000].into_iter().enumerate() {
        match index % 3 {
            0 => disk.extend(text.iter().cycle().take(length)),
            1 => disk.extend(random.bytes(length)),
            _ => disk.resize(disk.len() + length, 0),
        }
    }
    disk.resize(disk.len().next_multiple_of(512) + 512, 7);
    disk
}

fn images() -> Vec<(String, Image)> {
    let disk = disk();
    let mut images: Vec<_> =
        PACKED.iter().map(|method| (format!("{method:?}"), Image::new(&disk, 64, &[*method]))).collect();
    images.push(("raw".to_owned(), Image::new(&disk, 100, &[Method::Raw])));
    images.push(("mixed".to_owned(), Image::new(&disk, 77, &[&PACKED[..], &[Method::Raw]].concat())));
    let fork = Image { resource_fork: true, ..Image::new(&disk, 64, &[Method::Zlib, Method::Raw]) };
    images.push(("resource fork".to_owned(), fork));
    images.push(("shifted".to_owned(), Image { offset: 4000, ..Image::new(&disk, 64, &[Method::Zlib]) }));
    let mut parts = Image { sectors: disk.len() as u64 / 512, ..Image::new(&disk[..1024], 64, &[Method::Zlib]) };
    parts.add(&disk[102_400..], 200, 33, &[Method::Bzip2, Method::Zlib]);
    parts.add(&disk[1024..102_400], 2, 512, &[Method::Lzma]);
    images.push(("parts".to_owned(), parts));
    images
}

#[test]
fn every_kind_of_chunk_is_read() {
    let disk = disk();
    let expected = Memory::from(disk.clone());
    for (name, image) in images() {
        let layer = open(image.build()).unwrap_or_else(|error| panic!("{name}: {error}"));
        conformance::read(&*layer.device, &expected).assert();
        properties::device(&*layer.device);
        let report = check(image.build());
        assert!(report.is_clean() && report.allocated_units > 0, "{name}: {report:?}");
    }
    let layer = open(Image::new(&disk, 64, &[Method::Lzfse]).build()).unwrap();
    assert_eq!((layer.info.variant.as_deref(), layer.info.compression.as_deref()), (Some("ULFO"), Some("lzfse")));
    let kinds: Vec<_> = layer.device.extents().map(|extent| extent.unwrap().status).collect();
    assert!(kinds.contains(&BlockStatus::Hole) && kinds.contains(&BlockStatus::Zero), "{kinds:?}");
}

#[test]
fn threads_that_share_chunks_see_the_same() {
    let disk = disk();
    let layer = open(Image::new(&disk, 512, &PACKED).build()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (disk, device) = (&disk, &layer.device);
            scope.spawn(move || {
                for at in (thread * 1000..disk.len() - 5000).step_by(4001) {
                    assert!(device.read_vec(at as u64, 5000).unwrap() == disk[at..at + 5000], "at {at}");
                }
            });
        }
    });
}

#[test]
fn others_read_what_is_built_here() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, path, out) = (folder.path().join("raw"), folder.path().join("disk.dmg"), folder.path().join("out"));
    fs::write(&raw, disk()).unwrap();
    for (name, image) in images() {
        fs::write(&path, image.build()).unwrap();
        let mut witnesses = 0;
        if image.tables.len() == 1 && !image.resource_fork {
            // 7-Zip gives the partitions; here the one partition is the disk.
            drop(fs::remove_dir_all(&out));
            witness::must(
                "7z",
                ["x".as_ref(), "-y".as_ref(), "-tdmg".as_ref(), prefixed("-o", &out).as_os_str(), path.as_os_str()],
            );
            let files: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(files.len() == 1 && fs::read(&files[0]).unwrap() == disk(), "{name}: 7-Zip gives {files:?}");
            witnesses += 1;
            fs::remove_dir_all(&out).unwrap();
        }
        if matches!(name.as_str(), "Zlib" | "raw" | "shifted" | "resource fork") {
            witness::assert_same_guest(&path, "dmg", &raw, "raw");
            witnesses += 1;
        }
        if matches!(name.as_str(), "Adc" | "Zlib" | "Bzip2") {
            witness::must("dmg2img", ["-s".as_ref(), path.as_os_str(), out.as_os_str()]);
            assert!(fs::read(&out).unwrap() == disk(), "{name}: dmg2img");
            fs::remove_file(&out).unwrap();
            witnesses += 1;
        }
        assert!(witnesses > 0 || image.tables.len() > 1, "{name} has no witness");
    }
}

fn prefixed(option: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(option);
    text.push(path);
    text
}

#[test]
fn an_image_of_apples_program_is_read_and_sound() {
    let Some(corpus) = Corpus::get() else { return };
    let mut tested = 0;
    for entry in corpus.of_format("dmg") {
        let Some(digest) = &entry.sha256 else { continue };
        let opened = open_path(&corpus.file(entry), &OpenSettings::default()).unwrap();
        assert_eq!(disks::sha256(&*opened.device), *digest, "{}", entry.path);
        assert_eq!(opened.layers[0].info.variant.as_deref(), Some("UDZO"));
        let report = check(fs::read(corpus.file(entry)).unwrap());
        assert!(report.is_clean(), "{report:?}");
        tested += 1;
    }
    assert!(tested > 0);
}
