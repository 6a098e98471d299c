//! There is no VirtualBox to be had as a package: what is written is compared with what its version 7.2 writes.

use super::{disk_uuid, write};
use crate::xml::{NodeExt, parse};
use crate::{
    Address, Bus, Controller, Disk, DiskFormat, Drive, DriveKind, Firmware, GuestOs, Mac, MacPolicy, Machine, Media,
    Network, Nic, NicModel, Port, PortBacking, ScsiModel, Sound, UsbController,
};

fn disk(number: usize, address: Address, format: DiskFormat) -> Disk {
    let mut disk = Disk::new(format!("disk{number}"), address, Some(format!("ü & \"{number}\".{format}")));
    disk.format = Some(format);
    disk
}

fn machine() -> Machine {
    let mut machine = Machine::new("Lab <VM> & ☃", 2048);
    machine.annotation = Some(String::from("two\nlines ]]>"));
    machine.guest = GuestOs::from_vmx("debian12-64");
    machine.uuid = Some(String::from("e643fb4f-4490-42cd-b7c9-adbb47b2aa30"));
    (machine.cpus, machine.cores_per_socket) = (4, Some(2));
    machine.firmware = Firmware::Efi { secure_boot: true };
    machine.tpm = true;
    let controller = |number, model| Controller { bus: Bus::Scsi, number, model: Some(model) };
    machine.controllers = vec![
        controller(0, ScsiModel::LsiLogic),
        controller(1, ScsiModel::ParaVirtual),
        controller(2, ScsiModel::LsiLogicSas),
    ];
    machine.disks = vec![
        disk(1, Address::new(Bus::Sata, 0, 0), DiskFormat::Vdi),
        disk(2, Address::new(Bus::Scsi, 0, 3), DiskFormat::Vmdk),
        disk(3, Address::new(Bus::Scsi, 1, 0), DiskFormat::Vhd),
        disk(4, Address::new(Bus::Nvme, 0, 0), DiskFormat::Vdi),
        disk(5, Address::new(Bus::Ide, 1, 1), DiskFormat::Vdi),
    ];
    let drive = |kind, address, floppy, media| Drive { kind, address, floppy, media, connected: true };
    machine.drives = vec![
        drive(DriveKind::Cdrom, Some(Address::new(Bus::Ide, 1, 0)), 0, Media::Image(String::from("a b.iso"))),
        drive(DriveKind::Cdrom, Some(Address::new(Bus::Scsi, 0, 4)), 0, Media::Empty),
        drive(DriveKind::Floppy, None, 1, Media::Image(String::from("f.img"))),
    ];
    let nic = |number, model, network| Nic {
        number,
        model,
        network,
        mac: MacPolicy::Fixed(Mac([8, 0, 0x27, 0x3b, 0x9e, 0x52])),
        connected: true,
        wake_on_lan: None,
    };
    machine.nics = vec![
        nic(0, Some(NicModel::E1000), Network::Nat),
        nic(1, Some(NicModel::VmxNet3), Network::Named(String::from("LAN & x"))),
        nic(2, Some(NicModel::Virtio), Network::Bridged),
    ];
    machine.usb = vec![UsbController::Usb3];
    machine.sound = Some(Sound::HdAudio);
    machine.serial = vec![Port { number: 0, backing: PortBacking::None }];
    machine
}

