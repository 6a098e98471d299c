//! Which slot every drive gets, and how its disk comes there.

use crate::guest::Family;
use crate::machine::Machine;
use crate::note::Notes;
use crate::quoting::shell;
use crate::storage::{Address, Bus, Disk, DiskFormat, DiskMode, DriveKind, Media, ScsiModel};

/// What is in a slot.
#[derive(Debug)]
pub(super) enum Source {
    /// A disk that stands in this file; its link has this name.
    File { file: String, link: String },
    /// A new disk of so many GiB.
    Empty(u64),
    /// An empty CD-ROM drive.
    Cdrom,
}

/// A slot, such as `scsi0`.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) source: Source,
    read_only: bool,
}

/// The slots of a machine, disks in their order.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) slots: Vec<Slot>,
    /// The kind of the one SCSI controller.
    pub(super) controller: &'static str,
}

impl Slots {
    pub(super) fn new(machine: &Machine, notes: &mut Notes) -> Self {
        let paravirtual = |disk: &Disk| {
            disk.address.bus == Bus::Scsi
                && machine.scsi_model(disk.address.controller) == Some(&ScsiModel::ParaVirtual)
        };
        let mut slots = Self { slots: Vec::new(), controller: "virtio-scsi-single" };
        if machine.disks.iter().any(paravirtual) {
            slots.controller = "pvscsi";
        }
        // The drives that stay on IDE keep their places, so that a CD-ROM does not take a disk's.
        for disk in &machine.disks {
            slots.disk(machine, disk, notes);
        }
        for drive in machine.drives.iter().filter(|drive| drive.kind == DriveKind::Cdrom) {
            let address = drive.address.unwrap_or(Address::new(Bus::Ide, 1, 0));
            if let Media::Image(file) = &drive.media {
                notes.left_out(
                    address.to_string(),
                    format!("{file} has to be copied to a storage for images: the drive is empty"),
                );
            }
            let name = slots.free(&[("ide", 4), ("sata", 6)], Some(address));
            slots.add(name, address, Source::Cdrom, false, notes);
        }
        slots
    }

    fn disk(&mut self, machine: &Machine, disk: &Disk, notes: &mut Notes) {
        let address = disk.address;
        let wanted = self.bus(machine, address);
        let choices: &[(&str, u32)] = match wanted {
            "virtio" => &[("virtio", 16), ("scsi", 31)],
            "ide" => &[("ide", 4), ("sata", 6), ("scsi", 31)],
            "sata" => &[("sata", 6), ("scsi", 31)],
            _ => &[("scsi", 31), ("virtio", 16)],
        };
        let name = self.free(choices, Some(address));
        let bus = name.as_deref().map(|name| name.trim_end_matches(|character: char| character.is_ascii_digit()));
        if let Some(bus) =
            bus.filter(|bus| *bus != address.bus.as_str() || (*bus == "scsi" && !self.keeps_model(machine, address)))
        {
            let on = if bus == "scsi" { self.controller } else { bus };
            notes.changed(address.to_string(), format!("Proxmox has no such place: it hangs from {on}"));
        }
        if disk.mode != DiskMode::Persistent {
            notes.left_out(address.to_string(), "Proxmox has no such mode: the disk is an ordinary one");
        }
        let source = match &disk.file {
            Some(file) => {
                let ending = disk
                    .format
                    .as_ref()
                    .filter(|format| !matches!(format, DiskFormat::Other(_)))
                    .map_or("raw", DiskFormat::as_str);
                Source::File { file: file.clone(), link: format!("disk{}.{ending}", self.slots.len() + 1) }
            }
            None => Source::Empty(disk.capacity.unwrap_or_default().div_ceil(1 << 30).max(1)),
        };
        self.add(name, address, source, disk.read_only, notes);
    }

    fn add(&mut self, name: Option<String>, address: Address, source: Source, read_only: bool, notes: &mut Notes) {
        match name {
            Some(name) => self.slots.push(Slot { name, source, read_only }),
            None => notes.left_out(address.to_string(), "Proxmox has no slot left for it"),
        }
    }

    fn bus(&self, machine: &Machine, address: Address) -> &'static str {
        let linux = machine.guest.family() == Family::Linux;
        match address.bus {
            Bus::Ide => "ide",
            Bus::Sata => "sata",
            Bus::Virtio => "virtio",
            Bus::Scsi if self.keeps_model(machine, address) => "scsi",
            // With the paravirtual controller the guest has its driver anyway.
            Bus::Scsi | Bus::Nvme if linux || self.controller == "pvscsi" => "scsi",
            Bus::Scsi | Bus::Nvme => "sata",
        }
    }

    fn keeps_model(&self, machine: &Machine, address: Address) -> bool {
        match machine.scsi_model(address.controller) {
            Some(ScsiModel::ParaVirtual) => address.bus == Bus::Scsi && self.controller == "pvscsi",
            Some(ScsiModel::VirtioScsi) => address.bus == Bus::Scsi && self.controller == "virtio-scsi-single",
            _ => false,
        }
    }

    /// The slot of the same place, or the first free one of the first bus that has one.
    fn free(&self, choices: &[(&str, u32)], address: Option<Address>) -> Option<String> {
        let taken = |name: &String| self.slots.iter().any(|slot| slot.name == *name);
        let same = address.filter(|address| address.bus == Bus::Ide && address.controller < 2 && address.unit < 2);
        let same = same.map(|address| format!("ide{}", address.controller * 2 + address.unit));
        let all = choices.iter().flat_map(|(bus, count)| (0..*count).map(move |number| format!("{bus}{number}")));
        same.into_iter().chain(all).find(|name| !taken(name))
    }
}

/// Lines that give every disk's file a name without a comma or a blank, as the values of `qm` cannot hold one.
pub(super) fn links(slots: &Slots) -> String {
    let mut text = String::new();
    for slot in &slots.slots {
        if let Source::File { file, link } = &slot.source {
            if text.is_empty() {
                text.push_str("LINKS=$(mktemp -d)\ntrap 'rm -rf -- \"$LINKS\"' EXIT\n");
            }
            let name = shell(file);
            let path = if file.starts_with('/') { name } else { format!("\"$PWD\"/{name}") };
            text.push_str(&format!("[ -r {path} ] || {{ printf 'missing: %s\\n' {path} >&2; exit 1; }}\nln -s -- {path} \"$LINKS/{link}\"\n"));
        }
    }
    text
}

/// The value of a slot, as a word of the shell.
pub(super) fn value(slot: &Slot) -> Option<String> {
    let read_only =
        if slot.read_only && !slot.name.starts_with("ide") && !slot.name.starts_with("sata") { ",ro=1" } else { "" };
    Some(match &slot.source {
        Source::File { link, .. } => format!("\"$STORAGE:0,import-from=$LINKS/{link},discard=on{read_only}\""),
        Source::Empty(size) => format!("\"$STORAGE:{size},discard=on{read_only}\""),
        Source::Cdrom => String::from("none,media=cdrom"),
    })
}
