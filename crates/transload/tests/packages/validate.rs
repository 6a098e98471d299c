//! Packages that are sound, and packages with one mistake each.

use std::fs;
use std::path::Path;

use transload::appliance::ova::{Manifest, end_padding, hex};
use transload::block::ErrorKind;
use transload::export::ExportSettings;
use transload::validate::{Soundness, ValidateSettings, Validation, validate};
use transload_testkit::{Corpus, witness};

use crate::machine::{Machine, NAME, STEM, archive, changed, members, threads, without_end};

fn judge(path: &Path) -> Validation {
    validate(path, &ValidateSettings::default()).unwrap()
}

/// The rules that a package breaks, each once.
#[track_caller]
fn rules(path: &Path) -> Vec<&'static str> {
    let mut rules: Vec<_> = judge(path).findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[test]
fn what_is_exported_is_sound_whatever_the_threads() {
    let machine = Machine::new();
    let ova = machine.ova();
    let mut first = judge(&ova);
    assert_eq!(first.findings, []);
    assert_eq!(first.soundness, Soundness::Sound);
    assert_eq!(first.machines, [NAME]);
    for count in [1, 5] {
        let settings = ValidateSettings { threads: threads(count), ..ValidateSettings::default() };
        let mut again = validate(&ova, &settings).unwrap();
        (first.elapsed_milliseconds, again.elapsed_milliseconds) = (0, 0);
        assert_eq!(again, first);
    }
    let disk = first.members.iter().find(|member| member.name.ends_with("disk1.vmdk")).unwrap();
    let stream = disk.stream.as_ref().unwrap();
    assert_eq!((stream.capacity, stream.version, stream.end_marker, stream.trailing), (6 << 20, 3, true, 0));
    assert_eq!(disk.digest_matches, Some(true));
}

#[test]
fn the_archives_of_other_makers_get_their_due() {
    let Some(corpus) = Corpus::get() else { return };
    let file = |name: &str| corpus.folder.join(name);
    // VirtualBox ends its archives without a block of zeroes, and spells its manifest in a way of its own.
    assert_eq!(rules(&file("virtualbox-7.2.22/vbox-ovf10.ova")), ["manifest-syntax", "tar-end"]);
    assert_eq!(rules(&file("open-vmdk-0.3.13/openvmdk-sha512.ova")), [""; 0]);
    assert_eq!(rules(&file("glance/testserver.ova")), ["disk-format"]);
    let broken = judge(&file("glance/testserver-bad-ovf.ova"));
    assert_eq!((broken.soundness, broken.findings[0].rule), (Soundness::Corrupt, "ova-descriptor"));
    let error = validate(&file("osv-scalibr/ova/testdata/invalid.ova"), &ValidateSettings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotThisFormat);
}

type Members = Vec<(String, Vec<u8>)>;

fn disk(members: &mut Members) -> &mut Vec<u8> {
    &mut members[2].1
}

