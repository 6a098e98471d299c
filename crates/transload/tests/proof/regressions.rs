//! What went wrong with other programs, each by name.

use std::fs;
use std::path::Path;

use transload::block::ErrorKind;
use transload_testkit::disks::{self, Fill, Sample};
use transload_testkit::witness;

use super::support::{Original, TARGETS, Target, convert, fresh, open, open_as};

const MIB: u64 = 1 << 20;

const RAW: Target = Target { format: "raw", options: "", compressed: false };
const FRONT: Target = Target { format: "vmdk", options: "subformat=streamOptimized", compressed: true };
const FOOTER: Target = Target { format: "vmdk", options: "subformat=streamOptimized,layout=footer", compressed: true };

fn descriptor(kind: &str, extents: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\n{extents}\n\n\
         ddb.adapterType = \"lsilogic\"\n"
    )
}

#[test]
fn a_qcow2_whose_size_is_no_multiple_of_1_mib_keeps_its_tail() {
    for size in [MIB + 512, 3 * MIB - 512, 5 * MIB + 65_536 + 1024] {
        let folder = tempfile::tempdir().unwrap();
        let sample = Sample { name: "tail", size, parts: vec![(size - 512..size, Fill::Text)] };
        let original = Original::new(&sample, folder.path());
        let qcow2 = folder.path().join("tail.qcow2");
        witness::convert(&original.raw, "raw", &qcow2, "qcow2", "");
        for target in TARGETS {
            let out = fresh(folder.path(), "target").join("disk");
            convert(&qcow2, &out, target).unwrap();
            original.assert_read_in(&out, target.format, &format!("{size} to {target:?}"));
        }
    }
}

#[test]
fn the_descriptor_of_a_flat_vmdk_is_not_taken_for_a_raw_disk() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk-flat.vmdk"), vec![9; 1 << 20]).unwrap();
    for (kind, line) in [
        ("vmfs", "RW 2048 VMFS \"disk-flat.vmdk\""),
        // What VMware writes and qemu-img refuses: an offset behind a VMFS extent.
        ("vmfs", "RW 2048 VMFS \"disk-flat.vmdk\" 0"),
        ("monolithicFlat", "RW 2048 FLAT \"disk-flat.vmdk\" 0"),
    ] {
        for name in ["disk.vmdk", "disk.raw", "disk"] {
            let path = folder.path().join(name);
            fs::write(&path, descriptor(kind, line)).unwrap();
            let opened = open(&path).unwrap();
            assert_eq!((opened.layers[0].format.name, opened.device.size()), ("vmdk", 1 << 20), "{line}");
            let mut bytes = vec![0; 1 << 20];
            opened.device.read_at(&mut bytes, 0).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 9), "{line}");
        }
    }
}

#[test]
fn the_second_extent_is_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "RW 2048 FLAT \"a\" 0\nRW 100 ZERO\nRW 1024 FLAT \"b\" 3";
    fs::write(folder.path().join("a"), vec![1; 1 << 20]).unwrap();
    fs::write(folder.path().join("b"), vec![2; 1027 * 512]).unwrap();
    let path = folder.path().join("disk.vmdk");
    fs::write(&path, descriptor("custom", lines)).unwrap();
    for target in TARGETS {
        let out = fresh(folder.path(), "target").join("disk");
        convert(&path, &out, target).unwrap();
        let back = open(&out).unwrap().device;
        let mut bytes = vec![0; usize::try_from(back.size()).unwrap()];
        back.read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes.len(), (2048 + 100 + 1024) * 512, "{target:?}");
        let (first, rest) = bytes.split_at(1 << 20);
        let (hole, second) = rest.split_at(100 * 512);
        assert!(first.iter().all(|byte| *byte == 1) && hole.iter().all(|byte| *byte == 0), "{target:?}");
        assert!(second.iter().all(|byte| *byte == 2), "{target:?}");
    }
}

#[test]
fn a_delta_is_not_exported_without_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["vmdk", "qcow2"] {
        let (base, delta) =
            (folder.path().join(format!("base.{format}")), folder.path().join(format!("delta.{format}")));
        witness::create(&base, format, "", MIB);
        let names = [&base, &delta].map(|path| path.to_str().unwrap());
        witness::qemu_img(["create", "-q", "-f", format, "-b", names[0], "-F", format, names[1]]);
        fs::remove_file(&base).unwrap();
        for target in TARGETS {
            let out = fresh(folder.path(), "target").join("disk");
            let error = convert(&delta, &out, target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{format} to {target:?}: {error}");
            assert!(!out.exists());
        }
    }
}

