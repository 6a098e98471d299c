//! Disks and drives, and where they hang.

use super::Script;
use crate::machine::Machine;
use crate::quoting::powershell;
use crate::storage::{Bus, Disk, DiskFormat, DiskMode, DriveKind, Media};

/// Controllers of SCSI that a machine can have.
const MAX_SCSI: u32 = 4;

/// Units of each.
const SCSI_UNITS: u32 = 64;

/// A place: IDE channel and unit, or SCSI controller and unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ide(u32, u32),
    Scsi(u32, u32),
}

/// Hands out places: IDE as far as there is any, then SCSI.
struct Places {
    ide: Vec<(u32, u32)>,
    scsi: u32,
}

impl Places {
    fn next(&mut self, ide: bool) -> Option<Place> {
        if ide && !self.ide.is_empty() {
            let (channel, unit) = self.ide.remove(0);
            return Some(Place::Ide(channel, unit));
        }
        let place = Place::Scsi(self.scsi / SCSI_UNITS, self.scsi % SCSI_UNITS);
        self.scsi += 1;
        (self.scsi <= MAX_SCSI * SCSI_UNITS).then_some(place)
    }
}

/// A file beside the script, or at its own place if it is absolute.
fn path(file: &str) -> String {
    format!("[IO.Path]::Combine($PSScriptRoot, {})", powershell(&file.replace('/', "\\")))
}

/// Stops before anything is made if a disk is not there.
pub(super) fn check(script: &mut Script<'_>, machine: &Machine) {
    for file in machine.disks.iter().filter_map(|disk| disk.file.as_ref()) {
        let path = path(file);
        script.line(&format!("if (-not [IO.File]::Exists(({path}))) {{ throw (\"missing: \" + ({path})) }}"));
    }
}

pub(super) fn attach(script: &mut Script<'_>, machine: &Machine, generation: u32) {
    let drives = machine.drives.iter().filter(|drive| drive.kind == DriveKind::Cdrom);
    // The first DVD drive keeps a place on IDE: there is no other in the first generation.
    let mut places = Places { ide: vec![(0, 0), (0, 1), (1, 1)], scsi: 0 };
    if generation == 2 {
        places.ide.clear();
    } else if drives.clone().next().is_none() {
        places.ide.push((1, 0));
    }
    for disk in &machine.disks {
        let first = disk.id == machine.disks.first().map_or("", |first| first.id.as_str());
        let ide = generation == 1 && (first || disk.address.bus == Bus::Ide);
        match places.next(ide) {
            Some(place) => attach_disk(script, disk, place),
            None => script.notes.left_out(disk.address.to_string(), "Hyper-V has no place left for it"),
        }
    }
    for (number, drive) in drives.enumerate() {
        let address = drive.address.map_or_else(|| String::from("cdrom"), |address| address.to_string());
        let place = match (generation, number) {
            (1, 0) => Some(Place::Ide(1, 0)),
            (1, _) => places.ide.pop().map(|(channel, unit)| Place::Ide(channel, unit)),
            _ => places.next(false),
        };
        let Some(place) = place else {
            script.notes.left_out(address, "Hyper-V has no place left for the drive");
            continue;
        };
        let media = match &drive.media {
            Media::Image(file) if drive.connected => format!(" -Path ({})", path(file)),
            Media::Host(name) if !name.is_empty() => {
                script.notes.left_out(address, format!("{name} is the old host's: the drive is empty"));
                String::new()
            }
            _ => String::new(),
        };
        controllers(script, place);
        let (_, controller, unit) = place.parts();
        // It has no parameter for the kind of controller: generation and number tell.
        script
            .line(&format!("Add-VMDvdDrive -VM $vm -ControllerNumber {controller} -ControllerLocation {unit}{media}"));
    }
}

impl Place {
    const fn parts(self) -> (&'static str, u32, u32) {
        match self {
            Self::Ide(channel, unit) => ("IDE", channel, unit),
            Self::Scsi(controller, unit) => ("SCSI", controller, unit),
        }
    }
}

/// A further controller, when its first unit is used: one is there from the beginning.
fn controllers(script: &mut Script<'_>, place: Place) {
    if matches!(place, Place::Scsi(controller, 0) if controller > 0) {
        script.line("Add-VMScsiController -VM $vm");
    }
}

fn attach_disk(script: &mut Script<'_>, disk: &Disk, place: Place) {
    controllers(script, place);
    let (kind, controller, unit) = place.parts();
    let from = disk.address;
    if !kind.eq_ignore_ascii_case(from.bus.as_str()) {
        script.notes.changed(from.to_string(), format!("it hangs from {kind} here: the guest needs its driver"));
    }
    if disk.mode != DiskMode::Persistent || disk.read_only {
        script.notes.left_out(from.to_string(), "Hyper-V has no such mode: the disk is an ordinary one");
    }
    let path = match &disk.file {
        Some(file) => {
            if !matches!(disk.format, Some(DiskFormat::Vhd | DiskFormat::Vhdx)) {
                script.notes.attention(from.to_string(), "Hyper-V takes VHD and VHDX alone");
            }
            path(file)
        }
        None => {
            let path = path(&format!(
                "{}-empty.vhdx",
                disk.id.replace(|character: char| !character.is_ascii_alphanumeric(), "_")
            ));
            let size = disk.capacity.unwrap_or_default().max(1 << 20).next_multiple_of(512);
            script.line(&format!("New-VHD -Path ({path}) -SizeBytes {size} -Dynamic | Out-Null"));
            path
        }
    };
    script.line(&format!(
        "Add-VMHardDiskDrive -VM $vm -ControllerType {kind} -ControllerNumber {controller} -ControllerLocation {unit} -Path ({path})"
    ));
}
