//! What a conversion will do, decided before anything is touched, and printable.
//!
//! A plan is made from what the input, the output and the settings say of themselves. It opens nothing, reads no payload
//! and makes no file, so `--dry-run` is a plan and nothing else.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde::Serialize;
use transload_block::{EncodedRead, Error, ErrorKind, Result};
use transload_image::codec::Level;
use transload_image::{Format, OptionValues, Variant};

use crate::shape::Shape;
use crate::sizing::Sizing;
use crate::{CompressionKind, DigestKind, Input, Output, Preallocation, Settings};

/// What kind of place the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// Files that appear when they are whole.
    File,
    /// A block device, written in place.
    BlockDevice,
    /// A pipe, written from front to back.
    Pipe,
    /// A storage that was open already, written in place.
    Storage,
}

impl Destination {
    /// Whether what was there before is written over, instead of being replaced at the end.
    #[must_use]
    pub const fn is_in_place(self) -> bool {
        matches!(self, Self::BlockDevice | Self::Storage)
    }
}

/// A shorter way that is taken where the bytes allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastPath {
    /// Zeroes and holes are neither read nor written.
    SkipZeroes,
    /// Compressed units go over as they are where unit and codec agree.
    PassThrough,
    /// The file system shares the blocks of both files, where it can.
    Reflink,
}

/// How the result is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// Read back and compared with the source.
    Compare,
    /// Read back and compared with the BLAKE3 digest of what the stream held.
    Digest,
}

/// What a conversion will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The source's format.
    pub source: &'static str,
    /// Whether the source is read once, from front to back.
    pub streamed: bool,
    /// The target's format.
    pub target: &'static str,
    /// The options that the target is made with: those that were given and those that follow from the settings.
    pub options: Vec<(String, String)>,
    /// What kind of place the output is.
    pub destination: Destination,
    /// How the bytes move.
    pub shape: Shape,
    /// The disk's size in bytes, where it is known.
    pub virtual_size: Option<u64>,
    /// How hard the target's units are compressed; `None` when they are not.
    pub level: Option<Level>,
    /// Worker threads.
    pub threads: usize,
    /// Guest bytes that a worker takes at once.
    pub task_bytes: u64,
    /// Tasks that may be under way at once.
    pub window: usize,
    /// Bytes of memory for the target's tables.
    pub table_bytes: u64,
    /// Shorter ways that are taken where they can be.
    pub fast_paths: Vec<FastPath>,
    /// Whether units that pass unchanged are not decoded for their proof.
    pub trust_source: bool,
    /// How the result is proved.
    pub verification: Option<Verification>,
    /// Digests that are computed on the way.
    pub digests: Vec<DigestKind>,
    #[serde(skip)]
    pub(crate) values: OptionValues,
    #[serde(skip)]
    pub(crate) sizing: Sizing,
}

/// Guest bytes of a compressed unit where no option says otherwise: the clusters and grains of every format that has any.
const DEFAULT_UNIT: u64 = 64 << 10;

impl Plan {
    /// Decides how to convert `input` to `output`.
    ///
    /// # Errors
    /// `Unsupported` when the target's format cannot be written so; `Denied` when the target exists and may not be
    /// replaced; `InvalidInput` when the settings contradict each other or the output, or when the target is a file of
    /// the source.
    pub fn new(input: &Input, output: &Output, settings: &Settings) -> Result<Self> {
        let format = settings.format;
        let destination = destination(output, settings.force)?;
        let wants_stream = destination == Destination::Pipe || settings.compression.is_some();
        let (values, variant) = target_options(settings, destination == Destination::Pipe)?;
        let shape = shape(format, variant, wants_stream, destination)?;
        let (source, virtual_size) = match input {
            Input::Image(opened) => {
                (opened.layers.first().map_or("", |top| top.format.name), Some(opened.device.size()))
            }
            Input::Stream { format, stream } => (format.name, stream.size()),
        };
        let streamed = matches!(input, Input::Stream { .. });
        let sparse = values.text("preallocation").is_none_or(|mode| mode == "off");
        let grows = format.name == "raw" && sparse && !destination.is_in_place();
        if virtual_size.is_none() && !grows {
            let target = match destination {
                Destination::BlockDevice => "a block device",
                Destination::Storage => "a place that has a size of its own",
                _ if !sparse => "a target that room is set aside for",
                _ => format.title,
            };
            let text = format!("the input does not say its size beforehand, which is needed for {target}");
            return Err(Error::new(ErrorKind::InvalidInput, text)
                .with_remedy("name the input as a file, or store it in a temporary file first with --spool"));
        }
        // What is written from front to back alone is compressed, whichever way.
        let compressed =
            settings.compression.is_some() || format.create.is_none() || variant.is_some_and(|variant| !variant.write);
        let verification = verification(settings, streamed, destination)?;
        let hashing = !settings.digests.is_empty() || verification == Some(Verification::Digest);
        let threads = settings.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
        let sizing = Sizing { memory: settings.memory, threads, shape, hashing, span: settings.task_bytes };
        let crew = sizing.of(values.size("cluster_size").unwrap_or(DEFAULT_UNIT));
        let mut plan = Self {
            source,
            streamed,
            target: format.name,
            options: values.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            destination,
            shape,
            virtual_size,
            level: settings.compression.map(|compression| compression.level).or(compressed.then(Level::default)),
            threads: crew.crew.threads,
            task_bytes: crew.span,
            window: crew.crew.window,
            table_bytes: sizing.table_bytes(),
            fast_paths: Vec::new(),
            trust_source: false,
            verification,
            digests: settings.digests.clone(),
            values,
            sizing,
        };
        plan.fast_paths = plan.find_fast_paths(input, hashing);
        plan.trust_source = settings.trust_source && !hashing && plan.fast_paths.contains(&FastPath::PassThrough);
        Ok(plan)
    }

