//! The argument groups that several commands share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use transload::block::Error;
use transload::convert::DigestKind;
use transload::image::codec::Level;
use transload::image::{FORMATS, Format, parse_size};
use transload::remote::Checksum;

use crate::help::is_usable;
use crate::progress::When;

/// Which files an image may pull in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum References {
    /// None
    Deny,
    /// Regular files in the folder of the image that names them
    #[default]
    SameDir,
}

/// The policy for files that images name: backing files, extents, external data files.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReferenceArgs {
    /// Which files an image may name: backing files, extents, external data files
    #[arg(long, value_name = "POLICY", value_enum, default_value_t, help_heading = "References")]
    pub(crate) references: References,
    /// Also allow files below DIR; may be given several times
    #[arg(long, value_name = "DIR", help_heading = "References")]
    pub(crate) allow_dir: Vec<PathBuf>,
}

/// How the one image of a reading command is opened.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReadArgs {
    /// The image's format; found out from its bytes when not given
    #[arg(short = 'f', long = "format", value_name = "FMT", value_parser = format_parser(), ignore_case = true)]
    pub(crate) format: Option<&'static Format>,
    /// Options for reading, such as snapshot=NAME
    #[arg(short = 'o', long = "options", value_name = "K=V,…")]
    pub(crate) options: Vec<String>,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
    #[command(flatten)]
    pub(crate) references: ReferenceArgs,
}

/// Whether a compressed image may be unpacked into a file first.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct SpoolArgs {
    /// Unpack a compressed image into a temporary file first, for what is read at random places
    #[arg(long)]
    pub(crate) spool: bool,
}

/// Whom to tell what, on which stream.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ProgressArgs {
    /// When to show progress
    #[arg(long = "progress", value_name = "WHEN", value_enum, default_value_t, conflicts_with_all = ["show_progress", "quiet"])]
    pub(crate) when: When,
    /// Show progress: the same as --progress always
    #[arg(short = 'p', conflicts_with = "quiet")]
    pub(crate) show_progress: bool,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

impl ProgressArgs {
    pub(crate) fn when(self) -> When {
        match (self.show_progress, self.quiet) {
            (true, _) => When::Always,
            (_, true) => When::Never,
            _ => self.when,
        }
    }
}

/// A digest by the name that the command line has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Digest {
    /// SHA-256, as sha256sum
    Sha256,
    /// BLAKE3, as b3sum
    Blake3,
}

impl From<Digest> for DigestKind {
    fn from(digest: Digest) -> Self {
        match digest {
            Digest::Sha256 => Self::Sha256,
            Digest::Blake3 => Self::Blake3,
        }
    }
}

/// Parses a format's name. Formats that are known but not handled are understood as well, so that the message about
/// them can say so; `--help` does not offer them.
pub(crate) fn format_parser() -> impl TypedValueParser<Value = &'static Format> {
    let values = FORMATS
        .iter()
        .map(|format| PossibleValue::new(format.name).aliases(format.aliases.iter().copied()).hide(!is_usable(format)));
    PossibleValuesParser::new(values)
        .try_map(|name| Format::by_name(&name).ok_or_else(|| format!("unknown format '{name}'")))
}

/// Parses a size such as `512M`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| {
        "must be bytes, or a number with one of the suffixes k, M, G, T, P, E, and less than 16E".to_owned()
    })
}

/// Parses a time such as `90s`, `10m`, `24h` or `7d`; a bare number is of seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a whole number with one of the suffixes s, m, h, d".to_owned();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    // A thousand years are more than any clock is asked for, and few enough to be added to one.
    const MOST: u64 = 1000 * 365 * 24 * 3600;
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|seconds| *seconds <= MOST);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// Parses a checksum such as `sha256:…`.
pub(crate) fn checksum(text: &str) -> Result<Checksum, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

/// Parses a compression level.
pub(crate) fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| "must be fast, balanced, max, or a number from 1 to 12".to_owned())
}

/// The most threads that can be asked for: more than any machine has use for, and few enough to be started.
const MOST_THREADS: u64 = 1024;

/// Parses a number of threads.
pub(crate) fn threads() -> impl TypedValueParser<Value = NonZeroUsize> {
    clap::value_parser!(u64).range(1..=MOST_THREADS).try_map(|number| NonZeroUsize::try_from(usize::try_from(number)?))
}
