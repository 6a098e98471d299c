use std::fs;

use transload_testkit::Corpus;

use crate::vmx::read;
use crate::{
    Address, Bus, DiskMode, DriveKind, Firmware, Mac, MacPolicy, Machine, Media, Network, NicModel, Notes, PortBacking,
    ScsiModel, Sound, UsbController,
};

fn specimen(corpus: &Corpus, name: &str) -> (Machine, Notes) {
    let reading = read(&fs::read(corpus.folder.join("vmx").join(name)).unwrap()).unwrap();
    (reading.value, reading.notes)
}

/// One line of what matters: name, guest, version, processors, memory; disks, drives, adapters.
fn summary(machine: &Machine) -> String {
    let guest = machine.guest.vmware.as_deref().unwrap_or("-");
    let version = machine.hardware_version.unwrap_or_default();
    let mut parts = vec![format!("{} {guest} v{version} {}x{}", machine.name, machine.cpus, machine.memory_mib)];
    for controller in &machine.controllers {
        let model = controller.model.as_ref().map(|model| format!("={model}")).unwrap_or_default();
        parts.push(format!("{}{}{model}", controller.bus, controller.number));
    }
    for disk in &machine.disks {
        let mode = if disk.mode == DiskMode::Persistent { String::new() } else { format!(" {:?}", disk.mode) };
        parts.push(format!("{}={}{mode}", disk.address, disk.file.as_deref().unwrap_or("-")));
    }
    for drive in &machine.drives {
        let place = drive.address.map_or_else(|| format!("floppy{}", drive.floppy), |address| address.to_string());
        parts.push(format!("{place}:{:?}{}", drive.media, if drive.connected { "" } else { " off" }));
    }
    for nic in &machine.nics {
        let model = nic.model.as_ref().map_or("-", NicModel::as_str);
        parts.push(format!("nic{} {model} {:?} {:?}", nic.number, nic.network, nic.mac));
    }
    parts.join("; ")
}

