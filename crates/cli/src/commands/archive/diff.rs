//! `transload archive diff`: what has changed between two snapshots.

use clap::Args;
use serde::Serialize;
use transload::archive::{self, Difference, Part};
use transload::block::Result;

use super::address::{self, Address};
use super::open::ArchiveArgs;
use crate::failure::Verdict;
use crate::files::show;
use crate::text::{self, Text};

/// Tell what differs between two snapshots, or folders of them
///
/// `+` was added, `-` removed, `M` has other contents, `U` another owner, mode, time or attribute. Ends with 3 when anything differs.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive diff /srv/archive 1a2b3c4d latest\n  transload archive diff /srv/archive 1a2b:/web/volumes/2/etc latest:/web/volumes/2/etc"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The first
    #[arg(value_name = "A[:/PATH]", value_parser = address::parser())]
    one: Address,
    /// The second
    #[arg(value_name = "B[:/PATH]", value_parser = address::parser())]
    other: Address,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    changes: Vec<ChangeDocument>,
}

#[derive(Serialize)]
struct ChangeDocument {
    path: String,
    change: &'static str,
    folder: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let part = |address: &Address| {
        let snapshot = repository.find_snapshot(&address.snapshot)?;
        Part::find(&repository, &snapshot, &address.path)
    };
    let (one, other) = (part(&arguments.one)?, part(&arguments.other)?);
    let mut text = Text::new();
    let mut changes = Vec::new();
    let mut differs = false;
    archive::difference(&one, &other, &mut |change| {
        differs = true;
        let (letter, name) = match change.difference {
            Difference::Added => ('+', "added"),
            Difference::Removed => ('-', "removed"),
            Difference::Contents => ('M', "contents"),
            Difference::Metadata => ('U', "metadata"),
        };
        if arguments.json {
            let path = String::from_utf8_lossy(&change.path).into_owned();
            changes.push(ChangeDocument { path, change: name, folder: change.is_folder });
            return Ok(());
        }
        let slash = if change.is_folder { "/" } else { "" };
        text.line(format_args!("{letter} {}{slash}", show::name(&change.path)))
    })?;
    text.finish()?;
    if arguments.json {
        text::json(&Document { changes })?;
    }
    Ok(if differs { Verdict::Different } else { Verdict::Done })
}
