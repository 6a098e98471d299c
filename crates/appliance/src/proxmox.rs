//! Writes a shell script of `qm` commands for Proxmox VE. `STORAGE` and `VMID` are its arguments.
use crate::machine::Machine;
use crate::note::Written;

/// Writes a shell script of `qm` commands for Proxmox VE. `STORAGE` and `VMID` are its arguments that makes `machine`. Disks are named as their `file` says, relative to the written file's folder.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let _ = machine;
    todo!()
}
