//! Packages unpacked for each hypervisor, from a file and from a stream, and packages that are not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use transload::appliance::ova::{Index, end_padding, member_header};
use transload::block::{BlockRead, BlockReadExt, Error, ErrorKind, FileBlock};
use transload::import::{ImportReport, ImportSettings, ImportSource, ImportTarget, ImportedKind, import};
use transload::validate::{ValidateSettings, validate};
use transload_testkit::{Corpus, witness};

use crate::machine::{Machine, NAME, STEM, archive, changed, guest, members, rounded};

fn unpack(ova: &Path, folder: &Path, streamed: bool, settings: &ImportSettings) -> Result<ImportReport, Error> {
    let source = if streamed {
        ImportSource::Stream(Box::new(File::open(ova).unwrap()))
    } else {
        ImportSource::File(ova.to_owned())
    };
    import(source, folder, settings)
}

const TARGETS: [(ImportTarget, &str, &str); 6] = [
    (ImportTarget::Libvirt, "xml", "qcow2"),
    (ImportTarget::Proxmox, "sh", "qcow2"),
    (ImportTarget::Vmx, "vmx", "vmdk"),
    (ImportTarget::HyperV, "ps1", "vhdx"),
    (ImportTarget::VirtualBox, "vbox", "vdi"),
    (ImportTarget::Raw, "", "raw"),
];

#[test]
fn every_hypervisor_gets_its_disks_and_its_description() {
    let machine = Machine::new();
    let ova = machine.ova();
    for (target, ending, format) in TARGETS {
        for streamed in [false, true] {
            let folder = machine.path(&format!("{ending}{format}{streamed}"));
            let report = unpack(&ova, &folder, streamed, &ImportSettings::new(target)).unwrap();
            assert_eq!((report.machine.as_str(), report.manifest_matches), (NAME, Some(true)), "{target:?}");
            for place in 0..2 {
                let name = format!("{NAME}-disk{}.{format}", place + 1);
                assert!(guest(&folder.join(&name)) == rounded(&machine.raw(place)), "{target:?} {streamed} {name}");
                let listed = report.files.iter().find(|file| file.name == name).unwrap();
                assert_eq!((listed.kind, listed.format), (ImportedKind::Disk, Some(format)));
            }
            if target == ImportTarget::Raw {
                continue;
            }
            let description = fs::read_to_string(folder.join(format!("{NAME}.{ending}"))).unwrap();
            assert!(description.contains(&format!("{NAME}-disk2.{format}")), "{description}");
            let nvram = folder.join(format!("{NAME}.nvram")).exists();
            assert_eq!(nvram, target == ImportTarget::Vmx, "{target:?}");
        }
    }
    let disk = machine.path("xmlqcow2true").join(format!("{NAME}-disk1.qcow2"));
    witness::assert_sound(&disk, "qcow2");
    witness::must("virt-xml-validate", [machine.path("xmlqcow2true").join(format!("{NAME}.xml")), "domain".into()]);
}

#[test]
fn the_archive_of_virtualbox_is_taken_from_file_and_stream() {
    let Some(corpus) = Corpus::get() else { return };
    let ova = corpus.folder.join("virtualbox-7.2.22/vbox-ovf10.ova");
    let place = tempfile::tempdir().unwrap();
    let mut disks = Vec::new();
    for streamed in [false, true] {
        let folder = place.path().join(streamed.to_string());
        let report = unpack(&ova, &folder, streamed, &ImportSettings::new(ImportTarget::Raw)).unwrap();
        // The manifest stands at the end, spelled as VirtualBox does.
        assert_eq!(report.manifest_matches, Some(true));
        disks.push(fs::read(folder.join(&report.files[0].name)).unwrap());
    }
    assert!(disks[0] == disks[1]);
    let unpacked = place.path().join("disk.vmdk");
    fs::write(&unpacked, &members(&ova)[1].1).unwrap();
    witness::convert(&unpacked, "vmdk", &place.path().join("disk.raw"), "raw", "");
    assert!(disks[0] == fs::read(place.path().join("disk.raw")).unwrap());
}

/// Imports in both ways, which both have to fail with this kind and leave nothing.
#[track_caller]
fn refused(machine: &Machine, ova: &Path, kind: ErrorKind) -> String {
    let mut said = String::new();
    for streamed in [false, true] {
        let folder = machine.path("refused");
        let before = fs::read_dir(machine.folder.path()).unwrap().count();
        let error = unpack(ova, &folder, streamed, &ImportSettings::new(ImportTarget::Libvirt)).unwrap_err();
        assert_eq!(error.kind(), kind, "{streamed}: {error}");
        assert!(!folder.exists());
        assert_eq!(fs::read_dir(machine.folder.path()).unwrap().count(), before, "litter");
        said = error.to_string();
    }
    said
}

