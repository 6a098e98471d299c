//! QEMU and libvhdi as judges, both ways, and their dirty logs.

use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockReadExt, BlockWrite, FileBlock, Storage};
use transload_testkit::{disks, witness};

use super::tests::{check, create, open};
use crate::{Access, OpenSettings, Source, open_path};

fn new_file(path: &Path) -> Arc<dyn Storage> {
    std::fs::File::create(path).unwrap();
    Arc::new(FileBlock::open(path, true).unwrap())
}

#[test]
fn others_read_what_is_written_here() {
    let folder = tempfile::tempdir().unwrap();
    for (number, sample) in disks::samples().into_iter().enumerate().filter(|(_, sample)| sample.size >= 512) {
        let size = sample.size.next_multiple_of(512);
        for options in ["", "subformat=fixed", "block_size=1M,block_state_zero=off"] {
            let (path, raw) = (folder.path().join(format!("{number}.vhdx")), folder.path().join("raw"));
            let image = create(&new_file(&path), sample.size, options).unwrap();
            sample.write_to(&*image);
            image.finish().unwrap();
            sample.save(&raw);
            std::fs::OpenOptions::new().write(true).open(&raw).unwrap().set_len(size).unwrap();
            witness::assert_same_guest(&path, "vhdx", &raw, "raw");
            witness::assert_sound(&path, "vhdx");
            let expected = (size, disks::sha256(&FileBlock::open(&raw, false).unwrap()));
            assert_eq!(witness::libvhdi(&[&path]), expected, "{} {options}", sample.name);
            assert_eq!(witness::dissect(&path, "vhdx"), expected, "{} {options}", sample.name);
        }
    }
}

/// QEMU knows no sectors of 4096 bytes.
#[test]
fn others_read_large_sectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.vhdx");
    for options in ["logical_sector_size=4096,block_size=1M", "logical_sector_size=4096,subformat=fixed"] {
        for sample in disks::samples().into_iter().filter(|sample| sample.size > 0) {
            let image = create(&new_file(&path), sample.size, options).unwrap();
            sample.write_to(&*image);
            image.finish().unwrap();
            let opened = open_path(&path, &OpenSettings::default()).unwrap();
            let expected = (sample.size.next_multiple_of(4096), disks::sha256(&*opened.device));
            assert_eq!(opened.device.size(), expected.0);
            assert_eq!(disks::first_difference(&*opened.device, &sample.memory()).filter(|at| *at < sample.size), None);
            assert_eq!(witness::dissect(&path, "vhdx"), expected, "{} {options}", sample.name);
            assert_eq!(witness::libvhdi(&[&path]), expected, "{} {options}", sample.name);
            let said = witness::run("qemu-img", ["info", "-f", "vhdx", path.to_str().unwrap()]);
            assert!(!said.status.success(), "QEMU has learned it, and can be asked here");
        }
    }
}

#[test]
fn what_others_write_is_read_here() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, path) = (folder.path().join("raw"), folder.path().join("a.vhdx"));
    for sample in disks::samples().into_iter().filter(|sample| sample.size > 0 && sample.size % 512 == 0) {
        sample.save(&raw);
        for options in ["", "subformat=fixed", "block_size=1M", "block_size=1M,log_size=2M"] {
            witness::convert(&raw, "raw", &path, "vhdx", options);
            let opened = open_path(&path, &OpenSettings::default()).unwrap();
            assert_eq!(disks::first_difference(&*opened.device, &sample.memory()), None, "{} {options}", sample.name);
            assert!(check(Source::from_path(&path, Access::ReadOnly).unwrap(), false).unwrap().is_clean());
        }
    }
}

