//! `transload archive list`: the snapshots of an archive, or the files of one.

use clap::Args;
use serde::Serialize;
use transload::archive::Snapshot;
use transload::block::Result;

use super::address::{self, Address};
use super::open::ArchiveArgs;
use crate::commands::ls;
use crate::failure::Verdict;
use crate::files::show;
use crate::text::{self, Text};
use crate::volumes::listing::printable;

/// List the snapshots of an archive, or the files of one
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive list /srv/archive\n  transload archive list -l /srv/archive latest:/web/volumes/2/etc"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The files to list: the first digits of a snapshot or `latest`, and a path
    #[arg(value_name = "SNAPSHOT[:/PATH]", value_parser = address::parser())]
    address: Option<Address>,
    /// Show modes, owners, sizes and times
    #[arg(short = 'l', long)]
    long: bool,
    /// List what is in folders as well, all the way down
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    snapshots: Vec<SnapshotDocument>,
}

/// A snapshot in JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotDocument {
    id: String,
    time: String,
    host: String,
    paths: Vec<String>,
    tags: Vec<String>,
    program: String,
    tree: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
}

impl From<&Snapshot> for SnapshotDocument {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            id: snapshot.id.to_string(),
            time: snapshot.time.to_string(),
            host: snapshot.hostname.clone(),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
            program: snapshot.program.clone(),
            tree: snapshot.tree.to_string(),
            parent: snapshot.parent.map(|parent| parent.to_string()),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    if let Some(address) = &arguments.address {
        let place = arguments.archive.place(&repository, &repository.find_snapshot(&address.snapshot)?)?;
        let Arguments { long, recursive, json, .. } = *arguments;
        return ls::list(&place, &address.path, ls::Style { long, recursive, directory: false, json });
    }
    let (snapshots, damaged) = repository.snapshots_and_damage()?;
    if arguments.json {
        text::json(&Document { snapshots: snapshots.iter().map(Into::into).collect() })?;
    } else {
        print(&snapshots)?;
    }
    for (_, error) in &damaged {
        eprintln!("transload: {error}");
    }
    Ok(if damaged.is_empty() { Verdict::Done } else { Verdict::Corrupt })
}

fn print(snapshots: &[Snapshot]) -> Result<()> {
    let mut text = Text::new();
    let width = snapshots.iter().map(|snapshot| snapshot.hostname.len()).max().unwrap_or(0).max(4);
    text.line(format_args!("{:8}  {:19}  {:width$}  DISKS", "ID", "TIME (UTC)", "HOST"))?;
    for snapshot in snapshots {
        let disks: Vec<_> = snapshot.paths.iter().map(|path| printable(path.trim_start_matches('/'))).collect();
        let tags: Vec<_> = snapshot.tags.iter().filter(|tag| *tag != "transload").map(|tag| printable(tag)).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("  [{}]", tags.join(", ")) };
        let time = show::time(Some(snapshot.time.0));
        let host = printable(&snapshot.hostname);
        text.line(format_args!("{}  {time}  {host:width$}  {}{tags}", snapshot.id.short(), disks.join(", ")))?;
    }
    text.finish()
}