    fn find_fast_paths(&self, input: &Input, hashing: bool) -> Vec<FastPath> {
        let raw = self.source == "raw" && self.target == "raw";
        let sparse = self.values.text("preallocation").is_none_or(|mode| mode == "off");
        let reflink = raw && !self.streamed && !hashing && sparse && self.destination == Destination::File;
        let unit = match input {
            Input::Image(opened) => opened.device.capabilities().encoded.map(EncodedRead::encoded_unit_size),
            Input::Stream { stream, .. } => (self.source != "raw").then(|| stream.unit_size()),
        };
        let encoded = unit == Some(self.values.size("cluster_size").unwrap_or(DEFAULT_UNIT));
        let mut found = vec![FastPath::SkipZeroes];
        found.extend((encoded && self.level.is_some()).then_some(FastPath::PassThrough));
        found.extend(reflink.then_some(FastPath::Reflink));
        found
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.virtual_size.map_or_else(|| "size not known".to_owned(), |size| format!("{size} bytes"));
        let once = if self.streamed { ", read once" } else { "" };
        writeln!(f, "source    {}, {size}{once}", self.source)?;
        let place = match self.destination {
            Destination::File => "a file that appears when it is whole",
            Destination::BlockDevice => "a block device, written in place",
            Destination::Pipe => "a pipe",
            Destination::Storage => "written in place",
        };
        write!(f, "target    {}, {place}", self.target)?;
        for (key, value) in &self.options {
            write!(f, ", {key}={value}")?;
        }
        let how = match self.shape {
            Shape::Random => "random: every thread writes in place",
            Shape::Ordered => "ordered: every thread encodes, one appends",
        };
        write!(f, "\nshape     {how}")?;
        if let Some(level) = self.level {
            write!(f, ", compressed at level {level}")?;
        }
        write!(
            f,
            "\nthreads   {}, {} KiB at a time, {} under way, {} MiB for tables\nshortcuts ",
            self.threads,
            self.task_bytes >> 10,
            self.window,
            self.table_bytes >> 20
        )?;
        let words: Vec<_> = self
            .fast_paths
            .iter()
            .map(|path| match path {
                FastPath::SkipZeroes => "zeroes are skipped",
                FastPath::PassThrough if self.trust_source => "compressed units pass unchanged and unchecked",
                FastPath::PassThrough => "compressed units pass unchanged once they are checked",
                FastPath::Reflink => "blocks are shared where the file system can",
            })
            .collect();
        f.write_str(&words.join(", "))?;
        match self.verification {
            Some(Verification::Compare) => f.write_str("\nverify    read back and compared with the source"),
            Some(Verification::Digest) => f.write_str("\nverify    read back and compared by digest"),
            None => Ok(()),
        }
    }
}

/// What kind of place `output` is, and whether it may be written.
fn destination(output: &Output, force: bool) -> Result<Destination> {
    let path = match output {
        Output::Path(path) => path,
        Output::Pipe(_) => return Ok(Destination::Pipe),
        Output::Storage { .. } if force => return Ok(Destination::Storage),
        Output::Storage { name, .. } => {
            return Err(Error::new(ErrorKind::Denied, format!("{name}: is written in place"))
                .with_remedy("overwrite what is on it with --force"));
        }
    };
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let is_device = found.is_some_and(|kind| kind.is_block_device());
    if found.is_some_and(|kind| !kind.is_file() && !kind.is_block_device()) {
        return Err(crate::files::no_place_for_an_image(path));
    }
    if is_device && !force {
        return Err(Error::new(ErrorKind::Denied, format!("{}: is a block device", path.display()))
            .with_remedy("overwrite what is on it with --force"));
    }
    if !is_device && !force && fs::symlink_metadata(path).is_ok() {
        return Err(crate::files::exists(path));
    }
    if !is_device && !has_folder(path) {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{}: the folder does not exist", path.display())));
    }
    Ok(if is_device { Destination::BlockDevice } else { Destination::File })
}

