//! From a machine to a VMX.
use crate::machine::Machine;
use crate::note::Written;

/// How a VMX is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteSettings {
    /// The hardware version to write instead of the machine's own.
    pub hardware_version: Option<u32>,
}

/// Writes the VMX of `machine`, in UTF-8. Disks are named as their `file` says.
#[must_use]
pub fn write(machine: &Machine, settings: &WriteSettings) -> Written {
    let _ = (machine, settings);
    todo!()
}
