//! The devices of a domain.

use std::collections::BTreeMap;

use super::write::Board;
use crate::device::{Network, Nic, NicModel, PortBacking, Sound, UsbController};
use crate::guest::Family;
use crate::machine::Machine;
use crate::note::Notes;
use crate::storage::{Address, Bus, Disk, DiskFormat, DiskMode, Drive, DriveKind, Media, ScsiModel};
use crate::xml::XmlWriter;

/// The network that libvirt installs.
const NETWORK: &str = "default";

/// Units of QEMU's SATA controller.
const SATA_UNITS: u32 = 6;

pub(super) fn write(xml: &mut XmlWriter, machine: &Machine, board: Board, notes: &mut Notes) {
    let places = Places::new(machine, board, notes);
    let mut names = Names::default();
    xml.open("devices", &[]);
    for disk in &machine.disks {
        write_disk(xml, disk, &places, &mut names, notes);
    }
    for drive in &machine.drives {
        write_drive(xml, drive, board, &places, &mut names, notes);
    }
    for (number, model) in &places.scsi {
        xml.empty("controller", &[("type", &"scsi"), ("index", number), ("model", model)]);
    }
    usb(xml, machine);
    machine.nics.iter().for_each(|nic| write_nic(xml, nic, notes));
    ports(xml, machine, notes);
    if !machine.usb.is_empty() {
        xml.empty("input", &[("type", &"tablet"), ("bus", &"usb")]);
    }
    if machine.tpm {
        xml.open("tpm", &[("model", &"tpm-crb")]);
        xml.empty("backend", &[("type", &"emulator"), ("version", &"2.0")]);
        xml.close();
        notes.attention("tpm", "it is new and empty: what was sealed in the old one needs its recovery key");
    }
    xml.empty("graphics", &[("type", &"vnc"), ("port", &"-1"), ("autoport", &"yes")]);
    sound(xml, machine, notes);
    xml.open("video", &[]);
    xml.empty("model", &[("type", &"vga")]);
    xml.close();
    xml.close();
    if machine
        .video
        .as_ref()
        .is_some_and(|video| video.displays.is_some_and(|displays| displays > 1) || video.accelerated_3d == Some(true))
    {
        notes.left_out("video", "the adapter has one screen and no acceleration");
    }
}

/// Which controller and unit every drive gets.
struct Places {
    /// The place of a drive by the one it had.
    places: BTreeMap<Address, Address>,
    /// The SCSI controllers and their models.
    scsi: BTreeMap<u32, &'static str>,
}

impl Places {
    fn new(machine: &Machine, board: Board, notes: &mut Notes) -> Self {
        let mut places = Self { places: BTreeMap::new(), scsi: BTreeMap::new() };
        let mut to_sata = Vec::new();
        for address in addresses(machine) {
            match place(machine, address, board) {
                Place::Stays => {
                    places.places.insert(address, address);
                }
                Place::Scsi(model) => {
                    places.scsi.insert(address.controller, model);
                    places.places.insert(address, address);
                }
                Place::Sata => to_sata.push(address),
            }
            note_place(machine, address, board, notes);
        }
        for (number, address) in (0_u32..).zip(to_sata) {
            places.places.insert(address, Address::new(Bus::Sata, number / SATA_UNITS, number % SATA_UNITS));
        }
        places
    }

    fn of(&self, address: Address) -> Address {
        self.places.get(&address).copied().unwrap_or(address)
    }
}

/// The addresses of all drives, those of SATA first, so that they keep theirs where they can.
fn addresses(machine: &Machine) -> Vec<Address> {
    let disks = machine.disks.iter().filter(|disk| disk.file.is_some()).map(|disk| disk.address);
    let mut addresses: Vec<_> = disks.chain(machine.drives.iter().filter_map(|drive| drive.address)).collect();
    addresses.sort_unstable_by_key(|address| (address.bus != Bus::Sata, *address));
    addresses.dedup();
    addresses
}

