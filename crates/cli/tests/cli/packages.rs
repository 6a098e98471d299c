//! Machines: `export`, `import`, `validate`, `repack` and `info`, as their users call them.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::run::{
    complaint, disk, document, fail, folder_with_disk, names, noise, run, run_with_input, succeed, transload,
};

const VMX: &str = ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"15\"\ndisplayName = \"Müll & Söhne\"\n\
    guestOS = \"debian11-64\"\nmemsize = \"1024\"\nnumvcpus = \"2\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"lsilogic\"\n\
    scsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"disk.vmdk\"\n";

/// A folder with a VMX, its disk as VMDK, and the disk's bytes as `disk.raw`.
pub(crate) fn folder_with_machine() -> tempfile::TempDir {
    let folder = folder_with_disk();
    succeed(folder.path(), &["convert", "-q", "disk.raw", "disk.vmdk"]);
    fs::write(folder.path().join("vm.vmx"), VMX).unwrap();
    folder
}

/// Whether `path` holds the test disk, and zeroes up to whole MiB behind it.
fn holds_disk(path: &Path) -> bool {
    let found = fs::read(path).unwrap();
    let wanted = disk();
    found.starts_with(&wanted) && found[wanted.len()..].iter().all(|byte| *byte == 0)
}

#[test]
fn a_machine_goes_into_an_ova_and_comes_out_for_another_hypervisor() {
    let folder = folder_with_machine();
    let path = folder.path();
    let report = document(path, &["export", "vm.vmx", "-o", "vm.ova"]);
    assert_eq!(report["machine"], "Müll & Söhne");
    assert_eq!(report["files"][2]["name"], "Muell-Soehne-disk1.vmdk");
    assert_eq!(report["size"].as_u64().unwrap(), fs::metadata(path.join("vm.ova")).unwrap().len());
    let said = succeed(path, &["validate", "vm.ova", "--for", "esxi-7.0", "--for", "virt-v2v"]);
    assert!(said.starts_with("vm.ova: sound\n") && said.contains("virt-v2v 2: takes it"), "{said}");
    let said = succeed(path, &["info", "vm.ova"]);
    assert!(
        said.contains("machine: Müll & Söhne") && said.contains("scsi0:0 (lsilogic) Muell-Soehne-disk1.vmdk"),
        "{said}"
    );
    succeed(path, &["import", "vm.ova", "-o", "raw", "--to", "raw"]);
    assert!(holds_disk(&path.join("raw/Müll & Söhne-disk1.raw")));

    let ova = fs::read(path.join("vm.ova")).unwrap();
    let piped = run_with_input(path, &["import", "-", "-o", "kvm", "--to", "libvirt"], &ova);
    assert!(piped.status.success(), "{}", complaint(&piped));
    assert_eq!(names(&path.join("kvm")), ["Müll & Söhne-disk1.qcow2", "Müll & Söhne.xml"]);
    let exported = run(path, &["export", "vm.vmx", "-o", "-"]);
    assert!(exported.status.success() && exported.stdout == ova, "{}", complaint(&exported));
    // A redirected file is a stream as well.
    let redirected = transload(path, &["import", "-", "-o", "again", "--to", "vmx"])
        .stdin(Stdio::from(fs::File::open(path.join("vm.ova")).unwrap()))
        .output()
        .unwrap();
    assert!(redirected.status.success(), "{}", complaint(&redirected));
    let said = succeed(path, &["info", "again/Müll & Söhne.vmx"]);
    assert!(said.contains("kind: VMX") && said.contains("processors: 2"), "{said}");
}

#[test]
fn disks_without_a_description_become_a_machine() {
    let folder = folder_with_machine();
    let path = folder.path();
    let machine = ["--name", "web", "--cpus", "4", "--memory", "4G", "--firmware", "efi", "--controller", "sata"];
    let network = ["--network", "VM Network", "--guest-os", "debian12-64", "-o", "web.ova"];
    let disks = ["export", "--disk", "disk.raw", "--disk", "disk.vmdk"];
    succeed(path, &[&disks[..], &machine, &network].concat());
    let info = document(path, &["info", "web.ova"]);
    let found = &info["machines"][0]["machine"];
    assert_eq!((&found["name"], &found["cpus"], &found["memory-mib"]), (&"web".into(), &4.into(), &4096.into()));
    assert_eq!(found["disks"][1]["address"], "sata0:1");
    assert_eq!(found["nics"][0]["network"]["name"], "VM Network");
    fail(path, &["export", "-o", "web.ova"], 2);
    fail(path, &["export", "vm.vmx", "--disk", "disk.raw", "-o", "a.ova"], 2);
    fail(path, &["export", "vm.vmx", "-o", "a.zip"], 2);
}

