//! `transload convert`: moves a disk into a new image.

use std::env;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{
    Cancel, Compression, CompressionKind, DigestKind, Input, Output, Plan, Preallocation, Progress, Report, Settings,
    convert_resumable,
};
use transload::image::codec::Level;
use transload::image::{Format, OptionValues};
use transload::location::{self, Location};
use transload::remote::Checksum;
use transload::upload;

use crate::args::{self, Digest, ProgressArgs, ReadArgs, ReferenceArgs, SpoolArgs};
use crate::failure::Verdict;
use crate::input::SourceSettings;
use crate::text::{self, Text};
use crate::{help, input, interrupt, progress, target};

/// Convert a disk image
///
/// The new image appears under its name only when it is whole: an error, a full disk or an interrupt leaves nothing
/// behind. The source's format is found out from its bytes, the target's comes from -O or from the name's ending.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// The image to read: a file, an address (http, https, s3, gs, az, nbd), - for standard input
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The image to write: a file, an address (s3, gs, az, nbd), - for standard output
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// The source's format; found out from its bytes when not given
    #[arg(short = 'f', long = "format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    source_format: Option<&'static Format>,
    /// Options for reading the source, such as snapshot=NAME
    #[arg(long = "source-option", value_name = "K=V,…")]
    source_options: Vec<String>,
    /// The target's format; from its name's ending when not given
    #[arg(short = 'O', long = "output-format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    target_format: Option<&'static Format>,
    /// Options for the target; --help lists them
    #[arg(short = 'o', long = "options", value_name = "K=V,…")]
    target_options: Vec<String>,
    /// Compress the target, with the codec that is named or else the format's own
    #[arg(short = 'c', long = "compress", value_name = "CODEC", value_enum, num_args = 0..=1, require_equals = true,
          default_missing_value = "auto")]
    compress: Option<Codec>,
    /// How hard to compress: fast, balanced (the default), max, or a number from 1 (fastest) to 12 (smallest); implies -c
    #[arg(long, value_name = "LEVEL", value_parser = args::level)]
    level: Option<Level>,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    /// Memory for buffers and tables
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "192M")]
    memory: u64,
    /// Set room aside for the whole target
    #[arg(long = "prealloc", value_name = "MODE", value_enum, default_value_t)]
    preallocation: Prealloc,
    /// Read the result back and compare what a guest sees
    #[arg(long)]
    verify: bool,
    /// Pass compressed units on without decoding them for their proof; what a damaged source holds then goes over unseen
    #[arg(long)]
    trust_source: bool,
    /// Print the digest of the bytes that a guest sees; may be given twice
    #[arg(long = "digest", value_name = "ALGORITHM", value_enum)]
    digests: Vec<Digest>,
    /// The digest that the source's bytes must have, such as sha256:…; nothing appears if they have another
    #[arg(long, value_name = "ALGORITHM:HEX", value_parser = args::checksum)]
    checksum: Option<Checksum>,
    /// Go on where an earlier run of the same conversion was interrupted, and leave a checkpoint beside the target if this one is
    #[arg(long)]
    resume: bool,
    /// Say how it would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the target if it exists
    #[arg(long)]
    force: bool,
    /// Derive identifiers in the target from TEXT instead of the content
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Store standard input, or what is inside a compressed image, in a temporary file beside the target first, for what cannot
    /// be read from front to back
    #[arg(long)]
    spool: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// Print what was done as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A codec as `-c` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Codec {
    /// What the format uses by itself
    Auto,
    /// Deflate
    Zlib,
    /// Zstandard
    Zstd,
}

/// Preallocation as `--prealloc` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Prealloc {
    /// Holes stay holes
    #[default]
    Off,
    /// Allocated without being written
    Falloc,
    /// Written with zeroes
    Full,
}

const EXAMPLES: &str = "\
Examples:
  transload convert disk.vmdk disk.qcow2
  transload convert -c=zstd disk.raw disk.qcow2
  transload convert --level fast disk.raw disk.qcow2
  transload convert -O vmdk -o subformat=streamOptimized disk.qcow2 disk.vmdk
  transload convert --source-option snapshot=before disk.qcow2 before.raw
  curl -sL https://example.org/disk.vmdk | transload convert - disk.qcow2
  transload convert --checksum sha256:9f86… https://example.org/disk.qcow2 disk.vmdk
  transload convert --resume https://example.org/disk.qcow2 disk.raw
  transload convert disk.vmdk s3://images/disk.qcow2
  transload convert disk.raw.xz disk.qcow2
  ssh host cat disk.raw | transload convert --spool - disk.qcow2
  transload convert disk.qcow2 -O raw - | zstd > disk.raw.zst";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", help::formats_and_options())
}

