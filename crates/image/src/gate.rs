//! The one place that opens files which an image names: backing files, external data files, VMDK extents, VHD parents.
//!
//! Names inside images are file names, never URLs or options, and hostile until proved harmless.

use std::path::{Path, PathBuf};

use transload_block::{Error, ErrorKind, Result};

use crate::{Access, Source};

/// Which file of the operating system something is, so that a cycle is found whatever the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The device that holds the file.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// Decides which files an image may pull in, and opens them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReferenceGate {
    /// None: any reference is refused.
    Deny,
    /// Regular files in the folder of the file that names them.
    #[default]
    SameDirectory,
    /// Regular files below any of these folders.
    Allow(Vec<PathBuf>),
}

impl ReferenceGate {
    /// How many references may hang from each other before it is called a mistake or an attack.
    pub const MAX_DEPTH: usize = 16;

    /// Opens the file that the image at `referrer` calls `name`.
    ///
    /// # Errors
    /// `Denied` when the policy or the shape of the name forbids it, or when it is no regular file; `Io` when it cannot
    /// be opened; `InvalidInput` when the referrer has no place among files.
    pub fn open(&self, referrer: &Source, name: &str, access: Access) -> Result<Source> {
        let _ = (referrer, name, access);
        Err(Error::new(ErrorKind::Denied, "gate"))
    }

    /// The paths of the regular files that an image at `referrer` may refer to without naming them, for formats that
    /// know their parent only by its identifier. At most `limit`, in the order of their names.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn siblings(&self, referrer: &Path, limit: usize) -> Result<Vec<String>> {
        let _ = (referrer, limit);
        Ok(Vec::new())
    }
}
