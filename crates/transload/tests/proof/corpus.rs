//! Real images of other makers: read, converted to each format and read again, by the digests that other readers agree on.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use transload::block::ErrorKind;
use transload_testkit::corpus::Entry;
use transload_testkit::{Corpus, disks, witness};

use super::support::{Target, convert, fresh, open, open_as};

/// What each image is converted to.
const ROUND_TRIPS: &[Target] = &[
    Target { format: "raw", options: "", compressed: false },
    Target { format: "qcow2", options: "", compressed: false },
    Target { format: "qcow2", options: "compression_type=zstd", compressed: true },
    Target { format: "vmdk", options: "", compressed: false },
    Target { format: "vmdk", options: "subformat=streamOptimized", compressed: true },
];

/// The disks that are converted; larger ones hold as much as these do, and take long to hash.
const CONVERTED_MAX: u64 = 1 << 30;

/// What the table calls a format that has another name here.
fn name_of(format: &str) -> &str {
    match format {
        "vpc" => "vhd",
        "iso9660" => "iso",
        "dmg-sparseimage" => "sparseimage",
        "tar/ova" => "ova",
        other => other,
    }
}

/// An image's place; flat extents that the corpus left out are put together from their sparse sibling.
fn place(corpus: &Corpus, entry: &Entry) -> (Option<TempDir>, PathBuf) {
    let path = corpus.file(entry);
    let missing = [
        ("monolithicFlat.vmdk", "monolithicFlat-flat.vmdk"),
        ("twoGbMaxExtentFlat.vmdk", "twoGbMaxExtentFlat-f001.vmdk"),
    ];
    let extent = missing.into_iter().find(|(descriptor, _)| path.ends_with(descriptor)).map(|(_, extent)| extent);
    let Some(extent) = extent.filter(|extent| !path.with_file_name(extent).exists()) else { return (None, path) };
    let folder = tempfile::tempdir().unwrap();
    let sibling = open(&path.with_file_name("monolithicSparse.vmdk")).unwrap();
    disks::save(&*sibling.device, &folder.path().join(extent));
    let copy = folder.path().join(path.file_name().unwrap());
    fs::copy(&path, &copy).unwrap();
    (Some(folder), copy)
}

fn is_read(entry: &Entry) -> bool {
    matches!(entry.format.as_str(), "raw" | "qcow2" | "vmdk")
}

#[test]
fn every_image_is_read_and_converted_as_its_maker_meant_it() {
    let Some(corpus) = Corpus::get() else { return };
    let (mut read, mut converted) = (0, 0);
    for entry in corpus.entries.iter().filter(|entry| is_read(entry)) {
        let (Some(size), Some(sha256)) = (entry.virtual_size, &entry.sha256) else { continue };
        let name = &entry.path;
        let (_folder, path) = place(corpus, entry);
        assert_eq!(transload::detect(&path).unwrap().name, entry.format, "{name}");
        let opened = open(&path).unwrap_or_else(|error| panic!("{name}: {error} {error:?}"));
        assert_eq!(opened.device.size(), size, "{name}");
        assert_eq!(disks::sha256(&*opened.device), *sha256, "{name}");
        read += 1;
        if size > CONVERTED_MAX {
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        for target in ROUND_TRIPS {
            let out = fresh(scratch.path(), "target").join("disk");
            convert(&path, &out, target).unwrap_or_else(|error| panic!("{name} to {target:?}: {error} {error:?}"));
            let back = open_as(&out, target.format).unwrap();
            assert_eq!(disks::first_difference(&*opened.device, &*back.device).filter(|at| *at < size), None, "{name}");
            if back.device.size() == size {
                // That they are the same bytes is known; hashing gigabytes again takes minutes.
                if size <= 64 << 20 {
                    assert_eq!(disks::sha256(&*back.device), *sha256, "{name} to {target:?}");
                }
            } else {
                // Neither qcow2 nor VMDK can say a size that is no multiple of the sector.
                assert_eq!(back.device.size(), size.next_multiple_of(512), "{name} to {target:?}");
            }
            if target.format != "raw" {
                witness::assert_sound(&out, target.format);
            }
            converted += 1;
        }
    }
    println!("{read} images read, {converted} conversions");
    assert!(read > 60 && converted > 300, "{read} images, {converted} conversions");
}

#[test]
fn images_that_nobody_can_read_are_refused_for_the_right_reason() {
    let Some(corpus) = Corpus::get() else { return };
    let scratch = tempfile::tempdir().unwrap();
    for entry in corpus.entries.iter().filter(|entry| is_read(entry) && entry.sha256.is_none()) {
        let name = &entry.path;
        let (path, out) = (corpus.file(entry), scratch.path().join("out"));
        let expected = if name.contains("afl9") {
            // A table of 506 entries.
            ErrorKind::Corrupt
        } else if entry.variant.starts_with("KDMV") {
            // One extent of several, without its descriptor.
            ErrorKind::Unsupported
        } else {
            // A snapshot whose extent is missing.
            ErrorKind::Io
        };
        for target in ROUND_TRIPS {
            let error = convert(&path, &out, target).expect_err(name);
            assert_eq!(error.kind(), expected, "{name}: {error}");
        }
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn images_of_other_formats_are_named_and_never_taken_for_raw() {
    let Some(corpus) = Corpus::get() else { return };
    let mut named = 0;
    for entry in corpus.entries.iter().filter(|entry| !is_read(entry)) {
        let name = &entry.path;
        let path = corpus.file(entry);
        let format = transload::detect(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format.name, name_of(&entry.format), "{name} ({})", entry.variant);
        if format.open.is_none() {
            let error = open(&path).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
            assert!(error.to_string().contains(format.title), "{name}: {error}");
        }
        named += 1;
    }
    assert!(named > 20, "{named}");
}