#[test]
fn a_wrong_digest_leaves_nothing_unless_it_is_ignored() {
    let machine = Machine::new();
    let path = machine.path("tampered.ova");
    let mut all = members(&machine.ova());
    // A comment in the descriptor of a disk: everything still opens.
    let place = all[2].1.windows(5).position(|window| window == b"# The").unwrap();
    all[2].1[place + 2] = b'X';
    archive(&path, &all);
    let said = refused(&machine, &path, ErrorKind::Checksum);
    assert!(said.contains("-disk1.vmdk") && said.contains("SHA256"), "{said}");
    let settings = ImportSettings { ignore_manifest: true, ..ImportSettings::new(ImportTarget::Raw) };
    let report = unpack(&path, &machine.path("anyway"), true, &settings).unwrap();
    assert_eq!(report.manifest_matches, Some(false));
    assert!(report.warnings.iter().any(|warning| warning.contains("manifest")), "{:?}", report.warnings);
}

#[test]
fn what_leads_out_of_the_package_is_refused() {
    let machine = Machine::new();
    let path = machine.path("hostile.ova");
    let disk = format!("{STEM}-disk1.vmdk");
    for (href, kind) in [
        ("../../etc/passwd", ErrorKind::Denied),
        ("/etc/passwd", ErrorKind::Denied),
        ("https://example.org/disk.vmdk", ErrorKind::Denied),
        ("file:///etc/passwd", ErrorKind::Denied),
        ("C:\\disk.vmdk", ErrorKind::Denied),
        ("missing.vmdk", ErrorKind::Corrupt),
    ] {
        changed(&machine.ova(), &path, |all| {
            let text = String::from_utf8(all[0].1.clone()).unwrap();
            all[0].1 = text.replace(&disk, href).into_bytes();
        });
        refused(&machine, &path, kind);
    }
    for name in ["../evil.vmdk", "/evil.vmdk", "a/../../evil.vmdk"] {
        let mut all = members(&machine.ova());
        all.push((name.to_owned(), b"x".to_vec()));
        archive(&path, &all);
        refused(&machine, &path, ErrorKind::Denied);
    }
    let mut all = members(&machine.ova());
    all.push(all[2].clone());
    archive(&path, &all);
    refused(&machine, &path, ErrorKind::Corrupt);
    // Entities that unfold to gigabytes, and one that reads a file.
    for bomb in ["<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;\">", "<!ENTITY a SYSTEM \"/etc/passwd\">"] {
        changed(&machine.ova(), &path, |all| {
            let text = String::from_utf8(all[0].1.clone()).unwrap();
            let (declaration, rest) = text.split_once("?>").unwrap();
            all[0].1 = format!("{declaration}?><!DOCTYPE Envelope [{bomb}]>{rest}").into_bytes();
        });
        refused(&machine, &path, ErrorKind::Denied);
    }
}

#[test]
fn a_disk_of_no_known_format_is_not_taken_for_a_raw_one() {
    let machine = Machine::new();
    let path = machine.path("noise.ova");
    changed(&machine.ova(), &path, |all| all[2].1 = b"<html>404</html>".repeat(100));
    refused(&machine, &path, ErrorKind::Corrupt);
}

#[test]
fn an_archive_that_breaks_off_is_refused() {
    let machine = Machine::new();
    let whole = fs::read(machine.ova()).unwrap();
    let path = machine.path("cut.ova");
    for length in [700, 100_000, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(&machine, &path, ErrorKind::Corrupt);
    }
}

#[test]
fn a_descriptor_behind_the_disks_is_found_in_a_file_and_too_late_in_a_stream() {
    let machine = Machine::new();
    let path = machine.path("late.ova");
    let mut all = members(&machine.ova());
    let descriptor = all.remove(0);
    all.push(descriptor);
    archive(&path, &all);
    unpack(&path, &machine.path("late"), false, &ImportSettings::new(ImportTarget::Raw)).unwrap();
    let error = unpack(&path, &machine.path("later"), true, &ImportSettings::new(ImportTarget::Raw)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.remedy().is_some());
}

