//! What is refused before anything is made: a target that is part of the source, and one that certainly does not fit.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use transload_block::{Error, ErrorKind, Result};
use transload_image::{FileIdentity, Opened};

use crate::Input;
use crate::files::identity_of;

/// The files that `input` is read from: every layer's, and the extents and data files that they name.
pub(crate) fn source_files(input: &Input) -> Vec<FileIdentity> {
    match input {
        Input::Image(opened) => image_files(opened),
        Input::Stream { .. } => Vec::new(),
    }
}

/// The files that an image is read from: every layer's, and the extents and data files that they name. For
/// [`AtomicFiles::create`](crate::AtomicFiles::create), which replaces none of them.
#[must_use]
pub fn image_files(opened: &Opened) -> Vec<FileIdentity> {
    let mut found = Vec::new();
    for layer in &opened.layers {
        found.extend(layer.source.identity());
        let Some(path) = layer.source.path() else { continue };
        let folder = path.parent().unwrap_or(Path::new(""));
        let extents = layer.info.extents.iter().filter_map(|extent| extent.file.as_deref());
        let named = extents.chain(layer.info.data_file.as_deref()).map(|name| folder.join(name));
        for path in named.chain([path.to_owned()]) {
            found.extend(fs::metadata(path).map(|metadata| identity_of(&metadata)));
        }
    }
    found
}

/// Refuses a block device that is one of `sources`, a part of one, or one that a source is a part of; and a loop device
/// over a file that is one of them.
pub(crate) fn refuse_overlap(device: &Path, sources: &[FileIdentity]) -> Result<()> {
    let metadata = fs::metadata(device).map_err(|error| Error::io(device.display().to_string(), error))?;
    let target = identity_of(&metadata);
    let refuse = || {
        let text = format!("{}: is or overlaps a device that the source is read from", device.display());
        Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("write to another device"))
    };
    if sources.contains(&target) {
        return refuse();
    }
    let Some(place) = sysfs_folder(metadata.rdev()).filter(|_| metadata.file_type().is_block_device()) else {
        return Ok(());
    };
    if loop_file(&place).is_some_and(|file| sources.contains(&file)) {
        return refuse();
    }
    // A partition's folder is inside its disk's.
    let devices = sources.iter().filter(|source| source.device == u64::MAX);
    match devices
        .filter_map(|source| sysfs_folder(source.inode))
        .find(|it| it.starts_with(&place) || place.starts_with(it))
    {
        Some(_) => refuse(),
        None => Ok(()),
    }
}

/// The file behind a loop device or a partition of one, by its folder in sysfs.
fn loop_file(device: &Path) -> Option<FileIdentity> {
    let folders = device.ancestors().take(2);
    let name = folders.filter_map(|folder| fs::read(folder.join("loop/backing_file")).ok()).next()?;
    let path = Path::new(OsStr::from_bytes(name.strip_suffix(b"\n").unwrap_or(&name)));
    fs::metadata(path).ok().map(|metadata| identity_of(&metadata))
}

fn sysfs_folder(device: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// Refuses to set aside `wanted` bytes beside `path` when the file system has fewer.
pub(crate) fn refuse_full(path: &Path, wanted: u64) -> Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let Ok(stat) = rustix::fs::statvfs(folder) else {
        // A file system that does not say is asked by writing.
        return Ok(());
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < wanted {
        let text = format!("{}: {wanted} bytes are to be set aside and {free} are free", folder.display());
        return Err(Error::new(ErrorKind::NoSpace, text).with_remedy("make room, or leave out --prealloc"));
    }
    Ok(())
}
