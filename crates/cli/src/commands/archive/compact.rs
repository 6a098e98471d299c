//! `transload archive compact`: gives back the space of what no snapshot needs.

use clap::Args;
use serde::Serialize;
use transload::archive::{self, CompactSettings};
use transload::block::Result;

use super::open::ArchiveArgs;
use super::watch;
use crate::args::ProgressArgs;
use crate::failure::Verdict;
use crate::text::{self, Text};

/// Give back the space of what no snapshot needs any more
///
/// Killed at any point, every snapshot is whole.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive compact /srv/archive\n  transload archive compact /srv/archive --max-unused 0"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// How many hundredths of what is needed may stay unused
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    max_unused: u8,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    packs: u64,
    removed_packs: u64,
    rewritten_packs: u64,
    bytes: u64,
    unused: u64,
    freed: u64,
    dry_run: bool,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let settings = CompactSettings { most_unused: arguments.max_unused, dry_run: arguments.dry_run };
    let (watch, display) = watch::start(arguments.progress)?;
    let done = archive::compact(&repository, settings, &watch);
    drop(display);
    let done = done?;
    for warning in &done.warnings {
        eprintln!("transload: {warning}");
    }
    let verdict = if done.warnings.is_empty() { Verdict::Done } else { Verdict::Corrupt };
    if arguments.json {
        text::json(&Document {
            packs: done.packs,
            removed_packs: done.removed_packs,
            rewritten_packs: done.rewritten_packs,
            bytes: done.bytes,
            unused: done.unused,
            freed: done.freed,
            dry_run: arguments.dry_run,
            warnings: done.warnings,
        })?;
        return Ok(verdict);
    }
    let mut text = Text::new();
    let verb = if arguments.dry_run { "would free" } else { "freed" };
    let (freed, unused, all) = (text::size(done.freed), text::size(done.unused), text::size(done.bytes));
    text.line(format_args!("{verb} {freed} of {unused} unused, of {all}"))?;
    text.line(format_args!(
        "{} of {} packs go, {} of them are rewritten",
        done.removed_packs, done.packs, done.rewritten_packs
    ))?;
    text.finish()?;
    Ok(verdict)
}
