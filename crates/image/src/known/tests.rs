//! Every row on bytes that are of its format, nearly so, and of two formats at once.

use transload_block::ErrorKind;

use crate::{Detection, Format, ProbeWindow, detect_window};

/// What a file of these bytes is found to be.
fn detect(bytes: &[u8]) -> Detection {
    let head = &bytes[..bytes.len().min(ProbeWindow::HEAD)];
    let tail = &bytes[bytes.len().saturating_sub(ProbeWindow::TAIL)..];
    detect_window(&ProbeWindow { head, tail, size: Some(bytes.len() as u64) })
}

fn names(bytes: &[u8]) -> Vec<&'static str> {
    detect(bytes).candidates.iter().map(|format| format.name).collect()
}

/// A file of `size` zeroes with `parts` put in.
fn file(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (offset, part) in parts {
        bytes[*offset..offset + part.len()].copy_from_slice(part);
    }
    bytes
}

/// A VHD footer of `length` bytes with a right checksum.
fn footer(length: usize, kind: u32, current_size: u64) -> Vec<u8> {
    let mut footer = file(length, &[(0, b"conectix"), (8, &[0, 0, 0, 2, 0, 1, 0, 0]), (16, &[0xff; 8])]);
    footer[48..56].copy_from_slice(&current_size.to_be_bytes());
    footer[60..64].copy_from_slice(&kind.to_be_bytes());
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// A fixed VHD of `disk`.
fn fixed_vhd(disk: &[u8]) -> Vec<u8> {
    [disk, &footer(512, 2, disk.len() as u64)].concat()
}

const DISC: &[u8] = b"\x01CD001\x01";

fn koly() -> Vec<u8> {
    file(512, &[(0, b"koly\0\0\0\x04\0\0\x02\0")])
}

/// A tar member: its header and its contents in whole blocks.
fn member(name: &str, kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = file(512 + contents.len().next_multiple_of(512), &[(0, name.as_bytes()), (257, b"ustar\x0000")]);
    bytes[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
    bytes[148..156].fill(b' ');
    bytes[156] = kind;
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes[512..512 + contents.len()].copy_from_slice(contents);
    bytes
}

#[test]
fn magics_at_the_start() {
    let table: &[(&str, &[u8])] = &[
        ("vhdx", b"vhdxfile"),
        ("qcow", b"QFI\xfb\0\0\0\x01"),
        ("qed", b"QED\0\0\0\x01\0"),
        ("parallels", b"WithoutFreeSpace\x02\0\0\0"),
        ("parallels", b"WithouFreSpacExt\x02\0\0\0"),
        ("parallels", b"<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\">"),
        ("parallels", b"\xef\xbb\xbf<Parallels_disk_image>"),
        ("sparseimage", b"sprs\0\0\0\x03"),
        ("bochs", b"Bochs Virtual HD Image\0\0\0\0\0\0\0\0\0\0Redolog\0"),
        ("cloop", b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
        ("luks", b"LUKS\xba\xbe\0\x01"),
        ("luks", b"LUKS\xba\xbe\0\x02"),
        ("ewf", b"EVF\x09\x0d\x0a\xff\0\x01\x01\0\0\0"),
        ("ewf", b"EVF2\x0d\x0a\x81\0"),
        ("gzip", b"\x1f\x8b\x08\x08"),
        ("bzip2", b"BZh91AY&SY"),
        ("bzip2", b"BZh9\x17\x72\x45\x38\x50\x90"),
        ("xz", b"\xfd7zXZ\0\0\x04"),
        ("zstd", b"\x28\xb5\x2f\xfd\x04"),
    ];
    for (name, magic) in table {
        for size in [magic.len(), 2048, 1 << 20] {
            assert_eq!(names(&file(size, &[(0, magic)])), [*name], "{magic:?} in {size} bytes");
        }
        // One byte less, and the same bytes elsewhere, are a raw disk's own.
        let cut = &magic[..magic.len().min(5) - 1];
        assert_eq!(names(cut), ["raw"], "{cut:?}");
        assert_eq!(names(&file(1 << 20, &[(512, magic)])), ["raw"], "{magic:?}");
    }
}

#[test]
fn magics_with_senseless_fields_are_raw() {
    let table: &[&[u8]] = &[
        b"QFI\xfb\0\0\0\0",
        b"QED\0\0\0\0\0",
        b"QED\0\x01\0\x01\0",
        b"QED\0\0\x08\0\0",
        b"QED\0\0\0\0\x08",
        b"WithoutFreeSpace\x03\0\0\0",
        b"WithoutFreeSpace",
        b"sprs\0\0\0\x01",
        b"Bochs Virtual HD Image\0",
        b"LUKS\xba\xbe\0\x03",
        b"EVF\x09\x0d\x0a\xff\x01",
        b"\x1f\x8b\x07\x00",
        b"\x1f\x8b\x08\xe0",
        b"BZh91AY&SX",
        b"BZh01AY&SY",
        b"\x28\xb5\x2f\xfd\x08",
        b"text <Parallels_disk_image>",
        b"KDM",
        b"conectix",
    ];
    for magic in table {
        assert_eq!(names(&file(4096, &[(0, magic)])), ["raw"], "{magic:?}");
    }
    assert_eq!(names(b""), ["raw"]);
    assert_eq!(names(&[0]), ["raw"]);
}

#[test]
fn vdi_by_signature_and_version() {
    let vdi = |version: u32| {
        let header = [0xbeda_107f_u32.to_le_bytes(), version.to_le_bytes()].concat();
        file(4096, &[(0, b"<<< Oracle VM VirtualBox Disk Image >>>\n"), (0x40, &header)])
    };
    // A version that is not known is refused by name when it is opened, and no raw disk.
    for version in [0x0001_0001, 0x0001_0000, 1, 2, 0x0002_0000] {
        assert_eq!(names(&vdi(version)), ["vdi"], "{version:x}");
    }
}

#[test]
fn a_vhd_is_known_by_a_footer_at_the_very_end_or_its_copy_at_the_start() {
    let guest = vec![0xaa; 8192];
    assert_eq!(names(&fixed_vhd(&guest)), ["vhd"]);
    assert_eq!(names(&[&guest[..], &footer(511, 2, 8192)].concat()), ["vhd"]);
    for kind in [3, 4] {
        let copy = footer(512, kind, 1 << 40);
        assert_eq!(names(&copy), ["vhd"]);
        assert_eq!(names(&[&copy[..], &guest].concat()), ["vhd"], "its own footer is missing");
        assert_eq!(names(&[&guest[..], &copy].concat()), ["vhd"], "its copy is damaged");
    }
}

#[test]
fn a_damaged_footer_still_names_a_fixed_vhd_that_is_as_long_as_it_says() {
    let mut image = fixed_vhd(&[0xaa; 8192]);
    image[8192 + 70] ^= 1;
    assert_eq!(names(&image), ["vhd"]);
    // With any other length in it, it is a guest's sector.
    image[8192 + 55] ^= 1;
    assert_eq!(names(&image), ["raw"]);
}

#[test]
fn a_raw_file_with_conectix_in_it_is_not_taken_for_a_vhd() {
    let guest = vec![0xaa; 8192];
    for sound in [footer(512, 2, 8192), footer(511, 2, 8192), b"conectix".to_vec()] {
        for offset in [1, 511, 512, 4096, 8192 - 513, 8192 - 600] {
            assert_eq!(names(&file(8192, &[(offset.min(8192 - sound.len() - 1), &sound)])), ["raw"], "at {offset}");
        }
        assert_eq!(names(&[&guest[..], &sound, b"\0\0"].concat()), ["raw"], "{} bytes and two", sound.len());
        assert_eq!(names(&[&guest[..], &sound, &[0; 512]].concat()), ["raw"]);
    }
    assert_eq!(names(&file(8192, &[(8192 - 512, b"conectix")])), ["raw"], "no footer behind the cookie");
    assert_eq!(names(&file(8192, &[(0, b"conectix")])), ["raw"], "no copy behind the cookie");
}

#[test]
fn dmg_by_a_trailer_at_the_very_end() {
    assert_eq!(names(&[vec![0; 4096], koly()].concat()), ["dmg"]);
    assert_eq!(names(&[b"BZh91AY&SY".to_vec(), vec![0; 4096], koly()].concat()), ["dmg"], "its first block is bzip2");
    assert_eq!(names(&[b"\xfd7zXZ\0\0\x04".to_vec(), koly()].concat()), ["dmg"], "its first block is xz");
    assert_eq!(names(&[koly(), vec![0; 4096]].concat()), ["raw"]);
    assert_eq!(names(&[vec![0; 4096], koly(), vec![0]].concat()), ["raw"]);
}

#[test]
fn discs_plain_and_hybrid() {
    assert_eq!(names(&file(40_000, &[(32768, DISC)])), ["iso"]);
    assert_eq!(names(&file(40_000, &[(32768, b"\0CD001\x01")])), ["iso"], "a boot record comes first");
    let hybrid = file(40_000, &[(510, b"\x55\xaa"), (512, b"EFI PART"), (32768, DISC)]);
    assert_eq!(names(&hybrid), ["iso"]);
    for wrong in [b"\xffCD001\x01", b"\x01CD001\x00", b"\x01CD002\x01"] {
        assert_eq!(names(&file(40_000, &[(32768, wrong)])), ["raw"]);
    }
    assert_eq!(names(&file(40_000, &[(2048, DISC)])), ["raw"]);
    assert_eq!(names(&file(32774, &[(32768, &DISC[..6])])), ["raw"], "cut off");
}

#[test]
fn an_appliance_is_a_tar_whose_first_member_is_a_descriptor() {
    let disk = member("disk.vmdk", b'0', b"KDMV");
    let ovf = member("vm.OVF", b'0', b"<Envelope/>");
    assert_eq!(names(&[&ovf[..], &disk].concat()), ["ova"]);
    assert_eq!(names(&[&disk[..], &ovf].concat()), ["raw"]);
    let mut gnu = ovf.clone();
    gnu[257..265].copy_from_slice(b"ustar  \0");
    assert_eq!(names(&gnu), ["raw"], "the checksum no longer holds");
    let mut old = member("vm.ovf", b'\0', b"");
    old[257..265].fill(0);
    assert_eq!(names(&old), ["raw"]);
    assert_eq!(names(&member(".ovf", b'0', b"")), ["ova"]);
    assert_eq!(names(&member("ovf", b'0', b"")), ["raw"]);
}

#[test]
fn an_appliance_with_records_or_a_long_name_before_its_first_member() {
    let pax = member("PaxHeaders/vm.ovf", b'x', b"19 mtime=123456789\n");
    assert_eq!(names(&[pax, member("vm.ovf", b'0', b"")].concat()), ["ova"]);
    let long = format!("{}.ovf", "n".repeat(120));
    let record = format!("135 path={long}\n12 size=100\n");
    let pax = member("PaxHeaders/nnn", b'x', record.as_bytes());
    assert_eq!(names(&[pax, member(&long[..100], b'0', b"")].concat()), ["ova"]);
    let gnu = member("././@LongLink", b'L', format!("{long}\0").as_bytes());
    assert_eq!(names(&[gnu, member(&long[..100], b'0', b"")].concat()), ["ova"]);
    let comment = member("PaxHeaders/x", b'x', b"19 comment=some.ovf\n");
    assert_eq!(names(&[comment, member("disk.vmdk", b'0', b"")].concat()), ["raw"]);
    // Records that reach behind what is looked at, or say so, end the search.
    let endless = member("PaxHeaders/x", b'x', &vec![b'1'; 70_000]);
    assert_eq!(names(&endless), ["raw"]);
    assert_eq!(names(&member("././@LongLink", b'L', b"vm.ovf").repeat(200)), ["raw"]);
}

#[test]
fn two_formats_at_once_are_ambiguous() {
    let table: &[(&[&str], Vec<u8>)] = &[
        (&["vhd", "vhdx"], fixed_vhd(&file(8192, &[(0, b"vhdxfile")]))),
        (&["vhd", "qcow"], fixed_vhd(&file(8192, &[(0, b"QFI\xfb\0\0\0\x01")]))),
        (&["vhd", "iso"], fixed_vhd(&file(65536, &[(32768, DISC)]))),
        (&["vhd", "luks"], fixed_vhd(&file(8192, &[(0, b"LUKS\xba\xbe\0\x01")]))),
        (&["vhd", "gzip"], fixed_vhd(&file(8192, &[(0, b"\x1f\x8b\x08\0")]))),
        (&["vhdx", "dmg"], [b"vhdxfile".to_vec(), koly()].concat()),
        (&["vhdx", "iso"], file(65536, &[(0, b"vhdxfile"), (32768, DISC)])),
        (&["iso", "ova"], {
            let mut bytes = member("vm.ovf", b'0', &vec![0; 65536]);
            bytes[32768..32775].copy_from_slice(DISC);
            bytes
        }),
    ];
    for (expected, bytes) in table {
        let detection = detect(bytes);
        assert_eq!(detection.candidates.iter().map(|format| format.name).collect::<Vec<_>>(), *expected);
        let error = detection.unambiguous().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(expected.iter().all(|name| error.to_string().contains(name)), "{error}");
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("-f")));
    }
}

#[test]
fn a_stream_is_known_by_its_head_alone() {
    let window = |head: &'static [u8]| ProbeWindow { head, tail: &[], size: None };
    let name = |head| detect_window(&window(head)).unambiguous().unwrap().name;
    assert_eq!(name(b"vhdxfile"), "vhdx");
    assert_eq!(name(b"BZh91AY&SY"), "bzip2");
    assert_eq!(name(b""), "raw");
}

#[test]
fn names_that_people_use_are_understood() {
    for (name, format) in [("VPC", "vhd"), ("iso9660", "iso"), ("E01", "ewf"), ("gz", "gzip"), ("qcow1", "qcow")] {
        assert_eq!(Format::by_name(name).unwrap().name, format);
    }
    assert!(Format::by_name("").is_none());
    assert_eq!(Format::by_extension("a.VHDX").unwrap().name, "vhdx");
    assert!(Format::by_extension("vhdx").is_none());
}
