//! A shell script of `qm` commands that makes a machine on Proxmox VE.
//!
//! `qm`'s options are described at <https://pve.proxmox.com/pve-docs/qm.1.html>; the script needs version 7.2 or newer, whose disks
//! can be imported where they are named.
//!
//! Proxmox has one kind of SCSI controller for a machine, no NVMe, and six SATA ports. VMware's paravirtual controller is there and
//! stays; disks of other SCSI controllers and of NVMe go to virtio-scsi where the guest is Linux, and to SATA otherwise.

mod disks;
#[cfg(test)]
mod tests;

use crate::device::{Network, Nic, NicModel, Sound};
use crate::guest::Family;
use crate::machine::{BootDevice, Firmware, Machine};
use crate::note::{Notes, Written};
use crate::quoting::{comment, shell};
use disks::{Slots, Source};

/// More adapters than Proxmox gives a machine.
const MAX_NICS: usize = 32;

/// Writes the script that makes `machine`. It is run as `sh SCRIPT VMID STORAGE [BRIDGE]`, from any folder; disks are named as their
/// `file` says, relative to the script's own folder.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let mut notes = Notes::new();
    let slots = Slots::new(machine, &mut notes);
    let mut text = header(machine);
    text.push_str(&disks::links(&slots));
    text.push_str("qm create \"$VMID\"");
    for (name, value) in options(machine, &slots, &mut notes) {
        text.push_str(&format!(" \\\n  --{name} {value}"));
    }
    text.push('\n');
    for slot in &slots.slots {
        if let Some(value) = disks::value(slot) {
            text.push_str(&format!("qm set \"$VMID\" --{} {value}\n", slot.name));
        }
    }
    let order = boot_order(machine, &slots);
    if !order.is_empty() {
        text.push_str(&format!("qm set \"$VMID\" --boot {}\n", shell(&format!("order={}", order.join(";")))));
    }
    text.push_str("echo \"machine $VMID is made; start it with: qm start $VMID\"\n");
    left_out(machine, &mut notes);
    Written { text, notes }
}

fn header(machine: &Machine) -> String {
    format!(
        "#!/bin/sh
# Makes the machine {} on Proxmox VE 7.2 or newer.
set -eu
if [ $# -lt 2 ]; then
  echo \"usage: sh $0 VMID STORAGE [BRIDGE]\" >&2
  exit 2
fi
VMID=$1
STORAGE=$2
BRIDGE=${{3:-vmbr0}}
cd -- \"$(dirname -- \"$0\")\"
",
        comment(&machine.name)
    )
}

/// The options of `qm create`, each already a word of the shell.
fn options(machine: &Machine, slots: &Slots, notes: &mut Notes) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| options.push((name.to_owned(), value));
    let (sockets, cores) = machine.topology();
    add("name", shell(&name(machine, notes)));
    if let Some(annotation) = &machine.annotation {
        add("description", shell(annotation));
    }
    add("ostype", machine.guest.known().map_or_else(|| kind(machine.guest.family()), |guest| guest.proxmox).to_owned());
    add("memory", machine.memory_mib.to_string());
    add("sockets", sockets.to_string());
    add("cores", cores.to_string());
    if machine.features.nested_virtualization == Some(true) {
        add("cpu", String::from("host"));
    }
    if let Some(uuid) = &machine.uuid {
        add("smbios1", shell(&format!("uuid={uuid}")));
    }
    add("scsihw", slots.controller.to_owned());
    if let Firmware::Efi { secure_boot } = machine.firmware {
        add("bios", String::from("ovmf"));
        add("machine", String::from("q35"));
        add("efidisk0", format!("\"$STORAGE:1,efitype=4m,pre-enrolled-keys={}\"", u8::from(secure_boot)));
        if machine.nvram.is_some() {
            notes.left_out(
                "nvram",
                "the firmware's variables are in another product's format: boot entries are found anew",
            );
        }
    }
    if machine.tpm {
        add("tpmstate0", String::from("\"$STORAGE:1,version=v2.0\""));
        notes.attention("tpm", "it is new and empty: what was sealed in the old one needs its recovery key");
    }
    hot_add(machine, &mut add);
    for (place, nic) in machine.nics.iter().take(MAX_NICS).enumerate() {
        add(&format!("net{place}"), network(place, nic, notes));
    }
    if machine.nics.len() > MAX_NICS {
        notes.left_out("network adapters", format!("there are {}, and {MAX_NICS} is the most", machine.nics.len()));
    }
    devices(machine, &mut add, notes);
    options
}

fn hot_add(machine: &Machine, add: &mut impl FnMut(&str, String)) {
    let mut hotplug = vec!["network", "disk", "usb"];
    if machine.features.cpu_hot_add == Some(true) {
        hotplug.push("cpu");
    }
    if machine.features.memory_hot_add == Some(true) {
        hotplug.push("memory");
        add("numa", String::from("1"));
    }
    if hotplug.len() > 3 {
        add("hotplug", hotplug.join(","));
    }
}

