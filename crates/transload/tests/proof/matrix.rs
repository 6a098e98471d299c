//! Every readable variant to every writable one.
//!
//! A new image depends on what the guest sees and on nothing else, so the image that is made of the raw disk is judged once
//! by everybody, and those made of other variants must be the same files byte for byte. Only where compressed units went
//! over as they were may they differ, and are judged again.

use std::fs;
use std::path::Path;

use transload::block::ErrorKind;
use transload_testkit::disks::{self, Fill, Sample};
use transload_testkit::witness;

use super::support::{Original, QEMU, TARGETS, Target, convert, files, fresh, open};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The samples of the test kit, and sizes where the last sector, cluster, grain or MiB is not whole.
fn samples() -> Vec<Sample> {
    let text = |name, size| Sample { name, size, parts: vec![(0..size, Fill::Text)] };
    let mut samples = disks::samples();
    samples.extend([
        text("a byte less than a grain", 64 * KIB - 1),
        text("a byte more than a grain", 64 * KIB + 1),
        text("a byte more than 1 MiB", MIB + 1),
        Sample { name: "a sector less than 1 MiB", size: MIB - 512, parts: vec![(0..MIB - 512, Fill::Random)] },
        Sample {
            name: "several tables and 7 bytes",
            size: 33 * MIB + 7,
            parts: vec![
                (5 * MIB..5 * MIB + 700, Fill::Random),
                (32 * MIB - 1..32 * MIB + 1, Fill::Random),
                (33 * MIB..33 * MIB + 7, Fill::Text),
            ],
        },
        Sample { name: "only the last sector", size: 66 * MIB, parts: vec![(66 * MIB - 512..66 * MIB, Fill::Text)] },
    ]);
    samples
}

/// One of two halves of the work, so that they run at once.
fn write_and_judge(half: usize) {
    for sample in samples().iter().skip(half).step_by(2) {
        let folder = tempfile::tempdir().unwrap();
        let original = Original::new(sample, folder.path());
        for target in TARGETS {
            let what = format!("{} to {target:?}", sample.name);
            let image = fresh(folder.path(), "target").join("disk");
            let report =
                convert(&original.raw, &image, target).unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
            assert_eq!((report.virtual_size, report.copied + report.skipped), (sample.size, sample.size), "{what}");
            original.assert_read_in(&image, target.format, &what);
            original.assert_witnessed_in(&image, target.format, &what);
        }
    }
}

#[test]
fn every_disk_to_every_target_is_found_good_by_others() {
    write_and_judge(0);
}

#[test]
fn every_other_disk_to_every_target_is_found_good_by_others() {
    write_and_judge(1);
}

#[test]
fn every_disk_in_every_variant_of_qemu_img_is_read() {
    for sample in samples() {
        let folder = tempfile::tempdir().unwrap();
        let original = Original::new(&sample, folder.path());
        // Of these, qemu-img makes none without bytes, or none that anybody can open.
        let no_empty = |variant: &&Target| matches!(variant.format, "vmdk" | "vhd" | "vhdx" | "qcow");
        for variant in QEMU.iter().filter(|variant| sample.size > 0 || !no_empty(variant)) {
            let image = fresh(folder.path(), "source").join("disk.img");
            variant.by_qemu(&original.raw, &image);
            original.assert_read_in(&image, variant.format, &format!("{} from {variant:?}", sample.name));
        }
    }
}

/// The disk in each variant that can be read, each in a folder of its own: those of qemu-img and those of ours.
fn variants(original: &Original, folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let mut made = vec![("raw".to_owned(), original.raw.clone())];
    for (number, variant) in QEMU.iter().enumerate() {
        let image = fresh(folder, &format!("qemu{number}")).join("disk.img");
        variant.by_qemu(&original.raw, &image);
        made.push((format!("{variant:?} by qemu-img"), image));
    }
    for (number, target) in TARGETS.iter().enumerate() {
        let image = fresh(folder, &format!("own{number}")).join("disk.img");
        convert(&original.raw, &image, target).unwrap();
        made.push((format!("{target:?} by us"), image));
    }
    made
}

