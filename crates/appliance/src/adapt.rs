//! A machine of one hypervisor as another can have it: without virtio, and with every drive where VMware has a place.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::NicModel;
use crate::machine::Machine;
use crate::note::Notes;
use crate::storage::{Address, Bus, ScsiModel};

/// Units of a SATA controller, by the limit of VMware, VirtualBox and AHCI itself.
const SATA_UNITS: u32 = 30;

/// The nearest machine without virtio: disks hang from SATA, which every guest has a driver for; `scsi` and `nic` take the
/// place of the paravirtual controller and adapter.
pub(crate) fn without_virtio(machine: &Machine, scsi: &ScsiModel, nic: &NicModel, notes: &mut Notes) -> Machine {
    let mut machine = machine.clone();
    machine.controllers.retain(|controller| controller.bus != Bus::Virtio);
    for controller in &mut machine.controllers {
        if controller.model == Some(ScsiModel::VirtioScsi) && *scsi != ScsiModel::VirtioScsi {
            let name = format!("{}{}", controller.bus, controller.number);
            notes.changed(name, format!("virtio-scsi is {scsi} here: the guest needs its driver"));
            controller.model = Some(scsi.clone());
        }
    }
    for adapter in &mut machine.nics {
        if adapter.model == Some(NicModel::Virtio) && *nic != NicModel::Virtio {
            notes.changed(
                format!("nic {}", adapter.number),
                format!("virtio is {nic} here: the guest needs its driver"),
            );
            adapter.model = Some(nic.clone());
        }
    }
    let of_sata = machine.controllers.iter().filter(|controller| controller.bus == Bus::Sata);
    let first = of_sata.map(|controller| controller.number.saturating_add(1)).max().unwrap_or_default();
    let mut moved = 0;
    let mut next = || {
        let address = Address::new(Bus::Sata, first.saturating_add(moved / SATA_UNITS), moved % SATA_UNITS);
        moved += 1;
        address
    };
    let mut addresses = Vec::new();
    for disk in machine.disks.iter_mut().filter(|disk| disk.address.bus == Bus::Virtio) {
        let address = next();
        notes.changed(disk.address.to_string(), format!("the disk hangs from {address} here, as there is no virtio"));
        disk.address = address;
        addresses.push(address);
    }
    for drive in &mut machine.drives {
        if let Some(old) = drive.address.filter(|address| address.bus == Bus::Virtio) {
            let address = next();
            notes.changed(old.to_string(), format!("the drive hangs from {address} here, as there is no virtio"));
            drive.address = Some(address);
            addresses.push(address);
        }
    }
    addresses.into_iter().for_each(|address| machine.need_controller(address));
    machine
}

/// The nearest machine that VMware has: without virtio, and with every drive on a unit that there is.
pub(crate) fn for_vmware(machine: &Machine, notes: &mut Notes) -> Machine {
    let mut machine = without_virtio(machine, &ScsiModel::ParaVirtual, &NicModel::VmxNet3, notes);
    let disks = machine.disks.iter().map(|disk| disk.address);
    let all: Vec<_> = disks.chain(machine.drives.iter().filter_map(|drive| drive.address)).collect();
    let mut taken: BTreeSet<_> = all.iter().copied().filter(|address| is_vmware(*address)).collect();
    let mut moved = BTreeMap::new();
    for address in all.into_iter().filter(|address| !is_vmware(*address)) {
        let Some(place) = places(address).find(|place| !taken.contains(place)) else {
            notes.attention(address.to_string(), "VMware has no place left for it");
            continue;
        };
        taken.insert(place);
        moved.insert(address, place);
        notes.changed(address.to_string(), format!("VMware has no such place: it hangs from {place}"));
    }
    machine.disks.iter_mut().for_each(|disk| disk.address = *moved.get(&disk.address).unwrap_or(&disk.address));
    machine
        .drives
        .iter_mut()
        .filter_map(|drive| drive.address.as_mut())
        .for_each(|address| *address = *moved.get(address).unwrap_or(address));
    moved.into_values().for_each(|address| machine.need_controller(address));
    machine
}

/// Controllers and units of each bus, by VMware's limits.
const fn limits(bus: Bus) -> (u32, u32) {
    match bus {
        Bus::Ide => (2, 2),
        Bus::Scsi => (4, 64),
        Bus::Sata | Bus::Virtio => (4, SATA_UNITS),
        Bus::Nvme => (4, 15),
    }
}

/// Whether VMware has this place. Unit 7 of SCSI is the controller itself.
fn is_vmware(address: Address) -> bool {
    let (controllers, units) = limits(address.bus);
    address.controller < controllers && address.unit < units && !(address.bus == Bus::Scsi && address.unit == 7)
}

/// The places that would do instead of `address`, the nearest first: its controller, its bus, SATA. Of SCSI only the first
/// sixteen units are taken, as the others are for the paravirtual controller of new hardware alone.
fn places(address: Address) -> impl Iterator<Item = Address> {
    let on = |bus: Bus, controller: u32| {
        let units = limits(bus).1.min(if bus == Bus::Scsi { 16 } else { u32::MAX });
        (0..units).map(move |unit| Address::new(bus, controller, unit))
    };
    let of_bus = move |bus: Bus| (0..limits(bus).0).flat_map(move |controller| on(bus, controller));
    on(address.bus, address.controller)
        .chain(of_bus(address.bus))
        .chain(of_bus(Bus::Sata))
        .filter(|place| is_vmware(*place))
}

/// Says that settings which only VMware knows are not taken over.
pub(crate) fn note_vmware_settings(machine: &Machine, notes: &mut Notes) {
    let count = machine.config.len() + machine.extra.len();
    if count > 0 {
        let some: Vec<_> = machine.config.keys().chain(machine.extra.keys()).take(5).map(String::as_str).collect();
        let more = if count > some.len() { " and others" } else { "" };
        notes.left_out("settings of VMware", format!("{count} mean nothing elsewhere: {}{more}", some.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    #[test]
    fn drives_without_a_place_at_vmware_get_one() {
        let addresses = [
            Address::new(Bus::Scsi, 0, 0),
            Address::new(Bus::Scsi, 0, 7),
            Address::new(Bus::Scsi, 9, 1),
            Address::new(Bus::Ide, 2, 0),
            Address::new(Bus::Sata, 0, 30),
            Address::new(Bus::Nvme, 0, 14),
        ];
        let mut machine = Machine::new("vm", 1);
        machine.disks = addresses.map(|address| Disk::new(address.to_string(), address, None)).to_vec();
        let mut notes = Notes::new();
        let machine = for_vmware(&machine, &mut notes);
        let places: Vec<_> = machine.disks.iter().map(|disk| disk.address.to_string()).collect();
        assert_eq!(places, ["scsi0:0", "scsi0:1", "scsi0:2", "ide0:0", "sata0:0", "nvme0:14"]);
        assert_eq!(notes.iter().count(), 4);
        assert!(machine.controller(Bus::Sata, 0).is_some());
    }
}
