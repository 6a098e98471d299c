use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use transload_block::ErrorKind;
use transload_testkit::Corpus;

use crate::ovf::{Dialect, Namespace, Package, read};
use crate::{Bus, Firmware, Network, NicModel, ScsiModel};

/// All descriptors of the corpus.
fn descriptors(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            descriptors(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("ovf")) {
            found.push(entry);
        }
    }
}

/// Those that break a rule without which they make no sense, or are no OVF, and what is wrong with each.
const REFUSED: &[(&str, ErrorKind, &str)] = &[
    ("govmomi/external/DeleteHDTestdata/PvScsis_old/descriptor.ovf", ErrorKind::NotThisFormat, "<HTML>"),
    (
        "govmomi/external/OVFToolTemplates/ovftoolresources/item_msgid_elename.ovf",
        ErrorKind::Corrupt,
        "line 40: not well-formed",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope_1_0/Neg/section_compatibility_rec.ovf",
        ErrorKind::Corrupt,
        "line 10: not well-formed",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope_1_0/Neg/invalid_env.ovf",
        ErrorKind::Corrupt,
        "line 4: not well-formed",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope_1_0/Neg/invalid_ref_dup_id.ovf",
        ErrorKind::Corrupt,
        "line 5: File file1: another file has this id",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope_1_0/Neg/invalid_namespace.ovf",
        ErrorKind::NotThisFormat,
        "nosuchspec",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope_1_0/Neg/invalid_ref_no_href.ovf",
        ErrorKind::Corrupt,
        "line 4: File file1: it has no href",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope_1_0/Neg/section_compatibility_neg.ovf",
        ErrorKind::Corrupt,
        "line 9: not well-formed",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/VirtualHardware/Neg/dup_instanceid.ovf",
        ErrorKind::Corrupt,
        "another item has the InstanceID 6",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/DiskSection_1_0/Neg/dup_diskid.ovf",
        ErrorKind::Corrupt,
        "line 10: Disk vmdisk1: another disk has this id",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/DiskSection_1_0/Neg/no_capacity.ovf",
        ErrorKind::Corrupt,
        "line 8: Disk vmdisk1: it has no capacity",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/DiskSection/Neg/no_diskid.ovf",
        ErrorKind::Corrupt,
        "line 8: Disk: it has no diskId",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/VirtualHardware_1_0/Neg/empty_system.ovf",
        ErrorKind::Corrupt,
        "line 4: not well-formed",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/VirtualHardware_1_0/Pos/item_msgid.ovf",
        ErrorKind::Corrupt,
        "line 40: not well-formed",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope/Neg/invalid_ref_id.ovf",
        ErrorKind::Corrupt,
        "line 4: File: it has no id",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope/Neg/invalid_ref_no_href.ovf",
        ErrorKind::Corrupt,
        "line 4: File file1: it has no href",
    ),
    ("cot/ersatz_ovf_3.0.ovf", ErrorKind::Unsupported, "envelope/3"),
    ("open-vmdk-templates/template-hw7.ovf", ErrorKind::Corrupt, "@@VMDK_CAPACITY@@"),
    ("open-vmdk-templates/template-hw11.ovf", ErrorKind::Corrupt, "@@VMDK_CAPACITY@@"),
    ("open-vmdk-templates/template-hw15.ovf", ErrorKind::Corrupt, "@@VMDK_CAPACITY@@"),
    ("open-vmdk-templates/template-hw17.ovf", ErrorKind::Corrupt, "@@VMDK_CAPACITY@@"),
    ("open-vmdk-templates/template-hw18.ovf", ErrorKind::Corrupt, "@@VMDK_CAPACITY@@"),
    ("open-vmdk-templates/template-hw19.ovf", ErrorKind::Corrupt, "@@VMDK_CAPACITY@@"),
];

