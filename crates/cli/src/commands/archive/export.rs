//! `transload archive export`: a tree of an archive as one squashfs file.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::archive::{self, Watch, Watched};
use transload::block::{Error, Result};
use transload::convert::AtomicFiles;
use transload::filesystem::{FileSystem, FileSystemExt, Follow};
use transload::image::TargetFiles;

use super::address::{self, Address};
use super::open::ArchiveArgs;
use super::watch;
use crate::args::{self, ProgressArgs};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::text::{self, Text};

/// Write a tree of an archive into one file that Linux can mount
///
/// squashfs keeps modes, owners, links, devices and attributes of user.*, trusted.* and security.*; its times are whole seconds.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload archive export /srv/archive latest:/web/volumes/2 -o web.squashfs")]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The tree: the first digits of a snapshot or `latest`, and a path
    #[arg(value_name = "SNAPSHOT[:/PATH]", value_parser = address::parser())]
    address: Option<Address>,
    /// The file to make
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: PathBuf,
    /// What it is written as
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: ExportFormat,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Threads that compress
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a tree can be written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// squashfs 4.0 in zstd
    #[default]
    Squashfs,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    file: String,
    format: &'static str,
    inodes: u64,
    bytes: u64,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let address = arguments.address.clone().unwrap_or_default();
    let place = arguments.archive.place(&repository, &repository.find_snapshot(&address.snapshot)?)?;
    let found = place.filesystem.resolve(&address.path, Follow::All);
    let found = found.map_err(|error| place.context(error, &address.path))?;
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
    let (watch, display) = watch::start(arguments.progress)?;
    if watch.wants_total() {
        watch.begin(archive::total(&*place.filesystem, found.id)?);
    }
    let files: Arc<dyn FileSystem> = Arc::new(Watched::new(Arc::clone(&place.filesystem), Arc::new(watch)));
    let output = AtomicFiles::create(&arguments.output, arguments.force, Vec::new())?;
    // Makes the file, which is then written with a cursor of its own.
    drop(output.primary()?);
    let staged = output.staged_path();
    let file =
        File::options().write(true).open(&staged).map_err(|error| Error::io(staged.display().to_string(), error))?;
    let ExportFormat::Squashfs = arguments.format;
    let done = archive::write_squashfs(&files, found.id, file, Session::new()?.now, threads);
    drop(display);
    let done = done.map_err(|error| error.context(arguments.output.display()))?;
    output.commit()?;
    for warning in &done.warnings {
        eprintln!("transload: {warning}");
    }
    let name = arguments.output.display().to_string();
    if arguments.json {
        let (inodes, bytes, warnings) = (done.inodes, done.bytes, done.warnings);
        text::json(&Document { file: name, format: "squashfs", inodes, bytes, warnings })?;
    } else if !arguments.progress.quiet {
        let mut text = Text::new();
        text.line(format_args!("{name}: {} inodes, {}", done.inodes, text::exact_size(done.bytes)))?;
        text.finish()?;
    }
    Ok(Verdict::Done)
}
