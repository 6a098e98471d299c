//! Controllers, what is attached to them, and the registry of media.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::identity::{derived, disk_uuid};
use crate::machine::Machine;
use crate::note::Notes;
use crate::storage::{Address, Bus, Disk, DiskFormat, DiskMode, DriveKind, Media, ScsiModel};
use crate::xml::XmlWriter;

/// One thing attached to a controller.
struct Attached {
    kind: &'static str,
    port: u32,
    device: u32,
    /// The identifier of the medium.
    medium: Option<String>,
}

/// A controller as VirtualBox has it.
struct Controller {
    name: String,
    kind: &'static str,
    ports: u32,
    attached: Vec<Attached>,
}

/// A medium: identifier, place, format, kind of writes.
struct Medium {
    uuid: String,
    location: String,
    format: &'static str,
    mode: &'static str,
}

/// All of it.
pub(super) struct Storage {
    controllers: Vec<Controller>,
    disks: Vec<Medium>,
    images: BTreeMap<String, String>,
    floppies: BTreeMap<String, String>,
}

impl Storage {
    pub(super) fn new(machine: &Machine, notes: &mut Notes) -> Self {
        let mut storage =
            Self { controllers: Vec::new(), disks: Vec::new(), images: BTreeMap::new(), floppies: BTreeMap::new() };
        let disks =
            machine.disks.iter().map(|disk| (disk.address, storage.disk(machine, disk, notes))).collect::<Vec<_>>();
        let mut attached: Vec<(Address, Attached)> = Vec::new();
        for (address, medium) in disks {
            if let Some(medium) = medium {
                attached.push((address, Attached { kind: "HardDisk", port: 0, device: 0, medium: Some(medium) }));
            }
        }
        let mut floppies = Vec::new();
        for drive in &machine.drives {
            let image = match &drive.media {
                Media::Image(file) if drive.connected => Some(file),
                Media::Host(name) if !name.is_empty() => {
                    notes.left_out("drive", format!("{name} is the old host's: the drive is empty"));
                    None
                }
                _ => None,
            };
            match (drive.kind, drive.address) {
                (DriveKind::Cdrom, Some(address)) => {
                    let medium = image.map(|file| storage.image(false, file));
                    attached.push((address, Attached { kind: "DVD", port: 0, device: 0, medium }));
                }
                (DriveKind::Floppy, _) if drive.floppy < 2 => {
                    let medium = image.map(|file| storage.image(true, file));
                    floppies.push(Attached { kind: "Floppy", port: 0, device: drive.floppy, medium });
                }
                _ => {}
            }
        }
        storage.arrange(machine, attached, notes);
        if !floppies.is_empty() {
            storage.controllers.push(Controller {
                name: String::from("Floppy"),
                kind: "I82078",
                ports: 1,
                attached: floppies,
            });
        }
        storage
    }

    fn disk(&mut self, machine: &Machine, disk: &Disk, notes: &mut Notes) -> Option<String> {
        let Some(file) = &disk.file else {
            notes.left_out(
                disk.address.to_string(),
                format!("{} is an empty disk: it has to be made and attached", disk.id),
            );
            return None;
        };
        let format = match &disk.format {
            Some(DiskFormat::Vmdk) => "VMDK",
            Some(DiskFormat::Vhd) => "VHD",
            Some(DiskFormat::Vdi) | None => "VDI",
            Some(other) => {
                notes.attention(disk.address.to_string(), format!("VirtualBox runs no {other}: convert it to vdi"));
                "VDI"
            }
        };
        if disk.uuid.is_none() {
            notes.attention(disk.address.to_string(), format!("the file has to say the identifier that stands here: VBoxManage internalcommands sethduuid \"{file}\""));
        }
        let uuid = disk.uuid.clone().unwrap_or_else(|| disk_uuid(&machine.name, &disk.id));
        let mode = match (disk.read_only, disk.mode) {
            (true, _) => "Readonly",
            (_, DiskMode::IndependentPersistent) => "Writethrough",
            (_, DiskMode::IndependentNonpersistent) => "Immutable",
            (_, DiskMode::Persistent | DiskMode::Undoable) => "Normal",
        };
        self.disks.push(Medium { uuid: uuid.clone(), location: file.clone(), format, mode });
        Some(uuid)
    }

    fn image(&mut self, floppy: bool, file: &str) -> String {
        let images = if floppy { &mut self.floppies } else { &mut self.images };
        images.entry(file.to_owned()).or_insert_with(|| derived(&["image", file])).clone()
    }

