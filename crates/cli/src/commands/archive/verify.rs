//! `transload archive verify`: reads and proves everything.

use std::num::NonZeroUsize;

use clap::Args;
use serde::Serialize;
use transload::archive;
use transload::block::Result;

use super::open::ArchiveArgs;
use super::watch;
use crate::args::{self, ProgressArgs};
use crate::failure::Verdict;
use crate::files::show;
use crate::text::{self, Text};

/// Read everything in an archive, and name the files that damage touches
///
/// Every chunk is decrypted, unpacked and compared with its digest, every file of the archive with its name. Ends with 4 when anything is damaged; what is not can still be extracted.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive verify /srv/archive\n  transload archive verify --json /srv/archive | jq '.affected[].path'"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Threads that read
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    archive: String,
    sound: bool,
    snapshots: u64,
    packs: u64,
    chunks: u64,
    bytes: u64,
    damage: Vec<String>,
    affected: Vec<AffectedDocument>,
    notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AffectedDocument {
    snapshot: String,
    path: String,
    folder: bool,
    reason: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open_quietly()?;
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
    let (watch, display) = watch::start(arguments.progress)?;
    let found = archive::verify(&repository, threads, &watch);
    drop(display);
    let found = found?;
    let is_sound = found.is_sound();
    if arguments.json {
        let affected = found.affected.iter().map(|one| AffectedDocument {
            snapshot: one.snapshot.to_string(),
            path: String::from_utf8_lossy(&one.path).into_owned(),
            folder: one.is_folder,
            reason: one.reason.clone(),
        });
        text::json(&Document {
            archive: arguments.archive.archive.display().to_string(),
            sound: is_sound,
            snapshots: found.snapshots,
            packs: found.packs,
            chunks: found.blobs,
            bytes: found.bytes,
            affected: affected.collect(),
            damage: found.damage,
            notes: found.notes,
        })?;
    } else {
        let mut text = Text::new();
        for damage in &found.damage {
            text.line(format_args!("damaged: {damage}"))?;
        }
        for one in &found.affected {
            let what = if one.is_folder { "folder" } else { "file" };
            text.line(format_args!("touched: {} {what} {}", one.snapshot.short(), show::name(&one.path)))?;
        }
        for note in &found.notes {
            text.line(format_args!("note: {note}"))?;
        }
        let state = if is_sound { "sound" } else { "damaged" };
        let (chunks, packs, size) = (found.blobs, found.packs, text::size(found.bytes));
        text.line(format_args!(
            "{state}: {} snapshots, {chunks} chunks in {packs} packs, {size} read",
            found.snapshots
        ))?;
        text.finish()?;
    }
    Ok(if is_sound { Verdict::Done } else { Verdict::Corrupt })
}
