//! Images that QEMU made, read and then written by this driver, with qemu-img's own reading as the measure.

use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockRead, BlockWrite, ErrorKind, Storage};

use super::super::witness::{Scratch, assert_same_disk, assert_sound, mixed_disk, qemu_read};
use super::model::change;
use super::{Dice, assert_status_is_true, open, qemu_img, read_all, source, try_open};
use crate::qcow2::create;
use crate::qcow2::device::Qcow2;
use crate::qcow2::options::CREATE_OPTIONS;
use crate::{Access, CreateRequest, IdSource, OptionValues, codec};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A disk in a raw file, of a size that is no multiple of any cluster.
fn raw_disk(scratch: &Scratch, name: &str) -> std::path::PathBuf {
    let path = scratch.path(name);
    std::fs::write(&path, mixed_disk((5 << 20) + 512 * 3)).unwrap();
    path
}

#[test]
fn images_by_qemu_read_as_qemu_reads_them() {
    let scratch = Scratch::new();
    let raw = raw_disk(&scratch, "disk.raw");
    let cases: &[&[&str]] = &[
        &[],
        &["-c"],
        &["-o", "compat=0.10"],
        &["-c", "-o", "compat=0.10,cluster_size=4k"],
        &["-o", "cluster_size=512"],
        &["-c", "-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-c", "-o", "cluster_size=2M,compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=16k"],
        &["-o", "extended_l2=on"],
        &["-c", "-o", "extended_l2=on,cluster_size=128k"],
        &["-o", "extended_l2=on,cluster_size=16k,refcount_bits=1"],
        &["-o", "refcount_bits=64,lazy_refcounts=on"],
        &["-o", "preallocation=metadata"],
        &["-S", "0"],
    ];
    for (number, case) in cases.iter().enumerate() {
        let path = scratch.path(&format!("{number}.qcow2"));
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        arguments.extend_from_slice(case);
        arguments.extend_from_slice(&[text(&raw), text(&path)]);
        qemu_img(&arguments);
        let layer = open(&path);
        let bytes = read_all(&*layer.device);
        assert_same_disk(&bytes, &std::fs::read(&raw).unwrap(), &format!("{case:?}"));
        assert_status_is_true(&*layer.device, &bytes);
        assert_encoded_units_decode(&*layer.device, &bytes);
        assert_host_extents_hold_the_bytes(&*layer.device, &bytes);
        write_at_random(&path, bytes, number as u64);
    }
}

/// Compressed units, fetched as stored, decode to the guest's bytes.
fn assert_encoded_units_decode(device: &dyn BlockRead, bytes: &[u8]) {
    let encoded = device.capabilities().encoded.unwrap();
    let unit_size = encoded.encoded_unit_size();
    let (mut stored, mut at) = (Vec::new(), 0);
    while at < device.size() {
        if let Some(unit) = encoded.read_encoded(at, &mut stored).unwrap() {
            let mut decoded = vec![0; usize::try_from(unit_size).unwrap()];
            codec::decode(unit.codec, &stored, &mut decoded).unwrap();
            let range = usize::try_from(unit.range.start).unwrap()..usize::try_from(unit.range.end).unwrap();
            assert!(decoded[..range.len()] == bytes[range], "unit at {at}");
        }
        at += unit_size;
    }
}

/// What the device says stands in a file stands there.
fn assert_host_extents_hold_the_bytes(device: &dyn BlockRead, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let extents = device.capabilities().host_extents.unwrap();
    let mut at = 0;
    while at < device.size() {
        let extent = extents.host_extent(at..device.size()).unwrap();
        if let Some(location) = extent.location {
            let range = usize::try_from(at).unwrap()..usize::try_from(at + extent.length).unwrap();
            let mut found = vec![0; range.len()];
            location.file.read_exact_at(&mut found, location.offset).unwrap();
            assert!(found == bytes[range], "extent at {at}");
        }
        at += extent.length;
    }
}

/// Changes an existing image, which stays sound and reads in both implementations as the model says.
fn write_at_random(path: &Path, mut model: Vec<u8>, seed: u64) {
    let layer = try_open(source(path, true), Access::ReadWrite, None).unwrap();
    drop(layer);
    let storage = Arc::clone(source(path, true).storage().unwrap());
    let device = Qcow2::open_for_writing(storage, None, 64 << 10).unwrap();
    let mut dice = Dice::new(seed + 1000);
    for _ in 0..60 {
        change(&device, &mut model, &mut dice).unwrap();
    }
    assert!(read_all(&device) == model, "{}", path.display());
    crate::ImageWrite::finish(&device).unwrap();
    assert_sound(path);
    assert_same_disk(&qemu_read(path), &model, text(path));
}

