//! What is written passes libvirt's own schema and is read again; what is read lies at times.

use std::path::Path;

use transload_block::ErrorKind;
use transload_testkit::witness;

use super::{read, write};
use crate::{
    Address, Bus, Controller, Disk, DiskFormat, DiskMode, Drive, DriveKind, Firmware, Mac, MacPolicy, Machine, Media,
    Network, Nic, NicModel, Port, PortBacking, ScsiModel, Sound, UsbController,
};

/// Has `virt-xml-validate` judge a domain.
fn validate(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("domain.xml");
    std::fs::write(&path, text).unwrap();
    let output = witness::run("virt-xml-validate", [path.as_path(), Path::new("domain")]);
    assert!(output.status.success(), "{}\n{text}", witness::said(&output));
}

fn controller(bus: Bus, number: u32, model: Option<ScsiModel>) -> Controller {
    Controller { bus, number, model }
}

fn disk(number: usize, address: Address, format: DiskFormat) -> Disk {
    let mut disk = Disk::new(format!("disk{number}"), address, Some(format!("/vms/a & b/disk {number}.{format}")));
    disk.format = Some(format);
    disk
}

fn nic(number: u32, model: Option<NicModel>, network: Network) -> Nic {
    let mac = MacPolicy::Fixed(Mac([0x52, 0x54, 0, 0, 0, u8::try_from(number).unwrap()]));
    Nic { number, model, network, mac, connected: number != 1, wake_on_lan: None }
}

/// What libvirt can say, so that it comes back.
fn sayable() -> Machine {
    let mut machine = Machine::new("Grüße & <☃> \"x\"", 2048);
    machine.annotation = Some(String::from("two\nlines & more"));
    machine.guest.libosinfo = Some(String::from("http://debian.org/debian/12"));
    machine.uuid = Some(String::from("42359420-99dc-4261-5264-ba58ddae20e4"));
    (machine.cpus, machine.cores_per_socket) = (6, Some(3));
    machine.firmware = Firmware::Efi { secure_boot: true };
    machine.boot_order = vec![crate::BootDevice::Cdrom, crate::BootDevice::Disk, crate::BootDevice::Network];
    machine.tpm = true;
    machine.controllers = vec![
        controller(Bus::Scsi, 0, Some(ScsiModel::VirtioScsi)),
        controller(Bus::Scsi, 1, Some(ScsiModel::ParaVirtual)),
        controller(Bus::Scsi, 2, Some(ScsiModel::LsiLogicSas)),
        controller(Bus::Virtio, 0, None),
        controller(Bus::Sata, 0, None),
    ];
    machine.disks = vec![
        disk(1, Address::new(Bus::Scsi, 0, 3), DiskFormat::Qcow2),
        disk(2, Address::new(Bus::Scsi, 1, 1), DiskFormat::Raw),
        disk(3, Address::new(Bus::Scsi, 2, 0), DiskFormat::Vmdk),
        disk(4, Address::new(Bus::Virtio, 0, 0), DiskFormat::Vhd),
        disk(5, Address::new(Bus::Sata, 0, 0), DiskFormat::Vdi),
    ];
    machine.disks[1].read_only = true;
    machine.disks[3].mode = DiskMode::IndependentNonpersistent;
    let media = Media::Image(String::from("/isos/a & b.iso"));
    let address = Some(Address::new(Bus::Sata, 0, 1));
    machine.drives = vec![Drive { kind: DriveKind::Cdrom, address, floppy: 0, media, connected: true }];
    machine.nics = vec![
        nic(0, Some(NicModel::VmxNet3), Network::Nat),
        nic(1, Some(NicModel::Virtio), Network::Nat),
        nic(2, Some(NicModel::PcNet), Network::Nat),
    ];
    machine.usb = vec![UsbController::Usb2, UsbController::Usb3];
    machine.sound = Some(Sound::HdAudio);
    machine.serial = vec![Port { number: 1, backing: PortBacking::None }];
    machine
}

