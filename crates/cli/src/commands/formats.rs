//! `transload formats`: what is known of each format.

use clap::Args;
use serde::Serialize;
use transload::block::Result;
use transload::image::{FORMATS, Format, OptionSpec, Variant};

use crate::failure::Verdict;
use crate::help;
use crate::text::{self, Text};

/// List the formats, their variants and their options
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    formats: Vec<FormatDocument>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FormatDocument {
    name: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    extensions: &'static [&'static str],
    check: bool,
    resize: bool,
    variants: Vec<VariantDocument>,
    open_options: Vec<OptionDocument>,
    create_options: Vec<OptionDocument>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct VariantDocument {
    name: &'static str,
    summary: &'static str,
    read: bool,
    write: bool,
    stream_read: bool,
    stream_write: bool,
}

#[derive(Serialize)]
struct OptionDocument {
    name: &'static str,
    values: String,
    default: &'static str,
    help: &'static str,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    if arguments.json {
        text::json(&Document { formats: FORMATS.iter().map(|format| document(format)).collect() })?;
    } else {
        print()?;
    }
    Ok(Verdict::Done)
}

fn document(format: &Format) -> FormatDocument {
    FormatDocument {
        name: format.name,
        aliases: format.aliases,
        title: format.title,
        extensions: format.extensions,
        check: format.check.is_some(),
        resize: format.resize.is_some(),
        variants: format.variants.iter().map(variant).collect(),
        open_options: format.open_options.iter().map(option).collect(),
        create_options: format.create_options.iter().map(option).collect(),
    }
}

fn variant(variant: &Variant) -> VariantDocument {
    VariantDocument {
        name: variant.name,
        summary: variant.summary,
        read: variant.read,
        write: variant.write,
        stream_read: variant.stream_read,
        stream_write: variant.stream_write,
    }
}

fn option(spec: &OptionSpec) -> OptionDocument {
    OptionDocument { name: spec.name, values: help::placeholder(spec.kind), default: spec.default, help: spec.help }
}

fn print() -> Result<()> {
    let mut text = Text::new();
    text.line(help::formats())?;
    text.line("Variants:")?;
    for format in FORMATS {
        for variant in format.variants {
            let letters = help::letters([variant.read, variant.write, variant.stream_read, variant.stream_write]);
            text.line(format_args!("  {letters}  {:<6} {:<20} {}", format.name, variant.name, variant.summary))?;
        }
    }
    text.bytes(help::options_of_all().as_bytes())?;
    text.finish()
}