#[test]
fn snapshots_are_listed_and_read_and_outlive_writing() {
    let scratch = Scratch::new();
    for (number, options) in ["", "-c", "extended_l2=on", "compat=0.10", "cluster_size=512"].iter().enumerate() {
        let raw = raw_disk(&scratch, "disk.raw");
        let path = scratch.path(&format!("{number}.qcow2"));
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        match *options {
            "" => {}
            "-c" => arguments.push("-c"),
            options => arguments.extend(["-o", options]),
        }
        arguments.extend([text(&raw), text(&path)]);
        qemu_img(&arguments);
        let first = std::fs::read(&raw).unwrap();
        qemu_img(&["snapshot", "-c", "before the change", text(&path)]);
        write_at_random(&path, first.clone(), number as u64);
        let second = read_all(&*open(&path).device);
        qemu_img(&["snapshot", "-c", "later", text(&path)]);
        write_at_random(&path, second.clone(), 7 + number as u64);

        let layer = open(&path);
        let names: Vec<_> = layer.info.snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
        assert_eq!(names, ["before the change", "later"]);
        assert_eq!(layer.info.snapshots[0].virtual_size, first.len() as u64);
        let read = |wanted| {
            let layer = try_open(source(&path, false), Access::ReadOnly, Some(wanted)).unwrap();
            read_all(&*layer.device)
        };
        assert!(read("before the change") == first && read("1") == first, "{options}");
        assert!(read("later") == second && read("2") == second, "{options}");
        let unknown = try_open(source(&path, false), Access::ReadOnly, Some("never")).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
        assert!(unknown.to_string().contains("later (2)"), "{unknown}");
        // QEMU finds them whole too, by going back.
        qemu_img(&["snapshot", "-a", "before the change", text(&path)]);
        assert_same_disk(&qemu_read(&path), &first, options);
    }
}

#[test]
fn backing_references_are_named_and_their_holes_left_open() {
    let scratch = Scratch::new();
    let raw = raw_disk(&scratch, "disk.raw");
    let path = scratch.path("top.qcow2");
    qemu_img(&["create", "-f", "qcow2", "-F", "raw", "-b", "disk.raw", text(&path)]);
    let layer = open(&path);
    let parent = layer.parent.unwrap();
    assert_eq!((parent.names, parent.format.as_deref()), (vec!["disk.raw".to_owned()], Some("raw")));
    let whole = layer.device.block_status(0..layer.device.size()).unwrap();
    assert_eq!((whole.status, whole.length), (transload_block::BlockStatus::Hole, layer.device.size()));

    // Zeroes over holes are opaque: by the flag, and in version 2 by a cluster.
    for compat in ["compat=1.1", "compat=0.10"] {
        qemu_img(&["create", "-f", "qcow2", "-F", "raw", "-b", "disk.raw", "-o", compat, text(&path)]);
        let layer = try_open(source(&path, true), Access::ReadWrite, None).unwrap();
        let writer = layer.writer.unwrap();
        writer.write_zeroes_at(65_536..262_144, transload_block::ZeroMode::Unmap).unwrap();
        writer.write_at(&[7; 65_536], 524_288).unwrap();
        writer.finish().unwrap();
        let mut wanted = std::fs::read(&raw).unwrap();
        wanted[65_536..262_144].fill(0);
        wanted[524_288..589_824].fill(7);
        assert_same_disk(&qemu_read(&path), &wanted, compat);
        assert_sound(&path);
    }
}

