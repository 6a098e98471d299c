//! `transload repack`: rewrites an OVA so that importers take it.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::appliance::ova::{ManifestAlgorithm, Signer};
use transload::block::{Error, Result};
use transload::export::MachineProgress;
use transload::repack::{Action, RepackReport, RepackSettings, repack};

use transload::image::codec::Level;

use crate::args::{self, ProgressArgs};
use crate::failure::Verdict;
use crate::text;
use crate::{interrupt, progress};

/// Rewrite an OVA with the remedies that `validate` names
///
/// Order, archive, manifest and the sizes in the descriptor are made anew; disks are rewritten where their own bytes are
/// what importers refuse. Everything else is copied as it is.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload repack vm.ova -o fixed.ova\n  transload repack vm.ova -o old.ova --manifest sha1 --hw-version 11"
)]
pub(crate) struct Arguments {
    /// The OVA
    #[arg(value_name = "OVA")]
    package: PathBuf,
    /// The new OVA
    #[arg(short = 'o', long = "output", value_name = "FIXED")]
    output: PathBuf,
    /// The manifest's digests; those of the old manifest when not given
    #[arg(long, value_name = "ALGORITHM", value_enum)]
    manifest: Option<ManifestChoice>,
    /// Ask for this hardware version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=99))]
    hw_version: Option<u32>,
    /// Whether the file with the EFI variables goes along
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t)]
    nvram: NvramChoice,
    /// Sign the manifest with an RSA key and its certificate, both in PEM
    #[arg(long, num_args = 2, value_names = ["KEY", "CERT"])]
    sign: Vec<PathBuf>,
    /// How hard to compress disks that are rewritten: fast, balanced, max, or a number from 1 (fastest) to 12 (smallest)
    #[arg(long, value_name = "LEVEL", default_value_t, value_parser = args::level)]
    level: Level,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    /// Replace the target if it exists, and make a new manifest where the old one is wrong
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ManifestChoice {
    /// What every importer since vSphere 6.5 takes
    Sha256,
    /// For vSphere up to 6.0
    Sha1,
    /// For importers that ask for it
    Sha512,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum NvramChoice {
    /// If it is there
    #[default]
    Include,
    /// It does not, for importers that refuse it
    Skip,
}

#[derive(Serialize)]
struct Document<'a> {
    package: String,
    output: String,
    #[serde(flatten)]
    report: &'a RepackReport,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let cancel = interrupt::install()?;
    let display = progress::start(arguments.progress.when());
    let defaults = RepackSettings::default();
    let settings = RepackSettings {
        manifest: arguments.manifest.map(|choice| match choice {
            ManifestChoice::Sha1 => ManifestAlgorithm::Sha1,
            ManifestChoice::Sha256 => ManifestAlgorithm::Sha256,
            ManifestChoice::Sha512 => ManifestAlgorithm::Sha512,
        }),
        hardware_version: arguments.hw_version,
        skip_nvram: arguments.nvram == NvramChoice::Skip,
        signer: match arguments.sign.as_slice() {
            [key, certificate] => Some(Signer::new(&read_text(key)?, &read_text(certificate)?)?),
            _ => None,
        },
        level: arguments.level,
        force: arguments.force,
        threads: arguments.threads,
        cancel: cancel.clone(),
        progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn MachineProgress>),
        ..defaults
    };
    let report = repack(&arguments.package, &arguments.output, &settings);
    // The bar is gone before anything else is said.
    drop(display);
    say(arguments, &report.map_err(|error| cancel.check().err().unwrap_or(error))?)?;
    Ok(Verdict::Done)
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(path.display().to_string(), error))
}

fn say(arguments: &Arguments, report: &RepackReport) -> Result<()> {
    let output = arguments.output.display().to_string();
    if !arguments.progress.quiet {
        report.warnings.iter().for_each(|warning| eprintln!("transload: warning: {warning}"));
        for file in report.files.iter().filter(|file| file.action != Action::Copied) {
            let action = if file.action == Action::LeftOut { "left out" } else { "rewritten" };
            let reasons =
                if file.reasons.is_empty() { String::new() } else { format!(": {}", file.reasons.join(", ")) };
            eprintln!("transload: {}: {action}{reasons}", file.name);
        }
        eprintln!("transload: {output}: {}", text::exact_size(report.size));
    }
    if arguments.json {
        return text::json(&Document { package: arguments.package.display().to_string(), output, report });
    }
    Ok(())
}
