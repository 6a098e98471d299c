//! The interface of a filesystem that can be written to.

use transload_block::{BlockRead, Result};

use crate::contract::{FileId, FileKind, FileSystem, Metadata, Owner, Timestamp, Xattr};

/// A filesystem that is open for writing.
///
/// Changes are seen at once by whoever reads through the same object, and are on the disk when [`flush`](Self::flush) has
/// returned. A program that ends before leaves a filesystem that has to be checked: whoever needs all or nothing works on a
/// copy.
pub trait FileSystemWrite: FileSystem {
    /// What of the metadata this filesystem has a place for.
    fn keeps(&self) -> Keeps;

    /// Makes an empty folder.
    ///
    /// # Errors
    /// `Denied` when there is something of that name; `InvalidInput` for a name that the filesystem cannot have; `NoSpace`.
    fn create_dir(&self, dir: FileId, name: &[u8], attributes: &Attributes) -> Result<FileId>;

    /// Makes a file with the bytes of `contents`, and with holes where that has some, as far as the filesystem can.
    ///
    /// # Errors
    /// As [`create_dir`](Self::create_dir), and what reading answers.
    fn create_file(
        &self,
        dir: FileId,
        name: &[u8],
        contents: &dyn BlockRead,
        attributes: &Attributes,
    ) -> Result<FileId>;

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As [`create_dir`](Self::create_dir); `Unsupported` where there are none.
    fn create_symlink(&self, dir: FileId, name: &[u8], target: &[u8], attributes: &Attributes) -> Result<FileId>;

    /// Makes a device, a pipe or a socket.
    ///
    /// # Errors
    /// As [`create_symlink`](Self::create_symlink).
    fn create_node(
        &self,
        dir: FileId,
        name: &[u8],
        kind: FileKind,
        device: (u32, u32),
        attributes: &Attributes,
    ) -> Result<FileId>;

    /// Gives a file another name.
    ///
    /// # Errors
    /// As [`create_symlink`](Self::create_symlink).
    fn link(&self, dir: FileId, name: &[u8], id: FileId) -> Result<()>;

    /// Takes a name away, and what it names when that was its last one. A folder has to be empty.
    ///
    /// # Errors
    /// `InvalidInput` when there is nothing of that name, or when it is a folder that is not empty.
    fn remove(&self, dir: FileId, name: &[u8]) -> Result<()>;

    /// Changes what `attributes` has of a file, as far as the filesystem has a place for it.
    ///
    /// # Errors
    /// `NoSpace` where attributes do not fit.
    fn set_attributes(&self, id: FileId, attributes: &Attributes) -> Result<()>;

    /// Writes everything that is still in memory.
    ///
    /// # Errors
    /// What the device answers.
    fn flush(&self) -> Result<()>;
}

/// What of the metadata a filesystem has a place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// Permissions and owners.
    pub owners: bool,
    /// Symbolic links, hard links, devices.
    pub links: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

/// What is set of a file's metadata; what is `None` stays as it is, or as the filesystem makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The twelve lower bits of a Unix mode.
    pub permissions: Option<u32>,
    /// The owner.
    pub owner: Option<Owner>,
    /// When the contents changed.
    pub modified: Option<Timestamp>,
    /// When it was read.
    pub accessed: Option<Timestamp>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// All extended attributes.
    pub xattrs: Option<Vec<Xattr>>,
}

impl Attributes {
    /// Everything that can be kept of a file.
    #[must_use]
    pub fn of(metadata: &Metadata, xattrs: Vec<Xattr>) -> Self {
        Self {
            permissions: Some(metadata.permissions),
            owner: Some(metadata.owner),
            modified: metadata.modified,
            accessed: metadata.accessed,
            created: metadata.created,
            xattrs: Some(xattrs),
        }
    }
}
