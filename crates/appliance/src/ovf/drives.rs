//! Controllers, and the disks and drives that hang from them.

use std::collections::{HashMap, HashSet};

use transload_block::Result;

use super::hardware::placed;
use super::item::{Item, resource};
use super::package::{Package, VirtualDisk};
use crate::machine::Machine;
use crate::note::Notes;
use crate::storage::{Address, Bus, Controller, Disk, DiskFormat, DiskMode, Drive, DriveKind, Media, ScsiModel};

/// More controllers of one bus than any hypervisor has: a larger number is not a place.
const MAX_CONTROLLER: u32 = 255;

/// More units than any controller has.
const MAX_UNIT: u32 = 65_535;

/// Which controller each item is, and which units are taken.
pub(super) struct Place {
    by_id: HashMap<String, (Bus, u32)>,
    taken: HashSet<Address>,
}

impl Place {
    /// Adds the controllers among `items` to `machine`.
    pub(super) fn new(items: &[Item<'_>], machine: &mut Machine, notes: &mut Notes) -> Self {
        let mut place = Self { by_id: HashMap::new(), taken: HashSet::new() };
        for item in items {
            let bus = match item.kind {
                resource::IDE => Bus::Ide,
                resource::SCSI => Bus::Scsi,
                resource::OTHER_STORAGE if item.subtype().contains("nvm") => Bus::Nvme,
                resource::OTHER_STORAGE if item.subtype().contains("virtio") => Bus::Scsi,
                resource::OTHER_STORAGE => Bus::Sata,
                _ => continue,
            };
            let wanted = item.address.and_then(|text| text.parse().ok()).filter(|number| *number <= MAX_CONTROLLER);
            let number = wanted
                .filter(|number| machine.controller(bus, *number).is_none())
                .unwrap_or_else(|| free(bus, machine));
            let model = if bus == Bus::Scsi { scsi_model(item, notes) } else { None };
            machine.controllers.push(Controller { bus, number, model });
            place.by_id.insert(item.id.to_owned(), (bus, number));
            if bus != Bus::Ide {
                placed(item, &format!("{bus}{number}"), machine);
            }
        }
        place
    }

    /// The address of a drive: what it asks for, else the next that is free.
    fn address(&mut self, item: &Item<'_>, machine: &mut Machine, notes: &mut Notes) -> Address {
        let parent = item.parent.and_then(|id| self.by_id.get(id)).copied();
        let (bus, mut controller) = parent.unwrap_or_else(|| {
            let first =
                machine.controllers.first().map_or((Bus::Scsi, 0), |controller| (controller.bus, controller.number));
            notes.assumed(
                item.name,
                format!("it hangs from no controller that is described: {}{} was taken", first.0, first.1),
            );
            first
        });
        let mut unit = item.unit.filter(|unit| *unit <= MAX_UNIT).unwrap_or_default();
        if bus == Bus::Ide {
            // Some count the four drives of both channels through.
            controller = controller.saturating_add(unit / 2);
            unit %= 2;
        }
        let mut address = Address::new(bus, controller, unit);
        if item.unit.is_none() || self.taken.contains(&address) {
            let wanted = address;
            address = self.next_free(address);
            if item.unit.is_some() {
                notes.changed(item.name, format!("{wanted} is taken: it is {address}"));
            }
        }
        self.taken.insert(address);
        machine.need_controller(address);
        address
    }

    /// The first unit from `address` on that nothing has. There are more addresses than items, so that one is found.
    fn next_free(&self, mut address: Address) -> Address {
        if address.bus == Bus::Ide {
            // The channel itself, then the two that there are, then ones that no machine has.
            let channels = [address.controller, 0, 1].into_iter().chain(2..);
            let mut places = channels.flat_map(|channel| [0, 1].map(|unit| Address::new(Bus::Ide, channel, unit)));
            return places.find(|place| !self.taken.contains(place)).unwrap_or(address);
        }
        while self.taken.contains(&address) || (address.bus == Bus::Scsi && address.unit == 7) {
            address.unit = address.unit.saturating_add(1);
        }
        address
    }
}

fn free(bus: Bus, machine: &Machine) -> u32 {
    let of_bus = machine.controllers.iter().filter(|controller| controller.bus == bus);
    of_bus.map(|controller| controller.number.saturating_add(1)).max().unwrap_or_default()
}

fn scsi_model(item: &Item<'_>, notes: &mut Notes) -> Option<ScsiModel> {
    let known = |name: &&str| match name.to_ascii_lowercase().as_str() {
        "virtualscsi" | "pvscsi" => Some(ScsiModel::ParaVirtual),
        "lsilogicsas" | "lsilogic-sas" | "lsisas1068" => Some(ScsiModel::LsiLogicSas),
        "virtioscsi" | "virtio-scsi" | "virtio_scsi" => Some(ScsiModel::VirtioScsi),
        other => Some(ScsiModel::from_spelling(other)).filter(|model| !matches!(model, ScsiModel::Other(_))),
    };
    let model = item.subtypes.iter().find_map(known);
    if let (None, Some(name)) = (&model, item.subtypes.first()) {
        notes.changed(item.name, format!("the kind \"{name}\" is not known: it is left to the hypervisor"));
    }
    model
}

pub(super) fn disk(
    item: &Item<'_>,
    package: &Package,
    place: &mut Place,
    machine: &mut Machine,
    notes: &mut Notes,
) -> Result<()> {
    let Some(resource) = item.host_resource else {
        notes.left_out(item.name, "the disk names none of the package's disks");
        return Ok(());
    };
    let Some((described, file)) = resolve(resource, package) else {
        return Err(item.corrupt(&format!("\"{resource}\" is neither a disk nor a file of the package")));
    };
    let address = place.address(item, machine, notes);
    let id = described.map_or_else(|| format!("disk{}", machine.disks.len() + 1), |disk| disk.id.clone());
    let file = described.and_then(|disk| disk.file.as_deref()).or(file);
    let file = file.and_then(|id| package.file(id));
    let mut disk = Disk::new(id, address, file.map(|file| file.href.clone()));
    if let Some(described) = described {
        disk.capacity = described.capacity.bytes();
        disk.populated = described.populated;
        if let Some(parent) = &described.parent {
            notes.attention(&disk.id, format!("it is a layer over the disk {parent}"));
        }
    }
    disk.format = disk.file.as_deref().and_then(|file| format(described, file));
    disk.mode = match item.config.get("backing.diskMode").copied() {
        Some("independent_persistent") => DiskMode::IndependentPersistent,
        Some("independent_nonpersistent") => DiskMode::IndependentNonpersistent,
        Some("undoable" | "append" | "nonpersistent") => DiskMode::Undoable,
        _ => DiskMode::Persistent,
    };
    machine.disks.push(disk);
    Ok(())
}

/// The disk or the file that a `HostResource` means: `ovf:/disk/id`, `/file/id`, and oVirt's `group/image`.
fn resolve<'p>(resource: &str, package: &'p Package) -> Option<(Option<&'p VirtualDisk>, Option<&'p str>)> {
    let path = resource.strip_prefix("ovf:").unwrap_or(resource).trim_start_matches('/');
    if let Some(id) = path.strip_prefix("disk/") {
        return package.disk(id).map(|disk| (Some(disk), None));
    }
    if let Some(id) = path.strip_prefix("file/") {
        return package.file(id).map(|file| (None, Some(file.id.as_str())));
    }
    let of_file = |name: &str| package.disks.iter().find(|disk| disk.file.as_deref() == Some(name) || disk.id == name);
    let disk = of_file(path).or_else(|| of_file(path.rsplit('/').next()?))?;
    Some((Some(disk), None))
}

