//! Real images of other makers: read, converted to each format and read again, by the digests that other readers agree on.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use transload::block::ErrorKind;
use transload::image::{Format, Opened};
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
    Target { format: "vhd", options: "", compressed: false },
    Target { format: "vhd", options: "subformat=fixed", compressed: false },
    Target { format: "vhdx", options: "block_size=1M", compressed: false },
    Target { format: "vdi", options: "", compressed: false },
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

/// Whether the table knows a digest, and we read the format.
fn is_read(entry: &Entry) -> bool {
    Format::by_name(name_of(&entry.format)).is_some_and(|format| format.open.is_some())
}

/// Digests of the table that are not what the maker of the image meant, with the reason.
const MISTAKEN: &[(&str, &str)] =
    &[("dfvfs/fat-differential.vhd", "libvhdi takes sectors from the child that its bitmap gives to the parent")];

/// Disks that take minutes to hash: of these `cargo xtask soak` reads all, and every run what they have data for.
const HASHED_MAX: u64 = 8 << 30;

/// Reads an image as a whole and compares it with the table. Answers the disk, unless there is nothing to compare with.
fn read_as_the_table_says(corpus: &Corpus, entry: &Entry) -> Option<(Option<TempDir>, PathBuf, Opened)> {
    let sha256 = entry.sha256.as_ref().filter(|_| is_read(entry))?;
    let name = &entry.path;
    let (folder, path) = place(corpus, entry);
    assert_eq!(transload::detect(&path).unwrap().name, name_of(&entry.format), "{name}");
    let opened = open(&path).unwrap_or_else(|error| panic!("{name}: {error} {error:?}"));
    if let Some(size) = entry.virtual_size {
        assert_eq!(opened.device.size(), size, "{name}");
    }
    let mistaken = MISTAKEN.iter().any(|(image, _)| image == name);
    assert_eq!(disks::sha256(&*opened.device) == *sha256, !mistaken, "{name}");
    Some((folder, path, opened))
}

/// How many images there are, by what becomes of them.
#[derive(Default)]
struct Count {
    read: usize,
    converted: usize,
    large: Vec<String>,
    other: Vec<String>,
}

#[test]
fn every_image_is_read_and_converted_as_its_maker_meant_it() {
    let Some(corpus) = Corpus::get() else { return };
    let mut count = Count::default();
    for entry in &corpus.entries {
        let name = &entry.path;
        if entry.virtual_size.is_some_and(|size| size > HASHED_MAX) && is_read(entry) {
            assert_eq!(Some(open(&corpus.file(entry)).unwrap().device.size()), entry.virtual_size, "{name}");
            count.large.push(name.clone());
            continue;
        }
        let Some((_folder, path, opened)) = read_as_the_table_says(corpus, entry) else {
            count.other.push(format!("{name} ({})", if is_read(entry) { "no digest" } else { &entry.format }));
            continue;
        };
        count.read += 1;
        let (size, scratch) = (opened.device.size(), tempfile::tempdir().unwrap());
        for target in ROUND_TRIPS.iter().filter(|_| size <= CONVERTED_MAX) {
            // A disk of a format is proved by that of others; the large ones are converted to two.
            if size > 16 << 20 && !matches!(target.format, "raw" | "vhdx") {
                continue;
            }
            let out = fresh(scratch.path(), "target").join("disk");
            convert(&path, &out, target).unwrap_or_else(|error| panic!("{name} to {target:?}: {error} {error:?}"));
            let back = open_as(&out, target.format).unwrap();
            assert_eq!(disks::first_difference(&*opened.device, &*back.device).filter(|at| *at < size), None, "{name}");
            // Only raw can say a size that is no multiple of the sector.
            let expected = if target.format == "raw" { size } else { size.next_multiple_of(512) };
            assert_eq!(back.device.size(), expected, "{name} to {target:?}");
            if !matches!(target.format, "raw" | "vhd") {
                witness::assert_sound(&out, target.format);
            }
            count.converted += 1;
        }
    }
    let Count { read, converted, large, other } = count;
    println!("{} images: {read} read by digest, {converted} conversions", corpus.entries.len());
    println!("NOT READ AS A WHOLE here, but by `cargo xtask soak`: {large:?}");
    println!("NOT COMPARED: {other:#?}");
    for (name, reason) in MISTAKEN {
        println!("COMPARED WITH ANOTHER DIGEST than the table's: {name}: {reason}");
    }
    assert_eq!(read + large.len() + other.len(), corpus.entries.len());
    assert!(read >= 100 && converted > 300, "{read} images, {converted} conversions");
}

#[test]
#[ignore = "minutes: hashes disks of more than 100 GiB; part of `cargo xtask soak`"]
fn every_large_image_is_read_as_its_maker_meant_it() {
    let Some(corpus) = Corpus::get() else { return };
    let large = |entry: &&Entry| entry.virtual_size.is_some_and(|size| size > HASHED_MAX);
    let read = corpus.entries.iter().filter(large).filter_map(|entry| read_as_the_table_says(corpus, entry)).count();
    assert!(read >= 2, "{read}");
}

#[test]
fn images_that_nobody_can_read_are_refused_for_the_right_reason() {
    let Some(corpus) = Corpus::get() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let unread = |entry: &&Entry| matches!(entry.format.as_str(), "raw" | "qcow2" | "vmdk" | "vpc" | "vhdx" | "vdi");
    for entry in corpus.entries.iter().filter(unread).filter(|entry| entry.sha256.is_none()) {
        let name = &entry.path;
        let (path, out) = (corpus.file(entry), scratch.path().join("out"));
        let expected = if name.contains("afl9") || name == "dfvfs/image.vhd" {
            // A table of 506 entries; a dynamic header with a wrong checksum.
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
    let other = |entry: &&Entry| !matches!(entry.format.as_str(), "raw" | "qcow2" | "vmdk");
    for entry in corpus.entries.iter().filter(other) {
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
