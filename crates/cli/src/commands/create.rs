//! `transload create`: makes an empty image.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{AtomicFiles, InPlace};
use transload::image::{
    CreateRequest, Format, IdSource, OpenSettings, Opened, OptionValues, SinkOutput, SinkRequest, TargetFiles,
    open_path,
};

use crate::args;
use crate::failure::Verdict;
use crate::{help, input, target, text};

/// Create an empty image
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// The image to make
    #[arg(value_name = "IMG")]
    image: PathBuf,
    /// The virtual size in bytes; k, M, G, T and so on are powers of 1024. That of the backing file when not given
    #[arg(value_name = "SIZE", value_parser = args::size)]
    size: Option<u64>,
    /// The format; from the name's ending when not given
    #[arg(short = 'O', long = "output-format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    format: Option<&'static Format>,
    /// Options for the format; --help lists them
    #[arg(short = 'o', long = "options", value_name = "K=V,…")]
    options: Vec<String>,
    /// Replace the image if it exists
    #[arg(long)]
    force: bool,
    /// Derive identifiers in the image from TEXT instead of its name, size and options
    #[arg(long, value_name = "TEXT")]
    pub(crate) seed: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  transload create disk.qcow2 40G
  transload create -O vmdk -o subformat=monolithicSparse disk.vmdk 40G
  transload create -o backing_file=base.qcow2,backing_fmt=qcow2 overlay.qcow2";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", help::formats_and_options())
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    image: String,
    format: &'static str,
    virtual_size: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    if input::is_standard_stream(&arguments.image) {
        return Err(Error::new(ErrorKind::InvalidInput, "an empty image is made in a file, not on standard output")
            .with_remedy("write ./- for a file of that name, or convert an empty disk with `convert … -`"));
    }
    let format = target::format(arguments.format, &arguments.image)?;
    let options = OptionValues::parse(format.create_options, arguments.options.iter().map(String::as_str))?;
    let backing = open_backing(&arguments.image, &options)?;
    let size = match (arguments.size, &backing) {
        (Some(size), _) => size,
        (None, Some(backing)) => backing.device.size(),
        (None, None) => {
            return Err(Error::new(ErrorKind::InvalidInput, "an image without a backing file needs a size"));
        }
    };
    let image = Empty { format, ids: ids(arguments, format, size), options, size, backing };
    if target::is_block_device(&arguments.image) {
        if !arguments.force {
            let text = format!("{}: is a block device", arguments.image.display());
            return Err(Error::new(ErrorKind::Denied, text).with_remedy("overwrite what is on it with --force"));
        }
        let device = InPlace::open(&arguments.image)?;
        target::announce_device(&arguments.image);
        image.write(&device)?;
    } else {
        let files = AtomicFiles::create(&arguments.image, arguments.force, Vec::new())?;
        image.write(&files)?;
        files.commit()?;
    }
    let name = arguments.image.display().to_string();
    if arguments.json {
        text::json(&Document { image: name, format: format.name, virtual_size: size })?;
    }
    Ok(Verdict::Done)
}

/// Makes the image in files that are not in their place yet.
pub(crate) fn write_to(arguments: &Arguments, files: &dyn TargetFiles) -> Result<()> {
    let format = target::format(arguments.format, &arguments.image)?;
    let options = OptionValues::parse(format.create_options, arguments.options.iter().map(String::as_str))?;
    let text = "a new image of a script stands on its own: it has a size and no backing file";
    let alone = || Error::new(ErrorKind::InvalidInput, text);
    if options.text("backing_file").is_some() {
        return Err(alone());
    }
    let size = arguments.size.ok_or_else(alone)?;
    Empty { format, ids: ids(arguments, format, size), options, size, backing: None }.write(files)
}

/// Opens what the option `backing_file` names: a file relative to the new image, as whoever opens that will look for it.
fn open_backing(image: &Path, options: &OptionValues) -> Result<Option<Opened>> {
    let Some(name) = options.text("backing_file") else { return Ok(None) };
    let format = match options.text("backing_fmt") {
        Some(name) => Some(Format::by_name(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("option backing_fmt={name}: there is no such format"))
        })?),
        None => None,
    };
    let path = image.parent().unwrap_or(Path::new("")).join(name);
    let settings = OpenSettings { format, chain: false, ..OpenSettings::default() };
    open_path(&path, &settings).map(Some).map_err(|error| error.context("backing file"))
}

/// Where the identifiers of the new image come from: an empty disk has no content that could tell it from another.
fn ids(arguments: &Arguments, format: &Format, size: u64) -> IdSource {
    let material = arguments.seed.clone().unwrap_or_else(|| {
        let name = arguments.image.file_name().unwrap_or_default().display();
        format!("create {} {name} {size} {}", format.name, arguments.options.join(","))
    });
    IdSource::from_material(material.as_bytes())
}

/// An image of a disk that holds nothing.
struct Empty {
    format: &'static Format,
    options: OptionValues,
    size: u64,
    ids: IdSource,
    backing: Option<Opened>,
}

impl Empty {
    fn write(&self, files: &dyn TargetFiles) -> Result<()> {
        // A variant that can only be written from front to back has a sink and nothing else.
        let subformat = self.options.text("subformat");
        let variant = subformat.and_then(|name| self.format.variants.iter().find(|known| known.name == name));
        let ordered = variant.is_some_and(|variant| !variant.write && variant.stream_write);
        match (self.format.create, self.format.sink) {
            (Some(create), _) if !ordered => {
                let cache_bytes = OpenSettings::default().cache_bytes;
                let (size, options, ids) = (self.size, &self.options, &self.ids);
                let backing = self.backing.as_ref().and_then(|opened| opened.layers.first());
                create(CreateRequest { files, size, options, ids, backing, cache_bytes })?.finish()
            }
            (_, Some(sink)) => {
                let (size, options, ids) = (self.size, &self.options, &self.ids);
                let (output, name) = (SinkOutput::Files(files), files.name());
                sink(SinkRequest { output, name, size, options, level: None, ids, extents: Some(&[]) })?.finish()
            }
            _ => {
                let title = self.format.title;
                Err(Error::new(ErrorKind::Unsupported, format!("{title} images cannot be written")))
            }
        }
    }
}
