//! Choosing what a command writes: the format, and whether the place may be written to.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use transload::block::{Error, ErrorKind, Result};
use transload::image::{FORMATS, Format};

/// The format of a new image: the one that was asked for, or the one that the name's ending stands for.
pub(crate) fn format(asked: Option<&'static Format>, path: &Path) -> Result<&'static Format> {
    asked.or_else(|| Format::by_extension(&path.to_string_lossy())).ok_or_else(|| {
        let names: Vec<_> = writable().map(|format| format.name).collect();
        Error::new(ErrorKind::InvalidInput, format!("{}: the name does not tell the format", path.display()))
            .with_remedy(format!("name the format with -O: {}", names.join(", ")))
    })
}

/// The formats that can be written.
pub(crate) fn writable() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.create.is_some() || format.sink.is_some())
}

/// Whether `path` is a block device, which is written in place.
pub(crate) fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Refuses a target that is the file that is read, by whatever name.
pub(crate) fn refuse_source(target: &Path, source: &Path) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    match (identity(target), identity(source)) {
        (Some(one), Some(other)) if one == other => {
            let text = format!("{}: is the source itself", target.display());
            Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("write to another file"))
        }
        _ => Ok(()),
    }
}

/// Says on standard error that a block device is written in place, where `path` is one.
pub(crate) fn announce_device(path: &Path) {
    if is_block_device(path) {
        eprintln!("transload: {}: block device, written in place", path.display());
    }
}

/// Standard output as the place for an image.
pub(crate) fn standard_output() -> Result<Box<dyn Write + Send>> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "standard output is a terminal, and an image is not for reading",
        )
        .with_remedy("redirect it to a file or pipe it into a program"));
    }
    // The descriptor itself: the standard library's writer would look for line ends in every byte.
    let descriptor = stdout.as_fd().try_clone_to_owned().map_err(|error| Error::io("standard output", error))?;
    Ok(Box::new(File::from(descriptor)))
}
