//! Power cuts: after each, the image opens, nothing in it is corrupt, and every byte is one that it had or was to have.

use std::path::Path;
use std::sync::Arc;

use transload_block::{Memory, Storage};
use transload_testkit::history::{History, work};
use transload_testkit::{CrashStorage, Random};

use super::super::device::Qcow2;
use super::super::witness::{Scratch, mixed_disk, qemu_check};
use super::{open, qemu_img, read_all, source, try_open};
use crate::{Access, ImageWrite};

/// Works on the image at `path` and cuts the power at many places; its snapshot, if it has one, is to outlive that.
fn cut_everywhere(scratch: &Scratch, path: &Path, cuts: usize, snapshot: Option<&str>) {
    let disk = read_all(&*open(path).device);
    let read_snapshot = |path: &Path| {
        snapshot.map(|name| read_all(&*try_open(source(path, false), Access::ReadOnly, Some(name)).unwrap().device))
    };
    let kept = read_snapshot(path);
    let after = scratch.path("after.qcow2");
    for seed in 0..3 {
        let storage = Arc::new(CrashStorage::new(Memory::from(std::fs::read(path).unwrap())));
        let device = Qcow2::open_for_writing(Arc::clone(&storage) as Arc<dyn Storage>, None, 16 << 10).unwrap();
        let mut history = History::new(disk.clone());
        let finish = || device.finish();
        work(&device, &finish, &storage, &mut history, &mut Random::new(seed), 25).unwrap();
        assert!(read_all(&device) == history.now());
        for crash in storage.crashes(seed, cuts / 3) {
            std::fs::write(&after, crash.file.to_vec()).unwrap();
            let what = format!("{}, seed {seed}, {} events, {}", path.display(), crash.events, crash.survived);
            let layer = open(&after);
            history.check(&crash, &read_all(&*layer.device), &what);
            if !layer.info.dirty {
                let verdict = qemu_check(&after);
                let sound = verdict.get("corruptions").is_none() && verdict.get("check-errors").is_none_or(|n| n == 0);
                assert!(sound, "{what}: {verdict}");
            }
            assert!(read_snapshot(&after) == kept, "{what}: the snapshot changed");
        }
    }
}

#[test]
fn power_cuts_leave_leaks_at_worst() {
    let scratch = Scratch::new();
    for (number, options) in
        ["cluster_size=4k", "cluster_size=512,refcount_bits=64", "extended_l2=on,cluster_size=16k", "compat=0.10"]
            .iter()
            .enumerate()
    {
        let path = scratch.path(&format!("{number}.qcow2"));
        qemu_img(&["create", "-f", "qcow2", "-o", options, path.to_str().unwrap(), "1M"]);
        cut_everywhere(&scratch, &path, 36, None);
    }
}

#[test]
fn power_cuts_with_lazy_refcounts_leave_a_dirty_image_at_worst() {
    let scratch = Scratch::new();
    let path = scratch.path("lazy.qcow2");
    // Data comes before its entry, however late refcounts are.
    qemu_img(&["create", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=4k", path.to_str().unwrap(), "1M"]);
    cut_everywhere(&scratch, &path, 90, None);
}

#[test]
fn power_cuts_leave_snapshots_and_compressed_clusters_alone() {
    let scratch = Scratch::new();
    let raw = scratch.path("disk.raw");
    std::fs::write(&raw, mixed_disk(1 << 20)).unwrap();
    let path = scratch.path("image.qcow2");
    let (raw, name) = (raw.to_str().unwrap(), path.to_str().unwrap());
    qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", raw, name]);
    qemu_img(&["snapshot", "-c", "kept", name]);
    cut_everywhere(&scratch, &path, 45, Some("kept"));
}