#[test]
fn external_data_files_are_read_and_written() {
    let scratch = Scratch::new();
    let disk = std::fs::read(raw_disk(&scratch, "disk.raw")).unwrap();
    for raw in ["off", "on"] {
        let (path, data) = (scratch.path("image.qcow2"), scratch.path("image.data"));
        let options = format!("data_file={},data_file_raw={raw}", text(&data));
        qemu_img(&["convert", "-O", "qcow2", "-o", &options, text(&scratch.path("disk.raw")), text(&path)]);
        let layer = open(&path);
        assert_eq!(layer.info.data_file.as_deref(), Some(text(&data)));
        assert_same_disk(&read_all(&*layer.device), &disk, raw);
        assert_status_is_true(&*layer.device, &disk);

        let layer = try_open(source(&path, true), Access::ReadWrite, None).unwrap();
        let writer = layer.writer.unwrap();
        let mut model = disk.clone();
        model.resize(usize::try_from(writer.size()).unwrap(), 0);
        let mut dice = Dice::new(5);
        for _ in 0..60 {
            let range = super::model::any_range(&mut dice, writer.size(), 65_536);
            let place = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            if dice.below(2) == 0 {
                model[place].fill(0);
                writer.write_zeroes_at(range, transload_block::ZeroMode::Unmap).unwrap();
            } else {
                model[place.clone()].fill(u8::try_from(dice.below(255)).unwrap() + 1);
                writer.write_at(&model[place], range.start).unwrap();
            }
        }
        writer.finish().unwrap();
        assert!(read_all(&*layer.device) == model, "data_file_raw={raw}");
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &model, raw);
        if raw == "on" {
            // QEMU makes the file whole clusters long.
            assert!(std::fs::read(&data).unwrap()[..model.len()] == model, "the data file is no longer the disk");
        }
        // Without its data file there is no disk.
        std::fs::remove_file(&data).unwrap();
        assert!(try_open(source(&path, false), Access::ReadOnly, None).is_err());
        assert!(super::layer::describe(&source(&path, false)).is_ok());
    }
}

#[test]
fn external_data_files_are_made_beside_the_image() {
    let disk = mixed_disk(3_000_320);
    for options in ["data_file=a.data", "data_file=a.data,data_file_raw=on", "data_file=a.data,extended_l2=on"] {
        let scratch = Scratch::new();
        let files = scratch.target("a.qcow2");
        let options = OptionValues::parse(CREATE_OPTIONS, [options]).unwrap();
        let ids = IdSource::from_material(b"x");
        let size = disk.len() as u64;
        let request =
            CreateRequest { files: &files, size, options: &options, ids: &ids, backing: None, cache_bytes: 1 << 20 };
        let image = create::create(request).unwrap();
        for (at, piece) in disk.chunks(70_001).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)) {
            image.write_at(piece, at as u64 * 70_001).unwrap();
        }
        image.finish().unwrap();
        let path = scratch.path("a.qcow2");
        // QEMU looks for the data file where it is started.
        let there = |arguments: &[&str]| {
            let output =
                std::process::Command::new("qemu-img").current_dir(path.parent().unwrap()).args(arguments).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        there(&["check", "-q", "a.qcow2"]);
        there(&["convert", "-O", "raw", "a.qcow2", "read.raw"]);
        assert_same_disk(&std::fs::read(scratch.path("read.raw")).unwrap(), &disk, "QEMU");
        let info = there(&["info", "--output=json", "a.qcow2"]);
        assert!(info.contains("\"data-file\": \"a.data\""), "{info}");
        let raw = options.flag("data_file_raw").unwrap_or(false);
        assert_eq!(info.contains("\"data-file-raw\": true"), raw, "{info}");
        assert!(!raw || std::fs::read(scratch.path("a.data")).unwrap() == disk);
        assert!(read_all(&*open(&path).device) == disk);
    }
    let ids = IdSource::from_material(b"x");
    for options in [
        "data_file=../a.data",
        "data_file=/a.data",
        "data_file_raw=on",
        "data_file=a,compat=0.10",
        "data_file=a,preallocation=full",
        "data_file=a,data_file_raw=on,backing_file=b,backing_fmt=raw",
    ] {
        let scratch = Scratch::new();
        let files = scratch.target("a.qcow2");
        let options = OptionValues::parse(CREATE_OPTIONS, [options]).unwrap();
        let request = CreateRequest {
            files: &files,
            size: 1 << 20,
            options: &options,
            ids: &ids,
            backing: None,
            cache_bytes: 1 << 20,
        };
        assert_eq!(create::create(request).unwrap_err().kind(), ErrorKind::InvalidInput, "{options:?}");
    }
}

#[test]
fn bitmaps_lose_their_validity_when_the_image_is_written() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    qemu_img(&["create", "-f", "qcow2", text(&path), "4M"]);
    qemu_img(&["bitmap", "--add", text(&path), "changes"]);
    let autoclear = |path: &Path| std::fs::read(path).unwrap()[88..96].to_vec();
    assert_eq!(autoclear(&path)[7] & 1, 1);
    let layer = try_open(source(&path, true), Access::ReadWrite, None).unwrap();
    let writer = layer.writer.unwrap();
    assert_eq!(autoclear(&path)[7] & 1, 1, "opening alone changes nothing");
    writer.write_at(&[1], 0).unwrap();
    writer.finish().unwrap();
    assert_eq!(autoclear(&path)[7] & 1, 0);
}