    /// Gives every drive a place: VirtualBox has one controller of IDE, and one of each kind of SCSI.
    fn arrange(&mut self, machine: &Machine, attached: Vec<(Address, Attached)>, notes: &mut Notes) {
        let mut taken: BTreeSet<(String, u32, u32)> = BTreeSet::new();
        for (address, mut drive) in attached {
            let (mut name, mut kind, mut ports) = place(machine, address);
            let dvd = drive.kind == "DVD" && matches!(address.bus, Bus::Nvme | Bus::Scsi);
            if dvd {
                notes.changed(
                    address.to_string(),
                    "VirtualBox has DVD drives on IDE and SATA alone: it hangs from SATA",
                );
                (name, kind, ports) = (String::from("SATA"), "AHCI", 30);
            }
            let two = kind == "PIIX4";
            let wanted = if two { (address.controller, address.unit) } else { (address.unit, 0) };
            let all = (0..ports).flat_map(|port| (0..if two { 2 } else { 1 }).map(move |device| (port, device)));
            let fits = |place: &(u32, u32)| {
                place.0 < ports && place.1 < 2 && !taken.contains(&(name.clone(), place.0, place.1))
            };
            let Some((port, device)) = [wanted].into_iter().chain(all).find(fits) else {
                notes.left_out(address.to_string(), format!("VirtualBox has no place left on {name}"));
                continue;
            };
            if (port, device) != wanted && !dvd {
                notes.changed(address.to_string(), format!("it is on port {port} of {name}"));
            }
            taken.insert((name.clone(), port, device));
            (drive.port, drive.device) = (port, device);
            match self.controllers.iter_mut().find(|controller| controller.name == name) {
                Some(controller) => controller.attached.push(drive),
                None => self.controllers.push(Controller { name, kind, ports, attached: vec![drive] }),
            }
        }
    }

    /// Writes the registry of media.
    pub(super) fn registry(&self, xml: &mut XmlWriter) {
        xml.open("MediaRegistry", &[]);
        xml.open("HardDisks", &[]);
        for disk in &self.disks {
            let uuid = format!("{{{}}}", disk.uuid);
            xml.empty(
                "HardDisk",
                &[("uuid", &uuid), ("location", &disk.location), ("format", &disk.format), ("type", &disk.mode)],
            );
        }
        xml.close();
        for (name, images) in [("DVDImages", &self.images), ("FloppyImages", &self.floppies)] {
            if images.is_empty() {
                continue;
            }
            xml.open(name, &[]);
            for (file, uuid) in images {
                xml.empty("Image", &[("uuid", &format!("{{{uuid}}}")), ("location", file)]);
            }
            xml.close();
        }
        xml.close();
    }

    /// Writes the controllers.
    pub(super) fn controllers(&self, xml: &mut XmlWriter) {
        xml.open("StorageControllers", &[]);
        for controller in &self.controllers {
            let bootable = true;
            let attributes: [(&str, &dyn Display); 5] = [
                ("name", &controller.name),
                ("type", &controller.kind),
                ("PortCount", &controller.ports),
                ("useHostIOCache", &(controller.kind == "PIIX4" || controller.kind == "I82078")),
                ("Bootable", &bootable),
            ];
            xml.open("StorageController", &attributes);
            for drive in &controller.attached {
                let attributes: [(&str, &dyn Display); 4] =
                    [("type", &drive.kind), ("hotpluggable", &false), ("port", &drive.port), ("device", &drive.device)];
                let passthrough: [(&str, &dyn Display); 4] =
                    [("passthrough", &false), ("type", &drive.kind), ("port", &drive.port), ("device", &drive.device)];
                let attributes = if drive.kind == "DVD" { passthrough } else { attributes };
                match &drive.medium {
                    Some(uuid) => {
                        xml.open("AttachedDevice", &attributes);
                        xml.empty("Image", &[("uuid", &format!("{{{uuid}}}"))]);
                        xml.close();
                    }
                    None => xml.empty("AttachedDevice", &attributes),
                }
            }
            xml.close();
        }
        xml.close();
    }
}

/// The controller of an address: its name, its kind, and how many ports it has.
fn place(machine: &Machine, address: Address) -> (String, &'static str, u32) {
    let numbered =
        |name: &str| if address.controller == 0 { name.to_owned() } else { format!("{name} {}", address.controller) };
    match address.bus {
        Bus::Ide => (String::from("IDE"), "PIIX4", 2),
        Bus::Sata | Bus::Virtio => (numbered("SATA"), "AHCI", 30),
        Bus::Nvme => (numbered("NVMe"), "NVMe", 255),
        Bus::Scsi => match machine.scsi_model(address.controller) {
            Some(ScsiModel::BusLogic) => (numbered("BusLogic"), "BusLogic", 16),
            Some(ScsiModel::LsiLogicSas) => (numbered("SAS"), "LsiLogicSas", 255),
            Some(ScsiModel::VirtioScsi) => (numbered("VirtIO"), "VirtioSCSI", 256),
            // VirtualBox has no paravirtual controller of VMware's; every system has a driver for SATA.
            Some(ScsiModel::ParaVirtual) => (String::from("SATA"), "AHCI", 30),
            _ => (numbered("LsiLogic"), "LsiLogic", 16),
        },
    }
}