fn format(disk: Option<&VirtualDisk>, file: &str) -> Option<DiskFormat> {
    let address = disk.and_then(|disk| disk.format.as_deref()).unwrap_or_default().to_ascii_lowercase();
    let by_address = [
        ("vmdk", DiskFormat::Vmdk),
        ("virtualdiskformat", DiskFormat::Vmdk),
        ("qcow", DiskFormat::Qcow2),
        ("vhdx", DiskFormat::Vhdx),
        ("vhd", DiskFormat::Vhd),
        ("vdi", DiskFormat::Vdi),
        ("raw", DiskFormat::Raw),
    ];
    by_address
        .into_iter()
        .find(|(part, _)| address.contains(part))
        .map(|(_, format)| format)
        .or_else(|| DiskFormat::of_name(file))
}

pub(super) fn cdrom(item: &Item<'_>, package: &Package, place: &mut Place, machine: &mut Machine, notes: &mut Notes) {
    let media = media(item, package);
    let address = place.address(item, machine, notes);
    let connected = item.automatic.unwrap_or(true);
    machine.drives.push(Drive { kind: DriveKind::Cdrom, address: Some(address), floppy: 0, media, connected });
}

pub(super) fn floppy(item: &Item<'_>, package: &Package, machine: &mut Machine) {
    let floppies = machine.drives.iter().filter(|drive| drive.kind == DriveKind::Floppy).count();
    let floppy = u32::try_from(floppies).unwrap_or(u32::MAX);
    let connected = item.automatic.unwrap_or(true);
    machine.drives.push(Drive {
        kind: DriveKind::Floppy,
        address: None,
        floppy,
        media: media(item, package),
        connected,
    });
}

/// What is in a drive: a file of the package, or what the kind of the drive says.
fn media(item: &Item<'_>, package: &Package) -> Media {
    let path = item.host_resource.unwrap_or_default();
    let path = path.strip_prefix("ovf:").unwrap_or(path).trim_start_matches('/');
    let file = path.strip_prefix("file/").and_then(|id| package.file(id));
    let of_disk = path.strip_prefix("disk/").and_then(|id| package.file(package.disk(id)?.file.as_deref()?));
    let subtype = item.subtype();
    match file.or(of_disk) {
        Some(file) => Media::Image(file.href.clone()),
        None if subtype.contains(".remote") => Media::Client,
        None if subtype.ends_with("passthrough") || subtype.ends_with("atapi") || subtype == "vmware.floppy.device" => {
            Media::Host(String::new())
        }
        None => Media::Empty,
    }
}