#[test]
fn what_is_written_is_valid_and_read_again() {
    let machine = sayable();
    let written = write(&machine);
    validate(&written.text);
    let kinds: Vec<_> = written.notes.iter().map(|note| note.part.as_str()).collect();
    assert_eq!(kinds, ["tpm"]);
    let reading = read(written.text.as_bytes()).unwrap();
    assert!(reading.notes.is_empty(), "{:?}", reading.notes);
    assert_eq!(reading.value, machine);
}

#[test]
fn what_vmware_has_and_qemu_has_not_is_the_nearest() {
    let mut machine = Machine::new("a/b\nc", 512);
    machine.guest = crate::GuestOs::from_vmx("windows9-64");
    machine.firmware = Firmware::Efi { secure_boot: false };
    machine.controllers = vec![
        controller(Bus::Scsi, 0, Some(ScsiModel::LsiLogic)),
        controller(Bus::Scsi, 1, Some(ScsiModel::LsiLogicSas)),
        controller(Bus::Scsi, 2, None),
    ];
    let on = |bus, controller, unit| Address::new(bus, controller, unit);
    machine.disks = vec![
        disk(1, on(Bus::Scsi, 0, 0), DiskFormat::Qcow2),
        disk(2, on(Bus::Scsi, 1, 12), DiskFormat::Qcow2),
        disk(3, on(Bus::Nvme, 0, 0), DiskFormat::Qcow2),
        disk(4, on(Bus::Ide, 0, 0), DiskFormat::Qcow2),
        disk(5, on(Bus::Sata, 0, 29), DiskFormat::Qcow2),
        disk(6, on(Bus::Scsi, 2, 0), DiskFormat::Qcow2),
        Disk::new("disk7", on(Bus::Scsi, 2, 1), None),
    ];
    machine.disks[0].mode = DiskMode::IndependentPersistent;
    machine.drives = vec![
        Drive {
            kind: DriveKind::Cdrom,
            address: Some(on(Bus::Ide, 1, 0)),
            floppy: 0,
            media: Media::Host(String::from("/dev/sr0")),
            connected: true,
        },
        Drive { kind: DriveKind::Floppy, address: None, floppy: 0, media: Media::Empty, connected: true },
    ];
    machine.nics = vec![
        nic(0, Some(NicModel::VmxNet2), Network::Bridged),
        nic(1, None, Network::Named(String::from("LAN"))),
        nic(2, Some(NicModel::Other(String::from("ne2000"))), Network::None),
    ];
    machine.sound = Some(Sound::Ensoniq1371);
    machine.serial = vec![
        Port { number: 9, backing: PortBacking::None },
        Port { number: 0, backing: PortBacking::File(String::from("/tmp/x")) },
    ];
    machine.config.insert(String::from("a"), String::from("b"));
    machine.features.cpu_hot_add = Some(true);
    let written = write(&machine);
    validate(&written.text);
    assert!(
        written.text.contains("<name>a_b_c</name>")
            && written.text.contains("offset=\"localtime\"")
            && written.text.contains("<hyperv>")
    );
    let read = read(written.text.as_bytes()).unwrap().value;
    let places: Vec<_> = read.disks.iter().map(|disk| disk.address.to_string()).collect();
    assert_eq!(places, ["sata0:3", "sata0:4", "sata1:0", "sata0:1", "sata0:0", "sata0:5"]);
    let parts: Vec<_> = written.notes.iter().map(|note| note.part.as_str()).collect();
    for part in [
        "name",
        "scsi0:0",
        "scsi1:12",
        "nvme0:0",
        "ide0:0",
        "cdrom",
        "floppy0",
        "nic 0",
        "nic 1",
        "nic 2",
        "sound",
        "serial9",
        "serial0",
        "settings of VMware",
        "processors",
        "scsi2:1",
    ] {
        assert!(parts.contains(&part), "{part}: {parts:?}");
    }
}