#[test]
fn every_mistake_in_the_container_is_found_by_its_rule() {
    let machine = Machine::new();
    let ova = machine.ova();
    let path = machine.path("mistake.ova");
    let case = |rule: &str, soundness: Soundness, change: &dyn Fn(&mut Members)| {
        let mut all = members(&ova);
        change(&mut all);
        archive(&path, &all);
        let found = judge(&path);
        let told: Vec<_> = found.findings.iter().map(|finding| (finding.rule, finding.message.as_str())).collect();
        assert!(told.iter().any(|(found, _)| *found == rule), "{rule}: {told:?}");
        assert_eq!(found.soundness, soundness, "{rule}: {told:?}");
    };
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    case("ova-descriptor-first", Soundness::Sound, &|all| all.swap(0, 2));
    case("ova-order", Soundness::Sound, &|all| all.swap(1, 2));
    case("ova-descriptor", Soundness::Corrupt, &|all| all[0].0 = "a.txt".to_owned());
    case("ova-descriptor", Soundness::Corrupt, &|all| all[0].1 = b"<Envelope".to_vec());
    case("ovf-file-missing", Soundness::Corrupt, &|all| drop(all.remove(3)));
    case("ovf-file-size", Soundness::Mismatch, &|all| disk(all).extend([0; 512]));
    case("ovf-file-unlisted", Soundness::Sound, &|all| all.push(("readme.txt".to_owned(), Vec::new())));
    case("manifest-digest", Soundness::Mismatch, &|all| {
        let end = disk(all).len() - 700;
        disk(all)[end] ^= 1;
    });
    case("manifest-absent-file", Soundness::Sound, &|all| {
        let line = text(&all[1].1).lines().last().unwrap().replace(STEM, "gone");
        all[1].1.extend(format!("{line}\n").as_bytes());
    });
    case("manifest-incomplete", Soundness::Sound, &|all| {
        let kept: Vec<_> = text(&all[1].1).lines().take(3).map(|line| format!("{line}\n")).collect();
        all[1].1 = kept.concat().into_bytes();
    });
    case("manifest-unreadable", Soundness::Corrupt, &|all| all[1].1 = b"nonsense\n".to_vec());
    let spellings: [(&str, &str, &str); 5] = [
        ("SHA256(", "SHA256 (", "manifest-syntax"),
        ("SHA256(", "SHA2-256(", "manifest-syntax"),
        (")= ", ") = ", "manifest-syntax"),
        ("\n", "\r\n", "manifest-style"),
        ("\n", "\n\n", "manifest-style"),
    ];
    for (from, to, rule) in spellings {
        case(rule, Soundness::Sound, &|all| all[1].1 = text(&all[1].1).replace(from, to).into_bytes());
    }
    case("tar-name", Soundness::Sound, &|all| all[2].0 = format!("./{}", all[2].0));
}

/// As the case above, but for what only the archive's own bytes show.
#[test]
fn tars_of_other_kinds_are_told_apart() {
    let machine = Machine::new();
    let folder = machine.path("unpacked");
    fs::create_dir(&folder).unwrap();
    witness::must("tar", ["-xf".as_ref(), machine.ova().as_os_str(), "-C".as_ref(), folder.as_os_str()]);
    let names: Vec<_> = members(&machine.ova()).into_iter().map(|(name, _)| name).collect();
    let pack = |format: &str, ova: &Path| {
        let mut arguments = vec!["-C".to_owned(), folder.to_str().unwrap().to_owned(), format!("--format={format}")];
        arguments.extend(["-cf".to_owned(), ova.to_str().unwrap().to_owned()]);
        arguments.extend(names.clone());
        witness::must("tar", arguments);
        rules(ova)
    };
    assert_eq!(pack("gnu", &machine.path("gnu.ova")), [""; 0]);
    assert_eq!(pack("ustar", &machine.path("ustar.ova")), [""; 0]);
    assert_eq!(pack("pax", &machine.path("pax.ova")), ["tar-pax"]);
    let mut bytes = fs::read(machine.ova()).unwrap();
    let padding: usize =
        members(&machine.ova()).iter().map(|(_, payload)| 512 + payload.len().next_multiple_of(512)).sum();
    assert!(bytes.len() as u64 == padding as u64 + end_padding(padding as u64));
    bytes.extend(b"something");
    fs::write(machine.path("trailing.ova"), &bytes).unwrap();
    assert_eq!(rules(&machine.path("trailing.ova")), ["tar-end"]);
    bytes.truncate(padding + 512);
    fs::write(machine.path("short.ova"), &bytes).unwrap();
    assert_eq!(rules(&machine.path("short.ova")), ["tar-end"]);
    bytes.truncate(padding / 2);
    fs::write(machine.path("cut.ova"), &bytes).unwrap();
    assert_eq!(judge(&machine.path("cut.ova")).soundness, Soundness::Corrupt);
}

