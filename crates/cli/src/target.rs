//! Choosing what a command writes: the format, and whether the place may be written to.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use transload::block::{Error, ErrorKind, Result};
use transload::convert::Output;
use transload::image::{FORMATS, Format};
use transload::location::Location;
use transload::nbd::{ConnectSettings, NbdDisk};

/// The format of a new image: the one that was asked for, or the one that the name's ending stands for.
pub(crate) fn format(asked: Option<&'static Format>, path: &Path) -> Result<&'static Format> {
    asked.or_else(|| Format::by_extension(&path.to_string_lossy())).ok_or_else(|| {
        let names: Vec<_> = writable().map(|format| format.name).collect();
        let text = format!("{}: the name does not tell the format", shown(path));
        Error::new(ErrorKind::InvalidInput, text).with_remedy(format!("name the format with -O: {}", names.join(", ")))
    })
}

/// The formats that can be written.
pub(crate) fn writable() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().copied().filter(|format| format.create.is_some() || format.sink.is_some())
}

/// The export of an NBD server at `address` as the place for an image.
pub(crate) fn nbd_export(address: &str) -> Result<Output> {
    let disk = NbdDisk::connect(&address.parse()?, &ConnectSettings::default())?;
    if disk.is_read_only() {
        return Err(Error::new(ErrorKind::ReadOnly, format!("{address}: the export is read-only")));
    }
    Ok(Output::Storage { name: address.to_owned(), storage: Arc::new(disk) })
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

/// Says on standard error that the block device at `path` is written in place.
pub(crate) fn announce_device(path: &Path) {
    eprintln!("transload: {}: block device, written in place", path.display());
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
    Ok(Box::new(StandardOutput(File::from(descriptor))))
}

/// What messages call standard output.
pub(crate) const STANDARD_OUTPUT: &str = "standard output";

/// Standard output, whose failures say that they are its own and not those of a source.
struct StandardOutput(File);

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| named(&error))
    }
}

fn named(error: &io::Error) -> io::Error {
    // Who asks again after an interrupted call goes by the kind alone.
    io::Error::new(error.kind(), format!("{STANDARD_OUTPUT}: {error}"))
}

/// What messages call the target at `path`.
pub(crate) fn shown(path: &Path) -> String {
    if crate::input::is_standard_stream(path) { STANDARD_OUTPUT.to_owned() } else { Location::of(path).shown() }
}
