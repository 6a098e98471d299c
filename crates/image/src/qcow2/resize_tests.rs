//! Resizing, with QEMU as the judge of what is left.

use std::sync::Arc;

use transload_block::{ErrorKind, Memory, Result, Storage};
use transload_testkit::CrashStorage;

use super::resize::resize;
use super::witness::{Failing, Scratch, assert_same_disk, assert_sound, mixed_disk, must_run, qemu_check, qemu_read};
use crate::{OpenSettings, ReferenceGate, ResizeRequest, Source};

fn resize_source(source: Source, size: u64, shrink: bool) -> Result<()> {
    resize(ResizeRequest { source, gate: &ReferenceGate::SameDirectory, size, shrink })
}

/// An image of qemu-img's with `disk` in it.
fn image(scratch: &Scratch, name: &str, disk: &[u8], options: &str) {
    std::fs::write(scratch.path("source.raw"), disk).unwrap();
    let (raw, path) = (scratch.path("source.raw"), scratch.path(name));
    must_run("qemu-img", ["convert", "-O", "qcow2", "-o", options, raw.to_str().unwrap(), path.to_str().unwrap()]);
}

fn resized(disk: &[u8], size: u64) -> Vec<u8> {
    let mut disk = disk.to_vec();
    disk.resize(usize::try_from(size).unwrap(), 0);
    disk
}

#[test]
fn growing_adds_zeroes_in_every_geometry() {
    let scratch = Scratch::new();
    let disk = mixed_disk(1_500_160);
    for options in
        ["cluster_size=64k", "cluster_size=512", "compat=0.10,cluster_size=512", "cluster_size=16k,extended_l2=on"]
    {
        image(&scratch, "a.qcow2", &disk, options);
        for size in [1_500_672, 2 << 20, 40 << 20, 70_000_128] {
            resize_source(scratch.source("a.qcow2"), size, false).unwrap();
            assert_sound(&scratch.path("a.qcow2"));
            assert_same_disk(&qemu_read(&scratch.path("a.qcow2")), &resized(&disk, size), options);
        }
    }
}

#[test]
fn growing_a_full_refcount_table_writes_it_anew() {
    let scratch = Scratch::new();
    // One cluster of table counts 8 MiB of file, which the data fills to the last cluster but a few.
    let disk = super::witness::noise(7_900_160, 3);
    image(&scratch, "a.qcow2", &disk, "cluster_size=512");
    for size in [1 << 30, 30 << 30] {
        resize_source(scratch.source("a.qcow2"), size, false).unwrap();
        assert_sound(&scratch.path("a.qcow2"));
    }
    resize_source(scratch.source("a.qcow2"), disk.len() as u64, true).unwrap();
    assert_sound(&scratch.path("a.qcow2"));
    assert_same_disk(&qemu_read(&scratch.path("a.qcow2")), &disk, "grown and shrunk");
}

