//! What a job writes: files in a staging folder beside the place where they will be.

use std::path::PathBuf;

use transload::block::{Error, ErrorKind, Result};

use super::Context;
use crate::model::Location;
use crate::publish::Staging;
use crate::root::Root;
use transload::remote::{self, Upload, UploadSettings};

/// What a task made, which nobody sees yet.
#[derive(Debug)]
pub(crate) enum Made {
    /// Nothing: its result is all.
    Nothing,
    /// Files.
    Staged(Staging),
    /// What appears at an address once it is finished.
    Uploaded(Upload),
}

/// Where a task writes.
#[derive(Debug)]
pub(super) enum Place {
    /// Under the root.
    Staged(Staging),
    /// At an address, from front to back.
    Uploaded(Upload),
}

impl Place {
    /// What was made there.
    pub(super) fn made(self) -> Made {
        match self {
            Self::Staged(staging) => Made::Staged(staging),
            Self::Uploaded(upload) => Made::Uploaded(upload),
        }
    }
}

/// Where the file for `target` will be; `None` where it is no file. The folder that it is to be in need not exist.
///
/// # Errors
/// As [`Root::resolve_new`].
pub(crate) fn target_path(root: &Root, target: Option<&Location>) -> Result<Option<PathBuf>> {
    match target {
        Some(Location::Path(name)) => root.resolve_new(name).map(Some),
        _ => Ok(None),
    }
}

impl Context {
    /// Begins to write what `target` names.
    pub(super) fn place(&self, target: &Location, force: bool) -> Result<Place> {
        match target {
            Location::Url(address) => {
                let settings = UploadSettings { force, ..UploadSettings::default() };
                remote::create(address, &settings, &self.network()).map(Place::Uploaded)
            }
            _ => self.stage(target, force).map(Place::Staged),
        }
    }

    /// Begins to make the file or folder that `target` names. The folders that it is to be in are made.
    pub(super) fn stage(&self, target: &Location, force: bool) -> Result<Staging> {
        let Location::Path(name) = target else {
            return Err(Error::new(ErrorKind::InvalidInput, "target: has to be a path under the root"));
        };
        self.root.create_parents(name)?;
        Staging::create(&self.root.resolve_new(name)?, &self.job, self.token, force)
    }
}