/// Digest here without a byte changed, digest by QEMU after its replay, digest here after ours.
fn same_after_replay(path: &Path) {
    let before = std::fs::read(path).unwrap();
    let opened = open_path(path, &OpenSettings::default()).unwrap();
    assert!(opened.layers[0].info.dirty, "the log is not empty");
    let ours = disks::sha256(&*opened.device);
    assert!(std::fs::read(path).unwrap() == before, "the source is untouched");
    let (copy, raw) = (path.with_extension("copy.vhdx"), path.with_extension("raw"));
    std::fs::copy(path, &copy).unwrap();
    // Opened for writing, QEMU replays.
    let _ = witness::must(
        "qemu-img",
        ["check", "-r", "all", "-f", "vhdx"].map(std::ffi::OsStr::new).into_iter().chain([copy.as_os_str()]),
    );
    witness::convert(&copy, "vhdx", &raw, "raw", "");
    assert_eq!(disks::sha256(&FileBlock::open(&raw, false).unwrap()), ours);
    let layer = open(Source::from_path(path, Access::ReadWrite).unwrap(), Access::ReadWrite).unwrap();
    assert_eq!(disks::sha256(&*layer.device), ours);
    layer.writer.unwrap().finish().unwrap();
    witness::assert_same_guest(path, "vhdx", &raw, "raw");
    witness::assert_sound(path, "vhdx");
}

/// QEMU empties its log with every write, so that a kill seldom hits it full. This puts the file back to the moment before
/// its last entry was applied: the header names the log again, and the table does not have the change.
fn make_last_entry_pending(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let image = super::open::Image::read(Source::from_path(path, Access::ReadOnly).unwrap().bytes()).unwrap();
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let log = at(image.header.log().offset);
    let last = (0..256).rev().map(|sector| log + sector * 4096).find(|at| bytes[*at..*at + 4] == *b"loge").unwrap();
    let entry = at(image.regions.bat.offset) + 40 * 8;
    bytes[entry..entry + 8].fill(0);
    let header = at(super::layout::HEADERS[image.header.number]);
    bytes.copy_within(last + 32..last + 48, header + 48);
    let sum = super::layout::checksum(&bytes[header..header + 4096]);
    bytes[header + 4..header + 8].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_dirty_log_of_qemu_is_replayed_as_qemu_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dirty.vhdx");
    witness::create(&path, "vhdx", "block_size=1M", 64 << 20);
    let name = path.to_str().unwrap();
    let command =
        ["-f", "vhdx", "-c", "write -P 5 0 3M", "-c", "write -P 6 40M 1M", "-c", "flush", "-c", "sigraise 9", name];
    let output = witness::run("qemu-io", command);
    assert!(!output.status.success(), "it was killed");
    make_last_entry_pending(&path);
    same_after_replay(&path);
    let opened = open_path(&path, &OpenSettings::default()).unwrap();
    assert_eq!(opened.device.read_vec((40 << 20) - 1, 2).unwrap(), [0, 6]);
}

#[test]
fn a_dirty_log_of_ours_is_replayed_by_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dirty.vhdx");
    create(&new_file(&path), 64 << 20, "block_size=1M").unwrap().finish().unwrap();
    let layer = open(Source::from_path(&path, Access::ReadWrite).unwrap(), Access::ReadWrite).unwrap();
    let writer = layer.writer.unwrap();
    for (number, at) in [(1, 0), (2, 30 << 20), (3, 5 << 20)] {
        writer.write_at(&[number; 4096], at).unwrap();
        writer.flush().unwrap();
    }
    drop(writer);
    drop(layer.device);
    // The newest entry's change did not reach its place: the log alone has it.
    let image = super::open::Image::read(Source::from_path(&path, Access::ReadOnly).unwrap().bytes()).unwrap();
    let file = FileBlock::open(&path, true).unwrap();
    file.write_at(&[2, 0, 0, 0, 0, 0, 0, 0], image.regions.bat.offset + 5 * 8).unwrap();
    drop(file);
    same_after_replay(&path);
    let opened = open_path(&path, &OpenSettings::default()).unwrap();
    assert_eq!(opened.device.read_vec(5 << 20, 1).unwrap(), [3]);
}