/// What every specimen says.
const EXPECTED: &[(&str, &str)] = &[
    (
        "haiku/haiku-alpha.vmx",
        "Haiku other v13 1x512; ide0; ide0:0=haiku-alpha.vmdk; ide0:1=blank-bfs-2048mb.vmdk; nic0 e1000 Nat Generated(Some(Mac([0, 12, 41, 170, 4, 155])))",
    ),
    (
        "haiku/haiku-nightly.vmx",
        "Haiku other v13 1x512; ide0; ide0:0=haiku-nightly.vmdk; ide0:1=blank-bfs-2048mb.vmdk; nic0 e1000 Nat Generated(Some(Mac([0, 12, 41, 170, 4, 155])))",
    ),
    ("libvirt/annotation.vmx", "test - v4 1x32"),
    (
        "libvirt/case-insensitive-2.vmx",
        "fedora11 rhel5 v4 1x1024; scsi0=lsilogic; ide0; scsi0:0=fedora11.vmdk; ide0:0:Client off; nic0 - Named(\"vm network\") Generated(Some(Mac([0, 80, 86, 145, 72, 199])))",
    ),
    ("libvirt/cdrom-ide-device.vmx", "test other v4 1x32; ide0; ide0:0:Host(\"/dev/scd0\")"),
    ("libvirt/cdrom-ide-empty-2.vmx", "test - v4 1x32; ide0; ide0:0:Empty"),
    (
        "libvirt/cdrom-ide-file-missing-datastore.vmx",
        "test - v4 1x32; ide0; ide0:0:Image(\"/vmfs/volumes/missing/cdrom.iso\")",
    ),
    ("libvirt/cdrom-ide-file-missing-file.vmx", "test - v4 1x32; ide0; ide0:0:Image(\"/vmfs/volumes/ds/missing.iso\")"),
    ("libvirt/cdrom-ide-raw-auto-detect.vmx", "test - v4 1x32; ide0; ide0:0:Host(\"\")"),
    ("libvirt/cdrom-ide-raw-device.vmx", "test - v4 1x32; ide0; ide0:0:Host(\"/dev/scd0\")"),
    ("libvirt/cdrom-scsi-device.vmx", "test - v4 1x32; scsi0; scsi0:0:Host(\"/dev/scd0\")"),
    ("libvirt/cdrom-scsi-raw-auto-detect.vmx", "test - v4 1x32; scsi0; scsi0:0:Host(\"\")"),
    ("libvirt/cdrom-scsi-raw-device.vmx", "test - v4 1x32; scsi0; scsi0:0:Host(\"/dev/scd0\")"),
    (
        "libvirt/esx-in-the-wild-1.vmx",
        "Fedora11 rhel5 v4 1x1024; scsi0=lsilogic; ide0; scsi0:0=Fedora11.vmdk; ide0:0:Client off; nic0 - Named(\"VM Network\") Generated(Some(Mac([0, 80, 86, 145, 72, 199])))",
    ),
    (
        "libvirt/esx-in-the-wild-2.vmx",
        "virtDebian1 ubuntu-64 v4 4x1000; scsi0=lsilogic; scsi1=buslogic; ide0; ide1; scsi0:0=Debian1.vmdk; ide1:1=Debian1-IDE.vmdk; scsi1:0:Image(\"Debian1-cdrom.iso\"); ide0:0:Image(\"/vmimages/tools-isoimages/linux.iso\") off; ide0:1:Host(\"/dev/scd0\"); floppy0:Host(\"/dev/fd0\") off; floppy1:Client off; nic0 vlance Named(\"VM Network\") Generated(Some(Mac([0, 12, 41, 60, 152, 62])))",
    ),
    (
        "libvirt/esx-in-the-wild-3.vmx",
        "virtDebian2 ubuntu-64 v4 2x1024; scsi0=lsilogic; ide0; scsi0:0=Debian2.vmdk; ide0:0:Image(\"/vmfs/volumes/498076b2-02796c1a-ef5b-000ae484a6a3/Isos/debian-testing-amd64-netinst.iso\"); floppy0:Client off; floppy1:Image(\"/vmfs/volumes/498076b2-02796c1a-ef5b-000ae484a6a3/Debian2/dummy.flp\"); nic0 - Named(\"VM Network\") Generated(Some(Mac([0, 12, 41, 245, 195, 12])))",
    ),
    (
        "libvirt/esx-in-the-wild-8.vmx",
        "RHEL7_10_NICs rhel7-64 v11 8x2048; scsi0=pvscsi; sata0; scsi0:0=RHEL7_6.vmdk; scsi0:1=RHEL7_6_1.vmdk IndependentNonpersistent; scsi0:2=/vmfs/volumes/5669422e-699d77db-c144-00e0815e303e/block4/block4.vmdk; sata0:0:Image(\"/vmfs/volumes/692eb778-2d4937fe/CentOS-4.7.ServerCD-x86_64.iso\"); floppy0:Client off; nic0 vmxnet3 Named(\"VM Network\") Fixed(Mac([0, 26, 74, 22, 1, 85])); nic1 e1000 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 133]))); nic2 e1000e Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 130]))); nic3 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 105]))); nic4 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 128]))); nic5 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 163]))); nic6 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 168]))); nic7 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 169]))); nic8 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 120]))); nic9 vmxnet3 Named(\"VM Network\") Generated(Some(Mac([0, 26, 74, 22, 33, 129])))",
    ),
    (
        "libvirt/ethernet-bridged.vmx",
        "test - v4 1x32; nic0 - Named(\"VM Network\") Fixed(Mac([0, 80, 86, 17, 34, 51]))",
    ),
    (
        "libvirt/ethernet-e1000.vmx",
        "test - v4 1x32; nic0 e1000 Named(\"VM Network\") Fixed(Mac([0, 80, 86, 17, 34, 51]))",
    ),
    (
        "libvirt/ethernet-null.vmx",
        "test - v4 1x32; nic0 e1000e Bridged Generated(Some(Mac([0, 80, 86, 135, 101, 67])))",
    ),
    (
        "libvirt/ethernet-other.vmx",
        "test - v4 1x32; nic0 - Named(\"VM Network\") Fixed(Mac([0, 18, 52, 86, 120, 144]))",
    ),
    ("libvirt/ethernet-static.vmx", "test - v4 1x32; nic0 - Named(\"VM Network\") Fixed(Mac([0, 80, 86, 17, 34, 51]))"),
    (
        "libvirt/ethernet-vmxnet2.vmx",
        "test - v4 1x32; nic0 vmxnet2 Named(\"VM Network\") Fixed(Mac([0, 80, 86, 17, 34, 51]))",
    ),
    (
        "libvirt/ethernet-vpx.vmx",
        "test - v4 1x32; nic0 - Named(\"VM Network\") Generated(Some(Mac([0, 80, 86, 135, 101, 67])))",
    ),
    ("libvirt/floppy-file.vmx", "test - v4 1x32; floppy0:Image(\"floppy.flp\"); floppy1:Image(\"floppy\")"),
    (
        "libvirt/fusion-in-the-wild-1.vmx",
        "ATTM_VM winxppro v9 2x3572; scsi0=buslogic; ide0; scsi0:0=ATTM_VM.vmdk; ide0:0:Host(\"\") off; floppy0:Empty off; nic0 - Bridged Generated(Some(Mac([0, 12, 41, 59, 100, 234]))); nic1 - Bridged Generated(Some(Mac([0, 12, 41, 59, 100, 244])))",
    ),
    ("libvirt/graphics-vnc.vmx", "test - v4 1x32"),
    (
        "libvirt/gsx-in-the-wild-1.vmx",
        "Server1 other26xlinux v4 1x32; scsi0=lsilogic; ide0; ide0:0=Debian-System1-0-cl2.vmdk IndependentPersistent; nic0 - Named(\"net1\") Generated(Some(Mac([0, 12, 41, 214, 43, 211])))",
    ),
    (
        "libvirt/gsx-in-the-wild-3.vmx",
        "Router other26xlinux v4 1x32; scsi0=lsilogic; ide0; ide0:0=Debian-System1-0-cl1.vmdk IndependentPersistent; nic0 - Named(\"net1\") Generated(Some(Mac([0, 12, 41, 196, 190, 90]))); nic1 - Named(\"net2\") Generated(Some(Mac([0, 12, 41, 196, 190, 100])))",
    ),
    (
        "libvirt/gsx-in-the-wild-4.vmx",
        "Client other26xlinux v4 1x264; scsi0=lsilogic; ide0; ide0:0=Debian-System1-0-cl2.vmdk IndependentPersistent; nic0 - Named(\"net2\") Generated(Some(Mac([0, 12, 41, 197, 227, 93])))",
    ),
    (
        "libvirt/harddisk-ide-file-missing-datastore.vmx",
        "test - v4 1x32; ide0; ide0:0=/vmfs/volumes/missing/harddisk.vmdk",
    ),
    ("libvirt/harddisk-scsi-file.vmx", "test - v4 1x32; scsi0; scsi0:0=harddisk.vmdk"),
    ("libvirt/harddisk-transient.vmx", "test - v4 1x32; ide0; ide0:0=harddisk.vmdk IndependentNonpersistent"),
    ("libvirt/minimal-64bit.vmx", "test other-64 v4 1x32"),
    ("libvirt/parallel-device.vmx", "test - v4 1x32"),
    (
        "libvirt/scsi-driver.vmx",
        "test - v4 1x32; scsi0=buslogic; scsi1=lsilogic; scsi2=lsisas1068; scsi3=pvscsi; scsi0:0=harddisk1.vmdk; scsi1:0=harddisk2.vmdk; scsi2:0=harddisk3.vmdk; scsi3:0=harddisk4.vmdk",
    ),
    ("libvirt/scsi-writethrough.vmx", "test - v4 1x32; scsi0=buslogic; scsi0:0=harddisk.vmdk"),
    ("libvirt/serial-network-client.vmx", "test - v4 1x32"),
    ("libvirt/serial-pipe-client-app.vmx", "test - v4 1x32"),
    ("libvirt/serial-pipe-client-vm.vmx", "test - v4 1x32"),
    ("libvirt/serial-pipe-server-app.vmx", "test - v4 1x32"),
    (
        "libvirt/ws-in-the-wild-2.vmx",
        "debian6 debian6-64 v8 1x512; scsi0=lsilogic; ide1; scsi0:0=/data/vmware/disk.vmdk; ide1:0:Image(\"/usr/lib/vmware/isoimages/linux.iso\"); floppy0:Empty off; nic0 e1000 Bridged Fixed(Mac([0, 80, 86, 47, 211, 70]))",
    ),
];