fn has_folder(path: &Path) -> bool {
    path.parent().is_none_or(|folder| folder == Path::new("") || folder.is_dir())
}

/// The options of the target, and its variant where one is named.
fn target_options(settings: &Settings, to_pipe: bool) -> Result<(OptionValues, Option<&'static Variant>)> {
    let format = settings.format;
    let wants_stream = to_pipe || settings.compression.is_some();
    let has = |name: &str| format.create_options.iter().any(|spec| spec.name == name);
    let mut values = settings.options.clone();
    if wants_stream && has("subformat") && values.text("subformat").is_none() {
        let stream = format.variants.iter().find(|variant| variant.stream_write);
        if let Some(variant) = stream {
            values.set(format.create_options, "subformat", variant.name)?;
        }
    }
    let variant = values.text("subformat").and_then(|name| format.variants.iter().find(|variant| variant.name == name));
    if let Some(compression) = settings.compression {
        let kind = match compression.kind {
            Some(CompressionKind::Zstd) => Some("zstd"),
            Some(CompressionKind::Zlib) => Some("zlib"),
            None => None,
        };
        let stream_only = variant.is_some_and(|variant| variant.stream_write && !variant.write);
        match kind {
            _ if !has("compression_type") && !stream_only => return Err(cannot_compress(format, variant)),
            // Packed units are as long as they turn out to be, and tables that say where they are stand in front.
            _ if to_pipe && !stream_only => {
                let text = format!("a compressed {} cannot be written to a pipe", format.name);
                return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("write to a file, or uncompressed"));
            }
            Some(kind) if has("compression_type") => values.set(format.create_options, "compression_type", kind)?,
            Some("zstd") => {
                let text = format!("{} has no zstd compression", format.name);
                return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("compress with zlib"));
            }
            _ => {}
        }
    }
    let mode = match settings.preallocation {
        Preallocation::Off => return Ok((values, variant)),
        Preallocation::Falloc => "falloc",
        Preallocation::Full => "full",
    };
    if !has("preallocation") || wants_stream {
        let how = match (to_pipe, wants_stream) {
            (true, _) => "that is a pipe",
            (_, true) => "that is compressed",
            _ => "of this format",
        };
        let text = format!("{}: room cannot be set aside for a target {how}", format.name);
        return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("leave out --prealloc"));
    }
    values.set(format.create_options, "preallocation", mode)?;
    Ok((values, variant))
}

fn cannot_compress(format: &Format, variant: Option<&Variant>) -> Error {
    let variant = variant.map_or_else(String::new, |variant| format!(" of subformat {}", variant.name));
    let error = Error::new(ErrorKind::Unsupported, format!("{}{variant} is not compressed", format.name));
    match format.variants.iter().find(|variant| variant.stream_write && !variant.write) {
        Some(variant) => error.with_remedy(format!("choose subformat={}", variant.name)),
        None => error,
    }
}

fn shape(format: &Format, variant: Option<&Variant>, wants_stream: bool, destination: Destination) -> Result<Shape> {
    let random = format.create.is_some() && variant.is_none_or(|variant| variant.write);
    let ordered = format.sink.is_some() && variant.is_none_or(|variant| variant.stream_write);
    match (random, ordered) {
        (true, _) if !wants_stream => Ok(Shape::Random),
        (_, true) => Ok(Shape::Ordered),
        (true, false) => {
            let kind = variant.map_or_else(String::new, |variant| format!(" subformat {}", variant.name));
            let (why, instead) = match destination {
                Destination::Pipe => ("to a pipe, which is written from front to back", "write to a file"),
                _ => ("compressed", "leave out the compression"),
            };
            let other = format.variants.iter().find(|variant| variant.stream_write);
            let other = other.map_or_else(String::new, |other| format!(", or choose subformat={}", other.name));
            let text = format!("{}{kind} cannot be written {why}", format.name);
            Err(Error::new(ErrorKind::Unsupported, text).with_remedy(format!("{instead}{other}")))
        }
        (false, false) => {
            let variant = variant.map_or_else(String::new, |variant| format!(" subformat {}", variant.name));
            Err(Error::new(ErrorKind::Unsupported, format!("{}{variant} is not written", format.name)))
        }
    }
}

fn verification(settings: &Settings, streamed: bool, destination: Destination) -> Result<Option<Verification>> {
    match (settings.verify, destination) {
        (false, _) => Ok(None),
        (true, Destination::Pipe) => {
            Err(Error::new(ErrorKind::InvalidInput, "a pipe cannot be read back to verify it")
                .with_remedy("write to a file, or leave out --verify"))
        }
        (true, _) if streamed => Ok(Some(Verification::Digest)),
        (true, _) => Ok(Some(Verification::Compare)),
    }
}
