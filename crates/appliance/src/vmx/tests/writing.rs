use crate::vmx::{WriteSettings, read, write};
use crate::{
    Address, Bus, Controller, Disk, DiskMode, Drive, DriveKind, Firmware, Mac, MacPolicy, Machine, Media, Network, Nic,
    NicModel, Port, PortBacking, ScsiModel, Sound, UsbController, Video,
};

/// A machine that has everything a VMX can say.
fn everything() -> Machine {
    let mut machine = Machine::new("Grüße aus \"dem\" Süden | ☃\u{2028}", 2048);
    machine.annotation = Some(String::from("two\nlines | \"quoted\" # no comment\t\u{1}"));
    machine.guest.vmware = Some(String::from("debian12-64"));
    machine.hardware_version = Some(19);
    machine.uuid = Some(String::from("42359420-99dc-4261-5264-ba58ddae20e4"));
    (machine.cpus, machine.cores_per_socket) = (4, Some(2));
    machine.features.cpu_hot_add = Some(true);
    machine.features.iommu = Some(false);
    machine.firmware = Firmware::Efi { secure_boot: true };
    machine.nvram = Some(String::from("a b.nvram"));
    machine.boot_order = vec![crate::BootDevice::Cdrom, crate::BootDevice::Disk, crate::BootDevice::Network];
    machine.tpm = true;
    let controller = |bus, number, model| Controller { bus, number, model };
    machine.controllers = vec![
        controller(Bus::Scsi, 0, Some(ScsiModel::ParaVirtual)),
        controller(Bus::Scsi, 1, None),
        controller(Bus::Nvme, 0, None),
        controller(Bus::Sata, 0, None),
        controller(Bus::Ide, 1, None),
    ];
    let disk = |number: usize, bus, unit, file: &str| {
        let mut disk = Disk::new(format!("disk{number}"), Address::new(bus, 0, unit), Some(file.to_owned()));
        disk.format = Some(crate::DiskFormat::Vmdk);
        disk
    };
    machine.disks =
        vec![disk(1, Bus::Scsi, 0, "a.vmdk"), disk(2, Bus::Nvme, 0, "b ü.vmdk"), disk(3, Bus::Sata, 3, "c.vmdk")];
    machine.disks[1].mode = DiskMode::IndependentNonpersistent;
    let cdrom = Some(Address::new(Bus::Ide, 1, 0));
    machine.drives = vec![
        Drive {
            kind: DriveKind::Cdrom,
            address: cdrom,
            floppy: 0,
            media: Media::Image(String::from("x.iso")),
            connected: false,
        },
        Drive { kind: DriveKind::Floppy, address: None, floppy: 0, media: Media::Empty, connected: true },
    ];
    let nic = |number, model, network, mac| Nic {
        number,
        model,
        network,
        mac,
        connected: number != 1,
        wake_on_lan: Some(true),
    };
    machine.nics = vec![
        nic(
            0,
            Some(NicModel::VmxNet3),
            Network::Named(String::from("LAN \"1\"")),
            MacPolicy::Fixed(Mac([2, 1, 2, 3, 4, 5])),
        ),
        nic(1, Some(NicModel::VmxNet2), Network::Nat, MacPolicy::Generated(None)),
        nic(5, None, Network::Named(String::from("VMnet3")), MacPolicy::Generated(Some(Mac([0, 12, 41, 3, 4, 5])))),
    ];
    machine.usb = vec![UsbController::Usb2, UsbController::Usb3];
    machine.video =
        Some(Video { memory_kib: Some(8192), displays: Some(2), accelerated_3d: Some(true), automatic: Some(false) });
    machine.sound = Some(Sound::HdAudio);
    machine.serial = vec![
        Port { number: 0, backing: PortBacking::Pipe { name: String::from(r"\\.\pipe\com1"), server: true } },
        Port { number: 2, backing: PortBacking::None },
    ];
    machine.parallel = vec![Port { number: 0, backing: PortBacking::Device(String::from("/dev/lp0")) }];
    machine.config.insert(String::from("tools.syncTimeWithHost"), String::from("true"));
    machine.config.insert(String::from("powerOpInfo.powerOffType"), String::from("preset"));
    machine.extra.insert(String::from("pciBridge0.present"), String::from("TRUE"));
    machine.extra.insert(String::from("guestinfo.secret"), String::from("a|b\"c"));
    machine
}

#[test]
fn what_is_written_is_read_again() {
    let machine = everything();
    let written = write(&machine, &WriteSettings::new());
    let reading = read(written.text.as_bytes()).unwrap();
    assert_eq!(reading.value, machine);
    assert!(reading.notes.is_empty(), "{:?}", reading.notes);
    assert!(written.text.is_ascii() || written.text.starts_with(".encoding = \"UTF-8\"\n"));
    // Every line is a setting: nothing has broken out of its quotes.
    for line in written.text.lines() {
        let value = line.split_once(" = ").unwrap().1;
        assert!(
            value.len() >= 2
                && value.starts_with('"')
                && value.ends_with('"')
                && !value[1..value.len() - 1].contains('"'),
            "{line}"
        );
    }
}

#[test]
fn settings_that_reach_out_of_the_machine_are_not_taken_over() {
    let mut machine = everything();
    let reaching = [
        "scsi0:0.fileName",
        "serial1.fileName",
        "sharedFolder0.hostPath",
        "isolation.tools.hgfs.disable",
        "log.fileName",
        "vmx.x",
        "a b",
        "x\n y",
        "nvram",
        "RemoteDisplay.vnc.enabled",
        "memsize",
        "guestOS",
        "debugStub.listen.guest64",
        "",
    ];
    for key in reaching {
        machine.extra.insert(key.to_owned(), String::from("/etc/passwd"));
    }
    let written = write(&machine, &WriteSettings::new());
    assert!(!written.text.contains("/etc/passwd"), "{}", written.text);
    assert!(written.notes.iter().any(|note| note.message.contains("serial1.fileName")));
    assert!(written.text.contains("guestinfo.secret"));
}

#[test]
fn what_vmware_has_not_is_the_nearest_it_has() {
    let mut machine = Machine::new("kvm", 512);
    machine.controllers.push(Controller { bus: Bus::Scsi, number: 0, model: Some(ScsiModel::VirtioScsi) });
    machine.disks.push(Disk::new("disk1", Address::new(Bus::Virtio, 0, 0), Some(String::from("a.vmdk"))));
    machine.disks.push(Disk::new("disk2", Address::new(Bus::Scsi, 0, 0), Some(String::from("b.vmdk"))));
    machine.nics.push(Nic {
        number: 0,
        model: Some(NicModel::Virtio),
        network: Network::Bridged,
        mac: MacPolicy::Generated(None),
        connected: true,
        wake_on_lan: None,
    });
    let written = write(&machine, &WriteSettings::new().with_hardware_version(Some(21)));
    let read = read(written.text.as_bytes()).unwrap().value;
    assert_eq!(read.hardware_version, Some(21));
    assert_eq!(read.disks.iter().map(|disk| disk.address.to_string()).collect::<Vec<_>>(), ["scsi0:0", "sata0:0"]);
    assert_eq!(read.scsi_model(0), Some(&ScsiModel::ParaVirtual));
    assert_eq!(read.nics[0].model, Some(NicModel::VmxNet3));
    assert_eq!(written.notes.iter().filter(|note| note.message.contains("virtio")).count(), 3);
}