/// Proxmox wants the name of a host.
fn name(machine: &Machine, notes: &mut Notes) -> String {
    let kept: String = machine
        .name
        .chars()
        .map(|character| if character.is_whitespace() || character == '_' { '-' } else { character })
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '.'))
        .collect();
    let labels: Vec<_> =
        kept.split('.').map(|label| label.trim_matches('-')).filter(|label| !label.is_empty()).collect();
    let labels: Vec<_> = labels.iter().map(|label| label.get(..63).unwrap_or(label)).collect();
    let name = if labels.is_empty() { String::from("vm") } else { labels.join(".") };
    if name != machine.name {
        notes.changed("name", format!("Proxmox takes the names of hosts alone: it is \"{name}\""));
    }
    name
}

const fn kind(family: Family) -> &'static str {
    match family {
        Family::Linux => "l26",
        Family::Windows => "win10",
        Family::Solaris => "solaris",
        Family::Bsd | Family::MacOs | Family::Other => "other",
    }
}

fn network(place: usize, nic: &Nic, notes: &mut Notes) -> String {
    let part = format!("nic {}", nic.number);
    let model = match &nic.model {
        Some(NicModel::E1000) => "e1000",
        Some(NicModel::E1000e) => "e1000e",
        Some(NicModel::VmxNet3) => "vmxnet3",
        Some(NicModel::Virtio) => "virtio",
        Some(NicModel::Rtl8139) => "rtl8139",
        Some(NicModel::PcNet) => "pcnet",
        Some(other) => {
            notes.changed(&part, format!("Proxmox has no {other}: it is e1000"));
            "e1000"
        }
        None => {
            notes.assumed(&part, "the machine names no kind: e1000 was taken");
            "e1000"
        }
    };
    let mut value = String::from(model);
    match nic.mac.address() {
        Some(mac) if mac.0[0] & 1 == 0 => value.push_str(&format!("={}", mac.to_string().to_uppercase())),
        Some(mac) => notes.left_out(&part, format!("{mac} is the address of a group: a new one is generated")),
        None => {}
    }
    match &nic.network {
        Network::Bridged => {}
        Network::Named(name) => notes.changed(
            &part,
            format!("it was plugged into \"{name}\": net{place} is on the bridge that the script is given"),
        ),
        _ => notes.changed(&part, format!("net{place} is on the bridge that the script is given")),
    }
    let down = if nic.connected && nic.network != Network::None { "" } else { ",link_down=1" };
    format!("\"{value},bridge=$BRIDGE{down}\"")
}

fn devices(machine: &Machine, add: &mut impl FnMut(&str, String), notes: &mut Notes) {
    if let Some(sound) = &machine.sound {
        let device = match sound {
            Sound::HdAudio => "ich9-intel-hda",
            Sound::Ac97 => "AC97",
            other => {
                notes.changed("sound", format!("Proxmox has no {other}: it is HD Audio"));
                "ich9-intel-hda"
            }
        };
        add("audio0", format!("device={device},driver=none"));
    }
    for port in &machine.serial {
        if port.number < 4 {
            add(&format!("serial{}", port.number), String::from("socket"));
        } else {
            notes.left_out(format!("serial{}", port.number), "a PC has no such port");
        }
    }
}

fn boot_order(machine: &Machine, slots: &Slots) -> Vec<String> {
    let default = [BootDevice::Disk, BootDevice::Cdrom];
    let order = if machine.boot_order.is_empty() { &default[..] } else { &machine.boot_order };
    let mut names = Vec::new();
    for device in order {
        let of = |wanted: fn(&Source) -> bool| slots.slots.iter().find(move |slot| wanted(&slot.source));
        match device {
            BootDevice::Disk => {
                names.extend(of(|source| !matches!(source, Source::Cdrom)).map(|slot| slot.name.clone()));
            }
            BootDevice::Cdrom => {
                names.extend(of(|source| matches!(source, Source::Cdrom)).map(|slot| slot.name.clone()));
            }
            BootDevice::Network if !machine.nics.is_empty() => names.push(String::from("net0")),
            BootDevice::Network | BootDevice::Floppy => {}
        }
    }
    names
}

fn left_out(machine: &Machine, notes: &mut Notes) {
    if machine.drives.iter().any(|drive| drive.address.is_none()) {
        notes.left_out("floppy", "Proxmox has no floppy drives");
    }
    if !machine.parallel.is_empty() {
        notes.left_out("parallel ports", "Proxmox has none");
    }
    if machine.features.iommu == Some(true) {
        notes.left_out("iommu", "the guest has none");
    }
    if machine
        .video
        .as_ref()
        .is_some_and(|video| video.displays.is_some_and(|displays| displays > 1) || video.accelerated_3d == Some(true))
    {
        notes.left_out("video", "the adapter has one screen and no acceleration");
    }
    crate::adapt::note_vmware_settings(machine, notes);
}
