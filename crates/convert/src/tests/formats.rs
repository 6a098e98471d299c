//! The engine on the real formats, with qemu-img as the judge.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use transload_image::codec::Level;

use transload_block::{BlockRead, ErrorKind, FileBlock};
use transload_image::{Format, OpenSettings, Opened, OptionValues, Source, open};

use super::fakes::{Disk, DiskStream, FLAT};
use crate::{
    Compression, Input, Output, Preallocation, ScanSettings, Settings, compare, convert, measure, spool_to_temp,
};

fn read(path: &Path) -> Opened {
    let source = Source::new(Arc::new(FileBlock::open(path, false).unwrap())).with_path(path);
    open(source, &OpenSettings::default()).unwrap()
}

fn raw_file(folder: &Path, size: u64) -> PathBuf {
    let path = folder.join("source.raw");
    let disk = Disk::mixed(size, 4);
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for (index, unit) in &disk.units {
        let offset = index << 16;
        file.write_all_at(&unit[..unit.len().min(usize::try_from(size - offset).unwrap())], offset).unwrap();
    }
    path
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
}

fn target(format: &str, options: &str, level: u32) -> Settings {
    let format = Format::by_name(format).unwrap();
    let mut settings = Settings::new(format);
    settings.options = OptionValues::parse(format.create_options, [options]).unwrap();
    settings.compression = Level::number(level).ok().map(|level| Compression { kind: None, level });
    settings.verify = true;
    settings
}

/// Format, options, compression level.
const TARGETS: &[(&str, &str, u32)] = &[
    ("raw", "", 0),
    ("raw", "preallocation=full", 0),
    ("qcow2", "", 0),
    ("qcow2", "cluster_size=4k", 0),
    ("qcow2", "cluster_size=2M", 0),
    ("qcow2", "", 1),
    ("qcow2", "compression_type=zstd", 1),
    ("vmdk", "", 0),
    ("vmdk", "subformat=monolithicFlat", 0),
    ("vmdk", "subformat=twoGbMaxExtentSparse", 0),
    ("vmdk", "subformat=streamOptimized", 0),
    ("vdi", "", 0),
    ("vdi", "subformat=fixed", 0),
    // `vpc`, as QEMU calls it.
    ("vpc", "", 0),
    ("vpc", "block_size=512k", 0),
    ("vpc", "subformat=fixed", 0),
    ("vhdx", "", 0),
    ("vhdx", "block_size=1M,block_state_zero=off", 0),
    ("vhdx", "subformat=fixed,block_size=1M", 0),
];

