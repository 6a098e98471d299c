//! From a machine to a descriptor as VMware's importers take it: the envelope, files, disks, networks.

use std::collections::HashSet;

use transload_block::{Error, ErrorKind, Result};

use super::write_hardware;
use crate::adapt::for_vmware;
use crate::device::Network;
use crate::machine::Machine;
use crate::note::{Notes, WriteSettings, Written};
use crate::xml::{XmlWriter, can_hold};

/// The address that stands for a streamOptimized VMDK.
pub(super) const STREAM_OPTIMIZED: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

const NAMESPACES: &[(&str, &str)] = &[
    ("xmlns", "http://schemas.dmtf.org/ovf/envelope/1"),
    ("xmlns:cim", "http://schemas.dmtf.org/wbem/wscim/1/common"),
    ("xmlns:ovf", "http://schemas.dmtf.org/ovf/envelope/1"),
    ("xmlns:rasd", "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"),
    ("xmlns:vmw", "http://www.vmware.com/schema/ovf"),
    ("xmlns:vssd", "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"),
    ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
];

/// What a file of the package is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileUse {
    /// It holds the disk of this [`crate::Disk::id`], as a streamOptimized VMDK.
    Disk {
        /// The disk.
        id: String,
        /// Its size, exact. It is written in MiB, or in bytes where it is no multiple of a MiB.
        capacity: u64,
        /// Bytes of it that hold data, where they are known.
        populated: Option<u64>,
    },
    /// It is in the CD-ROM or floppy drive with this place in [`Machine::drives`].
    Drive(usize),
    /// It holds the firmware's variables.
    Nvram,
    /// It only goes with the package.
    Other,
}

/// A file of the package to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name in the package.
    pub href: String,
    /// Its length in bytes. `None` where it is not known yet: the text then has the widest number there is.
    pub size: Option<u64>,
    /// What it is for.
    pub purpose: FileUse,
}

/// Writes the descriptor of a package that holds `machine` and `files`, in the order of `files`.
///
/// A disk of the machine that no file holds is described as an empty one, to be created. What only VMware understands is
/// marked as not required. No path of the host is written.
///
/// # Errors
/// `InvalidInput` when a file names a disk or a drive that the machine does not have or that another file holds, two files have one
/// name, or an empty disk has no capacity.
pub fn write(machine: &Machine, files: &[FileEntry], settings: &WriteSettings) -> Result<Written> {
    let mut notes = Notes::new();
    let machine = for_vmware(machine, &mut notes);
    let disks = written_disks(&machine, files)?;
    check(&machine, files)?;
    let mut xml = XmlWriter::new();
    let namespaces: Vec<_> =
        NAMESPACES.iter().map(|(name, address)| (*name, address as &dyn std::fmt::Display)).collect();
    xml.open("Envelope", &namespaces);
    references(&mut xml, files);
    disk_section(&mut xml, &disks);
    network_section(&mut xml, &machine);
    xml.open("VirtualSystem", &[("ovf:id", &machine.name)]);
    xml.text("Info", &[], "A virtual machine");
    xml.text("Name", &[], &machine.name);
    operating_system(&mut xml, &machine, &mut notes);
    write_hardware::write(&mut xml, &machine, files, &disks, settings, &mut notes);
    if let Some(annotation) = &machine.annotation {
        xml.open("AnnotationSection", &[]);
        xml.text("Info", &[], "A human-readable annotation");
        xml.text("Annotation", &[], annotation);
        xml.close();
    }
    xml.close();
    xml.close();
    for (part, text) in [("name", Some(&machine.name)), ("annotation", machine.annotation.as_ref())] {
        if text.is_some_and(|text| !can_hold(text)) {
            notes.changed(part, "XML cannot hold all of its characters: some are \u{fffd}");
        }
    }
    Ok(Written { text: xml.finish(), notes })
}

/// How long the text can get, in bytes, when the lengths and populated sizes that are not known in `files` become known:
/// the length to reserve in front of disks that are written in one pass, and to [`pad`] to afterwards.
///
/// # Errors
/// As [`write()`].
pub fn widest(machine: &Machine, files: &[FileEntry], settings: &WriteSettings) -> Result<usize> {
    let mut files = files.to_vec();
    for file in &mut files {
        file.size.get_or_insert(u64::MAX);
        if let FileUse::Disk { populated, .. } = &mut file.purpose {
            populated.get_or_insert(u64::MAX);
        }
    }
    Ok(write(machine, &files, settings)?.text.len())
}

/// Lengthens `text` to `length` bytes with spaces behind the last element, where they mean nothing. `None` if it is longer.
#[must_use]
pub fn pad(mut text: String, length: usize) -> Option<String> {
    let missing = length.checked_sub(text.len())?;
    let end = text.trim_end().len();
    text.insert_str(end, &" ".repeat(missing));
    Some(text)
}

/// A disk as it is described.
pub(super) struct WrittenDisk {
    /// Its id in the descriptor.
    pub(super) id: String,
    /// The place of its file, if it has one.
    file: Option<usize>,
    capacity: u64,
    populated: Option<u64>,
}