/// What was done.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    source: String,
    target: String,
    format: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

/// What would be done.
#[derive(Serialize)]
struct PlanDocument<'a> {
    plan: &'a Plan,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let to_pipe = input::is_standard_stream(&arguments.target);
    if to_pipe && arguments.json && !arguments.dry_run {
        let text = "standard output cannot hold both the image and JSON";
        return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("leave out --json, or write to a file"));
    }
    let cancel = interrupt::install()?;
    // Standard input reports an interrupt as a failure to read, which it is not.
    execute(arguments, to_pipe, &cancel).map_err(|error| cancel.check().err().unwrap_or(error))
}

fn execute(arguments: &Arguments, to_pipe: bool, cancel: &Cancel) -> Result<Verdict> {
    let is_file = matches!(Location::of(&arguments.target), Location::File(_)) && !to_pipe;
    if arguments.resume && (!is_file || input::is_standard_stream(&arguments.source)) {
        let text = "--resume is for a source that is named and a target that is a file";
        return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("leave out --resume"));
    }
    let display = if arguments.dry_run { None } else { progress::start(arguments.progress.when()) };
    let settings = Settings {
        progress: display.as_ref().map(|(meter, _)| Arc::clone(meter) as Arc<dyn Progress>),
        ..settings(arguments, cancel)?
    };
    let report = match Location::of(&arguments.target) {
        Location::Remote(address) => to_address(arguments, &address, &settings, cancel),
        _ => to_place(arguments, &settings, cancel),
    };
    // The bar is gone before anything else is said.
    drop(display);
    if let Some(report) = report? {
        say(arguments, &report, to_pipe)?;
    }
    Ok(Verdict::Done)
}

/// Converts into a file, a device, a pipe; no report where it is only said how that would be done.
fn to_place(arguments: &Arguments, settings: &Settings, cancel: &Cancel) -> Result<Option<Report>> {
    let output = output(arguments)?;
    let input = source(arguments, settings.format, cancel)?;
    let plan = Plan::new(&input, &output, settings)?;
    if arguments.dry_run {
        return dry_run(&plan, arguments.json).map(|_| None);
    }
    if arguments.resume {
        let mark = location::fingerprint(&Location::of(&arguments.source), &input, &input::network(cancel))?;
        return convert_resumable(input, &arguments.target, &mark, settings).map(Some);
    }
    plan.run(input, output, settings).map(Some)
}

/// The same, into an object store.
fn to_address(arguments: &Arguments, address: &str, settings: &Settings, cancel: &Cancel) -> Result<Option<Report>> {
    let input = source(arguments, settings.format, cancel)?;
    let planned = upload::plan(&input, address, settings)?;
    if planned.staged && !arguments.progress.quiet {
        eprintln!(
            "transload: {}: cannot be written from front to back as this; it is made in {} first",
            target::shown(&arguments.target),
            env::temp_dir().display()
        );
    }
    if arguments.dry_run {
        return dry_run(&planned.plan, arguments.json).map(|_| None);
    }
    upload::convert_to(input, address, settings, &input::network(cancel), &env::temp_dir()).map(Some)
}

fn settings(arguments: &Arguments, cancel: &Cancel) -> Result<Settings> {
    let format = target::format(arguments.target_format, &arguments.target)?;
    let options = OptionValues::parse(format.create_options, arguments.target_options.iter().map(String::as_str))?;
    let mut digests: Vec<DigestKind> = arguments.digests.iter().map(|digest| DigestKind::from(*digest)).collect();
    digests.dedup();
    Ok(Settings {
        options,
        compression: compression(arguments.compress, arguments.level),
        threads: arguments.threads,
        memory: arguments.memory,
        preallocation: match arguments.preallocation {
            Prealloc::Off => Preallocation::Off,
            Prealloc::Falloc => Preallocation::Falloc,
            Prealloc::Full => Preallocation::Full,
        },
        verify: arguments.verify,
        trust_source: arguments.trust_source,
        digests,
        force: arguments.force,
        seed: arguments.seed.clone(),
        on_device: (!arguments.progress.quiet).then_some(target::announce_device),
        cancel: cancel.clone(),
        ..Settings::new(format)
    })
}

