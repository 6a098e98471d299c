//! A machine of KVM as hypervisors without virtio can have it.

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
