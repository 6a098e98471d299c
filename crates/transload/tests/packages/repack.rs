//! Packages with mistakes, repaired.

use std::fs;
use std::path::Path;

use transload::appliance::ova::ManifestAlgorithm;
use transload::block::ErrorKind;
use transload::repack::{Action, RepackReport, RepackSettings, repack};
use transload::validate::{ValidateSettings, validate};
use transload_testkit::{Corpus, witness};

use crate::machine::{Machine, NAME, archive, changed, guest, members, rounded, without_end};

#[track_caller]
fn repaired(from: &Path, to: &Path) -> RepackReport {
    let settings = RepackSettings { force: true, ..RepackSettings::default() };
    let report = repack(from, to, &settings).unwrap();
    let found = validate(to, &ValidateSettings::default()).unwrap();
    assert_eq!(found.findings, [], "{}", from.display());
    report
}

fn disk_of(ova: &Path, place: usize, machine: &Machine) -> Vec<u8> {
    let found = members(ova);
    let disk = machine.path("member.vmdk");
    fs::write(&disk, &found.iter().filter(|(name, _)| name.ends_with(".vmdk")).nth(place).unwrap().1).unwrap();
    guest(&disk)
}

#[test]
fn a_sound_package_keeps_every_disk_byte_for_byte() {
    let machine = Machine::new();
    let fixed = machine.path("fixed.ova");
    let report = repaired(&machine.ova(), &fixed);
    assert!(report.files.iter().skip(2).all(|file| file.action == Action::Copied), "{:?}", report.files);
    let (before, after) = (members(&machine.ova()), members(&fixed));
    assert_eq!(before[2..], after[2..]);
}

#[test]
fn mistakes_of_the_container_are_mended_and_disks_copied() {
    let machine = Machine::new();
    let (wrong, fixed) = (machine.path("wrong.ova"), machine.path("fixed.ova"));
    let mut all = members(&machine.ova());
    all.rotate_left(1);
    all[0].1 = String::from_utf8(all[0].1.clone()).unwrap().replace("SHA256(", "SHA2-256 (").into_bytes();
    all.push(("readme.txt".to_owned(), b"hello".to_vec()));
    archive(&wrong, &all);
    let report = repaired(&wrong, &fixed);
    let readme = report.files.iter().find(|file| file.name == "readme.txt").unwrap();
    assert_eq!(readme.action, Action::LeftOut);
    assert_eq!(members(&fixed)[2..], members(&machine.ova())[2..]);
}

#[test]
fn disks_that_importers_refuse_are_rewritten() {
    let machine = Machine::new();
    let (wrong, fixed) = (machine.path("wrong.ova"), machine.path("fixed.ova"));
    let sparse = fs::read(machine.path(&format!("{NAME}-1.vmdk"))).unwrap();
    changed(&machine.ova(), &wrong, |all| {
        all[2].1 = without_end(&machine, 0);
        all[3].1 = sparse;
    });
    let report = repaired(&wrong, &fixed);
    let reasons: Vec<_> =
        report.files.iter().filter(|file| file.name.ends_with("vmdk")).map(|file| file.reasons.concat()).collect();
    assert_eq!(reasons, ["vmdk-end-marker", "disk-format"]);
    for place in 0..2 {
        assert!(disk_of(&fixed, place, &machine) == rounded(&machine.raw(place)), "{place}");
    }
}

#[test]
fn what_is_asked_for_is_changed_and_nothing_else() {
    let machine = Machine::new();
    let fixed = machine.path("old.ova");
    let settings = RepackSettings {
        manifest: Some(ManifestAlgorithm::Sha1),
        hardware_version: Some(11),
        skip_nvram: true,
        ..RepackSettings::default()
    };
    let report = repack(&machine.ova(), &fixed, &settings).unwrap();
    assert_eq!(report.manifest, "SHA1");
    let found = members(&fixed);
    let text = String::from_utf8(found[0].1.clone()).unwrap();
    assert!(text.contains("vmx-11") && !text.contains("vmx-19") && !text.contains(".nvram"), "{text}");
    assert!(found[1].1.starts_with(b"SHA1("));
    assert_eq!(found[2..], members(&machine.ova())[2..4]);
    assert_eq!(validate(&fixed, &ValidateSettings::default()).unwrap().findings, []);
}

#[test]
fn the_archive_of_virtualbox_becomes_one_for_vmware() {
    let Some(corpus) = Corpus::get() else { return };
    let machine = Machine::new();
    let ova = corpus.folder.join("virtualbox-7.2.22/vbox-ovf10.ova");
    let fixed = machine.path("fixed.ova");
    repaired(&ova, &fixed);
    for place in 0..2 {
        assert!(disk_of(&fixed, place, &machine) == disk_of(&ova, place, &machine));
    }
    witness::must("tar", ["-tf".as_ref(), fixed.as_os_str()]);
}

/// What is done to the members of a package.
type Change<'a> = &'a dyn Fn(&mut Vec<(String, Vec<u8>)>);

#[test]
fn what_is_broken_for_good_is_refused() {
    let machine = Machine::new();
    let (wrong, fixed) = (machine.path("wrong.ova"), machine.path("fixed.ova"));
    let cases: [(Change<'_>, ErrorKind); 4] = [
        (&|all| drop(all.remove(2)), ErrorKind::Corrupt),
        (&|all| all[0].1 = b"<Envelope".to_vec(), ErrorKind::Corrupt),
        (&|all| all[2].1[65_536 + 1000] ^= 4, ErrorKind::Corrupt),
        (&|all| all[2].1 = b"<html>404</html>".repeat(100), ErrorKind::Corrupt),
    ];
    for (change, kind) in cases {
        changed(&machine.ova(), &wrong, change);
        let error = repack(&wrong, &fixed, &RepackSettings::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!fixed.exists());
    }
    let mut all = members(&machine.ova());
    let place = all[2].1.windows(5).position(|window| window == b"# The").unwrap();
    all[2].1[place + 2] = b'X';
    archive(&wrong, &all);
    assert_eq!(repack(&wrong, &fixed, &RepackSettings::default()).unwrap_err().kind(), ErrorKind::Checksum);
    repaired(&wrong, &fixed);
}