#[test]
fn an_ovf_is_written_with_its_files_beside_it() {
    let folder = folder_with_machine();
    let path = folder.path();
    succeed(path, &["export", "vm.vmx", "-o", "out/vm.ovf", "--manifest", "sha1", "--hw-version", "11"]);
    assert_eq!(names(&path.join("out")), ["vm-disk1.vmdk", "vm.mf", "vm.ovf"]);
    assert!(fs::read_to_string(path.join("out/vm.mf")).unwrap().starts_with("SHA1(vm.ovf)= "));
    assert!(fs::read_to_string(path.join("out/vm.ovf")).unwrap().contains("vmx-11"));
    assert_eq!(document(path, &["info", "out/vm.ovf"])["kind"], "ovf");
}

#[test]
fn exit_codes_tell_sound_refused_wrong_and_corrupt_apart() {
    let folder = folder_with_machine();
    let path = folder.path();
    succeed(path, &["export", "vm.vmx", "-o", "vm.ova"]);
    let code = |arguments: &[&str]| run(path, arguments).status.code();
    assert_eq!(code(&["validate", "vm.ova"]), Some(0));
    assert_eq!(code(&["validate", "vm.ova", "--for", "esxi-6.0"]), Some(5));
    let whole = fs::read(path.join("vm.ova")).unwrap();
    // In the VMDK's descriptor, which is text that nothing else checks.
    let place = whole.windows(4).position(|window| window == b"#DDB").unwrap();
    let mut wrong = whole.clone();
    wrong[place + 1] = b'X';
    fs::write(path.join("wrong.ova"), &wrong).unwrap();
    assert_eq!(code(&["validate", "wrong.ova"]), Some(7));
    assert_eq!(code(&["import", "wrong.ova", "-o", "d", "--to", "raw"]), Some(7));
    assert_eq!(code(&["repack", "wrong.ova", "-o", "r.ova"]), Some(7));
    assert_eq!(code(&["repack", "wrong.ova", "-o", "r.ova", "--force"]), Some(0));
    assert_eq!(code(&["validate", "r.ova"]), Some(0));
    fs::write(path.join("cut.ova"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(code(&["validate", "cut.ova"]), Some(4));
    assert_eq!(code(&["import", "cut.ova", "-o", "d", "--to", "raw"]), Some(4));
    assert_eq!(code(&["validate", "disk.raw"]), Some(1));
    assert_eq!(code(&["export", "vm.vmx", "-o", "vm.ova"]), Some(6));
    assert!(!path.join("d").exists());
}

#[test]
fn a_dry_run_tells_what_would_be_done_and_does_nothing() {
    let folder = folder_with_machine();
    let path = folder.path();
    let before = names(path);
    let said = succeed(path, &["export", "vm.vmx", "-o", "vm.ova", "--dry-run"]);
    assert!(said.contains("Muell-Soehne-disk1.vmdk") && said.contains("are free"), "{said}");
    succeed(path, &["export", "vm.vmx", "-o", "new/vm.ovf", "--dry-run"]);
    assert_eq!(names(path), before);
}

#[test]
fn progress_tells_the_disk_and_quiet_says_nothing() {
    let folder = folder_with_machine();
    let said = run(folder.path(), &["export", "-p", "vm.vmx", "-o", "vm.ova"]);
    assert!(complaint(&said).contains("disk 1 of 1 (Muell-Soehne-disk1.vmdk) 100%"), "{}", complaint(&said));
    assert_eq!(complaint(&run(folder.path(), &["export", "-q", "vm.vmx", "-o", "b.ova"])), "");
    assert_eq!(complaint(&run(folder.path(), &["import", "-q", "vm.ova", "-o", "d", "--to", "raw"])), "");
}

/// A machine whose disk takes a moment, and its package.
pub(crate) fn folder_with_large_machine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = noise(24 << 20);
    bytes[6 << 20..12 << 20].fill(0);
    fs::write(folder.path().join("disk.raw"), bytes).unwrap();
    succeed(folder.path(), &["export", "-q", "--disk", "disk.raw", "--name", "vm", "-o", "vm.ova"]);
    folder
}