/// What `-c` and `--level` ask for; either is enough.
fn compression(codec: Option<Codec>, level: Option<Level>) -> Option<Compression> {
    let kind = match codec {
        None if level.is_none() => return None,
        None | Some(Codec::Auto) => None,
        Some(Codec::Zlib) => Some(CompressionKind::Zlib),
        Some(Codec::Zstd) => Some(CompressionKind::Zstd),
    };
    Some(Compression { kind, level: level.unwrap_or_default() })
}

fn output(arguments: &Arguments) -> Result<Output> {
    if let Some(address) = input::nbd_address(&arguments.target) {
        return target::nbd_export(address);
    }
    if !input::is_standard_stream(&arguments.target) {
        return Ok(Output::Path(arguments.target.clone()));
    }
    if arguments.dry_run {
        return Ok(Output::Pipe(Box::new(io::sink())));
    }
    Ok(Output::Pipe(target::standard_output()?))
}

/// Whether the target is a raw file or pipe, which grows with a source that does not know its size.
fn grows(arguments: &Arguments, format: &Format) -> bool {
    let target = &arguments.target;
    format.name == "raw" && !matches!(Location::of(target), Location::Nbd(_)) && !target::is_block_device(target)
}

fn source(arguments: &Arguments, format: &Format, cancel: &Cancel) -> Result<Input> {
    let read = ReadArgs {
        format: arguments.source_format,
        options: arguments.source_options.clone(),
        spool: SpoolArgs::default(),
        references: arguments.references.clone(),
    };
    let folder = spool_folder(&arguments.target);
    let settings = SourceSettings {
        spool: arguments.spool.then_some(folder.as_path()),
        folder: &folder,
        sized: !grows(arguments, format),
        cache_bytes: cache_bytes(arguments.memory),
        checksum: arguments.checksum.as_ref(),
    };
    if input::is_standard_stream(&arguments.source) {
        return input::standard_input(&read, &settings, cancel);
    }
    target::refuse_source(&arguments.target, &arguments.source)?;
    input::source(&arguments.source, &read, &settings, cancel)
}

/// The source's share of the memory: a quarter, as the engine reckons.
fn cache_bytes(memory: u64) -> usize {
    usize::try_from(memory / 4).unwrap_or(usize::MAX)
}

/// Where what comes once is stored: beside the target, which has room for a disk, or with the other temporary files.
fn spool_folder(target: &Path) -> PathBuf {
    let is_file = matches!(Location::of(target), Location::File(_)) && !input::is_standard_stream(target);
    let beside = target.parent().filter(|_| is_file && !target::is_block_device(target));
    match beside {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_path_buf(),
        None => env::temp_dir(),
    }
}

fn dry_run(plan: &Plan, json: bool) -> Result<Verdict> {
    if json {
        text::json(&PlanDocument { plan })?;
    } else {
        let mut text = Text::new();
        text.line(plan)?;
        text.finish()?;
    }
    Ok(Verdict::Done)
}

/// Tells what was done: digests and JSON on standard output unless the image went there, the rest on standard error.
fn say(arguments: &Arguments, report: &Report, to_pipe: bool) -> Result<()> {
    let (source, target) = (Location::of(&arguments.source).shown(), target::shown(&arguments.target));
    if !arguments.progress.quiet {
        for warning in &report.warnings {
            eprintln!("transload: warning: {warning}");
        }
        eprintln!("transload: {target}: {}", summary(report));
    }
    if arguments.json {
        let format = target::format(arguments.target_format, &arguments.target)?.name;
        return text::json(&Document { source, target, format, report });
    }
    let mut text = Text::new();
    for digest in &report.digests {
        let line = text::digest_line(&digest.hex, Path::new(&source));
        if to_pipe { eprint!("{}", String::from_utf8_lossy(&line)) } else { text.bytes(&line)? }
    }
    text.finish()
}

/// What was done, in one sentence.
fn summary(report: &Report) -> String {
    let milliseconds = report.elapsed_milliseconds.max(1);
    let rate = u128::from(report.virtual_size) * 1000 / u128::from(milliseconds);
    let verified = if report.verified { ", read back and found the same" } else { "" };
    format!(
        "{} copied, {} skipped as zero, {} written in {}.{:03} s ({}/s){verified}",
        text::size(report.copied),
        text::size(report.skipped),
        text::size(report.written),
        milliseconds / 1000,
        milliseconds % 1000,
        text::size(u64::try_from(rate).unwrap_or(u64::MAX)),
    )
}