enum Place {
    /// Where it was.
    Stays,
    /// Where it was, on a controller of this model.
    Scsi(&'static str),
    /// On a SATA controller, wherever there is room.
    Sata,
}

fn place(machine: &Machine, address: Address, board: Board) -> Place {
    match address.bus {
        Bus::Virtio => Place::Stays,
        Bus::Ide if board == Board::I440fx && address.controller < 2 && address.unit < 2 => Place::Stays,
        Bus::Ide | Bus::Sata | Bus::Nvme => Place::Sata,
        Bus::Scsi => match machine.scsi_model(address.controller) {
            Some(ScsiModel::ParaVirtual) => Place::Scsi("vmpvscsi"),
            Some(ScsiModel::LsiLogicSas) if address.unit < 8 => Place::Scsi("lsisas1068"),
            Some(ScsiModel::VirtioScsi) => Place::Scsi("virtio-scsi"),
            _ if machine.guest.family() == Family::Linux => Place::Scsi("virtio-scsi"),
            _ => Place::Sata,
        },
    }
}

fn note_place(machine: &Machine, address: Address, board: Board, notes: &mut Notes) {
    let message = match (address.bus, place(machine, address, board)) {
        (Bus::Ide, Place::Sata) => "the board has no IDE: it hangs from SATA",
        (Bus::Nvme, _) => "it hangs from SATA: not every libvirt knows NVMe",
        (Bus::Scsi, Place::Sata) => "QEMU has no such SCSI controller: it hangs from SATA",
        (Bus::Scsi, Place::Scsi("virtio-scsi"))
            if machine.scsi_model(address.controller) != Some(&ScsiModel::VirtioScsi) =>
        {
            "QEMU has no such SCSI controller: it hangs from virtio-scsi"
        }
        _ => return,
    };
    notes.changed(address.to_string(), message);
}

/// Names of drives: `sda`, `hdb`, `vdaa`.
#[derive(Default)]
struct Names(BTreeMap<&'static str, u32>);

impl Names {
    fn next(&mut self, bus: Bus) -> String {
        let prefix = match bus {
            Bus::Ide => "hd",
            Bus::Virtio => "vd",
            Bus::Scsi | Bus::Sata | Bus::Nvme => "sd",
        };
        let count = self.0.entry(prefix).or_default();
        let mut number = *count;
        *count += 1;
        let mut letters = Vec::new();
        loop {
            letters.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or_default()));
            match (number / 26).checked_sub(1) {
                Some(rest) => number = rest,
                None => break,
            }
        }
        format!("{prefix}{}", letters.iter().rev().collect::<String>())
    }
}

fn target(xml: &mut XmlWriter, address: Address, names: &mut Names) {
    xml.empty("target", &[("dev", &names.next(address.bus)), ("bus", &address.bus)]);
}

/// Controller and unit; a virtio disk is its own controller and finds its place.
fn drive_address(xml: &mut XmlWriter, address: Address) {
    let (controller, bus, target, unit) = match address.bus {
        Bus::Ide => (0, address.controller, 0, address.unit),
        Bus::Scsi => (address.controller, 0, address.unit, 0),
        Bus::Sata | Bus::Nvme => (address.controller, 0, 0, address.unit),
        Bus::Virtio => return,
    };
    xml.empty(
        "address",
        &[("type", &"drive"), ("controller", &controller), ("bus", &bus), ("target", &target), ("unit", &unit)],
    );
}

fn write_disk(xml: &mut XmlWriter, disk: &Disk, places: &Places, names: &mut Names, notes: &mut Notes) {
    let address = places.of(disk.address);
    let Some(file) = &disk.file else {
        notes.left_out(
            disk.address.to_string(),
            format!("{} is an empty disk: it has to be made and attached", disk.id),
        );
        return;
    };
    if let Some(format @ (DiskFormat::Vhdx | DiskFormat::Other(_))) = &disk.format {
        notes.attention(disk.address.to_string(), format!("libvirt takes no disk in {format}: convert it to qcow2"));
    }
    xml.open("disk", &[("type", &"file"), ("device", &"disk")]);
    xml.empty("driver", &[("name", &"qemu"), ("type", &driver(disk.format.as_ref())), ("discard", &"unmap")]);
    xml.empty("source", &[("file", file)]);
    target(xml, address, names);
    if disk.read_only {
        xml.empty("readonly", &[]);
    }
    match disk.mode {
        DiskMode::IndependentNonpersistent => xml.empty("transient", &[]),
        DiskMode::Persistent => {}
        DiskMode::IndependentPersistent | DiskMode::Undoable => {
            notes.left_out(disk.address.to_string(), "libvirt has no such mode: the disk is an ordinary one");
        }
    }
    drive_address(xml, address);
    xml.close();
}

/// What QEMU calls a format. Of what is not said, the file is taken as it is: looking is what a guest can lie to.
fn driver(format: Option<&DiskFormat>) -> &str {
    match format {
        None | Some(DiskFormat::Raw | DiskFormat::Iso) => "raw",
        Some(DiskFormat::Vhd) => "vpc",
        Some(format) => format.as_str(),
    }
}

