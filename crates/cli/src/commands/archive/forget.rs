//! `transload archive forget`: removes snapshots.

use clap::Args;
use serde::Serialize;
use transload::archive::{self, CompactSettings, Id, Keep};
use transload::block::{Error, ErrorKind, Result};

use super::open::{self, ArchiveArgs};
use super::watch;
use crate::args::ProgressArgs;
use crate::failure::Verdict;
use crate::text::{self, Text};

/// Remove snapshots, by name or by rules
///
/// Rules are applied to the snapshots of each machine and set of disks. What the removed ones alone needed is given back by `compact`, or with --compact at once.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive forget /srv/archive 1a2b3c4d\n  transload archive forget /srv/archive --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --compact"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Snapshots to remove
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Keep the last N
    #[arg(long, value_name = "N", default_value_t, help_heading = "Rules")]
    keep_last: usize,
    /// Keep the last of each of N hours
    #[arg(long, value_name = "N", default_value_t, help_heading = "Rules")]
    keep_hourly: usize,
    /// Keep the last of each of N days
    #[arg(long, value_name = "N", default_value_t, help_heading = "Rules")]
    keep_daily: usize,
    /// Keep the last of each of N weeks
    #[arg(long, value_name = "N", default_value_t, help_heading = "Rules")]
    keep_weekly: usize,
    /// Keep the last of each of N months
    #[arg(long, value_name = "N", default_value_t, help_heading = "Rules")]
    keep_monthly: usize,
    /// Keep the last of each of N years
    #[arg(long, value_name = "N", default_value_t, help_heading = "Rules")]
    keep_yearly: usize,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Give the space back at once
    #[arg(long)]
    compact: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    forgotten: Vec<String>,
    kept: u64,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    freed: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let keep = Keep {
        last: arguments.keep_last,
        hourly: arguments.keep_hourly,
        daily: arguments.keep_daily,
        weekly: arguments.keep_weekly,
        monthly: arguments.keep_monthly,
        yearly: arguments.keep_yearly,
    };
    if keep.is_nothing() == arguments.snapshots.is_empty() {
        let text =
            if keep.is_nothing() { "neither snapshots nor rules are named" } else { "snapshots and rules are named" };
        return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("name snapshots, or say what to keep"));
    }
    let repository = arguments.archive.open()?;
    let (snapshots, damaged) = repository.snapshots_and_damage()?;
    let gone: Vec<Id> = if keep.is_nothing() {
        open::ids(&repository, &arguments.snapshots)?
    } else {
        keep.forgotten(&snapshots).iter().map(|snapshot| snapshot.id).collect()
    };
    let mut freed = None;
    if !arguments.dry_run {
        archive::forget(&repository, &gone)?;
        if arguments.compact {
            let (watch, display) = watch::start(arguments.progress)?;
            let done = archive::compact(&repository, CompactSettings::default(), &watch);
            drop(display);
            freed = Some(done?.freed);
        }
    }
    let kept = (snapshots.len() + damaged.len()).saturating_sub(gone.len()) as u64;
    if arguments.json {
        let forgotten = gone.iter().map(Id::to_string).collect();
        text::json(&Document { forgotten, kept, dry_run: arguments.dry_run, freed })?;
        return Ok(Verdict::Done);
    }
    let mut text = Text::new();
    let verb = if arguments.dry_run { "would forget" } else { "forgot" };
    for id in &gone {
        text.line(format_args!("{verb} {}", id.short()))?;
    }
    text.line(format_args!("{kept} snapshots are kept"))?;
    if let Some(freed) = freed {
        text.field("freed", text::size(freed))?;
    }
    text.finish()?;
    Ok(Verdict::Done)
}