#[test]
fn every_specimen_says_what_it_says() {
    let Some(corpus) = Corpus::get() else { return };
    let mut found = Vec::new();
    for folder in ["haiku", "libvirt"] {
        for entry in fs::read_dir(corpus.folder.join("vmx").join(folder)).unwrap() {
            found.push(format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    found.sort();
    let read: Vec<_> = found.iter().map(|name| (name.as_str(), summary(&specimen(corpus, name).0))).collect();
    let expected: Vec<_> = EXPECTED.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    for (name, text) in &read {
        if !expected.contains(&(name, text.clone())) {
            eprintln!("    ({name:?}, {text:?}),");
        }
    }
    assert!(read == expected, "what was read stands above");
}

#[test]
fn a_machine_of_esxi_is_whole() {
    let Some(corpus) = Corpus::get() else { return };
    let (machine, notes) = specimen(corpus, "libvirt/esx-in-the-wild-8.vmx");
    assert_eq!((machine.cpus, machine.cores_per_socket, machine.topology()), (8, Some(2), (4, 2)));
    assert_eq!(machine.scsi_model(0), Some(&ScsiModel::ParaVirtual));
    assert_eq!(machine.uuid.as_deref(), Some("42359420-99dc-4261-5264-ba58ddae20e4"));
    assert_eq!(machine.nvram.as_deref(), Some("RHEL7_6.nvram"));
    assert_eq!(machine.nics.len(), 10);
    assert_eq!(machine.nics[0].mac, MacPolicy::Fixed(Mac([0, 0x1a, 0x4a, 0x16, 1, 0x55])));
    assert_eq!(machine.nics[1].mac, MacPolicy::Generated(Some(Mac([0, 0x1a, 0x4a, 0x16, 0x21, 0x85]))));
    assert_eq!(machine.disks[1].mode, DiskMode::IndependentNonpersistent);
    assert_eq!(machine.drives[0].address, Some(Address::new(Bus::Sata, 0, 0)));
    assert_eq!((machine.drives[1].kind, machine.drives[1].connected), (DriveKind::Floppy, false));
    assert_eq!(machine.config.get("tools.syncTimeWithHost").map(String::as_str), Some("false"));
    assert_eq!(machine.extra.get("ethernet9.pciSlotNumber").map(String::as_str), Some("2240"));
    assert!(!machine.extra.keys().any(|key| key.starts_with("sched.") || key.ends_with(".redo")));
    assert!(notes.iter().any(|note| note.message.contains("sched.swap.derivedName")), "{notes:?}");
    assert_eq!(machine.video.unwrap().memory_kib, Some(8192));
}

#[test]
fn devices_beside_disks_are_read() {
    let Some(corpus) = Corpus::get() else { return };
    let (machine, _) = specimen(corpus, "libvirt/fusion-in-the-wild-1.vmx");
    assert_eq!((machine.usb, machine.sound), (vec![UsbController::Usb2], Some(Sound::Ensoniq1371)));
    assert_eq!(machine.video.unwrap().accelerated_3d, Some(true));
    assert_eq!(machine.firmware, Firmware::Bios);
    let (machine, _) = specimen(corpus, "libvirt/serial-pipe-client-vm.vmx");
    assert_eq!(machine.serial[0].backing, PortBacking::Pipe { name: String::from("serial0.pipe"), server: false });
    let (machine, _) = specimen(corpus, "libvirt/serial-network-client.vmx");
    let uri = String::from("tcp://192.168.0.17:42001");
    assert_eq!(machine.serial[0].backing, PortBacking::Network { uri, server: false });
    let (machine, _) = specimen(corpus, "libvirt/parallel-device.vmx");
    assert_eq!(machine.parallel[0].backing, PortBacking::Device(String::from("/dev/parallel0")));
    let (machine, _) = specimen(corpus, "libvirt/annotation.vmx");
    let annotation = "Some |text| to test the \"escaping\": ||\"\"||\"| Escaped!";
    assert_eq!(machine.annotation.as_deref(), Some(annotation));
    let (machine, notes) = specimen(corpus, "libvirt/cdrom-ide-raw-auto-detect.vmx");
    assert_eq!(machine.drives[0].media, Media::Host(String::new()));
    assert_eq!(machine.memory_mib, 32);
    assert!(notes.iter().any(|note| note.part == "memsize"));
    let (machine, _) = specimen(corpus, "libvirt/ethernet-vmxnet2.vmx");
    assert_eq!(machine.nics[0].model, Some(NicModel::VmxNet2));
    assert_eq!(machine.nics[0].network, Network::Named(String::from("VM Network")));
}