fn write_drive(
    xml: &mut XmlWriter,
    drive: &Drive,
    board: Board,
    places: &Places,
    names: &mut Names,
    notes: &mut Notes,
) {
    let (device, address) = match (drive.kind, drive.address) {
        (DriveKind::Floppy, _) if board == Board::Q35 => {
            notes.left_out(format!("floppy{}", drive.floppy), "the board has no floppy controller");
            return;
        }
        (DriveKind::Floppy, _) => ("floppy", None),
        (DriveKind::Cdrom, address) => ("cdrom", Some(places.of(address.unwrap_or(Address::new(Bus::Sata, 0, 0))))),
    };
    // virtio disks are no CD-ROM drives.
    let address =
        address.map(|address| if address.bus == Bus::Virtio { Address { bus: Bus::Sata, ..address } } else { address });
    xml.open("disk", &[("type", &"file"), ("device", &device)]);
    xml.empty("driver", &[("name", &"qemu"), ("type", &"raw")]);
    match &drive.media {
        Media::Image(file) if drive.connected => xml.empty("source", &[("file", file)]),
        Media::Image(file) => notes.left_out(device, format!("{file} is not connected: the drive is empty")),
        Media::Host(name) if !name.is_empty() => {
            notes.left_out(device, format!("{name} is the old host's: the drive is empty"));
        }
        _ => {}
    }
    match address {
        Some(address) => target(xml, address, names),
        None => xml.empty("target", &[("dev", &if drive.floppy == 0 { "fda" } else { "fdb" }), ("bus", &"fdc")]),
    }
    if device == "cdrom" {
        xml.empty("readonly", &[]);
    }
    if let Some(address) = address {
        drive_address(xml, address);
    }
    xml.close();
}

fn usb(xml: &mut XmlWriter, machine: &Machine) {
    if machine.usb.is_empty() {
        xml.empty("controller", &[("type", &"usb"), ("index", &0), ("model", &"none")]);
    }
    for (index, controller) in machine.usb.iter().enumerate() {
        let model = match controller {
            UsbController::Usb1 => "piix3-uhci",
            UsbController::Usb2 => "ich9-ehci1",
            UsbController::Usb3 => "qemu-xhci",
        };
        xml.empty("controller", &[("type", &"usb"), ("index", &index), ("model", &model)]);
    }
}

fn write_nic(xml: &mut XmlWriter, nic: &Nic, notes: &mut Notes) {
    let part = format!("nic {}", nic.number);
    match &nic.network {
        Network::Nat | Network::None => {}
        Network::Named(name) => {
            notes.changed(&part, format!("it was plugged into \"{name}\": it is in the network \"{NETWORK}\""));
        }
        Network::Bridged => {
            notes.changed(&part, format!("it was on the host's own network: it is in the network \"{NETWORK}\""));
        }
        Network::HostOnly => {
            notes.changed(&part, format!("it reached the host alone: it is in the network \"{NETWORK}\""));
        }
    }
    xml.open("interface", &[("type", &"network")]);
    if let Some(mac) = nic.mac.address() {
        // libvirt refuses addresses of groups.
        if mac.0[0] & 1 == 0 {
            xml.empty("mac", &[("address", &mac)]);
        } else {
            notes.left_out(&part, format!("{mac} is the address of a group: a new one is generated"));
        }
    }
    xml.empty("source", &[("network", &NETWORK)]);
    xml.empty("model", &[("type", &nic_model(nic, &part, notes))]);
    if !nic.connected || nic.network == Network::None {
        xml.empty("link", &[("state", &"down")]);
    }
    xml.close();
}

fn nic_model(nic: &Nic, part: &str, notes: &mut Notes) -> &'static str {
    match &nic.model {
        Some(NicModel::VmxNet3) => "vmxnet3",
        Some(NicModel::E1000) => "e1000",
        Some(NicModel::E1000e) => "e1000e",
        Some(NicModel::PcNet) => "pcnet",
        Some(NicModel::Virtio) => "virtio",
        Some(NicModel::Rtl8139) => "rtl8139",
        Some(other) => {
            notes.changed(part, format!("QEMU has no {other}: it is e1000"));
            "e1000"
        }
        None => {
            notes.assumed(part, "the machine names no kind: e1000 was taken");
            "e1000"
        }
    }
}

fn ports(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    for (name, list) in [("serial", &machine.serial), ("parallel", &machine.parallel)] {
        // Four and three are what a PC has.
        let most = if name == "serial" { 4 } else { 3 };
        for port in list {
            if port.number >= most {
                notes.left_out(format!("{name}{}", port.number), "a PC has no such port");
                continue;
            }
            if port.backing != PortBacking::None {
                notes.changed(
                    format!("{name}{}", port.number),
                    "what it was connected to is the old host's: it is a terminal",
                );
            }
            xml.open(name, &[("type", &"pty")]);
            xml.empty("target", &[("port", &port.number)]);
            xml.close();
        }
    }
}

fn sound(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    let Some(sound) = &machine.sound else { return };
    let model = match sound {
        Sound::HdAudio => "ich6",
        Sound::Sb16 => "sb16",
        Sound::Ac97 => "ac97",
        Sound::Ensoniq1371 => {
            notes.changed("sound", "QEMU has no Ensoniq 1371: it is the 1370");
            "es1370"
        }
        Sound::Other(name) => {
            notes.changed("sound", format!("QEMU has no {name}: it is HD Audio"));
            "ich6"
        }
    };
    xml.empty("sound", &[("model", &model)]);
}
