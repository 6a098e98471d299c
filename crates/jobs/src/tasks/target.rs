//! What a job writes: files in a staging folder beside the place where they will be.

use std::path::PathBuf;

use transload::block::{Error, ErrorKind, Result};

use super::Context;
use crate::model::Location;
use crate::publish::Staging;
use crate::root::Root;

/// What a task made, which nobody sees yet.
#[derive(Debug)]
pub(crate) enum Made {
    /// Nothing: its result is all.
    Nothing,
    /// Files.
    Staged(Staging),
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
    /// Begins to make the file or folder that `target` names. The folders that it is to be in are made.
    pub(super) fn stage(&self, target: &Location, force: bool) -> Result<Staging> {
        let Location::Path(name) = target else {
            return Err(Error::new(ErrorKind::InvalidInput, "target: has to be a path under the root"));
        };
        self.root.create_parents(name)?;
        Staging::create(&self.root.resolve_new(name)?, &self.job, self.token, force)
    }
}
