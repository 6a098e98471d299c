//! The bytes an image is in, and the name they have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result, Storage};

use crate::FileIdentity;

/// The bytes of one file, opened, before anybody knows what format they are in.
#[derive(Clone, Debug)]
pub struct Source {
    bytes: Arc<dyn BlockRead>,
    storage: Option<Arc<dyn Storage>>,
    path: Option<PathBuf>,
    identity: Option<FileIdentity>,
}

impl Source {
    /// Bytes for reading only, without a name.
    #[must_use]
    pub fn new(bytes: Arc<dyn BlockRead>) -> Self {
        Self { bytes, storage: None, path: None, identity: None }
    }

    /// Bytes that may also be written.
    #[must_use]
    pub fn writable(storage: Arc<dyn Storage>) -> Self {
        Self { bytes: Arc::clone(&storage) as Arc<dyn BlockRead>, storage: Some(storage), path: None, identity: None }
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

    /// The name for messages.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.path.as_ref().map_or_else(|| "image".to_owned(), |path| path.display().to_string())
    }
}
