//! The bytes an image is in, and the name they have.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, FileBlock, Result, Storage};

use crate::{Access, FileIdentity};

/// The bytes that a regular file occupies on its device.
fn occupied(metadata: &Metadata) -> Option<u64> {
    /// What `st_blocks` counts in, whatever the filesystem's own blocks.
    const STAT_BLOCK: u64 = 512;
    metadata.is_file().then(|| metadata.blocks() * STAT_BLOCK)
}

/// The bytes of one file, opened, before anybody knows what format they are in.
#[derive(Clone, Debug)]
pub struct Source {
    bytes: Arc<dyn BlockRead>,
    storage: Option<Arc<dyn Storage>>,
    path: Option<PathBuf>,
    identity: Option<FileIdentity>,
    allocated_size: Option<u64>,
}

impl Source {
    /// Bytes for reading only, without a name.
    #[must_use]
    pub fn new(bytes: Arc<dyn BlockRead>) -> Self {
        Self { bytes, storage: None, path: None, identity: None, allocated_size: None }
    }

    /// Bytes that may also be written.
    #[must_use]
    pub fn writable(storage: Arc<dyn Storage>) -> Self {
        Self { storage: Some(Arc::clone(&storage)), ..Self::new(storage) }
    }

    /// Opens the file at `path`, which the user named: a regular file or a block device, symbolic links followed. A folder
    /// stands for the description of the bundle that it is.
    ///
    /// # Errors
    /// What the operating system answers; `InvalidInput` for folders, pipes, sockets and character devices, which have no
    /// size and cannot be read at any place.
    pub fn from_path(path: &Path, access: Access) -> Result<Self> {
        let description = path.join(crate::parallels::DESCRIPTION_NAME);
        let path = if path.is_dir() && description.is_file() { &description } else { path };
        let block = FileBlock::open(path, access == Access::ReadWrite)?;
        let source = Self::from_block(block, path.to_owned(), access);
        let metadata = std::fs::metadata(path).ok();
        // The name may stand for another file by now.
        let same = metadata
            .filter(|metadata| source.identity == Some(FileIdentity { device: metadata.dev(), inode: metadata.ino() }));
        Ok(Self { allocated_size: same.as_ref().and_then(occupied), ..source })
    }

    /// Takes over an open file, whose `path` is what references are resolved against and messages say.
    ///
    /// # Errors
    /// As [`from_path`](Self::from_path).
    pub fn from_file(file: File, path: impl Into<PathBuf>, access: Access) -> Result<Self> {
        let path = path.into();
        let metadata = file.metadata().map_err(|error| Error::io(path.display().to_string(), error))?;
        let block = FileBlock::from_file(file, &path, access == Access::ReadWrite)?;
        Ok(Self { allocated_size: occupied(&metadata), ..Self::from_block(block, path, access) })
    }

    fn from_block(block: FileBlock, path: PathBuf, access: Access) -> Self {
        let (device, inode) = block.identity();
        let block = Arc::new(block);
        let source = match access {
            Access::ReadOnly => Self::new(block),
            Access::ReadWrite => Self::writable(block),
        };
        source.with_path(path).with_identity(FileIdentity { device, inode })
    }

    /// Sets the path: references are resolved against its folder, and messages name it.
    #[must_use]
    pub fn with_path(self, path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Sets which file of the operating system it is, so that a cycle of references is found.
    #[must_use]
    pub fn with_identity(self, identity: FileIdentity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Arc<dyn BlockRead> {
        &self.bytes
    }

    /// The bytes for writing.
    ///
    /// # Errors
    /// `ReadOnly` when they were opened for reading.
    pub fn storage(&self) -> Result<&Arc<dyn Storage>> {
        self.storage
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::ReadOnly, format!("{}: opened for reading", self.display_name())))
    }

    /// The path, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Which file of the operating system it is, where it is one.
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        self.identity
    }

    /// The bytes that the file occupied on its device when it was opened, where it is a regular file.
    #[must_use]
    pub fn allocated_size(&self) -> Option<u64> {
        self.allocated_size
    }

    /// The name for messages.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.path.as_ref().map_or_else(|| "image".to_owned(), |path| path.display().to_string())
    }
}
