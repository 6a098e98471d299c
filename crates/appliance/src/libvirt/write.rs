//! From a machine to a domain.
use crate::machine::Machine;
use crate::note::Written;

/// Writes the domain of `machine` for QEMU with KVM, ready for `virsh define`. Disks' files should be absolute.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let _ = machine;
    todo!()
}