#[test]
fn a_disk_in_pieces_and_one_that_is_no_stream_are_read_from_a_file() {
    let machine = Machine::new();
    let path = machine.path("pieces.ova");
    let qcow2 = machine.path("disk.qcow2");
    witness::convert(&machine.raw(1), "raw", &qcow2, "qcow2", "");
    changed(&machine.ova(), &path, |all| {
        let text = String::from_utf8(all[0].1.clone()).unwrap();
        let piece = 400_000;
        let href = format!("ovf:href=\"{STEM}-disk1.vmdk\"");
        all[0].1 = text.replace(&href, &format!("{href} ovf:chunkSize=\"{piece}\"")).into_bytes();
        let (name, bytes) = all.remove(2);
        for (number, bytes) in bytes.chunks(piece).enumerate() {
            all.insert(2 + number, (format!("{name}.{number:09}"), bytes.to_vec()));
        }
        let second = all.iter_mut().find(|(name, _)| name.ends_with("disk2.vmdk")).unwrap();
        second.1 = fs::read(&qcow2).unwrap();
    });
    let folder = machine.path("joined");
    let report = unpack(&path, &folder, false, &ImportSettings::new(ImportTarget::Raw)).unwrap();
    for place in 0..2 {
        let name = format!("{NAME}-disk{}.raw", place + 1);
        let mut found = fs::read(folder.join(&name)).unwrap();
        found.resize(found.len().next_multiple_of(1 << 20), 0);
        assert!(found == rounded(&machine.raw(place)), "{name}");
    }
    assert_eq!(report.files.len(), 2);
    let error = unpack(&path, &machine.path("no"), true, &ImportSettings::new(ImportTarget::Raw)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_disk_that_is_compressed_as_a_whole_is_read_both_ways() {
    let machine = Machine::new();
    let path = machine.path("gzip.ova");
    let packed = machine.path("disk.vmdk");
    fs::write(&packed, &members(&machine.ova())[2].1).unwrap();
    witness::must("gzip", ["-k".as_ref(), packed.as_os_str()]);
    let packed = fs::read(machine.path("disk.vmdk.gz")).unwrap();
    let with = |bytes: &[u8]| {
        changed(&machine.ova(), &path, |all| {
            let text = String::from_utf8(all[0].1.clone()).unwrap();
            let href = format!("ovf:href=\"{STEM}-disk1.vmdk\"");
            all[0].1 = text.replace(&href, &format!("{href} ovf:compression=\"gzip\"")).into_bytes();
            all[2].1 = bytes.to_vec();
        });
    };
    with(&packed);
    for streamed in [false, true] {
        let folder = machine.path(&format!("gzip{streamed}"));
        let report = unpack(&path, &folder, streamed, &ImportSettings::new(ImportTarget::Raw)).unwrap();
        assert_eq!(report.manifest_matches, Some(true));
        assert!(fs::read(folder.join(format!("{NAME}-disk1.raw"))).unwrap() == rounded(&machine.raw(0)));
    }
    with(&packed[..packed.len() / 2]);
    refused(&machine, &path, ErrorKind::Corrupt);
}

/// A member of more than 8 GiB, which is a hole on the disk that the test runs on: read over, hashed, unpacked and told.
#[test]
#[ignore = "minutes: hashes more than 8 GiB three times; part of `cargo xtask soak`"]
fn a_member_of_more_than_8_gib_is_read_from_file_and_stream() {
    let machine = Machine::new();
    let path = machine.path("large.ova");
    let size = (8_u64 << 30) + (3 << 20);
    let all = members(&machine.ova());
    let descriptor = String::from_utf8(all[0].1.clone()).unwrap();
    let address = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
    let descriptor = descriptor.replacen(address, "raw", 1).replacen("ovf:capacity=\"6\"", "ovf:capacity=\"8195\"", 1);
    archive(&path, &[(all[0].0.clone(), descriptor.into_bytes()), all[3].clone(), all[4].clone()]);
    let mut at = fs::metadata(&path).unwrap().len();
    // In the place of the archive's end: the header, a byte at both ends, and holes between.
    let index = Index::read(&FileBlock::open(&path, false).unwrap()).unwrap();
    at = index.members.last().map_or(at, |member| (member.offset + member.size).next_multiple_of(512));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(at).unwrap();
    let header = member_header(&all[2].0, size, 0).unwrap();
    file.write_all_at(&header, at).unwrap();
    let begin = at + header.len() as u64;
    file.write_all_at(b"first", begin).unwrap();
    file.write_all_at(b"last", begin + size - 4).unwrap();
    file.set_len(begin + size + end_padding(begin + size)).unwrap();
    for program in ["tar", "bsdtar"] {
        let listed = witness::must(program, ["-tvf".as_ref(), path.as_os_str()]);
        assert!(listed.contains(&format!(" {size} ")), "{program}: {listed}");
    }
    for streamed in [false, true] {
        let folder = machine.path(&format!("large{streamed}"));
        unpack(&path, &folder, streamed, &ImportSettings::new(ImportTarget::Raw)).unwrap();
        let disk = FileBlock::open(&folder.join(format!("{NAME}-disk1.raw")), false).unwrap();
        assert_eq!(disk.size(), size);
        assert_eq!(
            (disk.read_vec(0, 5).unwrap(), disk.read_vec(size - 4, 4).unwrap()),
            (b"first".to_vec(), b"last".to_vec())
        );
    }
    let found = validate(&path, &ValidateSettings::default()).unwrap();
    assert!(found.members.iter().any(|member| member.size == size && member.format.as_deref() == Some("raw")));
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let machine = Machine::new();
    let folder = machine.path("full");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("precious"), "x").unwrap();
    let settings = ImportSettings::new(ImportTarget::Raw);
    assert_eq!(unpack(&machine.ova(), &folder, false, &settings).unwrap_err().kind(), ErrorKind::Denied);
    unpack(&machine.ova(), &folder, false, &ImportSettings { force: true, ..settings }).unwrap();
    assert_eq!(fs::read(folder.join("precious")).unwrap(), b"x");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}
