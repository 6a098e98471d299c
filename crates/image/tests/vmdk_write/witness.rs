//! Programs that judge images.

use std::path::Path;

use transload_testkit::witness::{assert_same_guest, assert_sound, qemu_img, vmdkinfo};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// [`judge_metadata`], `qemu-img check`, and a comparison with the raw bytes in `raw`.
pub(crate) fn judge(image: &Path, raw: &Path, size: u64) {
    judge_metadata(image, size);
    assert_sound(image, "vmdk");
    assert_same_guest(image, "vmdk", raw, "raw");
}

/// What qemu-img reads in eight sectors at `offset`: a comparison of a disk of terabytes takes it minutes.
pub(crate) fn read_8_sectors(image: &Path, offset: u64, scratch: &Path) -> Vec<u8> {
    let part = scratch.join("part");
    let (skip, input, output) =
        (format!("skip={}", offset / 512), format!("if={}", text(image)), format!("of={}", text(&part)));
    // `count` is the end, counted from the start of the image, not from `skip`.
    let count = format!("count={}", offset / 512 + 8);
    qemu_img(["dd", "-f", "vmdk", "-O", "raw", "bs=512", &skip, &count, &input, &output]);
    std::fs::read(part).unwrap()
}

/// `qemu-img info` and `vmdkinfo`: what is quick on a disk of any size.
pub(crate) fn judge_metadata(image: &Path, size: u64) {
    let info = qemu_img(["info", "-f", "vmdk", "--output=json", text(image)]);
    let rounded = size.next_multiple_of(512);
    assert!(info.contains(&format!("\"virtual-size\": {rounded},")), "{info}");
    if size > 0 {
        let info = vmdkinfo(image);
        assert!(info.contains(&format!("({rounded} bytes)")) || info.contains(&rounded.to_string()), "{info}");
    }
}

pub(crate) use transload_testkit::witness::openstack;
