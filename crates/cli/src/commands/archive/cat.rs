//! `transload archive cat`: writes a file of a snapshot to standard output.

use std::io::Write;

use clap::Args;
use transload::block::{Error, Result};
use transload::filesystem::{FileSystemExt, Follow};

use super::address::{self, Address};
use super::open::ArchiveArgs;
use crate::failure::Verdict;

/// Write a file of an archive to standard output
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload archive cat /srv/archive latest:/web/volumes/2/etc/fstab")]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The file: the first digits of a snapshot or `latest`, and a path
    #[arg(value_name = "SNAPSHOT:/PATH", value_parser = address::parser())]
    address: Address,
}

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let place = arguments.archive.place(&repository, &repository.find_snapshot(&arguments.address.snapshot)?)?;
    let path = &arguments.address.path;
    let within = |error: Error| place.context(error, path);
    let found = place.filesystem.resolve(path, Follow::All).map_err(within)?;
    let file = place.filesystem.open(found.id).map_err(within)?;
    let mut out = std::io::stdout().lock();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < file.size() {
        let count = usize::try_from(file.size() - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_at(&mut buffer[..count], at).map_err(within)?;
        match out.write_all(&buffer[..count]) {
            // Whoever reads has had enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Verdict::Done),
            other => other.map_err(|error| Error::io("standard output", error))?,
        }
        at += count as u64;
    }
    out.flush().map_err(|error| Error::io("standard output", error))?;
    Ok(Verdict::Done)
}