#[test]
fn every_variant_to_every_other_one() {
    // A whole number of sectors, so that every variant holds the same disk.
    let sample = Sample {
        name: "small and mixed",
        size: 3 * MIB + 3 * 512,
        parts: vec![
            (100..200, Fill::Random),
            (64 * KIB - 1..64 * KIB + 1, Fill::Random),
            (300 * KIB..600 * KIB, Fill::Text),
            (MIB..MIB + 200 * KIB, Fill::WrittenZeroes),
            (2 * MIB + 511..2 * MIB + 300 * KIB, Fill::Random),
            (3 * MIB..3 * MIB + 3 * 512, Fill::Text),
        ],
    };
    let folder = tempfile::tempdir().unwrap();
    let original = Original::new(&sample, folder.path());
    let sources = variants(&original, folder.path());
    for target in TARGETS {
        let mut reference = None;
        for (source, path) in &sources {
            let what = format!("{source} to {target:?}");
            let out = fresh(folder.path(), "target");
            let image = out.join("disk");
            convert(path, &image, target).unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
            let found = files(&out);
            let reference = reference.get_or_insert_with(|| found.clone());
            if *reference != found {
                assert!(target.compressed, "{what}: not the file that was made of the raw disk");
                original.assert_witnessed_in(&image, target.format, &what);
            }
            original.assert_read_in(&image, target.format, &what);
        }
    }
}

/// Three TiB do not fit into what counts sectors in 32 bits.
#[test]
fn three_tib_that_are_nearly_empty() {
    let sample = disks::huge();
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("huge.raw");
    sample.save(&raw);
    let original = open(&raw).unwrap();
    for target in TARGETS {
        // Tables for 3 TiB in clusters of 512 bytes are more than the format allows, written zeroes more than the disk has.
        let too_large = ["cluster_size=512", "cluster_size=4k", "preallocation", "monolithicFlat", "refcount_bits=64"];
        if too_large.iter().any(|option| target.options.contains(option)) {
            continue;
        }
        let what = format!("{target:?}");
        let image = fresh(folder.path(), "target").join("disk");
        if target.format == "vhd" {
            // Its tables count sectors of the file in 32 bits, and no table can be made for more.
            let error = convert(&raw, &image, target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{what}: {error}");
            assert!(error.to_string().contains("2040 GiB") && error.remedy() == Some("write a vhdx"), "{error:?}");
            assert_eq!(fs::read_dir(image.parent().unwrap()).unwrap().count(), 0, "{what}: litter");
            continue;
        }
        convert(&raw, &image, target).unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
        let back = open(&image).unwrap();
        assert_eq!(disks::first_difference(&*original.device, &*back.device), None, "{what}");
        let info = witness::qemu_img(["info", "-f", witness::qemu_name(target.format), image.to_str().unwrap()]);
        assert!(info.contains(&format!("({} bytes)", sample.size)), "{what}: {info}");
        for (range, _) in &sample.parts {
            assert_part(&image, &raw, target, range.start, &what);
        }
    }
}

/// qemu-img reads the same 4 KiB at `offset` of the image and of the raw disk; to compare all of it takes it minutes.
fn assert_part(image: &Path, raw: &Path, target: &Target, offset: u64, what: &str) {
    let part = |path: &Path, format: &str| {
        let out = raw.with_file_name("part");
        let (input, output) = (format!("if={}", path.display()), format!("of={}", out.display()));
        let (skip, count) = (format!("skip={}", offset / 4096), format!("count={}", offset / 4096 + 1));
        witness::qemu_img(["dd", "-f", format, "-O", "raw", "bs=4096", &skip, &count, &input, &output]);
        fs::read(out).unwrap()
    };
    let found = part(image, target.format);
    assert_eq!(found.len(), 4096, "{what}");
    assert!(found.iter().any(|byte| *byte != 0), "{what} at {offset}");
    assert!(found == part(raw, "raw"), "{what} at {offset}");
}