#[test]
fn it_is_what_virtualbox_writes() {
    let mut machine = machine();
    machine.disks[0].uuid = Some(String::from("b5fc59c9-7736-4147-9bbf-bf5fcb77d5bb"));
    let written = write(&machine);
    let document = parse(&written.text, "vbox").unwrap();
    let machine = document.root_element().child("Machine").unwrap();
    assert_eq!(machine.attribute("name"), Some("Lab _VM_ & ☃"));
    assert_eq!(
        (machine.attribute("OSType"), machine.attribute("uuid")),
        (Some("Debian12_64"), Some("{e643fb4f-4490-42cd-b7c9-adbb47b2aa30}"))
    );
    // Elements in the order in which VirtualBox writes them, as in testdata's OVF of version 7.2.
    let order: Vec<_> = machine
        .child("Hardware")
        .unwrap()
        .children()
        .filter(roxmltree::Node::is_element)
        .map(|node| node.tag_name().name())
        .collect();
    assert_eq!(
        order,
        [
            "CPU",
            "Memory",
            "Firmware",
            "Chipset",
            "Boot",
            "Display",
            "BIOS",
            "TrustedPlatformModule",
            "USB",
            "Network",
            "UART",
            "AudioAdapter",
            "StorageControllers"
        ]
    );
    let media: Vec<_> = machine
        .descendants()
        .filter(|node| node.tag_name().name() == "HardDisk")
        .map(|node| {
            (
                node.attribute("uuid").unwrap().to_owned(),
                node.attribute("location").unwrap().to_owned(),
                node.attribute("format").unwrap(),
            )
        })
        .collect();
    assert_eq!(media[0], ("{b5fc59c9-7736-4147-9bbf-bf5fcb77d5bb}".to_owned(), "ü & \"1\".vdi".to_owned(), "VDI"));
    assert_eq!(media[1], (format!("{{{}}}", disk_uuid("Lab <VM> & ☃", "disk2")), "ü & \"2\".vmdk".to_owned(), "VMDK"));
    // Every medium that is attached is registered.
    let registered: Vec<_> =
        machine.child("MediaRegistry").unwrap().descendants().filter_map(|node| node.attribute("uuid")).collect();
    let mut places = Vec::new();
    for controller in machine.descendants().filter(|node| node.tag_name().name() == "StorageController") {
        for device in controller.children_named("AttachedDevice") {
            if let Some(image) = device.child("Image") {
                assert!(registered.contains(&image.attribute("uuid").unwrap()));
            }
            places.push(format!(
                "{} {}:{} {}",
                controller.attribute("type").unwrap(),
                device.attribute("port").unwrap(),
                device.attribute("device").unwrap(),
                device.attribute("type").unwrap()
            ));
        }
    }
    assert_eq!(
        places,
        [
            "AHCI 0:0 HardDisk",
            "AHCI 1:0 HardDisk",
            "AHCI 4:0 DVD",
            "LsiLogic 3:0 HardDisk",
            "NVMe 0:0 HardDisk",
            "PIIX4 1:1 HardDisk",
            "PIIX4 1:0 DVD",
            "I82078 0:1 Floppy"
        ]
    );
    let adapters: Vec<_> = machine
        .descendants()
        .filter(|node| node.tag_name().name() == "Adapter")
        .map(|node| {
            (
                node.attribute("type").unwrap(),
                node.attribute("MACAddress").unwrap(),
                node.first_element_child().unwrap().tag_name().name(),
            )
        })
        .collect();
    assert_eq!(
        adapters,
        [
            ("82545EM", "0800273B9E52", "NAT"),
            ("82540EM", "0800273B9E52", "InternalNetwork"),
            ("virtio", "0800273B9E52", "NAT")
        ]
    );
    let parts: Vec<_> = written.notes.iter().map(|note| note.part.as_str()).collect();
    for part in ["name", "scsi0:3", "scsi1:0", "scsi0:4", "nic 1", "nic 2", "sockets", "tpm", "secure boot"] {
        assert!(parts.contains(&part), "{part}: {parts:?}");
    }
}

#[test]
fn identifiers_are_the_same_every_time_and_differ() {
    assert_eq!(write(&machine()), write(&machine()));
    let uuid = disk_uuid("a", "b");
    assert_eq!((uuid.len(), uuid.as_bytes()[14], disk_uuid("ab", "")), (36, b'8', disk_uuid("ab", "")));
    assert_ne!(uuid, disk_uuid("ab", ""));
}
