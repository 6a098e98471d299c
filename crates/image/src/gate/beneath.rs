//! Opens a file below a folder by handles, so that nobody can lead the way elsewhere meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use transload_block::{Error, Result};

use super::{Place, denied};
use crate::Access;

/// What stands at a place.
pub(super) enum Found {
    /// A file that may be used, opened.
    File(File),
    /// A symbolic link, and where it leads: not opened.
    Link(PathBuf),
}

/// A handle of a folder that is only walked through needs no right to list it, where the system can say so.
#[cfg(target_os = "linux")]
const WALK: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const WALK: OFlags = OFlags::RDONLY;

/// Opens the entry `last` of the folder `place`. Only regular files, and block devices where `devices` is set, are opened
/// at all: opening a FIFO may hang, and opening a device may do something.
pub(super) fn open(place: &Place, last: &OsStr, access: Access, devices: bool) -> Result<Found> {
    let path = || place.root.join(&place.below).join(last);
    let fail = |error: Errno| match error {
        Errno::LOOP | Errno::NOTDIR => denied("it changed while it was being opened"),
        other => Error::io(path().display().to_string(), other.into()),
    };
    let folder = walk(place).map_err(fail)?;
    let stat = rustix::fs::statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::BlockDevice if devices => {}
        FileType::Symlink => {
            let resolved = std::fs::canonicalize(path());
            return resolved.map(Found::Link).map_err(|_| denied("it is a symbolic link to nothing"));
        }
        other => return Err(denied(format!("it is {}, not a regular file", kind(other)))),
    }
    let mode = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&folder, last, flags, Mode::empty()).map_err(fail)?);
    let opened = file.metadata().map_err(|error| Error::io(path().display().to_string(), error))?.file_type();
    if opened.is_file() || devices && opened.is_block_device() {
        Ok(Found::File(file))
    } else {
        Err(denied("it changed while it was being opened"))
    }
}

fn walk(place: &Place) -> Result<OwnedFd, Errno> {
    let flags = WALK | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(&place.root, flags, Mode::empty())?;
    for step in &place.below {
        folder = rustix::fs::openat(&folder, step, flags, Mode::empty())?;
    }
    Ok(folder)
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a folder",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "something else",
    }
}