#[test]
fn encrypted_images_are_described_and_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("luks.qcow2");
    qemu_img(&[
        "create",
        "-f",
        "qcow2",
        "--object",
        "secret,id=key,data=secret",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        text(&path),
        "1M",
    ]);
    let info = super::layer::describe(&source(&path, false)).unwrap();
    assert_eq!(info.encryption.as_deref(), Some("luks"));
    let refused = try_open(source(&path, false), Access::ReadOnly, None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("luks"), "{refused}");
}

#[test]
fn corrupt_images_are_read_and_not_written() {
    let scratch = Scratch::new();
    let raw = raw_disk(&scratch, "disk.raw");
    let path = scratch.path("image.qcow2");
    qemu_img(&["convert", "-O", "qcow2", text(&raw), text(&path)]);
    mark(&path, 2);
    let layer = open(&path);
    assert!(layer.info.corrupt && !layer.info.dirty);
    assert_same_disk(&read_all(&*layer.device), &std::fs::read(&raw).unwrap(), "marked");
    let refused = try_open(source(&path, true), Access::ReadWrite, None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(refused.remedy().is_some());
}

/// Sets the low byte of the incompatible features.
fn mark(path: &Path, byte: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[79] = byte;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_refcounts_of_a_dirty_image_are_rebuilt_before_it_is_written() {
    let scratch = Scratch::new();
    let raw = raw_disk(&scratch, "disk.raw");
    let path = scratch.path("image.qcow2");
    qemu_img(&["convert", "-O", "qcow2", "-o", "lazy_refcounts=on", text(&raw), text(&path)]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[79] = 1;
    // Counts of clusters in use that were never written.
    let place = |at: usize| usize::try_from(u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let block = place(place(48));
    bytes[block + 10..block + 60].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let layer = open(&path);
    assert!(layer.info.dirty, "reading changes nothing");
    write_at_random(&path, std::fs::read(&raw).unwrap(), 3);
    assert!(!open(&path).info.dirty);
}

#[test]
fn lazy_refcounts_set_the_dirty_bit_until_the_image_is_finished() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    qemu_img(&["create", "-f", "qcow2", "-o", "lazy_refcounts=on", text(&path), "4M"]);
    let layer = try_open(source(&path, true), Access::ReadWrite, None).unwrap();
    let writer = layer.writer.unwrap();
    let dirty = || std::fs::read(&path).unwrap()[79] & 1;
    writer.write_at(&[1; 1000], 100).unwrap();
    assert_eq!(dirty(), 1);
    writer.flush().unwrap();
    assert_eq!(dirty(), 1);
    writer.finish().unwrap();
    assert_eq!(dirty(), 0);
    writer.write_at(&[1; 1000], 1 << 20).unwrap();
    assert_eq!(dirty(), 1);
    writer.finish().unwrap();
    assert_sound(&path);
}

#[test]
fn an_image_of_64_tib_of_holes_is_walked_in_no_time() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    qemu_img(&["create", "-f", "qcow2", text(&path), "64T"]);
    let layer = open(&path);
    let started = std::time::Instant::now();
    let (mut at, mut questions) = (0, 0);
    while at < layer.device.size() {
        at = layer.device.block_status(at..layer.device.size()).unwrap().end();
        questions += 1;
    }
    assert!(questions < 100 && started.elapsed().as_secs() < 2, "{questions} questions");
}

#[test]
fn table_growth_moves_the_refcount_table() {
    // With 512-byte clusters and 64-bit refcounts the first table counts 2 MiB.
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    qemu_img(&["create", "-f", "qcow2", "-o", "cluster_size=512,refcount_bits=64", text(&path), "16M"]);
    let storage = Arc::clone(source(&path, true).storage().unwrap());
    let device = Qcow2::open_for_writing(Arc::clone(&storage), None, 64 << 10).unwrap();
    let before = storage_table(&*storage);
    let disk = mixed_disk(16 << 20);
    for (number, chunk) in disk.chunks(100_000).enumerate() {
        device.write_at(chunk, number as u64 * 100_000).unwrap();
    }
    crate::ImageWrite::finish(&device).unwrap();
    assert_ne!(storage_table(&*storage), before);
    assert_sound(&path);
    assert_same_disk(&qemu_read(&path), &disk, "grown");
}

fn storage_table(storage: &dyn Storage) -> [u8; 12] {
    let mut fields = [0; 12];
    storage.read_at(&mut fields, 48).unwrap();
    fields
}
