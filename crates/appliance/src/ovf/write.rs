//! From a machine to a descriptor as VMware's importers take it.

use transload_block::Result;

use crate::machine::Machine;
use crate::note::Written;

/// What a file of the package is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileUse {
    /// It holds the disk of this [`crate::Disk::id`].
    Disk {
        /// The disk.
        id: String,
        /// Its size, exact. It is written in MiB, or in bytes where it is no multiple of a MiB.
        capacity: u64,
        /// Bytes of it that hold data, where they are known.
        populated: Option<u64>,
    },
    /// It is in the CD-ROM drive with this place in [`Machine::drives`].
    Cdrom(usize),
    /// It holds the firmware's variables.
    Nvram,
    /// It only goes with the package.
    Other,
}

/// A file of the package to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name in the package.
    pub href: String,
    /// Its length in bytes. `None` where it is not known yet: the text then has the widest number there is.
    pub size: Option<u64>,
    /// What it is for.
    pub purpose: FileUse,
}

/// How a descriptor is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteSettings {
    /// The hardware version to ask for instead of the machine's own.
    pub hardware_version: Option<u32>,
}

/// Writes the descriptor of a package that holds `machine` and `files`, in the order of `files`.
///
/// A disk of the machine that no file holds is described as an empty one, to be created. No path of the host is written.
///
/// # Errors
/// `InvalidInput` when a file names a disk or a drive that the machine does not have, two files have one name, or an empty disk has no
/// capacity.
pub fn write(machine: &Machine, files: &[FileEntry], settings: &WriteSettings) -> Result<Written> {
    let _ = (machine, files, settings);
    todo!()
}

/// How long the text can get, in bytes, when the lengths and populated sizes that are not known in `files` become known:
/// the length to reserve in front of disks that are written in one pass, and to [`pad`] to afterwards.
///
/// # Errors
/// As [`write`].
pub fn widest(machine: &Machine, files: &[FileEntry], settings: &WriteSettings) -> Result<usize> {
    let _ = (machine, files, settings);
    todo!()
}

/// Lengthens `text` to `length` bytes with spaces behind the last element, where they mean nothing. `None` if it is longer.
#[must_use]
pub fn pad(text: String, length: usize) -> Option<String> {
    let _ = (text, length);
    todo!()
}
