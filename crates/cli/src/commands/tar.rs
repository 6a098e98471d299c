//! `transload tar`: a tree of an image as a tar archive.

use std::io::{self, BufWriter, Write};

use clap::Args;
use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::tar::Archive;
use transload::filesystem::{FileKind, FileSystemExt, Follow, Visit};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::{self, FileArgs};
use crate::target;

/// Write a tree of an image to standard output as a tar archive
///
/// The archive is in the pax format, with times to the nanosecond, numeric owners, hard links, devices, extended attributes
/// and holes. Unpack it with `tar --xattrs --xattrs-include='*' --numeric-owner -x`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload tar disk.qcow2 > root.tar\n  transload tar disk.vmdk#2:/home | tar -x -C /srv"
)]
pub(crate) struct Arguments {
    /// The folder or file: IMG[#VOLUME][:/PATH]
    #[arg(value_name = "IMG[#VOLUME][:/PATH]", value_parser = address::parser())]
    address: Address,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let out = target::standard_output()?;
    let place = files::open(&arguments.address, &arguments.files)?;
    let found = place.resolve(&arguments.address, Follow::All)?;
    let filesystem = &*place.filesystem;
    let metadata = filesystem.stat(found.id).map_err(|error| place.context(error, &found.path))?;
    let is_folder = metadata.kind == FileKind::Directory;
    let start = Visit { path: Vec::new(), id: found.id, metadata };
    let mut archive = Archive::new(BufWriter::with_capacity(256 << 10, out));
    let below = is_folder.then(|| filesystem.walk(found.id)).into_iter().flatten();
    let name = found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut failure = None;
    for visit in std::iter::once(Ok(start)).chain(below) {
        let visit = match visit {
            Ok(visit) => visit,
            // The rest of the tree is still of use; the failure is told in the end.
            Err(error) => {
                let error = error.context(&place.name);
                eprintln!("transload: {error}");
                failure.get_or_insert(error);
                continue;
            }
        };
        if visit.metadata.kind == FileKind::Socket {
            let path = String::from_utf8_lossy(&visit.path);
            eprintln!("transload: {}: /{path}: a socket, which tar cannot hold", place.name);
            continue;
        }
        let path = match (is_folder, visit.path.is_empty()) {
            (true, true) => b"./".to_vec(),
            (true, false) => [b"./".as_slice(), &visit.path].concat(),
            (false, _) => name.to_vec(),
        };
        match archive.append(filesystem, &visit, &path) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return Ok(Verdict::Done),
            Err(error) => return Err(place.context(error, &path)),
        }
    }
    match archive.finish() {
        Ok(mut out) => out.flush().map_err(|error| Error::io("standard output", error))?,
        Err(error) if is_closed(&error) => {}
        Err(error) => return Err(error),
    }
    failure.map_or(Ok(Verdict::Done), Err)
}

/// Whether the program that reads the archive went away.
fn is_closed(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    error.kind() == ErrorKind::Io && source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}
