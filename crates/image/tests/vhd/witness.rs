//! What qemu-img and libvhdi say of new images, and what is read of theirs.

use std::fs;

use transload_image::{OpenSettings, open_path};
use transload_testkit::{disks, witness};

use super::support::{MIB, create};

#[test]
fn others_read_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (text, kind) in [("subformat=dynamic", "Dynamic"), ("subformat=fixed", "Fixed"), ("block_size=512k", "Dynamic")]
    {
        let size = 9 * MIB + 512;
        let (target, image) = create(size, text);
        image.write_at(&[0xa5; 100_000], 3 * MIB + 77).unwrap();
        image.write_at(&[0x5a; 512], size - 512).unwrap();
        image.finish().unwrap();
        target.save(folder.path());
        disks::save(&*image, &at("disk.raw"));
        witness::assert_same_guest(&at("disk.vhd"), "vpc", &at("disk.raw"), "raw");
        let said = witness::must("vhdiinfo", [at("disk.vhd")]);
        assert!(said.contains(kind) && said.contains(&format!("({size} bytes)")), "{said}");
    }
}

#[test]
fn what_qemu_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut disk = vec![0; usize::try_from(9 * MIB + 512).unwrap()];
    disk[3_000_000..3_100_000].fill(7);
    *disk.last_mut().unwrap() = 1;
    fs::write(at("disk.raw"), &disk).unwrap();
    for options in ["subformat=dynamic,force_size=on", "subformat=fixed,force_size=on", "subformat=dynamic"] {
        witness::convert(&at("disk.raw"), "raw", &at("disk.vhd"), "vpc", options);
        let opened = open_path(&at("disk.vhd"), &OpenSettings::default()).unwrap();
        assert!(opened.layers[0].info.warnings.is_empty());
        let mut found = vec![1; disk.len()];
        opened.device.read_at(&mut found, 0).unwrap();
        assert!(found == disk, "{options}");
        fs::remove_file(at("disk.vhd")).unwrap();
    }
}
