//! A package of ours is taken everywhere it should be, and every rule is broken by something.

use std::collections::HashSet;
use std::fs;

use transload_testkit::Corpus;

use super::{IMPORTERS, Severity, evaluate, rules};
use crate::ovf::{FileEntry, FileUse, Package, WriteSettings, read, write};
use crate::{Address, Bus, Controller, Disk, Firmware, MacPolicy, Machine, Network, Nic, NicModel, ScsiModel};

fn machine() -> Machine {
    let mut machine = Machine::new("web", 2048);
    machine.guest = crate::GuestOs::from_vmx("debian12-64");
    machine.controllers = vec![Controller { bus: Bus::Scsi, number: 0, model: Some(ScsiModel::ParaVirtual) }];
    machine.disks = vec![Disk::new("disk1", Address::new(Bus::Scsi, 0, 0), None)];
    machine.nics = vec![Nic {
        number: 0,
        model: Some(NicModel::VmxNet3),
        network: Network::Named(String::from("LAN")),
        mac: MacPolicy::Generated(None),
        connected: true,
        wake_on_lan: None,
    }];
    machine
}

fn package(machine: &Machine, version: u32) -> Package {
    let purpose = FileUse::Disk { id: String::from("disk1"), capacity: 8 << 30, populated: Some(1) };
    let file = FileEntry { href: String::from("web-disk1.vmdk"), size: Some(1), purpose };
    let settings = WriteSettings::new().with_hardware_version(Some(version));
    read(write(machine, &[file], &settings).unwrap().text.as_bytes()).unwrap()
}

/// Importers and rules that are broken, as `importer:rule`; with a `!` where it is refused.
fn broken(package: &Package) -> Vec<String> {
    let mut broken = Vec::new();
    for importer in IMPORTERS {
        for finding in evaluate(package, importer) {
            let mark = if finding.severity == Severity::Refusal { "!" } else { "" };
            broken.push(format!("{}:{}{mark}", importer.id, finding.rule.id));
        }
    }
    broken
}

#[test]
fn what_is_written_is_taken_by_everybody() {
    assert_eq!(broken(&package(&machine(), 10)), Vec::<String>::new());
}

#[test]
fn hosts_know_hardware_up_to_their_own() {
    let broken = broken(&package(&machine(), 19));
    let refused: Vec<_> = broken.iter().map(|finding| finding.split(':').next().unwrap()).collect();
    assert_eq!(
        refused,
        ["esxi-5.5", "esxi-6.0", "esxi-6.5", "esxi-6.7", "esxi-6.7u2", "esxi-7.0", "esxi-7.0u1", "workstation-16"]
    );
    assert!(broken.iter().all(|finding| finding.ends_with(":ovf-hardware-version!")));
}

#[test]
fn devices_are_as_old_as_the_hardware() {
    let mut machine = machine();
    machine.firmware = Firmware::Efi { secure_boot: true };
    machine.tpm = true;
    machine.disks[0].address = Address::new(Bus::Nvme, 0, 0);
    machine.need_controller(Address::new(Bus::Nvme, 0, 0));
    let package = package(&machine, 11);
    let esxi = IMPORTERS.iter().find(|importer| importer.id == "esxi-8.0").unwrap();
    let messages: Vec<_> = evaluate(&package, esxi).into_iter().map(|finding| finding.message).collect();
    for part in
        ["NVMe controller came with vmx-13", "Secure Boot came with vmx-13", "TPM came with vmx-14", "boot entries"]
    {
        assert!(messages.iter().any(|message| message.contains(part)), "{part}: {messages:?}");
    }
    let broken = broken(&package);
    for finding in ["virt-v2v:ovf-nvme", "proxmox-8:ovf-lost", "virtualbox-7:ovf-lost", "aws:ovf-firmware-aws"] {
        assert!(broken.iter().any(|found| found == finding), "{finding}: {broken:?}");
    }
}

/// Descriptors by hand, for what is never written.
fn by_hand(namespace: &str, references: &str, disks: &str, systems: &str) -> Package {
    let text = format!(
        r#"<Envelope xmlns="{namespace}" xmlns:ovf="{namespace}" xmlns:rasd="r" xmlns:vssd="v"><References>{references}</References>
        <DiskSection><Info/>{disks}</DiskSection>{systems}</Envelope>"#
    );
    read(text.as_bytes()).unwrap()
}

