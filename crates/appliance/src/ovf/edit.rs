//! Changes to a descriptor that leave every other byte of it as it is.

use transload_block::Result;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Every machine asks for this hardware family, such as `vmx-15`.
    Family(String),
    /// The file of this id has this many bytes.
    FileSize {
        /// The file's id.
        id: String,
        /// Its length.
        size: u64,
    },
    /// The file of this id has this name, and is neither compressed as a whole nor cut into pieces.
    FileName {
        /// The file's id.
        id: String,
        /// Its name.
        href: String,
    },
    /// The disk of this id has this many bytes; they are rounded up to a MiB and written in MiB.
    Capacity {
        /// The disk's id.
        id: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The file of the disk of this id is a streamOptimized VMDK.
    StreamOptimized {
        /// The disk's id.
        id: String,
    },
    /// The file of this id is no part of the package: neither listed nor named by a machine.
    RemoveFile {
        /// The file's id.
        id: String,
    },
    /// What only VMware understands is marked as not required.
    PrivateNotRequired,
}

/// Applies changes to a descriptor in UTF-8, one after the other; a change that is already so changes nothing.
///
/// # Errors
/// As [`super::read()`]; `InvalidInput` when there is no file or disk of the id that a change names.
pub fn edit(text: &str, changes: &[Change]) -> Result<String> {
    let _ = (text, changes);
    todo!()
}
