use std::collections::HashSet;
use std::path::Path;

use roxmltree::Node;
use transload_block::ErrorKind;
use transload_testkit::witness;

use crate::ovf::{FileEntry, FileUse, WriteSettings, pad, read, widest, write};
use crate::xml::NodeExt;
use crate::{
    Address, Bus, Controller, Disk, DiskMode, Drive, DriveKind, Firmware, Mac, MacPolicy, Machine, Media, Network, Nic,
    NicModel, Port, PortBacking, ScsiModel, Sound, UsbController, Video,
};

/// A machine that has everything an OVF can say.
fn everything() -> Machine {
    let mut machine = Machine::new("Grüße & \"Küsse\" <☃>", 2048);
    machine.annotation = Some(String::from("two\nlines ]]> & more"));
    machine.guest.vmware = Some(String::from("debian12-64"));
    machine.guest.cim = Some(96);
    machine.guest.description = Some(String::from("Debian <12>"));
    machine.hardware_version = Some(19);
    (machine.cpus, machine.cores_per_socket) = (4, Some(2));
    machine.features.cpu_hot_add = Some(true);
    machine.features.iommu = Some(false);
    machine.firmware = Firmware::Efi { secure_boot: true };
    machine.nvram = Some(String::from("vm.nvram"));
    machine.boot_order = vec![crate::BootDevice::Cdrom, crate::BootDevice::Disk];
    machine.tpm = true;
    let controller = |bus, number, model| Controller { bus, number, model };
    machine.controllers = vec![
        controller(Bus::Scsi, 0, Some(ScsiModel::LsiLogic)),
        controller(Bus::Scsi, 1, Some(ScsiModel::LsiLogicSas)),
        controller(Bus::Scsi, 2, Some(ScsiModel::BusLogic)),
        controller(Bus::Scsi, 3, Some(ScsiModel::ParaVirtual)),
        controller(Bus::Sata, 0, None),
        controller(Bus::Nvme, 0, None),
        controller(Bus::Ide, 0, None),
        controller(Bus::Ide, 1, None),
    ];
    let disk = |number: usize, address, file: Option<&str>, capacity| {
        let mut disk = Disk::new(format!("vmdisk{number}"), address, file.map(str::to_owned));
        disk.format = file.map(|_| crate::DiskFormat::Vmdk);
        disk.capacity = Some(capacity);
        disk
    };
    machine.disks = vec![
        disk(1, Address::new(Bus::Scsi, 3, 0), Some("vm & ü-disk1.vmdk"), 8 << 30),
        disk(2, Address::new(Bus::Nvme, 0, 1), Some("vm-disk2.vmdk"), (1 << 30) + 512),
        disk(3, Address::new(Bus::Sata, 0, 4), None, 1 << 20),
    ];
    machine.disks[0].populated = Some(123_456);
    machine.disks[1].mode = DiskMode::IndependentPersistent;
    machine.drives = vec![
        Drive {
            kind: DriveKind::Cdrom,
            address: Some(Address::new(Bus::Ide, 1, 0)),
            floppy: 0,
            media: Media::Image(String::from("x y.iso")),
            connected: true,
        },
        Drive {
            kind: DriveKind::Cdrom,
            address: Some(Address::new(Bus::Sata, 0, 0)),
            floppy: 0,
            media: Media::Client,
            connected: false,
        },
        Drive {
            kind: DriveKind::Floppy,
            address: None,
            floppy: 0,
            media: Media::Host(String::new()),
            connected: false,
        },
    ];
    let nic = |number, model, network, mac| Nic {
        number,
        model: Some(model),
        network,
        mac,
        connected: number != 1,
        wake_on_lan: Some(true),
    };
    machine.nics = vec![
        nic(
            0,
            NicModel::VmxNet3,
            Network::Named(String::from("LAN \"1\" & <2>")),
            MacPolicy::Fixed(Mac([2, 1, 2, 3, 4, 5])),
        ),
        nic(1, NicModel::E1000, Network::Nat, MacPolicy::Generated(None)),
        nic(2, NicModel::E1000e, Network::HostOnly, MacPolicy::Generated(None)),
        nic(3, NicModel::PcNet, Network::Named(String::from("LAN \"1\" & <2>")), MacPolicy::Generated(None)),
    ];
    machine.usb = vec![UsbController::Usb1, UsbController::Usb2, UsbController::Usb3];
    machine.video =
        Some(Video { memory_kib: Some(8192), displays: Some(2), accelerated_3d: Some(true), automatic: Some(false) });
    machine.sound = Some(Sound::HdAudio);
    machine.serial = vec![Port { number: 0, backing: PortBacking::None }];
    machine.config.insert(String::from("tools.syncTimeWithHost"), String::from("true"));
    machine.extra.insert(String::from("ethernet0.pciSlotNumber"), String::from("192"));
    machine.extra.insert(String::from("guestinfo.a"), String::from("<\"&>"));
    machine.extra.insert(String::from("vmci0.present"), String::from("TRUE"));
    machine
}

