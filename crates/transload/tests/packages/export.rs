//! What is exported, as others see it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use transload::appliance::ova::{ManifestAlgorithm, Signer};
use transload::block::ErrorKind;
use transload::convert::{Compression, Settings};
use transload::export::{ExportPlan, ExportSettings, ExportTarget, ExportedKind, MachineSource, Nvram, SourceSettings};
use transload::image::codec::Level;
use transload::image::{Format, OptionValues};
use transload_testkit::witness::{self, must, qemu_img};

use crate::machine::{Machine, NAME, STEM, members, rounded, target, threads, vmx};

fn unpack(program: &str, ova: &Path, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let status = Command::new(program).env("LC_ALL", "C.UTF-8").arg("-xf").arg(ova).arg("-C").arg(folder).status();
    assert!(status.expect("GNU tar and bsdtar are witnesses: install tar and libarchive-tools").success());
}

/// Has sha256sum check a manifest in its own folder.
fn assert_manifest(folder: &Path, manifest: &str) {
    let text = fs::read_to_string(folder.join(manifest)).unwrap();
    let lines: String = text
        .lines()
        .map(|line| {
            let (name, digest) = line.strip_prefix("SHA256(").unwrap().rsplit_once(")= ").unwrap();
            format!("{digest}  {name}\n")
        })
        .collect();
    fs::write(folder.join("sums"), lines).unwrap();
    let output = Command::new("sha256sum").current_dir(folder).args(["--strict", "-c", "sums"]).output();
    let output = output.expect("sha256sum is a witness: install coreutils");
    assert!(output.status.success(), "{}", witness::said(&output));
}

