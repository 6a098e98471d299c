//! Overlays over images of other formats, short backing files, and internal snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use transload::image::{Format, OpenSettings, OptionValues};
use transload_testkit::disks::{self, Fill, Sample};
use transload_testkit::witness;

use super::support::{TARGETS, convert, convert_opened, fresh, open};

const MIB: u64 = 1 << 20;

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// Makes `name` an overlay of `backing`, a file in the same folder.
fn overlay(folder: &Path, name: &str, format: &str, backing: (&str, &str), size: Option<u64>) {
    // As the user is told to: the name that is recorded is relative to the overlay's folder.
    let size = size.map(|size| size.to_string());
    let name = path(folder, name);
    let backing_name = if format == "vmdk" { path(folder, backing.0) } else { backing.0.to_owned() };
    let mut arguments = vec!["create", "-q", "-f", format, "-b", &backing_name, "-F", backing.1, &name];
    arguments.extend(size.as_deref());
    witness::qemu_img(arguments);
}

/// Has `qemu-io` do things to an image.
fn qemu_io(image: &str, format: &str, commands: &[&str]) {
    let mut arguments = vec!["-f", format];
    arguments.extend(commands.iter().flat_map(|command| ["-c", *command]));
    arguments.push(image);
    witness::must("qemu-io", arguments);
}

/// What QEMU says the disk at `image` is, as a raw file.
fn flattened(image: &str, format: &str) -> PathBuf {
    let flat = PathBuf::from(format!("{image}.flat"));
    witness::convert(Path::new(image), format, &flat, "raw", "");
    flat
}

/// We see what QEMU sees, and every target that is made of it holds that.
fn assert_as_qemu_sees(folder: &Path, name: &str, format: &str, layers: &[&str]) {
    let image = path(folder, name);
    let flat = flattened(&image, format);
    let expected = open(&flat).unwrap();
    let opened = open(Path::new(&image)).unwrap();
    assert_eq!(opened.layers.iter().map(|layer| layer.format.name).collect::<Vec<_>>(), layers, "{name}");
    assert_eq!(disks::first_difference(&*expected.device, &*opened.device), None, "{name}");
    for target in TARGETS {
        let out = fresh(folder, "target").join("disk");
        convert(Path::new(&image), &out, target).unwrap_or_else(|error| panic!("{name} to {target:?}: {error}"));
        witness::assert_same_guest(&flat, "raw", &out, target.format);
        let back = open(&out).unwrap();
        assert_eq!(back.layers.len(), 1, "{name} to {target:?}: the new image stands alone");
        assert_eq!(disks::first_difference(&*expected.device, &*back.device), None, "{name} to {target:?}");
    }
}

fn base(folder: &Path, size: u64) -> PathBuf {
    let raw = folder.join("base.raw");
    Sample { name: "base", size, parts: vec![(10_000..MIB + 5, Fill::Text), (2 * MIB..size, Fill::Random)] }.save(&raw);
    raw
}

#[test]
fn qcow2_over_a_vmdk_snapshot_over_a_vmdk() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let raw = base(folder, 3 * MIB);
    witness::convert(&raw, "raw", &folder.join("base.vmdk"), "vmdk", "");
    overlay(folder, "delta.vmdk", "vmdk", ("base.vmdk", "vmdk"), None);
    qemu_io(&path(folder, "delta.vmdk"), "vmdk", &["write -P 1 100k 200k", "write -P 2 2100k 3k"]);
    overlay(folder, "middle.qcow2", "qcow2", ("delta.vmdk", "vmdk"), None);
    qemu_io(&path(folder, "middle.qcow2"), "qcow2", &["write -P 3 150k 1k", "write -z 600k 128k"]);
    overlay(folder, "top.qcow2", "qcow2", ("middle.qcow2", "qcow2"), None);
    qemu_io(&path(folder, "top.qcow2"), "qcow2", &["write -P 4 640k 64k", "write -z 2560k 64k"]);
    assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2", "qcow2", "vmdk", "vmdk"]);
}

#[test]
fn qcow2_over_a_flat_vmdk_over_its_raw_extent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let raw = base(folder, 3 * MIB);
    witness::convert(&raw, "raw", &folder.join("base.vmdk"), "vmdk", "subformat=monolithicFlat");
    overlay(folder, "top.qcow2", "qcow2", ("base.vmdk", "vmdk"), None);
    qemu_io(&path(folder, "top.qcow2"), "qcow2", &["write -P 4 640k 64k"]);
    assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2", "vmdk"]);
}

#[test]
fn qcow2_over_each_of_the_formats_in_blocks() {
    for (format, options) in [("vhd", "force_size=on"), ("vhdx", "block_size=1M"), ("vdi", ""), ("qed", "")] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let raw = base(folder, 3 * MIB);
        witness::convert(&raw, "raw", &folder.join("base.img"), format, options);
        overlay(folder, "top.qcow2", "qcow2", ("base.img", witness::qemu_name(format)), None);
        qemu_io(&path(folder, "top.qcow2"), "qcow2", &["write -P 4 640k 64k", "write -z 2560k 64k"]);
        assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2", format]);
    }
}

