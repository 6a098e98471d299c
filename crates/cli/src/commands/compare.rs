//! `transload compare`: whether a guest would see the same on two disks.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use transload::block::Result;
use transload::convert::{Comparison, Difference, Progress, ScanSettings, compare};
use transload::image::Format;

use crate::args::{self, ProgressArgs, ReadArgs, ReferenceArgs, SpoolArgs};
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::{input, interrupt, progress};

/// Compare what a guest sees on two disks
///
/// Exits with 0 when they are the same, with 3 when they differ. Where one is longer, the rest has to be zero; with
/// --strict the sizes have to be the same, and so has what is allocated.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload compare disk.vmdk disk.qcow2\n  transload compare --strict a.qcow2 b.qcow2"
)]
pub(crate) struct Arguments {
    /// The one image
    #[arg(value_name = "A")]
    first: PathBuf,
    /// The other image
    #[arg(value_name = "B")]
    second: PathBuf,
    /// The format of A; found out from its bytes when not given
    #[arg(short = 'f', long = "format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    first_format: Option<&'static Format>,
    /// The format of B; found out from its bytes when not given
    #[arg(short = 'F', long = "second-format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    second_format: Option<&'static Format>,
    /// Options for reading A, such as snapshot=NAME
    #[arg(short = 'o', long = "options", value_name = "K=V,…")]
    first_options: Vec<String>,
    /// Options for reading B
    #[arg(long = "second-options", value_name = "K=V,…")]
    second_options: Vec<String>,
    /// Want the same size and the same allocation as well
    #[arg(long)]
    strict: bool,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    spool: SpoolArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    first: String,
    second: String,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let read = |format, options: &[String]| ReadArgs {
        format,
        options: options.to_vec(),
        spool: arguments.spool,
        references: arguments.references.clone(),
    };
    let first = input::open(&arguments.first, &read(arguments.first_format, &arguments.first_options))?;
    let second = input::open(&arguments.second, &read(arguments.second_format, &arguments.second_options))?;
    let cancel = interrupt::install()?;
    let display = progress::start(arguments.progress.when());
    let settings = ScanSettings {
        threads: arguments.threads,
        progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn Progress>),
        cancel,
    };
    let comparison = compare(first.device.as_ref(), second.device.as_ref(), arguments.strict, &settings);
    drop(display);
    let comparison = comparison?;
    if arguments.json {
        let (first, second) = (arguments.first.display().to_string(), arguments.second.display().to_string());
        text::json(&Document { first, second, comparison: &comparison })?;
    } else if !arguments.progress.quiet {
        let sizes = (first.device.size(), second.device.size());
        let mut text = Text::new();
        text.line(sentence(&comparison, sizes))?;
        text.finish()?;
    }
    Ok(if comparison.identical { Verdict::Done } else { Verdict::Different })
}

/// The verdict for people.
fn sentence(comparison: &Comparison, sizes: (u64, u64)) -> String {
    let offset = comparison.first_difference.unwrap_or_default();
    match comparison.difference {
        None if comparison.size_differs => {
            format!("identical; A has {}, B {}, and the rest is zero", text::count(sizes.0), text::count(sizes.1))
        }
        None => "identical".to_owned(),
        Some(Difference::Content) => format!("different: the content, first at offset {offset}"),
        Some(Difference::Size) => {
            format!("different: the sizes, {} and {}", text::count(sizes.0), text::count(sizes.1))
        }
        Some(Difference::Allocation) => format!("different: what is allocated, first at offset {offset}"),
    }
}
