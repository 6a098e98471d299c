//! `transload archive extract`: files out of an archive into a folder.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use transload::archive::{self, Watch, Watched};
use transload::block::{Error, Result};
use transload::filesystem::{FileSystem, FileSystemExt, Follow, Host};

use super::address::{self, Address};
use super::open::ArchiveArgs;
use super::watch;
use crate::args::ProgressArgs;
use crate::failure::Verdict;
use crate::text;

/// Extract files of an archive into a folder
///
/// What is in the folder that is named goes into DIR, with modes, times, links, attributes and holes; owners and devices as far as one may. What is damaged is said, and the rest is extracted.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive extract /srv/archive -C everything\n  transload archive extract /srv/archive latest:/web/volumes/2/home -C home"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// What to extract: the first digits of a snapshot or `latest`, and a path
    #[arg(value_name = "SNAPSHOT[:/PATH]", value_parser = address::parser())]
    address: Option<Address>,
    /// The folder, which is made where it is missing
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: PathBuf,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    directory: String,
    entries: u64,
    bytes: u64,
    failed: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let address = arguments.address.clone().unwrap_or_default();
    let place = arguments.archive.place(&repository, &repository.find_snapshot(&address.snapshot)?)?;
    let found = place.filesystem.resolve(&address.path, Follow::AllButLast);
    let found = found.map_err(|error| place.context(error, &address.path))?;
    let name = found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let (watch, display) = watch::start(arguments.progress)?;
    if watch.wants_total() {
        watch.begin(archive::total(&*place.filesystem, found.id).unwrap_or(0));
    }
    let folder = &arguments.directory;
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder.display().to_string(), error))?;
    let files = Watched::new(Arc::clone(&place.filesystem), Arc::new(watch));
    let host = Host::new(folder);
    let done = archive::extract(&files, found.id, &name, &host, host.root(), arguments.force);
    drop(display);
    let done = done?;
    for failed in &done.failed {
        eprintln!("transload: not extracted: {failed}");
    }
    let verdict = if done.failed.is_empty() { Verdict::Done } else { Verdict::Corrupt };
    if arguments.json {
        let directory = folder.display().to_string();
        text::json(&Document { directory, entries: done.entries, bytes: done.bytes, failed: done.failed })?;
    }
    Ok(verdict)
}