#[test]
fn a_backing_file_shorter_than_its_overlay_ends_in_zeroes() {
    for (backing_size, size) in [(3 * MIB - 512 * 3, 5 * MIB), (2 * MIB + 100, 2 * MIB + 512), (3 * MIB, 2 * MIB + 512)]
    {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        base(folder, backing_size);
        overlay(folder, "top.qcow2", "qcow2", ("base.raw", "raw"), Some(size));
        qemu_io(&path(folder, "top.qcow2"), "qcow2", &["write -P 9 1000k 5k"]);
        assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2", "raw"]);
        // Longer than what is beneath it, and shorter than what is above.
        overlay(folder, "longer.qcow2", "qcow2", ("top.qcow2", "qcow2"), Some(7 * MIB));
        assert_as_qemu_sees(folder, "longer.qcow2", "qcow2", &["qcow2", "qcow2", "raw"]);
    }
}

#[test]
fn a_short_layer_between_two_long_ones_cuts_off_what_is_below() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    base(folder, 5 * MIB);
    overlay(folder, "short.qcow2", "qcow2", ("base.raw", "raw"), Some(2 * MIB + 512));
    overlay(folder, "top.qcow2", "qcow2", ("short.qcow2", "qcow2"), Some(5 * MIB));
    assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2", "qcow2", "raw"]);
}

#[test]
fn subclusters_over_compressed_clusters_over_raw() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    base(folder, 3 * MIB);
    overlay(folder, "middle.qcow2", "qcow2", ("base.raw", "raw"), None);
    qemu_io(&path(folder, "middle.qcow2"), "qcow2", &["write -c -P 5 64k 64k", "write -c -P 6 2048k 64k"]);
    let (top, size) = (path(folder, "top.qcow2"), (3 * MIB).to_string());
    let options = "extended_l2=on,cluster_size=128k";
    witness::qemu_img(["create", "-q", "-f", "qcow2", "-o", options, "-b", "middle.qcow2", "-F", "qcow2", &top, &size]);
    qemu_io(&top, "qcow2", &["write -P 7 70k 4k", "write -z 2052k 8k", "write -P 8 2100k 1k", "discard 1M 128k"]);
    assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2", "qcow2", "raw"]);
}

#[test]
fn an_external_data_file_is_read_as_qemu_reads_it() {
    for options in ["data_file=data.bin", "data_file=data.bin,data_file_raw=on", "data_file=data.bin,extended_l2=on"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let image = path(folder, "top.qcow2");
        let options = options.replace("data.bin", &path(folder, "data.bin"));
        witness::create(Path::new(&image), "qcow2", &options, 3 * MIB + 512);
        qemu_io(&image, "qcow2", &["write -P 7 70k 400k", "write -z 100k 64k", "write -P 8 3M 512"]);
        assert_as_qemu_sees(folder, "top.qcow2", "qcow2", &["qcow2"]);
    }
}

#[test]
fn an_internal_snapshot_is_the_disk_as_it_was() {
    for options in ["", "extended_l2=on", "compat=0.10,cluster_size=4k"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let image = path(folder, "disk.qcow2");
        witness::create(Path::new(&image), "qcow2", options, 3 * MIB + 512);
        qemu_io(&image, "qcow2", &["write -P 1 0 1M", "write -P 2 3M 512"]);
        let before = flattened(&image, "qcow2");
        let before_bytes = fs::read(&before).unwrap();
        witness::qemu_img(["snapshot", "-c", "first", &image]);
        qemu_io(&image, "qcow2", &["write -P 3 500k 1M", "write -z 3M 512"]);
        witness::qemu_img(["snapshot", "-c", "second", &image]);
        qemu_io(&image, "qcow2", &["write -P 4 2M 4k"]);
        assert_as_qemu_sees(folder, "disk.qcow2", "qcow2", &["qcow2"]);
        let qcow2 = Format::by_name("qcow2").unwrap();
        for wanted in ["snapshot=first", "snapshot=1"] {
            for target in TARGETS {
                let options = OptionValues::parse(qcow2.open_options, [wanted]).unwrap();
                let settings = OpenSettings { options, ..OpenSettings::default() };
                let opened = transload::image::open_path(Path::new(&image), &settings).unwrap();
                let out = fresh(folder, "target").join("disk");
                convert_opened(opened, &out, &target.settings()).unwrap();
                let mut bytes = vec![0; before_bytes.len()];
                open(&out).unwrap().device.read_at(&mut bytes, 0).unwrap();
                assert!(bytes == before_bytes, "{options:?} {wanted} to {target:?}", options = target.options);
            }
        }
    }
}