#[test]
fn growing_hides_what_the_last_cluster_held_behind_the_end() {
    let scratch = Scratch::new();
    let path = scratch.path("a.qcow2");
    must_run("qemu-img", ["create", "-f", "qcow2", path.to_str().unwrap(), "128k"]);
    must_run("qemu-io", ["-c", "write -P 85 0 128k", path.to_str().unwrap()]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[24..32].copy_from_slice(&100_352_u64.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    resize_source(scratch.source("a.qcow2"), 1 << 20, false).unwrap();
    assert_sound(&path);
    assert_same_disk(&qemu_read(&path), &resized(&vec![85; 100_352], 1 << 20), "grown");
}

#[test]
fn growing_hides_a_longer_backing_file() {
    let scratch = Scratch::new();
    let disk = mixed_disk(4 << 20);
    image(&scratch, "base.qcow2", &disk, "cluster_size=64k");
    let path = scratch.path("top.qcow2");
    for size in ["1M", "1000448"] {
        must_run(
            "qemu-img",
            ["create", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", path.to_str().unwrap(), size],
        );
        let old = usize::try_from(crate::parse_size(size).unwrap()).unwrap();
        resize_source(scratch.source("top.qcow2"), 6 << 20, false).unwrap();
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &resized(&disk[..old], 6 << 20), size);
    }
    let request =
        ResizeRequest { source: scratch.source("top.qcow2"), gate: &ReferenceGate::Deny, size: 8 << 20, shrink: false };
    assert_eq!(resize(request).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn shrinking_needs_leave_and_keeps_the_rest() {
    let scratch = Scratch::new();
    let disk = mixed_disk(5 << 20);
    for options in ["cluster_size=64k", "cluster_size=512", "compat=0.10", "cluster_size=64k,extended_l2=on"] {
        image(&scratch, "a.qcow2", &disk, options);
        let path = scratch.path("a.qcow2");
        let error = resize_source(scratch.source("a.qcow2"), 1 << 20, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        for size in [3_000_320_u64, 1 << 20] {
            let before = std::fs::metadata(&path).unwrap().len();
            resize_source(scratch.source("a.qcow2"), size, true).unwrap();
            assert_sound(&path);
            let kept = &disk[..usize::try_from(size).unwrap()];
            assert_same_disk(&qemu_read(&path), kept, options);
            // QEMU may end a file inside its last cluster.
            assert!(std::fs::metadata(&path).unwrap().len() <= before.next_multiple_of(65536));
        }
        resize_source(scratch.source("a.qcow2"), 5 << 20, false).unwrap();
        assert_sound(&path);
        assert_same_disk(&qemu_read(&path), &resized(&disk[..1 << 20], 5 << 20), options);
    }
}

#[test]
fn snapshots_keep_what_the_disk_loses() {
    let scratch = Scratch::new();
    let disk = mixed_disk(3 << 20);
    image(&scratch, "a.qcow2", &disk, "cluster_size=4k");
    let path = scratch.path("a.qcow2");
    must_run("qemu-img", ["snapshot", "-c", "one", path.to_str().unwrap()]);
    resize_source(scratch.source("a.qcow2"), 1 << 20, true).unwrap();
    assert_sound(&path);
    resize_source(scratch.source("a.qcow2"), 90 << 20, false).unwrap();
    assert_sound(&path);
    assert_same_disk(&qemu_read(&path), &resized(&disk[..1 << 20], 90 << 20), "the disk");
    let raw = scratch.path("one.raw");
    must_run("qemu-img", ["convert", "-l", "one", "-O", "raw", path.to_str().unwrap(), raw.to_str().unwrap()]);
    assert_eq!(&std::fs::read(raw).unwrap()[..1 << 20], &disk[..1 << 20]);
}

#[test]
fn what_a_new_size_would_make_wrong_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("a.qcow2");
    must_run("qemu-img", ["create", "-f", "qcow2", "-o", "compat=0.10", path.to_str().unwrap(), "1M"]);
    must_run("qemu-img", ["snapshot", "-c", "one", path.to_str().unwrap()]);
    assert_eq!(resize_source(scratch.source("a.qcow2"), 2 << 20, false).unwrap_err().kind(), ErrorKind::Unsupported);
    must_run("qemu-img", ["create", "-f", "qcow2", path.to_str().unwrap(), "1M"]);
    must_run("qemu-img", ["bitmap", "--add", path.to_str().unwrap(), "map"]);
    assert_eq!(resize_source(scratch.source("a.qcow2"), 2 << 20, false).unwrap_err().kind(), ErrorKind::Unsupported);
    must_run("qemu-img", ["create", "-f", "qcow2", path.to_str().unwrap(), "1M"]);
    assert_eq!(resize_source(scratch.source("a.qcow2"), u64::MAX, false).unwrap_err().kind(), ErrorKind::TooLarge);
    resize_source(scratch.source("a.qcow2"), 1 << 20, false).unwrap();
    assert_sound(&path);
}

/// A crash between any two writes of a growth leaves the old size or the new one, and leaks at most.
#[test]
fn a_growth_may_break_off_anywhere() {
    let scratch = Scratch::new();
    let disk = mixed_disk(1_000_448);
    for options in ["cluster_size=512", "cluster_size=4k"] {
        image(&scratch, "sound.qcow2", &disk, options);
        let sound = std::fs::read(scratch.path("sound.qcow2")).unwrap();
        for writes in 0..60 {
            let storage = Arc::new(Failing::after(writes, sound.clone()));
            let done = resize_source(Source::writable(Arc::clone(&storage) as Arc<dyn Storage>), 300 << 20, false);
            let path = scratch.path("broken-off.qcow2");
            std::fs::write(&path, storage.inner.to_vec()).unwrap();
            let verdict = qemu_check(&path);
            assert_eq!(verdict["corruptions"].as_u64().unwrap_or(0), 0, "{writes}: {verdict}");
            assert_eq!(&qemu_read(&path)[..disk.len()], &disk[..], "{writes}");
            if done.is_ok() {
                assert_sound(&path);
                break;
            }
        }
    }
}

/// Every state that a crash may leave shows the old disk, or the new one with zeroes behind the old end: not what the last
/// cluster held there, nor what a longer backing file has.
#[test]
fn a_crash_during_growth_never_shows_what_stood_behind_the_old_end() {
    const OLD: usize = 100_352;
    let scratch = Scratch::new();
    let base = vec![66; 300_000];
    std::fs::write(scratch.path("base.raw"), &base).unwrap();
    let path = scratch.path("a.qcow2");
    for (round, options) in
        ["cluster_size=64k", "cluster_size=512", "cluster_size=64k,extended_l2=on"].iter().enumerate()
    {
        for backed in [false, true] {
            let mut create = vec!["create", "-f", "qcow2", "-o", options];
            if backed {
                create.extend(["-F", "raw", "-b", "base.raw"]);
            }
            create.extend([path.to_str().unwrap(), "128k"]);
            must_run("qemu-img", &create);
            must_run("qemu-io", ["-c", "write -P 85 60000 71072", path.to_str().unwrap()]);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[24..32].copy_from_slice(&(OLD as u64).to_be_bytes());
            let mut disk = vec![if backed { 66 } else { 0 }; OLD];
            disk[60_000..].fill(85);
            let storage = Arc::new(CrashStorage::new(Memory::from(bytes)));
            let source = |storage: Arc<dyn Storage>| Source::writable(storage).with_path(&path);
            resize_source(source(Arc::clone(&storage) as Arc<dyn Storage>), 300 << 20, false).unwrap();

            let (mut old, mut new) = (0, 0);
            for crash in storage.crashes(round as u64, 150) {
                let what = format!("{options}, backed: {backed}, {} events, {}", crash.events, crash.survived);
                let left = source(Arc::new(crash.file) as Arc<dyn Storage>);
                let device = crate::open(left, &OpenSettings::default()).unwrap().device;
                let shown = usize::try_from(device.size()).unwrap();
                assert!(shown == OLD || shown == 300 << 20, "{what}: {shown} bytes");
                (old, new) = (old + usize::from(shown == OLD), new + usize::from(shown != OLD));
                let mut found = vec![0; shown.min(400_000)];
                device.read_at(&mut found, 0).unwrap();
                assert!(found[..OLD] == disk, "{what}: the disk changed");
                assert!(found[OLD..].iter().all(|byte| *byte == 0), "{what}: something shows behind the old end");
            }
            assert!(old > 0 && new > 0, "{old} crashes left the old size, {new} the new one");
        }
    }
}
