//! `transload check`: whether an image's metadata is sound.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::image::{Access, CheckReport, CheckRequest, FindingKind};

use crate::args::ReadArgs;
use crate::failure::Verdict;
use crate::input;
use crate::text::{self, Text};

/// Check the metadata of an image, and repair it if asked
///
/// Exits with 0 when the image is sound, and with 4 when it is corrupt. Leaks (space that is taken and not used) are
/// reported, but they endanger no data: with nothing else wrong the exit code is 0.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload check disk.qcow2\n  transload check --repair disk.qcow2")]
pub(crate) struct Arguments {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Mend what can be mended without touching the guest's data
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    image: String,
    format: &'static str,
    clean: bool,
    #[serde(flatten)]
    report: &'a CheckReport,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let access = if arguments.repair { Access::ReadWrite } else { Access::ReadOnly };
    let prepared = input::prepare(&arguments.image, &arguments.read, access)?;
    let name = arguments.image.display().to_string();
    let check = prepared.format.check.ok_or_else(|| {
        let title = prepared.format.title;
        Error::new(ErrorKind::Unsupported, format!("{name}: {title} images have no metadata that can be checked"))
    })?;
    let gate = &prepared.settings.gate;
    let report = check(CheckRequest { source: prepared.source, gate, repair: arguments.repair })?;
    if arguments.json {
        let format = prepared.format.name;
        text::json(&Document { image: name, format, clean: report.is_clean(), report: &report })?;
    } else {
        print(&name, &report)?;
    }
    let corrupt = report.corruptions > report.corruptions_fixed;
    Ok(if corrupt { Verdict::Corrupt } else { Verdict::Done })
}

fn print(name: &str, report: &CheckReport) -> Result<()> {
    let mut text = Text::new();
    for finding in &report.findings {
        let kind = match finding.kind {
            FindingKind::Corruption => "corrupt",
            FindingKind::Leak => "leak",
        };
        let fixed = if finding.fixed { " (repaired)" } else { "" };
        text.line(format_args!("{kind}: {}{fixed}", finding.message))?;
    }
    let shown = report.findings.len() as u64;
    let found = report.corruptions.saturating_add(report.leaks);
    if found > shown {
        text.line(format_args!("and {} more", found - shown))?;
    }
    if found == 0 {
        text.line(format_args!("{name}: no errors found"))?;
    } else {
        let (corruptions, leaks) = (report.corruptions, report.leaks);
        let (corruptions_fixed, leaks_fixed) = (report.corruptions_fixed, report.leaks_fixed);
        text.line(format_args!(
            "{name}: {corruptions} errors ({corruptions_fixed} repaired), {leaks} leaks ({leaks_fixed} repaired)"
        ))?;
    }
    if let Some(per_mille) = (report.allocated_units * 1000).checked_div(report.total_units) {
        let (allocated, total, compressed) = (report.allocated_units, report.total_units, report.compressed_units);
        let (percent, tenth) = (per_mille / 10, per_mille % 10);
        text.line(format_args!(
            "{allocated} of {total} units allocated ({percent}.{tenth} %), {compressed} compressed"
        ))?;
    }
    if report.image_end_offset > 0 {
        text.field("end of the image", text::exact_size(report.image_end_offset))?;
    }
    text.finish()
}