#[test]
fn linux_gets_virtio_scsi_for_controllers_that_qemu_has_not() {
    let mut machine = Machine::new("vm", 512);
    machine.guest = crate::GuestOs::from_vmx("debian12-64");
    machine.controllers = vec![controller(Bus::Scsi, 0, Some(ScsiModel::LsiLogic))];
    machine.disks = vec![
        disk(1, Address::new(Bus::Scsi, 0, 0), DiskFormat::Qcow2),
        disk(2, Address::new(Bus::Ide, 1, 1), DiskFormat::Raw),
    ];
    machine.drives = vec![Drive {
        kind: DriveKind::Floppy,
        address: None,
        floppy: 1,
        media: Media::Image(String::from("/a.img")),
        connected: true,
    }];
    let written = write(&machine);
    validate(&written.text);
    assert!(
        written.text.contains("machine=\"pc\"")
            && written.text.contains("bus=\"ide\"")
            && written.text.contains("dev=\"fdb\"")
    );
    let read = read(written.text.as_bytes()).unwrap().value;
    assert_eq!(read.scsi_model(0), Some(&ScsiModel::VirtioScsi));
    assert_eq!(read.disks[1].address, Address::new(Bus::Ide, 1, 1));
}

#[test]
fn many_disks_have_names_and_places() {
    let mut machine = Machine::new("vm", 512);
    machine.disks =
        (0..60).map(|number| disk(1, Address::new(Bus::Sata, number / 30, number % 30), DiskFormat::Raw)).collect();
    let written = write(&machine);
    validate(&written.text);
    assert!(
        written.text.contains("dev=\"sdz\"")
            && written.text.contains("dev=\"sdaa\"")
            && written.text.contains("dev=\"sdbh\"")
    );
}

#[test]
fn domains_of_others_are_read() {
    let text = r#"<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name><memory>1048576</memory><vcpu current='2'>4</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
  <nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>
  <cpu mode='host-passthrough'><topology sockets='1' dies='2' cores='1' threads='2'/></cpu>
  <devices><disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg/web'/><target dev='vda' bus='virtio'/></disk>
  <disk type='file' device='disk'><source file='/a.qcow2'/><target dev='sdc' bus='usb'/></disk>
  <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
  <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:01:02:03'/><model type='virtio'/></interface>
  <hostdev mode='subsystem'/><tpm model='tpm-tis'><backend type='passthrough'/></tpm></devices>
  <qemu:commandline/></domain>"#;
    let reading = read(text.as_bytes()).unwrap();
    let machine = reading.value;
    assert_eq!((machine.memory_mib, machine.cpus, machine.cores_per_socket), (1024, 2, Some(4)));
    assert_eq!(machine.firmware, Firmware::Efi { secure_boot: true });
    assert_eq!(machine.disks[0].file.as_deref(), Some("/dev/vg/web"));
    assert_eq!(machine.disks[1].address.to_string(), "sata0:2");
    assert_eq!(machine.drives[0].address, Some(Address::new(Bus::Sata, 0, 1)));
    assert_eq!(machine.nics[0].network, Network::Named(String::from("br0")));
    let parts: Vec<_> = reading.notes.iter().map(|note| note.part.as_str()).collect();
    assert_eq!(parts, ["sdc", "hostdev", "tpm", "commandline"]);
}

#[test]
fn what_is_no_domain_or_lies_is_refused() {
    let kind = |text: &str| read(text.as_bytes()).unwrap_err().kind();
    let with = |inner: &str| kind(&format!("<domain><name>a</name>{inner}</domain>"));
    assert_eq!(kind("<network/>"), ErrorKind::NotThisFormat);
    assert_eq!(kind("<domain>"), ErrorKind::Corrupt);
    assert_eq!(with(""), ErrorKind::Corrupt);
    assert_eq!(with("<memory>0</memory>"), ErrorKind::Corrupt);
    assert_eq!(with("<memory unit='parsec'>1</memory>"), ErrorKind::Corrupt);
    assert_eq!(with("<memory unit='T'>99999999999</memory>"), ErrorKind::Corrupt);
    assert_eq!(with("<memory>1024</memory><vcpu>0</vcpu>"), ErrorKind::Corrupt);
    assert_eq!(with("<memory>1024</memory><devices><disk type='network'/></devices>"), ErrorKind::Unsupported);
    assert_eq!(kind("<!DOCTYPE a><domain/>"), ErrorKind::Denied);
}