#[test]
fn every_target_holds_what_the_source_did() {
    for size in [0, 512, (3 << 20) + 512, 16 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let source = raw_file(folder.path(), size);
        for (format, options, level) in TARGETS {
            let path = folder.path().join("target");
            let settings = target(format, options, *level);
            let name = format!("{size} {format} {options} {level}");
            let report = convert(Input::Image(read(&source)), Output::Path(path.clone()), &settings);
            let report = report.unwrap_or_else(|error| panic!("{name}: {error} {error:?}"));
            assert!(report.verified, "{name}");
            if size > 0 {
                let (source, path) = (source.to_str().unwrap(), path.to_str().unwrap());
                qemu_img(&["compare", "-f", "raw", "-F", format, source, path]);
            }
            if *format == "qcow2" {
                qemu_img(&["check", "-f", "qcow2", path.to_str().unwrap()]);
            }
            // And back, by the way of a compressed qcow2.
            let between = folder.path().join("between");
            convert(Input::Image(read(&path)), Output::Path(between.clone()), &target("qcow2", "", 2)).unwrap();
            let back = read(&between);
            let same = compare(&*back.device, &*read(&source).device, false, &ScanSettings::default()).unwrap();
            assert!(same.identical && !same.size_differs, "{name}: {same:?}");
            for entry in fs::read_dir(folder.path()).unwrap() {
                let path = entry.unwrap().path();
                assert!(!path.to_str().unwrap().ends_with(".partial"), "{name}: litter");
                if path != source {
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_same_file_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let source = raw_file(folder.path(), (24 << 20) + 512);
    for (format, options, level) in TARGETS {
        let mut first: Option<Vec<u8>> = None;
        for threads in [1, 2, 7] {
            let path = folder.path().join("target");
            let mut settings = target(format, options, *level);
            settings.force = true;
            settings.threads = std::num::NonZeroUsize::new(threads);
            convert(Input::Image(read(&source)), Output::Path(path.clone()), &settings).unwrap();
            let file = fs::read(&path).unwrap();
            assert!(*first.get_or_insert_with(|| file.clone()) == file, "{format} {options} {level} {threads}");
        }
    }
}

#[test]
fn a_verified_stream_is_compared_by_digest() {
    let folder = tempfile::tempdir().unwrap();
    for (format, options, level) in TARGETS {
        let stream = DiskStream { disk: Disk::mixed((9 << 20) + 512, 5), knows_size: true };
        let wanted = stream.disk.to_vec();
        let mut settings = target(format, options, *level);
        settings.force = true;
        let path = folder.path().join("target");
        let input = Input::Stream { format: &FLAT, stream: Box::new(stream) };
        let report = convert(input, Output::Path(path.clone()), &settings).unwrap();
        assert!(report.verified && report.digests.is_empty());
        let mut bytes = vec![0; wanted.len()];
        read(&path).device.read_at(&mut bytes, 0).unwrap();
        assert!(bytes == wanted, "{format} {options} {level}");
    }
}

#[test]
fn the_source_is_never_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let source = raw_file(folder.path(), 1 << 20);
    let mut settings = target("qcow2", "", 0);
    settings.force = true;
    let link = folder.path().join("link");
    fs::hard_link(&source, &link).unwrap();
    for path in [&source, &link] {
        let error = convert(Input::Image(read(&source)), Output::Path(path.clone()), &settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    // The lower layer of a chain is a source too.
    let overlay = folder.path().join("overlay.qcow2");
    let (base, top) = (source.to_str().unwrap(), overlay.to_str().unwrap());
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top]);
    let opened = OpenSettings { gate: transload_image::ReferenceGate::SameDirectory, ..OpenSettings::default() };
    let bytes = Source::new(Arc::new(FileBlock::open(&overlay, false).unwrap())).with_path(&overlay);
    let image = open(bytes, &opened).unwrap();
    let error = convert(Input::Image(image), Output::Path(source), &settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn room_that_is_not_there_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = target("raw", "", 0);
    settings.preallocation = Preallocation::Falloc;
    settings.verify = false;
    let disk = Disk { size: 1 << 60, ..Disk::default() };
    let error = convert(super::fakes::image(disk), Output::Path(folder.path().join("x")), &settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_terabyte_hole_and_a_measure_are_quick() {
    let folder = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    let device: Arc<dyn BlockRead> = Arc::new(Disk { size: 64 << 40, ..Disk::default() });
    for (format, options, level) in [("qcow2", "cluster_size=2M", 0), ("raw", "", 0), ("qcow2", "", 1)] {
        if format == "raw" {
            // Few file systems have files of this size.
            continue;
        }
        let path = folder.path().join(format!("{format}{level}"));
        let mut settings = target(format, options, level);
        settings.verify = false;
        let input = Input::Image(super::fakes::opened(Arc::clone(&device)));
        convert(input, Output::Path(path), &settings).unwrap();
        measure(&*device, settings.format, &settings.options, &settings.cancel).unwrap();
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_spooled_qcow2_converts_like_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = raw_file(folder.path(), (2 << 20) + 512);
    let image = folder.path().join("image.qcow2");
    convert(Input::Image(read(&source)), Output::Path(image.clone()), &target("qcow2", "", 1)).unwrap();
    let mut pipe = File::open(&image).unwrap();
    let spooled = spool_to_temp(&mut pipe, folder.path(), &crate::Cancel::default()).unwrap();
    let opened = open(Source::new(Arc::new(spooled)), &OpenSettings::default()).unwrap();
    let found = compare(&*opened.device, &*read(&source).device, false, &ScanSettings::default()).unwrap();
    assert!(found.identical);
}

/// A loop device, which only root has: elsewhere the test says that it was skipped.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["-f", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Self(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").arg("-d").arg(&self.0).status().unwrap();
    }
}

#[test]
fn a_block_device_is_written_in_place_and_zeroed_where_the_disk_is_zero() {
    let folder = tempfile::tempdir().unwrap();
    let source = raw_file(folder.path(), (5 << 20) + 512);
    let file = folder.path().join("device");
    fs::write(&file, vec![0xff; 8 << 20]).unwrap();
    let Some(device) = Loop::new(&file) else {
        eprintln!("SKIPPED: there is no loop device to write to");
        return;
    };
    let mut settings = target("raw", "", 0);
    let refused = convert(Input::Image(read(&source)), Output::Path(device.0.clone()), &settings).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    settings.force = true;
    let report = convert(Input::Image(read(&source)), Output::Path(device.0.clone()), &settings).unwrap();
    assert!(report.verified);
    let (wanted, found) = (fs::read(&source).unwrap(), fs::read(&device.0).unwrap());
    assert!(found[..wanted.len()] == wanted);
    assert!(found[wanted.len()..].iter().all(|byte| *byte == 0xff), "what lies behind the disk is left alone");
    let same = convert(Input::Image(read(&device.0)), Output::Path(device.0.clone()), &settings).unwrap_err();
    assert_eq!(same.kind(), ErrorKind::InvalidInput, "{same}");
    let behind = convert(Input::Image(read(&file)), Output::Path(device.0.clone()), &settings).unwrap_err();
    assert_eq!(behind.kind(), ErrorKind::InvalidInput, "the file behind a loop device: {behind}");
    let large = Input::Image(super::fakes::opened(Arc::new(Disk::mixed(9 << 20, 1))));
    assert_eq!(convert(large, Output::Path(device.0.clone()), &settings).unwrap_err().kind(), ErrorKind::NoSpace);
}
