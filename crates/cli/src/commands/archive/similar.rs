//! `transload archive similar`: how much two files, folders, disks or snapshots have in common.

use clap::Args;
use serde::Serialize;
use transload::archive::{self, Part};
use transload::block::Result;

use super::address::{self, Address};
use super::open::ArchiveArgs;
use crate::failure::Verdict;
use crate::text::{self, Text};

/// Tell how much two files, folders, disks or snapshots have in common
///
/// Chunks count once each, by their length; holes do not count.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive similar /srv/archive 1a2b3c4d latest\n  transload archive similar /srv/archive latest:/web latest:/db"
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
#[serde(rename_all = "kebab-case")]
struct Document {
    first: u64,
    second: u64,
    common: u64,
    common_chunks: u64,
    share_of_first: f64,
    share_of_second: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let part = |address: &Address| {
        let snapshot = repository.find_snapshot(&address.snapshot)?;
        Part::find(&repository, &snapshot, &address.path)
    };
    let found = archive::similarity(&part(&arguments.one)?, &part(&arguments.other)?)?;
    if arguments.json {
        text::json(&Document {
            first: found.first,
            second: found.second,
            common: found.common,
            common_chunks: found.common_chunks,
            share_of_first: f64::from(hundredths(found.common, found.first)) / 10_000.0,
            share_of_second: f64::from(hundredths(found.common, found.second)) / 10_000.0,
        })?;
        return Ok(Verdict::Done);
    }
    let mut text = Text::new();
    let percent = |of: u64| {
        let share = hundredths(found.common, of);
        format!("{}.{:02}%", share / 100, share % 100)
    };
    text.field("first", format_args!("{}, {} of it common", text::size(found.first), percent(found.first)))?;
    text.field("second", format_args!("{}, {} of it common", text::size(found.second), percent(found.second)))?;
    text.field("common", format_args!("{} in {} chunks", text::size(found.common), found.common_chunks))?;
    text.finish()?;
    Ok(Verdict::Done)
}

/// The share of a part in hundredths of a percent; nothing is all of nothing.
fn hundredths(part: u64, whole: u64) -> u32 {
    let share = (u128::from(part) * 10_000).checked_div(u128::from(whole)).unwrap_or(10_000);
    u32::try_from(share).unwrap_or(u32::MAX)
}
