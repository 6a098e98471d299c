//! Writes a PowerShell script for Hyper-V.
use crate::machine::Machine;
use crate::note::Written;

/// Writes a PowerShell script for Hyper-V that makes `machine`. Disks are named as their `file` says, relative to the written file's folder.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let _ = machine;
    todo!()
}
