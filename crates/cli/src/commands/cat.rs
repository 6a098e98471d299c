//! `transload cat`: the bytes of files in an image.

use std::io::{self, Write};
use std::os::fd::AsFd;

use clap::Args;
use transload::block::{Error, Result};
use transload::filesystem::Follow;

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::{self, FileArgs};

/// Print files of an image
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload cat disk.qcow2:/etc/os-release\n  transload cat --stream Zone.Identifier disk.vhdx#3:/Users/me/setup.exe"
)]
pub(crate) struct Arguments {
    /// The files: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", required = true, value_parser = address::parser())]
    addresses: Vec<Address>,
    /// A named stream of the file (NTFS) in place of its contents
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    #[command(flatten)]
    files: FileArgs,
}

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let out = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Error::io("standard output", error))?;
    let mut out = std::fs::File::from(out);
    let mut buffer = vec![0; PIECE];
    for address in &arguments.addresses {
        let place = files::open(address, &arguments.files)?;
        let found = place.resolve(address, Follow::All)?;
        let within = |error| place.context(error, &found.path);
        let file = match &arguments.stream {
            Some(stream) => place.filesystem.open_stream(found.id, stream.as_bytes()),
            None => place.filesystem.open(found.id),
        };
        let file = file.map_err(within)?;
        let mut at = 0;
        while at < file.size() {
            let count = usize::try_from(file.size() - at).unwrap_or(usize::MAX).min(PIECE);
            file.read_at(&mut buffer[..count], at).map_err(within)?;
            match out.write_all(&buffer[..count]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Verdict::Done),
                Err(error) => return Err(Error::io("standard output", error)),
            }
            at += count as u64;
        }
    }
    Ok(Verdict::Done)
}