#[test]
fn every_rule_is_broken_by_something() {
    let one = "http://schemas.dmtf.org/ovf/envelope/1";
    let system = |items: &str| {
        format!(
            "<VirtualSystem ovf:id='a'><Info/><VirtualHardwareSection><Info/><System><vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType></System>{items}</VirtualHardwareSection></VirtualSystem>"
        )
    };
    let item = |id: u32, kind: u32, rest: &str| {
        format!(
            "<Item><rasd:InstanceID>{id}</rasd:InstanceID><rasd:ResourceType>{kind}</rasd:ResourceType>{rest}</Item>"
        )
    };
    let items = [
        item(1, 35, ""),
        item(2, 10, "<rasd:Connection>none</rasd:Connection>"),
        item(
            3,
            4,
            "<rasd:VirtualQuantity>2</rasd:VirtualQuantity><rasd:AllocationUnits>byte * 2^30</rasd:AllocationUnits>",
        ),
        item(4, 17, "<rasd:HostResource>/disk/d1</rasd:HostResource>"),
        item(5, 6, ""),
        item(6, 6, ""),
        item(
            7,
            17,
            "<rasd:HostResource>ovf:/disk/d2</rasd:HostResource><rasd:Parent>5</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent>",
        ),
        item(
            8,
            17,
            "<rasd:HostResource>ovf:/disk/d3</rasd:HostResource><rasd:Parent>6</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent>",
        ),
    ];
    let references = "<File ovf:id='f1' ovf:href='a b.vmdk' ovf:compression='gzip'/><File ovf:id='f2' ovf:href='../c' ovf:chunkSize='5'/><File ovf:id='f3' ovf:href='x.nvram'/>";
    let disks = "<Disk ovf:diskId='d1' ovf:fileRef='f1' ovf:capacity='1' ovf:format='qcow2'/><Disk ovf:diskId='d2' ovf:capacity='${x}' ovf:parentRef='d1'/><Disk ovf:diskId='d3' ovf:fileRef='f2' ovf:capacity='1'/>";
    let mut broken_rules: HashSet<String> = HashSet::new();
    let mut note = |package: &Package| {
        broken_rules.extend(
            broken(package).iter().map(|finding| finding.split(':').nth(1).unwrap().trim_end_matches('!').to_owned()),
        );
    };
    note(&by_hand(one, references, disks, &system(&items.concat())));
    note(&by_hand(one, "", "", ""));
    note(&by_hand("http://schemas.dmtf.org/ovf/envelope/2", "", "", &system("").repeat(2)));
    let mut efi = machine();
    efi.firmware = Firmware::Efi { secure_boot: true };
    efi.disks[0].address = Address::new(Bus::Nvme, 0, 0);
    efi.need_controller(Address::new(Bus::Nvme, 0, 0));
    note(&package(&efi, 7));
    note(&package(&efi, 22));
    let never: Vec<_> = rules().map(|rule| rule.id).filter(|id| !broken_rules.contains(*id)).collect();
    assert!(never.is_empty(), "{never:?}");
    let ids: HashSet<_> = rules().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), rules().count());
}

#[test]
fn packages_of_others_fare_as_is_known() {
    let Some(corpus) = Corpus::get() else { return };
    let of = |name: &str| broken(&read(&fs::read(corpus.folder.join("ovf").join(name)).unwrap()).unwrap());
    let photon = of("govmomi/photon5.ovf");
    assert!(photon.contains(&String::from("esxi-6.7:ovf-hardware-version!")), "{photon:?}");
    assert!(
        !photon
            .iter()
            .any(|finding| finding.ends_with("!") && (finding.starts_with("esxi-7") || finding.starts_with("esxi-8"))),
        "{photon:?}"
    );
    let ubuntu = of("cot/ubuntu.2.0.ovf");
    for finding in [
        "esxi-8.0:ovf-version!",
        "esxi-8.0:ovf-hardware-family!",
        "esxi-8.0:ovf-device-required!",
        "virt-v2v:ovf-version!",
    ] {
        assert!(ubuntu.contains(&String::from(finding)), "{finding}: {ubuntu:?}");
    }
    assert!(!ubuntu.iter().any(|finding| finding.starts_with("virtualbox")), "{ubuntu:?}");
}
