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

const AZURE: Target = Target { format: "vhd", options: "subformat=fixed,round_up=1M", compressed: false };

/// The fields of a VHD's footer by their places, and its checksum.
fn footer(image: &Path) -> Vec<u8> {
    let bytes = fs::read(image).unwrap();
    let mut footer = bytes[bytes.len() - 512..].to_vec();
    let found = u32::from_be_bytes(footer[64..68].try_into().unwrap());
    footer[64..68].fill(0);
    assert_eq!(found, !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>(), "the footer's checksum");
    footer
}

/// QEMU took the size from the geometry: Azure refused "21475270656 bytes. The size must be a whole number (in MBs)".
#[test]
fn a_vhd_for_azure_is_a_whole_number_of_mib_and_a_footer() {
    for size in [MIB, 20 * MIB + 512, 33 * MIB - 1] {
        let folder = tempfile::tempdir().unwrap();
        let sample = Sample { name: "azure", size, parts: vec![(size - 512..size, Fill::Text)] };
        let original = Original::new(&sample, folder.path());
        let image = folder.path().join("disk.vhd");
        convert(&original.raw, &image, &AZURE).unwrap();
        let (footer, whole) = (footer(&image), size.next_multiple_of(MIB));
        assert_eq!(fs::metadata(&image).unwrap().len(), whole + 512, "{size}");
        assert_eq!(footer[40..48], whole.to_be_bytes(), "original size");
        assert_eq!(footer[48..56], whole.to_be_bytes(), "current size");
        assert_eq!((&footer[..8], &footer[28..32], &footer[36..40]), (&b"conectix"[..], &b"win "[..], &b"Wi2k"[..]));
        assert_eq!(
            (&footer[8..24], &footer[60..64]),
            (&[&[0, 0, 0, 2, 0, 1, 0, 0][..], &[0xff; 8]].concat()[..], &[0, 0, 0, 2][..])
        );
        let info = witness::qemu_img(["info", "-f", "vpc", "--output=json", image.to_str().unwrap()]);
        assert!(info.contains(&format!("\"virtual-size\": {whole},")), "{info}");
    }
}

/// Azure refused a dynamic VHD whose table had one entry too many for a size that is a multiple of the block.
#[test]
fn the_table_of_a_dynamic_vhd_has_as_many_entries_as_blocks() {
    for (size, blocks) in [(4 * MIB, 2_u32), (4 * MIB + 512, 3), (2 * MIB - 512, 1), (256 * MIB, 128)] {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("raw");
        Sample { name: "", size, parts: vec![(0..512, Fill::Text)] }.save(&raw);
        let image = folder.path().join("disk.vhd");
        convert(&raw, &image, &Target { format: "vhd", options: "", compressed: false }).unwrap();
        let bytes = fs::read(&image).unwrap();
        assert_eq!(bytes[512 + 28..512 + 32], blocks.to_be_bytes(), "{size}");
        // The first block stands right behind the table, which ends with its sector.
        let first = u64::from(u32::from_be_bytes(bytes[1536..1540].try_into().unwrap())) * 512;
        assert_eq!(first, (1536 + u64::from(blocks) * 4).next_multiple_of(512), "{size}");
    }
}

/// Azure writes `wa` as the maker of what it exports, and QEMU cut such disks off at their geometry.
#[test]
fn only_virtual_pc_and_old_qemu_mean_the_geometry() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, path) = (folder.path().join("raw"), folder.path().join("disk.vhd"));
    // One sector more than a geometry of 4 heads and 17 sectors can say.
    let size = 512 * (4 * 17 * 100 + 1);
    Sample { name: "", size, parts: vec![(size - 512..size, Fill::Text)] }.save(&raw);
    convert(&raw, &path, &Target { format: "vhd", options: "subformat=fixed", compressed: false }).unwrap();
    let bytes = fs::read(&path).unwrap();
    for (maker, expected) in [
        (b"vpc ", size - 512),
        (b"qemu", size - 512),
        (b"qem2", size),
        (b"win ", size),
        (b"d2v ", size),
        (b"tap\0", size),
        (b"CTXS", size),
        (b"wa\0\0", size),
        (b"vbox", size),
    ] {
        let mut image = bytes.clone();
        let footer = bytes.len() - 512;
        image[footer + 28..footer + 32].copy_from_slice(maker);
        image[footer + 64..footer + 68].fill(0);
        let sum: u32 = image[footer..].iter().map(|byte| u32::from(*byte)).sum();
        image[footer + 64..footer + 68].copy_from_slice(&(!sum).to_be_bytes());
        fs::write(&path, image).unwrap();
        assert_eq!(open(&path).unwrap().device.size(), expected, "{}", maker.escape_ascii());
    }
}

/// qemu-img reads such a child alone, and says nothing.
#[test]
fn a_child_in_blocks_is_not_read_without_its_parent() {
    let Some(corpus) = transload_testkit::Corpus::get() else { return };
    for child in ["dfvfs/fat-differential.vhd", "dfvfs/fat-differential.vhdx", "virtualbox-7.2.22/diff1.vdi"] {
        let folder = tempfile::tempdir().unwrap();
        let alone = folder.path().join(Path::new(child).file_name().unwrap());
        fs::copy(corpus.file(corpus.entry(child).unwrap()), &alone).unwrap();
        for target in TARGETS {
            let out = fresh(folder.path(), "target").join("disk");
            let error = convert(&alone, &out, target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{child} to {target:?}: {error}");
            assert!(!out.exists());
        }
    }
}

/// A child that was written over its parent by Windows, by the eyes of two readers.
#[test]
fn a_vhdx_child_is_read_as_others_read_it() {
    let Some(corpus) = transload_testkit::Corpus::get() else { return };
    let child = corpus.file(corpus.entry("dfvfs/fat-differential.vhdx").unwrap());
    let opened = open(&child).unwrap();
    let expected = (opened.device.size(), disks::sha256(&*opened.device));
    assert_eq!(witness::dissect(&child, "vhdx"), expected);
    assert_eq!(witness::libvhdi(&[&child, &child.with_file_name("fat-parent.vhdx")]), expected);
}
