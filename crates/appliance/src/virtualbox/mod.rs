//! The settings file (`.vbox`) of a VirtualBox machine.
//!
//! The format is the one of version 7's own files, 1.19, which version 7.0 and newer read; there is a schema in VirtualBox's
//! source. Media stand in a registry of the machine's own, each with the identifier that its file has to have inside.

mod identity;
mod storage;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use crate::adapt::without_virtio;
use crate::device::{MacPolicy, Network, Nic, NicModel, PortBacking, Sound, UsbController};
use crate::machine::{BootDevice, Machine};
use crate::note::{Notes, Written};
use crate::storage::{DriveKind, ScsiModel};
use crate::xml::XmlWriter;

pub use identity::disk_uuid;

/// Adapters that a machine can have.
const MAX_NICS: usize = 8;

/// Writes the settings of `machine`. Disks are named as their `file` says, relative to the written file's folder.
///
/// VirtualBox refuses a disk whose file says another identifier than its settings: [`crate::Disk::uuid`] has it; where it is not
/// known, [`disk_uuid`] is taken.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let mut notes = Notes::new();
    let machine = without_virtio(machine, &ScsiModel::VirtioScsi, &NicModel::Virtio, &mut notes);
    let mut xml = XmlWriter::new();
    xml.open("VirtualBox", &[("xmlns", &"http://www.virtualbox.org/"), ("version", &"1.19-linux")]);
    let guest = machine.guest.virtualbox.clone();
    let guest = guest.or_else(|| machine.guest.known().map(|guest| guest.virtualbox.to_owned()));
    let guest = guest.unwrap_or_else(|| {
        notes.assumed("guest", "the machine names no guest that VirtualBox knows: \"Other_64\" was taken");
        String::from("Other_64")
    });
    let uuid = machine.uuid.clone().unwrap_or_else(|| identity::derived(&["machine", &machine.name]));
    let name = name(&machine, &mut notes);
    xml.open(
        "Machine",
        &[
            ("uuid", &format!("{{{uuid}}}")),
            ("name", &name),
            ("OSType", &guest),
            ("snapshotFolder", &"Snapshots"),
            // The file has no other moment of its own, and is the same whenever it is made.
            ("lastStateChange", &"2000-01-01T00:00:00Z"),
        ],
    );
    let storage = storage::Storage::new(&machine, &mut notes);
    storage.registry(&mut xml);
    if let Some(annotation) = &machine.annotation {
        xml.text("Description", &[], annotation);
    }
    hardware(&mut xml, &machine, &storage, &mut notes);
    xml.close();
    xml.close();
    left_out(&machine, &mut notes);
    Written { text: xml.finish(), notes }
}

