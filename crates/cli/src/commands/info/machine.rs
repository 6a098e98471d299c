//! What a VMX, an OVF, an OVA or a domain of libvirt says of its machines.

use std::path::Path;

use serde::Serialize;
use transload::appliance::{Disk, Drive, DriveKind, Firmware, MacPolicy, Machine, Media, Network, Nic};
use transload::block::{Error, ErrorKind, Result};
use transload::describe::{Description, DescriptionKind};

use crate::input::Prepared;
use crate::text::{self, Text};

#[derive(Serialize)]
struct Document<'a> {
    image: String,
    #[serde(flatten)]
    description: &'a Description,
}

/// Reads the description of a machine; `None` when the file is something else.
pub(super) fn describe(prepared: &Prepared) -> Result<Option<Description>> {
    // What no disk format recognises may be a text.
    let is_archive = match prepared.format.name {
        "ova" => true,
        "raw" => false,
        _ => return Ok(None),
    };
    match Description::read(&prepared.source, is_archive) {
        Ok(description) => Ok(Some(description)),
        Err(error) if !is_archive && matches!(error.kind(), ErrorKind::NotThisFormat | ErrorKind::TooLarge) => Ok(None),
        Err(error) => Err(error.context(prepared.source.display_name())),
    }
}

/// Prints it.
pub(super) fn tell(path: &Path, description: &Description, json: bool) -> Result<()> {
    if json {
        return text::json(&Document { image: path.display().to_string(), description });
    }
    let mut text = Text::new();
    text.field("image", path.display())?;
    let kind = match description.kind {
        DescriptionKind::Vmx => "VMX",
        DescriptionKind::Ovf => "OVF",
        DescriptionKind::Ova => "OVA",
        DescriptionKind::Libvirt => "libvirt domain",
        other => return Err(Error::new(ErrorKind::Unsupported, format!("a description of kind {other:?}"))),
    };
    match &description.package {
        Some(package) => text.field("format", format_args!("{kind} by {}", package.dialect))?,
        None => text.field("format", kind)?,
    }
    if let Some(members) = &description.members {
        text.line("files:")?;
        for member in members {
            text.line(format_args!("  {}  {}", member.name, text::size(member.size)))?;
        }
    }
    for machine in &description.machines {
        print(&mut text, machine)?;
    }
    for note in &description.notes {
        text.line(note)?;
    }
    text.finish()
}

fn print(text: &mut Text, machine: &Machine) -> Result<()> {
    text.field("machine", &machine.name)?;
    if let Some(annotation) = &machine.annotation {
        text.field("annotation", annotation.lines().collect::<Vec<_>>().join(" / "))?;
    }
    let guest = &machine.guest;
    if let Some(name) = guest.description.as_ref().or(guest.vmware.as_ref()).or(guest.libosinfo.as_ref()) {
        text.field("guest", name)?;
    }
    if let Some(version) = machine.hardware_version {
        text.field("hardware version", version)?;
    }
    let (sockets, cores) = machine.topology();
    text.field("processors", format_args!("{} (sockets {sockets}, cores {cores})", machine.cpus))?;
    text.field("memory", text::size(machine.memory_mib.saturating_mul(1 << 20)))?;
    let firmware = match machine.firmware {
        Firmware::Efi { secure_boot: true } => "EFI with Secure Boot",
        Firmware::Efi { .. } => "EFI",
        _ => "BIOS",
    };
    text.field("firmware", format_args!("{firmware}{}", if machine.tpm { ", TPM 2.0" } else { "" }))?;
    for controller in &machine.controllers {
        let model = controller.model.as_ref().map_or_else(String::new, |model| format!(" ({model})"));
        text.field("controller", format_args!("{}{}{model}", controller.bus, controller.number))?;
    }
    for disk in &machine.disks {
        text.field("disk", describe_disk(disk))?;
    }
    for drive in &machine.drives {
        text.field("drive", describe_drive(drive))?;
    }
    for nic in &machine.nics {
        text.field("network adapter", describe_nic(nic))?;
    }
    Ok(())
}

fn describe_disk(disk: &Disk) -> String {
    let file = disk.file.as_deref().unwrap_or("to be created");
    let size = disk.capacity.map_or_else(String::new, |size| format!(", {}", text::size(size)));
    format!("{} {file}{size}", disk.address)
}

fn describe_drive(drive: &Drive) -> String {
    let kind = if drive.kind == DriveKind::Cdrom { "CD-ROM" } else { "floppy" };
    let place = drive.address.map_or_else(|| format!("floppy{}", drive.floppy), |address| address.to_string());
    match &drive.media {
        Media::Image(file) => format!("{place} {kind}, {file}"),
        _ => format!("{place} {kind}"),
    }
}

fn describe_nic(nic: &Nic) -> String {
    let model = nic.model.as_ref().map_or("of any kind", |model| model.as_str());
    let network = match &nic.network {
        Network::None => "unplugged".to_owned(),
        Network::Bridged => "bridged".to_owned(),
        Network::Nat => "NAT".to_owned(),
        Network::HostOnly => "host only".to_owned(),
        Network::Named(name) => format!("'{name}'"),
        other => format!("{other:?}"),
    };
    let mac = match nic.mac {
        MacPolicy::Fixed(mac) => format!(", {mac}"),
        _ => String::new(),
    };
    format!("{} {model}, {network}{mac}", nic.number)
}