fn files() -> Vec<FileEntry> {
    let file = |href: &str, purpose| FileEntry { href: href.to_owned(), size: Some(4711), purpose };
    let disk = |id: &str, capacity, populated| FileUse::Disk { id: id.to_owned(), capacity, populated };
    vec![
        file("vm & ü-disk1.vmdk", disk("vmdisk1", 8 << 30, Some(123_456))),
        file("vm-disk2.vmdk", disk("vmdisk2", (1 << 30) + 512, None)),
        file("x y.iso", FileUse::Drive(0)),
        file("vm.nvram", FileUse::Nvram),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    let machine = everything();
    let written = write(&machine, &files(), &WriteSettings::new()).unwrap();
    let package = read(written.text.as_bytes()).unwrap();
    assert!(package.notes.is_empty(), "{:?}", package.notes);
    assert_eq!(package.systems.len(), 1);
    let system = &package.systems[0];
    assert!(system.notes.is_empty(), "{:?}", system.notes);
    assert_eq!(system.machine, machine);
    assert_eq!(system.families, ["vmx-19"]);
    assert_eq!(
        package.files.iter().map(|file| (file.href.as_str(), file.size)).collect::<Vec<_>>()[2],
        ("x y.iso", Some(4711))
    );
}

/// What the schemas ask for, as far as it concerns what is written: DSP8023 for the envelope, CIM's for items and the system.
fn schema_faults(text: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(text).unwrap();
    let root = document.root_element();
    let mut faults = Vec::new();
    let names = |node: Node<'_, '_>| {
        node.children().filter(Node::is_element).map(|child| child.tag_name().name().to_owned()).collect::<Vec<_>>()
    };
    if names(root) != ["References", "DiskSection", "NetworkSection", "VirtualSystem"] {
        faults.push(format!("envelope: {:?}", names(root)));
    }
    let system = root.child("VirtualSystem").unwrap();
    let sections = names(system);
    if sections[..4] != ["Info", "Name", "OperatingSystemSection", "VirtualHardwareSection"] {
        faults.push(format!("system: {sections:?}"));
    }
    for section in root.descendants().filter(|node| node.tag_name().name().ends_with("Section")) {
        if names(section).first().map(String::as_str) != Some("Info") {
            faults.push(format!("{} begins with no Info", section.tag_name().name()));
        }
    }
    let hardware = system.child("VirtualHardwareSection").unwrap();
    let order: Vec<_> = names(hardware)
        .iter()
        .map(|name| ["Info", "System", "Item", "Config", "ExtraConfig"].iter().position(|known| known == name))
        .collect();
    if !order.is_sorted() || order.contains(&None) {
        faults.push(format!("hardware: {:?}", names(hardware)));
    }
    let mut ids = HashSet::new();
    for item in hardware.children_named("Item") {
        let fields: Vec<_> = item
            .children()
            .filter(|child| child.is_element() && child.tag_name().namespace().unwrap().contains("cim-schema"))
            .map(|child| child.tag_name().name())
            .collect();
        if !fields.is_sorted() || names(item)[..fields.len()] != fields {
            faults.push(format!("item: {:?}", names(item)));
        }
        for field in ["ElementName", "InstanceID", "ResourceType"] {
            if item.child_text(field).is_none() {
                faults.push(format!("item without {field}"));
            }
        }
        if !ids.insert(item.child_text("InstanceID")) {
            faults.push(String::from("an InstanceID is there twice"));
        }
    }
    for item in hardware.children_named("Item") {
        if item.child("Parent").is_some() && !ids.contains(&item.child_text("Parent")) {
            faults.push(String::from("a Parent is not there"));
        }
    }
    for node in
        root.descendants().filter(|node| node.tag_name().namespace() == Some("http://www.vmware.com/schema/ovf"))
    {
        if node.attribute(("http://schemas.dmtf.org/ovf/envelope/1", "required")) != Some("false") {
            faults.push(format!("{} is private and required", node.tag_name().name()));
        }
    }
    faults
}

#[test]
fn it_is_as_the_schemas_want_it() {
    for machine in [everything(), Machine::new("bare", 64)] {
        let files = if machine.disks.is_empty() { Vec::new() } else { files() };
        let text = write(&machine, &files, &WriteSettings::new()).unwrap().text;
        assert_eq!(schema_faults(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn no_place_of_the_host_is_written() {
    let mut machine = everything();
    machine.drives[0].media = Media::Image(String::from("/home/me/secret.iso"));
    machine.drives[2].media = Media::Host(String::from("/dev/secret"));
    machine.serial[0].backing = PortBacking::File(String::from("/tmp/secret"));
    machine.nvram = Some(String::from("/home/me/secret.nvram"));
    machine.uuid = Some(String::from("42359420-99dc-4261-5264-ba58ddae20e4"));
    machine.extra.insert(String::from("some.thing"), String::from("/home/secret"));
    machine.extra.insert(String::from("other.thing"), String::from("C:\\secret"));
    machine.extra.insert(String::from("scsi0:0.fileName"), String::from("secret"));
    let written = write(&machine, &files()[..2], &WriteSettings::new()).unwrap();
    assert!(!written.text.contains("secret"), "{}", written.text);
    let parts: HashSet<_> = written.notes.iter().map(|note| note.part.as_str()).collect();
    for part in ["ide1:0", "floppy0", "serial0", "nvram", "further settings", "uuid", "tpm"] {
        assert!(parts.contains(part), "{part}: {parts:?}");
    }
}

#[test]
fn lengths_that_are_not_known_yet_have_room() {
    let (machine, settings) = (everything(), WriteSettings::new().with_hardware_version(Some(8)));
    let mut unknown = files();
    unknown[0].size = None;
    unknown[1].size = None;
    let room = widest(&machine, &unknown, &settings).unwrap();
    let known = write(&machine, &files(), &settings).unwrap().text;
    assert!(known.contains("<vssd:VirtualSystemType>vmx-08<"));
    let padded = pad(known.clone(), room).unwrap();
    assert_eq!((padded.len(), read(padded.as_bytes()).unwrap()), (room, read(known.as_bytes()).unwrap()));
    assert!(padded.ends_with(" \n"));
    assert_eq!(pad(padded, 10), None);
    unknown.iter_mut().take(2).for_each(|file| file.size = Some(u64::MAX));
    if let FileUse::Disk { populated, .. } = &mut unknown[1].purpose {
        *populated = Some(u64::MAX);
    }
    assert!(write(&machine, &unknown, &settings).unwrap().text.len() <= room);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |files: &[FileEntry]| write(&everything(), files, &WriteSettings::new()).unwrap_err().kind();
    let mut twice = files();
    twice[1].href = files()[0].href.clone();
    let mut nobody = files();
    nobody[0].purpose = FileUse::Disk { id: String::from("none"), capacity: 1, populated: None };
    let mut no_drive = files();
    no_drive[2].purpose = FileUse::Drive(9);
    for files in [&twice, &nobody, &no_drive] {
        assert_eq!(refused(files), ErrorKind::InvalidInput);
    }
    let mut machine = everything();
    machine.disks[2].capacity = None;
    assert_eq!(write(&machine, &files(), &WriteSettings::new()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// COT reads what is written, and says of it what we say.
#[test]
fn another_reader_agrees() {
    let cot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-python/bin/cot");
    if !cot.exists() {
        eprintln!("SKIPPED: cot is not installed (cargo xtask setup does it): its reading of an OVF is not tested");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.ovf");
    for file in files() {
        std::fs::write(folder.path().join(&file.href), [0; 4711]).unwrap();
    }
    std::fs::write(&path, write(&everything(), &files(), &WriteSettings::new()).unwrap().text).unwrap();
    let said = witness::must(cot.to_str().unwrap(), ["info", path.to_str().unwrap()]);
    for expected in [
        "vmx-19",
        "8 GiB",
        "harddisk @ SCSI 3:0",
        "lsilogic lsilogicsas buslogic VirtualSCSI",
        "VmxNet3 E1000 E1000e PCNet32",
        "2 GiB",
        "x y.iso",
        "LAN \"1\" & <2>",
        "nat",
        "hostonly",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