/// VirtualBox makes files and folders of the name.
fn name(machine: &Machine, notes: &mut Notes) -> String {
    let refused = |character: char| {
        character.is_control() || matches!(character, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
    };
    let name: String = machine.name.chars().map(|character| if refused(character) { '_' } else { character }).collect();
    if name != machine.name {
        notes.changed("name", format!("VirtualBox makes files of it: it is \"{name}\""));
    }
    name
}

fn hardware(xml: &mut XmlWriter, machine: &Machine, storage: &storage::Storage, notes: &mut Notes) {
    xml.open("Hardware", &[]);
    xml.open("CPU", &[("count", &machine.cpus)]);
    xml.empty("PAE", &[("enabled", &true)]);
    xml.empty("LongMode", &[("enabled", &true)]);
    if machine.features.nested_virtualization == Some(true) {
        xml.empty("NestedHWVirt", &[("enabled", &true)]);
    }
    xml.close();
    xml.empty("Memory", &[("RAMSize", &machine.memory_mib)]);
    if machine.firmware.is_efi() {
        xml.empty("Firmware", &[("type", &"EFI")]);
    }
    let chipset = if machine.firmware.is_efi() { "ICH9" } else { "PIIX3" };
    xml.empty("Chipset", &[("type", &chipset)]);
    boot(xml, machine);
    display(xml, machine);
    bios(xml, machine);
    usb(xml, machine);
    network(xml, machine, notes);
    ports(xml, machine, notes);
    sound(xml, machine, notes);
    storage.controllers(xml);
    xml.close();
}

fn boot(xml: &mut XmlWriter, machine: &Machine) {
    let default = [BootDevice::Disk, BootDevice::Cdrom];
    let order = if machine.boot_order.is_empty() { &default[..] } else { &machine.boot_order };
    xml.open("Boot", &[]);
    for position in 0..4_usize {
        let device = match order.get(position) {
            Some(BootDevice::Disk) => "HardDisk",
            Some(BootDevice::Cdrom) => "DVD",
            Some(BootDevice::Floppy) => "Floppy",
            Some(BootDevice::Network) => "Network",
            None => "None",
        };
        xml.empty("Order", &[("position", &(position + 1)), ("device", &device)]);
    }
    xml.close();
}

fn display(xml: &mut XmlWriter, machine: &Machine) {
    let video = machine.video.as_ref();
    let memory = video.and_then(|video| video.memory_kib).map_or(16, |memory| (memory / 1024).clamp(16, 256));
    let displays = video.and_then(|video| video.displays).unwrap_or(1).clamp(1, 64);
    let accelerated = video.and_then(|video| video.accelerated_3d).unwrap_or(false);
    xml.empty(
        "Display",
        &[
            ("controller", &"VMSVGA"),
            ("VRAMSize", &memory),
            ("monitorCount", &displays),
            ("accelerate3D", &accelerated),
        ],
    );
}

/// Whether Secure Boot is on stands in the firmware's variables, not here.
fn bios(xml: &mut XmlWriter, machine: &Machine) {
    xml.open("BIOS", &[]);
    xml.empty("IOAPIC", &[("enabled", &true)]);
    xml.empty("SmbiosUuidLittleEndian", &[("enabled", &true)]);
    xml.close();
    if machine.tpm {
        xml.empty("TrustedPlatformModule", &[("type", &"v2_0"), ("location", &"")]);
    }
}

fn usb(xml: &mut XmlWriter, machine: &Machine) {
    xml.open("USB", &[]);
    xml.open("Controllers", &[]);
    for controller in &machine.usb {
        match controller {
            UsbController::Usb1 => xml.empty("Controller", &[("name", &"OHCI"), ("type", &"OHCI")]),
            UsbController::Usb2 => {
                xml.empty("Controller", &[("name", &"OHCI"), ("type", &"OHCI")]);
                xml.empty("Controller", &[("name", &"EHCI"), ("type", &"EHCI")]);
            }
            // It takes the place of the others.
            UsbController::Usb3 => xml.empty("Controller", &[("name", &"xHCI"), ("type", &"XHCI")]),
        }
        if machine.usb.contains(&UsbController::Usb2) && *controller == UsbController::Usb2 {
            break;
        }
    }
    xml.close();
    xml.close();
}

fn network(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    xml.open("Network", &[]);
    for (slot, nic) in machine.nics.iter().take(MAX_NICS).enumerate() {
        adapter(xml, slot, nic, notes);
    }
    xml.close();
    if machine.nics.len() > MAX_NICS {
        notes.left_out("network adapters", format!("there are {}, and {MAX_NICS} is the most", machine.nics.len()));
    }
}

fn adapter(xml: &mut XmlWriter, slot: usize, nic: &Nic, notes: &mut Notes) {
    let part = format!("nic {}", nic.number);
    let kind = match &nic.model {
        Some(NicModel::PcNet) => "Am79C973",
        Some(NicModel::E1000) => "82545EM",
        Some(NicModel::Virtio) => "virtio",
        None => {
            notes.assumed(&part, "the machine names no kind: Intel 82540EM was taken");
            "82540EM"
        }
        Some(other) => {
            notes.changed(&part, format!("VirtualBox has no {other}: it is Intel 82540EM"));
            "82540EM"
        }
    };
    let mac = match nic.mac {
        MacPolicy::Fixed(mac) | MacPolicy::Generated(Some(mac)) if mac.0[0] & 1 == 0 => mac.bare(),
        _ => identity::mac(&part),
    };
    let attributes: [(&str, &dyn Display); 5] =
        [("slot", &slot), ("enabled", &true), ("MACAddress", &mac), ("cable", &nic.connected), ("type", &kind)];
    xml.open("Adapter", &attributes);
    match &nic.network {
        Network::None => {}
        Network::Nat => xml.empty("NAT", &[]),
        Network::Named(name) => xml.empty("InternalNetwork", &[("name", name)]),
        Network::Bridged | Network::HostOnly => {
            notes.changed(&part, "the host's own networks have other names: it is NAT");
            xml.empty("NAT", &[]);
        }
    }
    xml.close();
}

fn ports(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    /// Where a PC has them.
    const SERIAL: [(&str, u32); 4] = [("0x3f8", 4), ("0x2f8", 3), ("0x3e8", 4), ("0x2e8", 3)];
    if machine.serial.is_empty() {
        return;
    }
    xml.open("UART", &[]);
    for port in &machine.serial {
        let place = usize::try_from(port.number).ok().and_then(|number| SERIAL.get(number));
        let Some((base, interrupt)) = place else {
            notes.left_out(format!("serial{}", port.number), "a PC has no such port");
            continue;
        };
        if port.backing != PortBacking::None {
            notes.left_out(
                format!("serial{}", port.number),
                "what it was connected to is the old host's: it is not connected",
            );
        }
        xml.empty(
            "Port",
            &[
                ("slot", &port.number),
                ("enabled", &true),
                ("IOBase", base),
                ("IRQ", interrupt),
                ("hostMode", &"Disconnected"),
            ],
        );
    }
    xml.close();
}

fn sound(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    let Some(sound) = &machine.sound else { return };
    let controller = match sound {
        Sound::HdAudio => "HDA",
        Sound::Sb16 => "SB16",
        Sound::Ac97 => "AC97",
        other => {
            notes.changed("sound", format!("VirtualBox has no {other}: it is HD Audio"));
            "HDA"
        }
    };
    xml.empty(
        "AudioAdapter",
        &[("controller", &controller), ("driver", &"Default"), ("enabled", &true), ("enabledOut", &true)],
    );
}

fn left_out(machine: &Machine, notes: &mut Notes) {
    let (sockets, cores) = machine.topology();
    if machine.cores_per_socket.is_some() && sockets > 1 {
        notes.left_out(
            "sockets",
            format!("VirtualBox has one: {sockets} of {cores} processors are one of {}", machine.cpus),
        );
    }
    if machine.nvram.is_some() {
        notes
            .left_out("nvram", "the firmware's variables are in another product's format: boot entries are found anew");
    }
    if machine.tpm {
        notes.attention("tpm", "it is new and empty: what was sealed in the old one needs its recovery key");
    }
    if machine.firmware.secure_boot() {
        notes.attention(
            "secure boot",
            "it is off until it is switched on by: VBoxManage modifynvram NAME inituefivarstore | enrollmssignatures | enrollorclpk | secureboot --enable",
        );
    }
    if !machine.parallel.is_empty() {
        notes.left_out("parallel ports", "they are of a host");
    }
    if machine.drives.iter().any(|drive| drive.kind == DriveKind::Floppy && drive.floppy > 1) {
        notes.left_out("floppy", "a PC has two drives");
    }
    crate::adapt::note_vmware_settings(machine, notes);
}
