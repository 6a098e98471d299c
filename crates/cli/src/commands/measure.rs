//! `transload measure`: how large an image would be.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use transload::block::{BlockStatus, Error, ErrorKind, Extent, Result};
use transload::convert::measure;
use transload::image::{Format, Measure, MeasureRequest, OptionValues};

use crate::args::{self, ReadArgs, ReferenceArgs, SpoolArgs};
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::{help, input, interrupt};

/// Tell how many bytes an image would need in another format
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// The image that would be converted
    #[arg(value_name = "IMG", required_unless_present = "size", conflicts_with = "size")]
    image: Option<PathBuf>,
    /// Measure an empty disk of this size instead
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    size: Option<u64>,
    /// The format it would be converted to
    #[arg(short = 'O', long = "output-format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    target_format: &'static Format,
    /// Options for that format; --help lists them
    #[arg(short = 'o', long = "options", value_name = "K=V,…")]
    target_options: Vec<String>,
    /// The image's format; found out from its bytes when not given
    #[arg(short = 'f', long = "format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    source_format: Option<&'static Format>,
    /// Options for reading the image, such as snapshot=NAME
    #[arg(long = "source-option", value_name = "K=V,…")]
    source_options: Vec<String>,
    #[command(flatten)]
    spool: SpoolArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  transload measure -O qcow2 disk.vmdk
  transload measure -O qcow2 -o cluster_size=2M --size 10T";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", help::formats_and_options())
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    format: &'static str,
    virtual_size: u64,
    #[serde(flatten)]
    measure: Measure,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let format = arguments.target_format;
    let options = OptionValues::parse(format.create_options, arguments.target_options.iter().map(String::as_str))?;
    let (virtual_size, measure) = match (&arguments.image, arguments.size) {
        (Some(path), _) => {
            let read = ReadArgs {
                format: arguments.source_format,
                options: arguments.source_options.clone(),
                spool: arguments.spool,
                references: arguments.references.clone(),
            };
            let opened = input::open(path, &read)?;
            let cancel = interrupt::install()?;
            (opened.device.size(), measure(opened.device.as_ref(), format, &options, &cancel)?)
        }
        (None, Some(size)) => (size, empty(format, &options, size)?),
        (None, None) => return Err(Error::new(ErrorKind::InvalidInput, "neither an image nor a size is given")),
    };
    if arguments.json {
        text::json(&Document { format: format.name, virtual_size, measure })?;
    } else {
        let mut text = Text::new();
        text.field("required size", text::exact_size(measure.required))?;
        text.field("fully allocated size", text::exact_size(measure.fully_allocated))?;
        text.finish()?;
    }
    Ok(Verdict::Done)
}

/// Measures a disk that holds nothing.
fn empty(format: &Format, options: &OptionValues, size: u64) -> Result<Measure> {
    let measure = format.measure.ok_or_else(|| {
        let title = format.title;
        Error::new(ErrorKind::Unsupported, format!("the size of {title} images cannot be foretold"))
    })?;
    let nothing = [Extent { offset: 0, length: size, status: BlockStatus::Hole }];
    // An extent has at least one byte: a disk of none has no extents.
    let extents = if size == 0 { &nothing[..0] } else { &nothing[..] };
    measure(MeasureRequest { size, options, extents })
}
