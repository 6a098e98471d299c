//! What `info` prints of machines: a VMX, an OVF, an OVA, a libvirt domain.

use std::path::Path;

use serde::Serialize;
use transload::appliance::{Drive, DriveKind, Firmware, MacPolicy, Machine, Media, Network, Nic, Note};
use transload::block::Result;
use transload::describe::{DescribedMachine, Description};

use crate::text::{self, Text};

#[derive(Serialize)]
struct Document<'a> {
    file: String,
    #[serde(flatten)]
    description: &'a Description,
}

pub(crate) fn json(path: &Path, description: &Description) -> Result<()> {
    text::json(&Document { file: path.display().to_string(), description })
}

pub(crate) fn print(path: &Path, description: &Description) -> Result<()> {
    let mut text = Text::new();
    text.field("file", path.display())?;
    match &description.package {
        Some(package) => {
            text.field("kind", format_args!("{}, written by {}", description.kind.title(), package.dialect))?;
        }
        None => text.field("kind", description.kind.title())?,
    }
    for described in &description.machines {
        text.line("")?;
        machine(&mut text, described)?;
    }
    if description.machines.is_empty() {
        text.line("no machine")?;
    }
    if !description.members.is_empty() {
        text.line("")?;
        text.line("files:")?;
        for member in &description.members {
            text.line(format_args!("  {} {}", member.name, text::size(member.size)))?;
        }
    }
    notes(&mut text, description.notes.iter())?;
    text.finish()
}

fn machine(text: &mut Text, described: &DescribedMachine) -> Result<()> {
    let machine = &described.machine;
    text.field("machine", one_line(&machine.name))?;
    if let Some(annotation) = &machine.annotation {
        text.field("annotation", one_line(annotation))?;
    }
    if let Some(guest) = machine.guest.title() {
        text.field("guest", guest)?;
    }
    match machine.hardware_version {
        Some(version) => text.field("hardware", format_args!("vmx-{version:02}"))?,
        None if !described.families.is_empty() => text.field("hardware", described.families.join(" "))?,
        None => {}
    }
    let (sockets, cores) = machine.topology();
    match machine.cores_per_socket {
        Some(_) => text.field("processors", format_args!("{} ({sockets} sockets of {cores} cores)", machine.cpus))?,
        None => text.field("processors", machine.cpus)?,
    }
    text.field("memory", text::size(machine.memory_mib.saturating_mul(1 << 20)))?;
    let firmware = match machine.firmware {
        Firmware::Efi { secure_boot: true } => "UEFI with Secure Boot",
        Firmware::Efi { .. } => "UEFI",
        _ => "BIOS",
    };
    text.field("firmware", firmware)?;
    if machine.tpm {
        text.field("tpm", "2.0")?;
    }
    devices(text, machine)?;
    for product in &described.products {
        let parts = [&product.name, &product.version, &product.vendor];
        let parts: Vec<_> = parts.into_iter().flatten().map(|part| one_line(part)).collect();
        text.field("product", format_args!("{} ({} properties)", parts.join(", "), product.properties.len()))?;
    }
    notes(text, described.notes.iter())
}

fn devices(text: &mut Text, machine: &Machine) -> Result<()> {
    if !machine.disks.is_empty() {
        text.line("disks:")?;
    }
    for disk in &machine.disks {
        let model = if disk.address.bus == transload::appliance::Bus::Scsi {
            machine.scsi_model(disk.address.controller)
        } else {
            None
        };
        let model = model.map(|model| format!(" ({model})")).unwrap_or_default();
        let size = disk.capacity.map(|capacity| format!(", {}", text::size(capacity))).unwrap_or_default();
        let file = disk.file.as_deref().map_or_else(|| String::from("empty"), one_line);
        text.line(format_args!("  {}{model} {file}{size}", disk.address))?;
    }
    if !machine.drives.is_empty() {
        text.line("drives:")?;
    }
    for drive in &machine.drives {
        text.line(format_args!("  {}", drive_line(drive)))?;
    }
    if !machine.nics.is_empty() {
        text.line("network adapters:")?;
    }
    for nic in &machine.nics {
        text.line(format_args!("  {}", nic_line(nic)))?;
    }
    Ok(())
}

fn drive_line(drive: &Drive) -> String {
    let place = match (drive.kind, drive.address) {
        (DriveKind::Cdrom, Some(address)) => format!("{address} CD-ROM"),
        (DriveKind::Floppy, _) => format!("floppy{}", drive.floppy),
        _ => String::from("drive"),
    };
    let media = match &drive.media {
        Media::Image(file) => one_line(file),
        Media::Host(name) if name.is_empty() => String::from("a drive of the host"),
        Media::Host(name) => one_line(name),
        Media::Client => String::from("a drive of the console"),
        _ => String::from("empty"),
    };
    format!("{place} {media}{}", if drive.connected { "" } else { ", not connected" })
}

fn nic_line(nic: &Nic) -> String {
    let model = nic.model.as_ref().map_or("any kind", |model| model.as_str());
    let network = match &nic.network {
        Network::Bridged => String::from("the host's network"),
        Network::Nat => String::from("NAT"),
        Network::HostOnly => String::from("the host alone"),
        Network::Named(name) => format!("\"{}\"", one_line(name)),
        _ => String::from("nothing"),
    };
    let mac = match nic.mac {
        MacPolicy::Fixed(mac) => format!(", {mac}"),
        MacPolicy::Generated(Some(mac)) => format!(", {mac} (generated)"),
        _ => String::new(),
    };
    format!("{} {model} on {network}{mac}{}", nic.number, if nic.connected { "" } else { ", not connected" })
}

fn notes<'a>(text: &mut Text, notes: impl Iterator<Item = &'a Note>) -> Result<()> {
    for note in notes {
        text.field(note.kind.as_str(), format_args!("{}: {}", one_line(&note.part), one_line(&note.message)))?;
    }
    Ok(())
}

/// A text from a file on one line: what would move the cursor or end the line is a blank.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
