//! What the standard library alone offers for files, for systems that are not Unix: no holes, no zeroing, no allocation.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;

use super::HostFile;

pub(super) fn open(path: &Path, writable: bool) -> io::Result<File> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a directory"));
    }
    File::options().read(true).write(writable).open(path)
}

/// Looks at an open file. The standard library tells no number of a file that stays the same, so its full path stands in
/// for one: a file with two names passes for two.
pub(super) fn describe(file: &File, path: &Path) -> io::Result<HostFile> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut hasher = DefaultHasher::new();
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).hash(&mut hasher);
    Ok(HostFile { size: metadata.len(), is_device: false, identity: (0, hasher.finish()), block: 4096 })
}

pub(super) fn run_at(_file: &File, _offset: u64) -> io::Result<Option<(u64, bool)>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn punch(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn zero_range(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn allocate(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