/// The disks of the machine, in its order.
fn written_disks(machine: &Machine, files: &[FileEntry]) -> Result<Vec<WrittenDisk>> {
    let mut used = HashSet::new();
    let mut disks = Vec::with_capacity(machine.disks.len());
    for (number, disk) in machine.disks.iter().enumerate() {
        let file = files.iter().position(|file| matches!(&file.purpose, FileUse::Disk { id, .. } if *id == disk.id));
        let (capacity, populated) = match file.and_then(|place| files.get(place)).map(|file| &file.purpose) {
            Some(FileUse::Disk { capacity, populated, .. }) => (Some(*capacity), *populated),
            _ => (disk.capacity, None),
        };
        let capacity = capacity.ok_or_else(|| {
            let text = format!("OVF: the disk {} at {} has neither a file nor a capacity", disk.id, disk.address);
            Error::new(ErrorKind::InvalidInput, text)
        })?;
        let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        let sound = !disk.id.is_empty() && disk.id.chars().all(plain) && !used.contains(&disk.id);
        let id = if sound { disk.id.clone() } else { format!("vmdisk{}", number + 1) };
        if !used.insert(id.clone()) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("OVF: two disks have the id {id}")));
        }
        disks.push(WrittenDisk { id, file, capacity, populated });
    }
    Ok(disks)
}

fn check(machine: &Machine, files: &[FileEntry]) -> Result<()> {
    let (mut names, mut disks, mut drives) = (HashSet::new(), HashSet::new(), HashSet::new());
    for file in files {
        let fault = match &file.purpose {
            _ if file.href.is_empty() => Some("it has no name"),
            _ if !names.insert(&file.href) => Some("another file has this name"),
            FileUse::Disk { id, .. } if !machine.disks.iter().any(|disk| disk.id == *id) => {
                Some("the machine has no such disk")
            }
            FileUse::Disk { id, .. } if !disks.insert(id) => Some("another file holds its disk"),
            FileUse::Drive(place) if *place >= machine.drives.len() => Some("the machine has no such drive"),
            FileUse::Drive(place) if !drives.insert(place) => Some("another file is in its drive"),
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(Error::new(ErrorKind::InvalidInput, format!("OVF: file {}: {fault}", file.href)));
        }
    }
    Ok(())
}

/// The id of the file at this place.
pub(super) fn file_id(place: usize) -> String {
    format!("file{}", place + 1)
}

fn references(xml: &mut XmlWriter, files: &[FileEntry]) {
    xml.open("References", &[]);
    for (place, file) in files.iter().enumerate() {
        let size = file.size.unwrap_or(u64::MAX);
        xml.empty("File", &[("ovf:href", &file.href), ("ovf:id", &file_id(place)), ("ovf:size", &size)]);
    }
    xml.close();
}

fn disk_section(xml: &mut XmlWriter, disks: &[WrittenDisk]) {
    const MIB: u64 = 1 << 20;
    xml.open("DiskSection", &[]);
    xml.text("Info", &[], "Virtual disk information");
    for disk in disks {
        let whole = disk.capacity % MIB == 0;
        let capacity = if whole { disk.capacity / MIB } else { disk.capacity };
        let units = if whole { "byte * 2^20" } else { "byte" };
        let file = disk.file.map(file_id);
        let mut attributes: Vec<(&str, &dyn std::fmt::Display)> =
            vec![("ovf:capacity", &capacity), ("ovf:capacityAllocationUnits", &units), ("ovf:diskId", &disk.id)];
        if let Some(file) = &file {
            attributes.push(("ovf:fileRef", file));
        }
        attributes.push(("ovf:format", &STREAM_OPTIMIZED));
        if let Some(populated) = &disk.populated {
            attributes.push(("ovf:populatedSize", populated));
        }
        xml.empty("Disk", &attributes);
    }
    xml.close();
}

/// What a network is called in the descriptor.
pub(super) fn network_name(network: &Network) -> Option<&str> {
    match network {
        Network::None => None,
        Network::Bridged => Some("bridged"),
        Network::Nat => Some("nat"),
        Network::HostOnly => Some("hostonly"),
        Network::Named(name) => Some(name),
    }
}

fn network_section(xml: &mut XmlWriter, machine: &Machine) {
    let mut seen = HashSet::new();
    xml.open("NetworkSection", &[]);
    xml.text("Info", &[], "The list of logical networks");
    for name in machine.nics.iter().filter_map(|nic| network_name(&nic.network)).filter(|name| seen.insert(*name)) {
        xml.open("Network", &[("ovf:name", &name)]);
        xml.text("Description", &[], format!("The {name} network"));
        xml.close();
    }
    xml.close();
}

fn operating_system(xml: &mut XmlWriter, machine: &Machine, notes: &mut Notes) {
    let guest = &machine.guest;
    let (id, vim) = (guest.cim_number(), guest.vim_name());
    if vim.is_none() {
        notes.assumed("guest", "the machine names no guest that VMware knows: \"otherGuest64\" was taken");
    }
    let vim = vim.unwrap_or_else(|| String::from("otherGuest64"));
    let mut attributes: Vec<(&str, &dyn std::fmt::Display)> = vec![("ovf:id", &id)];
    if let Some(version) = &guest.version {
        attributes.push(("ovf:version", version));
    }
    attributes.push(("vmw:osType", &vim));
    xml.open("OperatingSystemSection", &attributes);
    xml.text("Info", &[], "The kind of installed guest operating system");
    if let Some(title) = guest.title() {
        xml.text("Description", &[], title);
    }
    xml.close();
}
