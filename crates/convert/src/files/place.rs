//! Moves a finished file to its name, and back.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use transload_block::{Error, Result};

use super::exists;

/// A file that was moved to its name.
#[derive(Debug)]
pub(super) enum Placed {
    /// Nothing was there before.
    New { from: PathBuf, to: PathBuf },
    /// What was there before is now at `from`.
    Swapped { from: PathBuf, to: PathBuf },
    /// What was there before is gone.
    Replaced,
}

impl Placed {
    /// Moves `from` to `to`, and replaces what is there only with `force`.
    pub(super) fn rename(from: PathBuf, to: PathBuf, force: bool) -> Result<Self> {
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Self::New { from, to }),
            Err(Errno::EXIST) if force => {}
            Err(Errno::EXIST) => return Err(exists(&to)),
            Err(errno) if !is_missing(errno) => return Err(fail(&to, errno.into())),
            Err(_) if force => {}
            Err(_) => {
                link_new(&from, &to)?;
                return Ok(Self::New { from, to });
            }
        }
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(Self::Swapped { from, to }),
            // The name became free meanwhile, or the file system cannot exchange.
            Err(Errno::NOENT) => {}
            Err(errno) if !is_missing(errno) => return Err(fail(&to, errno.into())),
            Err(_) => {}
        }
        fs::rename(&from, &to).map_err(|error| fail(&to, error))?;
        Ok(Self::Replaced)
    }

    /// Takes the move back as far as it can be. Failures are not reported: an error is already on its way.
    pub(super) fn undo(self) {
        match self {
            Self::New { from, to } => drop(fs::rename(to, from)),
            Self::Swapped { from, to } => drop(renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE)),
            Self::Replaced => {}
        }
    }
}

/// Whether the kernel or the file system does not know the flags of a rename.
fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

/// Moves without replacing where renaming cannot promise that: a second name is only made if it is free.
fn link_new(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map_err(|error| fail(from, error)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(to)),
        // No hard links either (FAT): the name was free a moment ago, which is all that can be known there.
        Err(_) if fs::symlink_metadata(to).is_err() => fs::rename(from, to).map_err(|error| fail(to, error)),
        Err(_) => Err(exists(to)),
    }
}

fn fail(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{}: rename", path.display()), error)
}