#[test]
fn a_virtualbox_child_that_names_its_parent_by_uuid_alone_is_not_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = |uuid: &str, parent: &str| {
        descriptor("monolithicSparse", "RW 2048 SPARSE \"x.vmdk\"")
            + &format!("ddb.uuid.image=\"{uuid}\"\nddb.uuid.parent=\"{parent}\"\n")
    };
    let (one, two) = ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222");
    let none = "00000000-0000-0000-0000-000000000000";
    let (base, child) = (folder.path().join("base.vmdk"), folder.path().join("child.vmdk"));
    for (path, text) in [(&base, text(one, none)), (&child, text(two, one))] {
        witness::create(path, "vmdk", "", MIB);
        let mut room = text.into_bytes();
        room.resize(20 * 512, 0);
        transload_testkit::hostile::damage(path, 512, &room);
    }
    assert_eq!(open(&child).unwrap().layers.len(), 2);
    fs::remove_file(&base).unwrap();
    assert_eq!(open(&child).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(convert(&child, &folder.path().join("out"), &RAW).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_raw_disk_with_the_marks_of_other_formats_in_it_is_raw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let size = 2 << 20;
    let marks: [(&[u8], usize); 9] = [
        (b"KDM", 0),
        (b"KDMV", 512),
        (b"KDMV", size - 512),
        (b"conectix", 0),
        (b"conectix", 512),
        (b"conectix", size - 1024),
        (b"conectix", size - 512),
        (b"# Disk DescriptorFile", 4096),
        (b"QFI\xfb", 512),
    ];
    for (mark, at) in marks {
        let mut bytes = vec![0; size];
        bytes[size / 2] = 1;
        bytes[at..at + mark.len()].copy_from_slice(mark);
        fs::write(&path, &bytes).unwrap();
        let what = format!("{} at {at}", mark.escape_ascii());
        let opened = open(&path).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((opened.layers[0].format.name, opened.device.size()), ("raw", size as u64), "{what}");
    }
}

#[test]
fn an_image_that_is_declared_raw_is_never_probed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.img");
    witness::create(&path, "qcow2", "", MIB);
    let opened = open_as(&path, "raw").unwrap();
    assert_eq!((opened.layers.len(), opened.device.size()), (1, fs::metadata(&path).unwrap().len()));
}

#[test]
fn the_descriptors_size_counts_where_the_header_is_rounded_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.vmdk");
    let raw = folder.path().join("disk.raw");
    fs::write(&raw, vec![5; 300 * 512]).unwrap();
    witness::convert(&raw, "raw", &path, "vmdk", "");
    transload_testkit::hostile::damage(&path, 12, &384_u64.to_le_bytes());
    let opened = open(&path).unwrap();
    assert_eq!(opened.device.size(), 300 * 512);
    assert_eq!(disks::first_difference(&*opened.device, &*open(&raw).unwrap().device), None);
}

/// The layout that VMware's importers and VirtualBox want of a stream, by a reader that knows nothing else.
fn assert_importable(image: &Path, size: u64, what: &str) {
    let bytes = fs::read(image).unwrap();
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((&bytes[..4], word(4)), (b"KDMV".as_slice(), 3), "{what}: header version");
    assert_eq!(long(12), size.div_ceil(512), "{what}: capacity");
    assert_eq!(bytes.len() % 512, 0, "{what}");
    let end = bytes.len() - 512;
    let mut at = usize::try_from(long(64)).unwrap() * 512;
    let mut last = None;
    while at < end {
        let (sector, length) = (long(at), usize::try_from(word(at + 8)).unwrap());
        if length == 0 {
            let kind = word(at + 12);
            assert!((1..=3).contains(&kind), "{what}: the end marker stands at {at} and not at {end}");
            at += 512 + usize::try_from(sector).unwrap() * 512;
            continue;
        }
        assert!(length <= 66_036, "{what}: a grain of {length} bytes");
        assert!(last.is_none_or(|last| last < sector) && sector % 128 == 0, "{what}: grain at {sector}");
        let mut grain = vec![0; 65_537];
        let stored = &bytes[at + 12..at + 12 + length];
        let inflated = transload::image::codec::decode(transload::block::Codec::Zlib, stored, &mut grain).unwrap();
        assert_eq!(inflated, 65_536, "{what}: grain at {sector}");
        assert!(grain.iter().any(|byte| *byte != 0), "{what}: a grain of zeroes at {sector}");
        last = Some(sector);
        at += (12 + length).next_multiple_of(512);
    }
    assert_eq!(at, end, "{what}");
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "{what}: the last sector is the end marker");
    assert!(!bytes.windows(6).any(|window| window == b"pvscsi"), "{what}");
}

#[test]
fn streams_end_with_one_end_marker_have_whole_grains_and_no_zeroes() {
    for sample in disks::samples() {
        let folder = tempfile::tempdir().unwrap();
        let original = Original::new(&sample, folder.path());
        for target in [FRONT, FOOTER] {
            let image = fresh(folder.path(), "target").join("disk.vmdk");
            convert(&original.raw, &image, &target).unwrap();
            assert_importable(&image, sample.size, &format!("{} {target:?}", sample.name));
        }
    }
}

#[test]
fn a_large_hole_becomes_no_large_file() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let qcow2 = folder.path().join("disk.qcow2");
    witness::create(&qcow2, "qcow2", "", 100 << 30);
    let raw = folder.path().join("disk.raw");
    convert(&qcow2, &raw, &RAW).unwrap();
    let metadata = fs::metadata(&raw).unwrap();
    assert_eq!(metadata.len(), 100 << 30);
    assert!(metadata.blocks() * 512 < MIB, "{} bytes", metadata.blocks() * 512);
}
