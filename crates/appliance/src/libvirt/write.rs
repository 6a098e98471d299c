//! From a machine to a domain: everything but the devices.

use std::fmt::Display;

use super::write_devices;
use crate::guest::Family;
use crate::machine::{BootDevice, Firmware, Machine};
use crate::note::{Notes, Written};
use crate::xml::{XmlWriter, can_hold};

/// Which of QEMU's boards a machine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Board {
    /// The old one, as VMware's is: with IDE and a floppy controller.
    I440fx,
    /// The newer one, which UEFI with Secure Boot needs: with SATA in their place.
    Q35,
}

/// Writes the domain of `machine` for QEMU with KVM, ready for `virsh define`. Disks' files should be absolute.
///
/// Adapters are plugged into the network `default`, which every installation has.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let mut notes = Notes::new();
    let board = if machine.firmware.is_efi() { Board::Q35 } else { Board::I440fx };
    let mut xml = XmlWriter::bare();
    xml.open("domain", &[("type", &"kvm")]);
    identity(&mut xml, machine, &mut notes);
    xml.text("memory", &[("unit", &"MiB")], machine.memory_mib);
    xml.text("vcpu", &[("placement", &"static")], machine.cpus);
    operating_system(&mut xml, machine, board, &mut notes);
    features(&mut xml, machine);
    processor(&mut xml, machine);
    clock(&mut xml, machine);
    xml.text("on_poweroff", &[], "destroy");
    xml.text("on_reboot", &[], "restart");
    xml.text("on_crash", &[], "destroy");
    write_devices::write(&mut xml, machine, board, &mut notes);
    xml.close();
    left_out(machine, &mut notes);
    Written { text: xml.finish(), notes }
}

fn identity(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    let refused =
        |character: char| matches!(character, '/' | '\n' | '\r') || !can_hold(character.encode_utf8(&mut [0; 4]));
    let mut name: String =
        machine.name.chars().map(|character| if refused(character) { '_' } else { character }).collect();
    if name.trim().is_empty() || name == "." || name == ".." {
        name = String::from("vm");
    }
    if name != machine.name {
        notes.changed("name", format!("libvirt takes no such name: it is \"{name}\""));
    }
    xml.text("name", &[], &name);
    if let Some(uuid) = &machine.uuid {
        xml.text("uuid", &[], uuid);
    }
    if let Some(annotation) = &machine.annotation {
        xml.text("description", &[], annotation);
    }
    let known = machine.guest.known().map(|guest| guest.libosinfo).filter(|address| !address.is_empty());
    if let Some(address) = machine.guest.libosinfo.as_deref().or(known) {
        xml.open("metadata", &[]);
        xml.open("libosinfo:libosinfo", &[("xmlns:libosinfo", &"http://libosinfo.org/xmlns/libvirt/domain/1.0")]);
        xml.empty("libosinfo:os", &[("id", &address)]);
        xml.close();
        xml.close();
    }
}

fn operating_system(xml: &mut XmlWriter, machine: &Machine, board: Board, notes: &mut Notes) {
    let kind = match board {
        Board::I440fx => "pc",
        Board::Q35 => "q35",
    };
    match machine.firmware {
        Firmware::Bios => xml.open("os", &[]),
        Firmware::Efi { .. } => xml.open("os", &[("firmware", &"efi")]),
    }
    xml.text("type", &[("arch", &"x86_64"), ("machine", &kind)], "hvm");
    if let Firmware::Efi { secure_boot } = machine.firmware {
        let enabled = if secure_boot { "yes" } else { "no" };
        xml.open("firmware", &[]);
        xml.empty("feature", &[("enabled", &enabled), ("name", &"enrolled-keys")]);
        xml.empty("feature", &[("enabled", &enabled), ("name", &"secure-boot")]);
        xml.close();
        if machine.nvram.is_some() {
            let message = "the firmware's variables are in another product's format: boot entries are found anew";
            notes.left_out("nvram", message);
        }
    }
    let default = [BootDevice::Disk, BootDevice::Cdrom];
    let order = if machine.boot_order.is_empty() { &default[..] } else { &machine.boot_order };
    for device in order {
        let name = match device {
            BootDevice::Disk => "hd",
            BootDevice::Cdrom => "cdrom",
            BootDevice::Floppy => "fd",
            BootDevice::Network => "network",
        };
        xml.empty("boot", &[("dev", &name)]);
    }
    xml.close();
}

fn features(xml: &mut XmlWriter, machine: &Machine) {
    xml.open("features", &[]);
    xml.empty("acpi", &[]);
    xml.empty("apic", &[]);
    if machine.guest.family() == Family::Windows {
        xml.open("hyperv", &[]);
        xml.empty("relaxed", &[("state", &"on")]);
        xml.empty("vapic", &[("state", &"on")]);
        xml.empty("spinlocks", &[("state", &"on"), ("retries", &8191)]);
        xml.close();
    }
    if machine.firmware.secure_boot() {
        xml.empty("smm", &[("state", &"on")]);
    }
    xml.close();
}

fn processor(xml: &mut XmlWriter, machine: &Machine) {
    let (sockets, cores) = machine.topology();
    // A hypervisor inside wants what the host's processor has.
    let nested = machine.features.nested_virtualization == Some(true);
    let mode = if nested { "host-passthrough" } else { "host-model" };
    xml.open("cpu", &[("mode", &mode)]);
    xml.empty("topology", &[("sockets", &sockets), ("cores", &cores), ("threads", &1)]);
    xml.close();
}

fn clock(xml: &mut XmlWriter, machine: &Machine) {
    let windows = machine.guest.family() == Family::Windows;
    xml.open("clock", &[("offset", if windows { &"localtime" } else { &"utc" } as &dyn Display)]);
    xml.empty("timer", &[("name", &"rtc"), ("tickpolicy", &"catchup")]);
    xml.empty("timer", &[("name", &"pit"), ("tickpolicy", &"delay")]);
    xml.empty("timer", &[("name", &"hpet"), ("present", &"no")]);
    if windows {
        xml.empty("timer", &[("name", &"hypervclock"), ("present", &"yes")]);
    }
    xml.close();
}

fn left_out(machine: &Machine, notes: &mut Notes) {
    let features = &machine.features;
    let wanted = [
        ("processors", features.cpu_hot_add, "they cannot be added while the guest runs"),
        ("memory", features.memory_hot_add, "it cannot be added while the guest runs"),
        ("iommu", features.iommu, "the guest has none"),
        (
            "virtualization-based security",
            features.virtualization_based_security,
            "Windows decides by itself whether it can",
        ),
    ];
    for (part, wanted, message) in wanted {
        if wanted == Some(true) {
            notes.left_out(part, message);
        }
    }
    crate::adapt::note_vmware_settings(machine, notes);
}