#[test]
fn an_ova_is_what_tar_sha256sum_and_qemu_img_take_it_for() {
    let machine = Machine::new();
    let ova = machine.ova();
    let names: Vec<_> = members(&ova).into_iter().map(|(name, _)| name).collect();
    let expected = [".ovf", ".mf", "-disk1.vmdk", "-disk2.vmdk", ".nvram"].map(|ending| format!("{STEM}{ending}"));
    assert_eq!(names, expected);
    for program in ["tar", "bsdtar"] {
        let folder = machine.path(program);
        unpack(program, &ova, &folder);
        assert_manifest(&folder, &format!("{STEM}.mf"));
        for place in 0..2 {
            let disk = folder.join(format!("{STEM}-disk{}.vmdk", place + 1));
            qemu_img(
                ["compare", "-f", "raw", "-F", "vmdk"].map(Path::new).into_iter().chain([&*machine.raw(place), &*disk]),
            );
            witness::assert_sound(&disk, "vmdk");
        }
        assert_eq!(fs::read(folder.join(format!("{STEM}.nvram"))).unwrap(), b"variables");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_where_they_go() {
    let machine = Machine::new();
    let whole = fs::read(machine.ova()).unwrap();
    for count in [1, 2, 7] {
        let settings = ExportSettings { threads: threads(count), force: true, ..ExportSettings::default() };
        machine.export("again.ova", &settings);
        assert!(fs::read(machine.path("again.ova")).unwrap() == whole, "{count}");
    }
    for chunk_size in [64 << 10, 3 << 20] {
        let settings = ExportSettings { chunk_size: Some(chunk_size), force: true, ..ExportSettings::default() };
        machine.export("again.ova", &settings);
        assert!(fs::read(machine.path("again.ova")).unwrap() == whole, "{chunk_size}");
    }
    let piped = Collected::default();
    let settings = ExportSettings::default();
    let target = ExportTarget::Pipe(Box::new(piped.clone()));
    let report = ExportPlan::new(machine.source(), &target, &settings).unwrap().run(target, &settings).unwrap();
    assert_eq!(report.size, whole.len() as u64);
    assert!(*piped.0.lock().unwrap() == whole);

    fs::create_dir(machine.path("folder")).unwrap();
    machine.export(&format!("folder/{STEM}.ovf"), &settings);
    for (name, payload) in members(&machine.ova()) {
        assert!(fs::read(machine.path("folder").join(&name)).unwrap() == payload, "{name}");
    }
}

#[derive(Clone, Debug, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn snapshots_are_flattened_with_a_warning_and_a_missing_layer_is_named() {
    let machine = Machine::new();
    let (base, delta) = (format!("{NAME}-0.vmdk"), format!("{NAME}-0-000001.vmdk"));
    let run = |arguments: &[&str]| {
        let output = Command::new("qemu-img").current_dir(machine.folder.path()).args(arguments).output();
        let output = output.expect("qemu-img is a witness: install qemu-utils");
        assert!(output.status.success(), "{}", witness::said(&output));
    };
    run(&["create", "-q", "-f", "vmdk", "-b", &base, "-F", "vmdk", &delta]);
    let written = Command::new("qemu-io")
        .current_dir(machine.folder.path())
        .args(["-f", "vmdk", "-c", "write -P 0xab 1048576 131072", &delta])
        .output();
    assert!(written.expect("qemu-io is a witness: install qemu-utils").status.success());
    fs::write(machine.vmx(), vmx(&[&delta])).unwrap();
    let source = machine.source();
    assert!(source.warnings.iter().any(|warning| warning.contains("2 layers are flattened")), "{:?}", source.warnings);
    machine.export("flat.ova", &ExportSettings::default());
    let folder = machine.path("flat");
    unpack("tar", &machine.path("flat.ova"), &folder);
    let delta = machine.path(&delta);
    witness::assert_same_guest(&delta, "vmdk", &folder.join(format!("{STEM}-disk1.vmdk")), "vmdk");

    fs::remove_file(machine.path(&base)).unwrap();
    let error = MachineSource::open(&machine.vmx(), &SourceSettings::default()).unwrap_err();
    assert!(error.to_string().contains(&base) && error.to_string().contains("scsi0:0"), "{error}");
}

#[test]
fn a_machine_that_runs_is_refused_unless_forced() {
    let machine = Machine::new();
    let lock = machine.path(&format!("{NAME}.vmx.lck"));
    fs::create_dir(&lock).unwrap();
    // The folder alone is what a product leaves that was closed.
    machine.source();
    fs::write(lock.join("M12345.lck"), "").unwrap();
    let error = MachineSource::open(&machine.vmx(), &SourceSettings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let forced = SourceSettings { force: true, ..SourceSettings::default() };
    MachineSource::open(&machine.vmx(), &forced).unwrap();
    fs::remove_dir_all(&lock).unwrap();
    fs::write(machine.path(&format!("{NAME}-1.vmdk.lck")), "").unwrap();
    let error = MachineSource::open(&machine.vmx(), &SourceSettings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("-1.vmdk.lck"), "{error}");
}

#[test]
fn a_disk_outside_the_folder_needs_leave() {
    let machine = Machine::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let disk = elsewhere.path().join("far.vmdk");
    fs::rename(machine.path(&format!("{NAME}-1.vmdk")), &disk).unwrap();
    fs::write(machine.vmx(), vmx(&[disk.to_str().unwrap()])).unwrap();
    let error = MachineSource::open(&machine.vmx(), &SourceSettings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let gate = transload::image::ReferenceGate::Allow(vec![elsewhere.path().to_owned()]);
    MachineSource::open(&machine.vmx(), &SourceSettings { gate, ..SourceSettings::default() }).unwrap();
}

#[test]
fn the_nvram_goes_along_as_asked() {
    let machine = Machine::new();
    let has = |nvram, name: &str| {
        let report = machine.export(name, &ExportSettings { nvram, ..ExportSettings::default() });
        let listed = report.files.iter().any(|file| file.kind == ExportedKind::Nvram);
        let descriptor = String::from_utf8(members(&machine.path(name)).remove(0).1).unwrap();
        assert_eq!(descriptor.contains(&format!("{STEM}.nvram\"")), listed, "{descriptor}");
        listed
    };
    assert!(has(Nvram::Auto, "a.ova"));
    assert!(has(Nvram::Include, "b.ova"));
    assert!(!has(Nvram::Skip, "c.ova"));
    fs::remove_file(machine.path(&format!("{NAME}.nvram"))).unwrap();
    assert!(!has(Nvram::Auto, "d.ova"));
    let target = target(&machine.path("e.ova"));
    let settings = ExportSettings { nvram: Nvram::Include, ..ExportSettings::default() };
    let error = ExportPlan::new(machine.source(), &target, &settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn manifests_are_of_the_function_that_was_asked_for_or_there_is_none() {
    let machine = Machine::new();
    for (algorithm, length) in [(ManifestAlgorithm::Sha1, 40), (ManifestAlgorithm::Sha512, 128)] {
        let settings = ExportSettings { manifest: Some(algorithm), force: true, ..ExportSettings::default() };
        machine.export("m.ova", &settings);
        let manifest = String::from_utf8(members(&machine.path("m.ova")).remove(1).1).unwrap();
        assert_eq!(manifest.lines().count(), 4);
        for line in manifest.lines() {
            assert!(line.starts_with(algorithm.name()) && line.rsplit_once("= ").unwrap().1.len() == length, "{line}");
        }
    }
    let settings = ExportSettings { manifest: None, force: true, ..ExportSettings::default() };
    machine.export("m.ova", &settings);
    assert!(!members(&machine.path("m.ova")).iter().any(|(name, _)| name.ends_with(".mf")));
}

#[test]
fn openssl_takes_the_signature() {
    let machine = Machine::new();
    let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (key, cert) = (path("key"), path("cert"));
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a", "-keyout", &key];
    must("openssl", [&request[..], &["-out", &cert]].concat());
    let signer = Signer::new(&fs::read_to_string(&key).unwrap(), &fs::read_to_string(&cert).unwrap()).unwrap();
    machine.export("signed.ova", &ExportSettings { signer: Some(signer), ..ExportSettings::default() });
    let found = members(&machine.path("signed.ova"));
    let endings: Vec<_> = found.iter().map(|(name, _)| name.rsplit_once('.').unwrap().1).collect();
    assert_eq!(endings, ["ovf", "mf", "cert", "vmdk", "vmdk", "nvram"]);
    fs::write(machine.path("manifest"), &found[1].1).unwrap();
    let text = String::from_utf8(found[2].1.clone()).unwrap();
    let hex = text.lines().next().unwrap().strip_prefix(&format!("SHA256({STEM}.mf)= ")).unwrap();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    fs::write(machine.path("signature"), bytes).unwrap();
    fs::write(machine.path("public"), must("openssl", ["x509", "-in", &cert, "-pubkey", "-noout"])).unwrap();
    let verify = ["dgst", "-sha256", "-verify", &path("public"), "-signature", &path("signature"), &path("manifest")];
    assert_eq!(must("openssl", verify), "Verified OK\n");
}

#[test]
fn compressed_grains_of_the_source_are_passed_on_as_they_are() {
    let machine = Machine::new();
    let vmdk = Format::by_name("vmdk").unwrap();
    let options = OptionValues::parse(vmdk.create_options, ["subformat=streamOptimized"]).unwrap();
    let settings =
        Settings { options, compression: Some(Compression { kind: None, level: Level::MAX }), ..Settings::new(vmdk) };
    let packed = machine.path("packed.vmdk");
    transload::convert_file(machine.raw(0), &packed, &settings).unwrap();
    fs::write(machine.vmx(), vmx(&["packed.vmdk"])).unwrap();
    let size = |level, name: &str| {
        let report = machine.export(name, &ExportSettings { level, ..ExportSettings::default() });
        report.files.iter().find(|file| file.kind == ExportedKind::Disk).unwrap().size
    };
    assert_eq!(
        size(Level::FAST, "fast.ova"),
        size(Level::MAX, "max.ova"),
        "the highest level went in, and comes out whatever is asked for"
    );
}

#[test]
fn a_target_that_is_there_stays_and_a_missing_folder_is_named() {
    let machine = Machine::new();
    let settings = ExportSettings::default();
    fs::write(machine.path("there.ova"), "precious").unwrap();
    let there = target(&machine.path("there.ova"));
    assert_eq!(ExportPlan::new(machine.source(), &there, &settings).unwrap_err().kind(), ErrorKind::Denied);
    let nowhere = target(&machine.path("none/a.ova"));
    assert_eq!(ExportPlan::new(machine.source(), &nowhere, &settings).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(fs::read(machine.path("there.ova")).unwrap(), b"precious");
}

#[test]
fn what_describes_no_machine_is_refused_with_advice() {
    let machine = Machine::new();
    let error = MachineSource::open(&machine.raw(0), &SourceSettings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotThisFormat);
    assert!(error.remedy().unwrap().contains("--disk"), "{error:?}");
}

#[test]
fn an_exported_folder_is_itself_a_machine() {
    let machine = Machine::new();
    fs::create_dir(machine.path("folder")).unwrap();
    machine.export("folder/vm.ovf", &ExportSettings::default());
    let source = MachineSource::open(&machine.path("folder/vm.ovf"), &SourceSettings::default()).unwrap();
    assert_eq!(source.machine.name, NAME);
    assert_eq!(source.machine.cpus, 2);
    let target = target(&machine.path("second.ova"));
    let settings = ExportSettings::default();
    ExportPlan::new(source, &target, &settings).unwrap().run(target, &settings).unwrap();
    let found = members(&machine.path("second.ova"));
    let disk = machine.path("second.vmdk");
    fs::write(&disk, &found[2].1).unwrap();
    assert!(crate::machine::guest(&disk) == rounded(&machine.raw(0)));
}

/// COT checks an SHA-1 manifest and compares the disks' capacities.
#[test]
fn cot_finds_nothing_to_complain_of() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-python/bin/cot");
    let program = if own.exists() { own } else { "cot".into() };
    if Command::new(&program).arg("--version").output().is_err() {
        eprintln!("SKIPPED: COT is not installed (cargo xtask setup does it): its reader is not asked");
        return;
    }
    let machine = Machine::new();
    let settings = ExportSettings { manifest: Some(ManifestAlgorithm::Sha1), ..ExportSettings::default() };
    machine.export("cot.ova", &settings);
    let output = Command::new(program).args(["info", "-v"]).arg(machine.path("cot.ova")).output().unwrap();
    let said = witness::said(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("ERROR") && !said.contains("WARNING") && !said.contains("tampered"), "{said}");
    assert!(said.contains("vmx-19") && said.contains("harddisk @ SCSI 0:1") && said.contains("6 MiB"), "{said}");
}