/// Packages without a machine: collections of none.
const EMPTY: &[&str] = &[
    "govmomi/external/ImportOvf2014/properties_filtering.ovf",
    "govmomi/external/ImportOvf2014/tagBasedPlacementGroupSection/tagBasedPlacementGroup001.ovf",
    "govmomi/external/ImportOvf2014/empty_vsc.ovf",
    "govmomi/external/policy/nostalgia-vapp.ovf",
    "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/Envelope/Neg/content_withnovm.ovf",
];

#[test]
fn every_descriptor_is_read_or_refused_for_its_reason() {
    let Some(corpus) = Corpus::get() else { return };
    let mut found = Vec::new();
    descriptors(&corpus.folder.join("ovf"), &mut found);
    assert!(found.len() > 200);
    let mut wrong = Vec::new();
    let mut refused: BTreeMap<_, _> = REFUSED.iter().map(|(path, kind, part)| (*path, (*kind, *part))).collect();
    for path in found {
        let name = path.strip_prefix(corpus.folder.join("ovf")).unwrap().display().to_string();
        match (read(&fs::read(&path).unwrap()), refused.remove(name.as_str())) {
            (Ok(package), None) => {
                if package.systems.is_empty() != EMPTY.contains(&name.as_str()) {
                    wrong.push(format!("{name}: no machine"));
                }
            }
            (Ok(_), Some(_)) => wrong.push(format!("{name}: read, and should be refused")),
            (Err(error), Some((kind, part))) if error.kind() == kind && error.to_string().contains(part) => {}
            (Err(error), _) => wrong.push(format!("{name}: {error}")),
        }
    }
    wrong.extend(refused.keys().map(|name| format!("{name}: not there")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn specimen(corpus: &Corpus, name: &str) -> Package {
    read(&fs::read(corpus.folder.join("ovf").join(name)).unwrap()).unwrap()
}

/// One line of what matters.
fn summary(package: &Package) -> String {
    let mut parts = vec![format!("{} {:?}", package.dialect, package.namespace)];
    for system in &package.systems {
        let machine = &system.machine;
        let guest = machine.guest.known().map_or("-", |guest| guest.vmware);
        parts.push(format!(
            "{} {guest} [{}] {}x{}",
            machine.name,
            system.families.join(" "),
            machine.cpus,
            machine.memory_mib
        ));
        for controller in &machine.controllers {
            let model = controller.model.as_ref().map(|model| format!("={model}")).unwrap_or_default();
            parts.push(format!("{}{}{model}", controller.bus, controller.number));
        }
        for disk in &machine.disks {
            let file = disk.file.as_deref().unwrap_or("empty");
            parts.push(format!("{}={file} {}", disk.address, disk.capacity.unwrap_or_default()));
        }
        for drive in &machine.drives {
            let place = drive.address.map_or_else(|| String::from("floppy"), |address| address.to_string());
            parts.push(format!("{place}:{:?}", drive.media));
        }
        for nic in &machine.nics {
            let model = nic.model.as_ref().map_or("-", NicModel::as_str);
            parts.push(format!("{model} {:?}", nic.network));
        }
    }
    parts.join("; ")
}

const EXPECTED: &[(&str, &str)] = &[
    (
        "cot/vmware.ovf",
        "vmware V1; vmw rhel6-64 [vmx-08] 2x1536; scsi0=lsilogic; ide1; ide0; scsi0:0=input.vmdk 1073741824; e1000 Named(\"lanethernet0\"); e1000 Named(\"lanethernet0\"); e1000 Named(\"lanethernet0\"); e1000 Named(\"lanethernet0\")",
    ),
    (
        "cot/ubuntu.2.0.ovf",
        "virtualbox V2; ubuntu ubuntu-64 [virtualbox-2.2] 1x512; ide0; ide1; sata0; sata0:0=ubuntu.2.0-disk1.vmdk 8589934592; ide1:0:Empty; e1000 Nat",
    ),
    (
        "govmomi/photon5.ovf",
        "vmware V1; Photon OS vmware-photon-64 [vmx-15] 1x2048; sata0; scsi0=pvscsi; scsi0:0=photon-ova-disk1.vmdk 17179869184; floppy:Empty; sata0:0:Empty; vmxnet3 Named(\"None\")",
    ),
    (
        "govmomi/configspec.ovf",
        "vmware V1; haproxy other3xlinux-64 [vmx-13] 2x4096; scsi0=lsilogic; ide1; ide0; scsi1=pvscsi; sata0; sata1; nvme0; scsi0:0=haproxy.ova.vmdk 21474836480; ide1:0:Empty; floppy:Empty; vmxnet3 Named(\"Management\"); vmxnet3 Named(\"Workload\")",
    ),
    (
        "govmomi/multiple_disks.ovf",
        "vmware V1; uber otherlinux [vmx-09] 2x64; scsi0=lsilogic; scsi0:0=disk0.vmdk 42949672960; scsi0:1=disk1.vmdk 53687091200; scsi0:2=disk2.vmdk 107374182400; scsi0:3=empty 21474836480; e1000 Nat",
    ),
    (
        "govmomi/properties.ovf",
        "vmware V1; test-vm ubuntu-64 [vmx-19] 2x2048; scsi0=pvscsi; ide1; ide0; e1000 Named(\"VM Network\")",
    ),
    ("govmomi/external/vbs/secure-boot-enabled-with-efi-firmware.ovf", "vmware V1; Nostalgia windows9 [vmx-14] 1x64"),
    (
        "govmomi/external/new_vm_nvram_iso/new_vm_nvram_iso.ovf",
        "vmware V1; new_vm_nvram_iso windows8srv-64 [vmx-14] 2x1024; sata0; scsi0=lsisas1068; ide1; ide0; scsi0:0=new_vm_nvram_iso-disk1.vmdk 1073741824; sata0:0:Image(\"new_vm_nvram_iso-file1.iso\"); e1000e Named(\"VM Network\")",
    ),
    (
        "govmomi/external/standard_ovas/with_spaces/special char.s-in_name/special char.s-in_name.ovf",
        "vmware V1; ùàçéè windows7srv-64 [vmx-13] 1x40; scsi0=lsisas1068; sata0; scsi0:0=special char.s-in_name-disk1.vmdk 41943040; sata0:0:Client; floppy:Client; e1000 Named(\"VM Network\")",
    ),
    (
        "govmomi/external/two-vms-vapp/two-vms-vapp.ovf",
        "vmware V1; vm2 winnetenterprise [vmx-10] 1x4; scsi0=lsilogic; ide1; ide0; scsi0:0=two-vms-vapp-disk1.vmdk 4194304; ide1:0:Client; floppy:Client; e1000 Named(\"VM Network\"); vm1 winnetenterprise [vmx-10] 1x4; scsi0=lsilogic; ide1; ide0; scsi0:0=two-vms-vapp-disk2.vmdk 4194304; ide1:0:Client; floppy:Client; e1000 Named(\"VM Network\")",
    ),
    (
        "govmomi/external/nested-vapp/nested-vapp.ovf",
        "vmware V1; grandVm rhel6 [vmx-08] 1x512; sata0; scsi0=pvscsi; ide1; ide0; scsi0:0=nested-vapp-disk1.vmdk 536870912; sata0:0:Client; floppy:Client; vmxnet3 Named(\"VM Network\"); childVm windows7 [vmx-10] 1x512; sata0; scsi0=lsisas1068; ide1; ide0; scsi0:0=nested-vapp-disk2.vmdk 536870912; sata0:0:Client; floppy:Client; e1000 Named(\"VM Network\"); nestedRootVm centos [vmx-10] 1x256; scsi0=lsilogic; ide1; ide0; scsi0:0=nested-vapp-disk3.vmdk 536870912; ide1:0:Client; floppy:Client; vmxnet3 Named(\"VM Network\")",
    ),
    (
        "govmomi/external/non-ascii/highascii/high_ascii_characters.ovf",
        "vmware V1; ùàçéè windows7srv-64 [vmx-13] 1x40; scsi0=lsisas1068; sata0; scsi0:0=ùàçéè-1.vmdk 41943040; sata0:0:Client; floppy:Client; e1000 Named(\"VM Network\")",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/LaxMode/Pos/vbox4_three_devices_IDE_0.9/vbox4_0.9.ovf",
        "vmware V0_9; vbox4 - [vmx-6] 1x384; ide1; ide0; ide1:0=vbox4.vmdk 8589934592; floppy:Empty; ide1:1:Empty; ide0:0:Empty; vlance Nat",
    ),
    (
        "govmomi/external/OVFToolTemplates/OVF/xmltestfiles/LaxMode/Pos/vbox5_all_storage_controllers/vbox5.ovf",
        "virtualbox V1; vbox5 ubuntu [virtualbox-2.2] 1x384; ide1; sata0; ide1:0=vbox5.vmdk 4194304; sata0:1=vbox2.vmdk 10737418240; floppy:Empty; floppy:Empty; vlance Nat",
    ),
    (
        "govmomi/external/ImportOvf2014/empty-disk.ovf",
        "vmware V1; Test System - [] 1x1024; scsi0=buslogic; scsi0:0=empty-disk.vmdk 268435456",
    ),
    ("govmomi/external/ImportOvf2014/scaleoutMax.ovf", "vmware V1; Test System - [] 1x1024"),
    ("govmomi/external/sriovEthernetCard.ovf", "vmware V1; sriov-vm - [] 1x1024; sriov Named(\"VM Network\")"),
];

#[test]
fn specimens_say_what_they_say() {
    let Some(corpus) = Corpus::get() else { return };
    let mut wrong = false;
    for (name, expected) in EXPECTED {
        let said = summary(&specimen(corpus, name));
        if said != *expected {
            eprintln!("    ({name:?}, {said:?}),");
            wrong = true;
        }
    }
    assert!(!wrong, "what was read stands above");
}

#[test]
fn virtualbox_tells_more_than_the_standard() {
    let Some(corpus) = Corpus::get() else { return };
    let folder = tempfile::tempdir().unwrap();
    let ova = corpus.folder.join("virtualbox-7.2.22/vbox-ovf10.ova");
    let arguments = ["-xf".as_ref(), ova.as_os_str(), "-C".as_ref(), folder.path().as_os_str()];
    transload_testkit::witness::must("tar", arguments);
    let mut found = Vec::new();
    descriptors(folder.path(), &mut found);
    let package = read(&fs::read(&found[0]).unwrap()).unwrap();
    assert_eq!((package.dialect, package.namespace), (Dialect::VirtualBox, Namespace::V1));
    let machine = &package.systems[0].machine;
    assert_eq!(machine.name, "Lab VM ünï & x");
    assert_eq!(machine.annotation.as_deref(), Some("Two-line\ndescription with ]]> and é"));
    assert_eq!(machine.firmware, Firmware::Efi { secure_boot: false });
    assert_eq!(machine.disks[1].file.as_deref(), Some("Lab VM ünï & x-disk002.vmdk"));
    assert_eq!((machine.disks[1].address.bus, machine.disks[1].address.unit), (Bus::Scsi, 3));
    assert_eq!(machine.scsi_model(0), Some(&ScsiModel::LsiLogic));
    assert_eq!(machine.nics[0].mac.address().unwrap().to_string(), "08:00:27:3b:9e:52");
    assert_eq!(machine.nics[0].network, Network::Nat);
    assert_eq!(
        (&machine.nics[1].model, &machine.nics[1].network),
        (&Some(NicModel::Virtio), &Network::Named(String::from("Internal")))
    );
}