#[test]
fn every_mistake_in_a_disk_is_found_by_its_rule() {
    let machine = Machine::new();
    let ova = machine.ova();
    let path = machine.path("mistake.ova");
    let case = |rule: &str, soundness: Soundness, change: &dyn Fn(&mut Vec<u8>)| {
        changed(&ova, &path, |all| change(disk(all)));
        let found = judge(&path);
        let told: Vec<_> = found.findings.iter().map(|finding| (finding.rule, finding.message.as_str())).collect();
        assert!(told.iter().any(|(found, _)| *found == rule), "{rule}: {told:?}");
        assert_eq!(found.soundness, soundness, "{rule}: {told:?}");
    };
    case("vmdk-end-marker", Soundness::Sound, &|disk| *disk = without_end(&machine, 0));
    // With a footer, what is missing is the end of the file.
    case("disk-corrupt", Soundness::Corrupt, &|disk| disk.truncate(disk.len() - 512));
    case("vmdk-trailing", Soundness::Sound, &|disk| disk.resize(disk.len() + 65_536, 0));
    // The version, in the header and in the footer.
    case("vmdk-version", Soundness::Sound, &|disk| {
        let footer = disk.len() - 1024;
        (disk[4], disk[footer + 4]) = (1, 1);
    });
    // A bit in the middle of the first grain's stream.
    case("disk-corrupt", Soundness::Corrupt, &|disk| disk[65_536 + 1000] ^= 4);
    // The first grain's place.
    case("vmdk-structure", Soundness::Sound, &|disk| disk[65_536] ^= 0x80);
    case("disk-format", Soundness::Sound, &|disk| {
        let raw = fs::read(machine.raw(0)).unwrap();
        disk.clear();
        disk.extend(raw);
    });
}

#[test]
fn the_descriptor_and_the_disk_have_to_agree_about_its_size() {
    let machine = Machine::new();
    let path = machine.path("size.ova");
    changed(&machine.ova(), &path, |all| {
        let text = String::from_utf8(all[0].1.clone()).unwrap();
        assert!(text.contains("ovf:capacity=\"6\""), "{text}");
        all[0].1 = text.replace("ovf:capacity=\"6\"", "ovf:capacity=\"7\"").into_bytes();
    });
    assert_eq!(rules(&path), ["disk-capacity"]);
}

/// What makes some releases of some projects fail in VMware's importers, and others not.
#[test]
fn a_stream_by_qemu_img_is_refused_for_what_it_lacks() {
    let machine = Machine::new();
    let stream = machine.path("qemu.vmdk");
    witness::convert(&machine.raw(0), "raw", &stream, "vmdk", "subformat=streamOptimized");
    let path = machine.path("qemu.ova");
    changed(&machine.ova(), &path, |all| *disk(all) = fs::read(&stream).unwrap());
    let found = rules(&path);
    let ends_wrong = found.contains(&"vmdk-end-marker") || found.contains(&"vmdk-trailing");
    assert!(ends_wrong, "{found:?}");
}

#[test]
fn a_signature_is_judged() {
    let machine = Machine::new();
    let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (key, cert) = (path("key"), path("cert"));
    let request =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Maker", "-keyout", &key];
    witness::must("openssl", [&request[..], &["-out", &cert]].concat());
    let (key, cert) = (fs::read_to_string(key).unwrap(), fs::read_to_string(cert).unwrap());
    let signer = transload::appliance::ova::Signer::new(&key, &cert).unwrap();
    machine.export("signed.ova", &ExportSettings { signer: Some(signer), ..ExportSettings::default() });
    let sound = judge(&machine.path("signed.ova"));
    assert_eq!(sound.findings, []);
    let signature = sound.signature.unwrap();
    assert!(signature.matches && signature.subject == "CN=Maker", "{signature:?}");
    let mut all = members(&machine.path("signed.ova"));
    let mut manifest = Manifest::parse(&all[1].1).unwrap();
    manifest.entries.pop();
    all[1].1 = manifest.text().into_bytes();
    archive(&machine.path("forged.ova"), &all);
    let forged = judge(&machine.path("forged.ova"));
    assert_eq!(forged.soundness, Soundness::Mismatch);
    assert!(forged.findings.iter().any(|finding| finding.rule == "signature"), "{:?}", forged.findings);
}

#[test]
fn digests_are_told_for_files_that_no_manifest_names() {
    let machine = Machine::new();
    machine.export("bare.ova", &ExportSettings { manifest: None, ..ExportSettings::default() });
    let found = judge(&machine.path("bare.ova"));
    let payload = &members(&machine.path("bare.ova"))[1].1;
    let mut hasher = transload::appliance::ova::ManifestAlgorithm::Sha256.hasher();
    hasher.update(payload);
    assert_eq!(found.members[1].digest.as_deref(), Some(hex(&hasher.finish()).as_str()));
    assert_eq!(found.members[1].digest_matches, None);
}
