//! The table of formats: one row each, from which probing, `--help`, the support matrix and the tests all come.

use std::fmt::{self, Debug};
use std::io::{Read, Write};
use std::sync::Arc;

use transload_block::{BlockSink, BlockStream, Extent, Result};

use crate::codec::Level;
use crate::known;
use crate::{
    Access, CheckReport, IdSource, ImageInfo, ImageWrite, Layer, Match, OptionSpec, OptionValues, ProbeWindow,
    ReferenceGate, Source, TargetFiles,
};

/// Every format that is known by name, in the order in which they are probed; raw comes last, being what is left.
pub static FORMATS: &[&Format] = &[
    &crate::qcow2::FORMAT,
    &crate::vmdk::FORMAT,
    &crate::vhd::FORMAT,
    &crate::vhdx::FORMAT,
    &crate::vdi::FORMAT,
    &crate::qcow1::FORMAT,
    &crate::qed::FORMAT,
    &crate::parallels::FORMAT,
    &crate::dmg::FORMAT,
    &known::dmg::SPARSE,
    &crate::bochs::FORMAT,
    &crate::cloop::FORMAT,
    &known::iso::FORMAT,
    &known::ova::FORMAT,
    &known::luks::FORMAT,
    &crate::ewf::FORMAT,
    &known::compressed::GZIP,
    &known::compressed::BZIP2,
    &known::compressed::XZ,
    &known::compressed::ZSTD,
    #[cfg(test)]
    &crate::open::LAYER_FORMAT,
    &crate::raw::FORMAT,
];

/// Opens one layer.
pub type OpenFn = fn(OpenRequest<'_>) -> Result<Layer>;
/// Begins to read from front to back.
pub type StreamFn = fn(StreamRequest<'_>) -> Result<Box<dyn BlockStream>>;
/// Makes a new image for random writing.
pub type CreateFn = fn(CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>>;
/// Begins a new image that is written from front to back.
pub type SinkFn = fn(SinkRequest<'_>) -> Result<Box<dyn BlockSink>>;

/// One row of [`FORMATS`]: what a format is called, how it is recognised, and what can be done with it. An ability that
/// is `None` is one the format does not have here.
#[derive(Debug)]
pub struct Format {
    /// The name on the command line and in machine output.
    pub name: &'static str,
    /// Other spellings that are understood.
    pub aliases: &'static [&'static str],
    /// The name for people.
    pub title: &'static str,
    /// Usual file name endings, without the dot. Used to guess a target's format, never a source's.
    pub extensions: &'static [&'static str],
    /// The kinds of this format, by the names that `-o subformat=` takes.
    pub variants: &'static [Variant],
    /// What `-o` understands when reading.
    pub open_options: &'static [OptionSpec],
    /// What `-o` understands when writing.
    pub create_options: &'static [OptionSpec],
    /// Recognises the format in the first and last bytes of a file.
    pub probe: fn(&ProbeWindow<'_>) -> Match,
    /// Says what an image says of itself without opening anything that it names: what `info` shows.
    pub describe: Option<DescribeFn>,
    /// Opens one layer, for reading or for writing.
    pub open: Option<OpenFn>,
    /// Reads from front to back.
    pub stream: Option<StreamFn>,
    /// Makes a new image for random writing.
    pub create: Option<CreateFn>,
    /// Makes a new image from front to back.
    pub sink: Option<SinkFn>,
    /// Says how many bytes a new image needs.
    pub measure: Option<fn(MeasureRequest<'_>) -> Result<Measure>>,
    /// Checks the metadata, and repairs it if asked.
    pub check: Option<fn(CheckRequest<'_>) -> Result<CheckReport>>,
    /// Changes the virtual size.
    pub resize: Option<fn(ResizeRequest<'_>) -> Result<()>>,
}

/// Describes an image from its own bytes alone, for `info`: references are listed and not opened.
pub type DescribeFn = fn(&Source) -> Result<ImageInfo>;

impl Format {
    /// The row whose name or alias is `name`, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FORMATS.iter().copied().find(|format| {
            std::iter::once(&format.name).chain(format.aliases).any(|known| known.eq_ignore_ascii_case(name))
        })
    }

    /// The row that a file called `name` would usually have, by its ending. For targets only: a source is probed.
    #[must_use]
    pub fn by_extension(name: &str) -> Option<&'static Self> {
        let (_, ending) = name.rsplit_once('.')?;
        FORMATS.iter().copied().find(|format| format.extensions.iter().any(|known| known.eq_ignore_ascii_case(ending)))
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A kind of a format, and what can be done with it.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The name that `-o subformat=` takes and `info` prints.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Opened for reading.
    pub read: bool,
    /// Created and written at random places.
    pub write: bool,
    /// Read from a source that cannot seek.
    pub stream_read: bool,
    /// Written to an output that cannot seek.
    pub stream_write: bool,
}

/// What a driver gets to open one layer.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    /// The bytes, and their name.
    pub source: Source,
    /// Opens extents and external data files. Parents are not the driver's business.
    pub gate: &'a ReferenceGate,
    /// Values for the format's `open_options`.
    pub options: &'a OptionValues,
    /// For reading or also for writing.
    pub access: Access,
    /// Bytes of memory the driver may keep tables in.
    pub cache_bytes: usize,
}

/// What a driver gets to read from front to back.
pub struct StreamRequest<'a> {
    /// The bytes, in order.
    pub input: Box<dyn Read + Send>,
    /// Values for the format's `open_options`.
    pub options: &'a OptionValues,
}

impl Debug for StreamRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRequest").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What a driver gets to make a new image for random writing.
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    /// Makes the files.
    pub files: &'a dyn TargetFiles,
    /// Virtual size in bytes.
    pub size: u64,
    /// Values for the format's `create_options`.
    pub options: &'a OptionValues,
    /// Where identifiers come from.
    pub ids: &'a IdSource,
    /// The image that the option `backing_file` names, opened by the caller: a format that records by what a parent is
    /// known takes it from here. `None` when there is no backing file.
    pub backing: Option<&'a Layer>,
    /// Bytes of memory the driver may keep tables in.
    pub cache_bytes: usize,
}

/// Where a [`BlockSink`] writes.
pub enum SinkOutput<'a> {
    /// Files that can be written at any place.
    Files(&'a dyn TargetFiles),
    /// A pipe.
    Pipe(Box<dyn Write + Send>),
}

impl Debug for SinkOutput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => f.debug_tuple("Files").field(files).finish(),
            Self::Pipe(_) => f.debug_tuple("Pipe").finish_non_exhaustive(),
        }
    }
}

/// What a driver gets to make a new image from front to back.
#[derive(Debug)]
pub struct SinkRequest<'a> {
    /// Where it goes.
    pub output: SinkOutput<'a>,
    /// The name that the image knows itself by, for descriptors that carry one.
    pub name: &'a str,
    /// Virtual size in bytes.
    pub size: u64,
    /// Values for the format's `create_options`.
    pub options: &'a OptionValues,
    /// How hard to compress; `None` where nothing is to be compressed: a plain image to a pipe.
    pub level: Option<Level>,
    /// Where identifiers come from.
    pub ids: &'a IdSource,
    /// What the source holds, ascending and complete, where that is known beforehand: a format whose tables stand in
    /// front of the data needs it to write to a pipe. Only what is `Data` here may be appended.
    pub extents: Option<&'a [Extent]>,
}

/// What a driver gets to say how large an image would be.
#[derive(Clone, Copy, Debug)]
pub struct MeasureRequest<'a> {
    /// Virtual size in bytes.
    pub size: u64,
    /// Values for the format's `create_options`.
    pub options: &'a OptionValues,
    /// What the source holds, ascending and complete.
    pub extents: &'a [Extent],
}

/// How many bytes a new image needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// For the data at hand, uncompressed.
    pub required: u64,
    /// When every byte of the disk is written.
    pub fully_allocated: u64,
}

/// What a driver gets to check an image.
#[derive(Debug)]
pub struct CheckRequest<'a> {
    /// The bytes; writable when `repair` is set.
    pub source: Source,
    /// Opens extents and external data files.
    pub gate: &'a ReferenceGate,
    /// Whether to mend what can be mended without touching guest data.
    pub repair: bool,
}

/// What a driver gets to change the virtual size.
#[derive(Debug)]
pub struct ResizeRequest<'a> {
    /// The bytes, writable.
    pub source: Source,
    /// Opens extents and external data files.
    pub gate: &'a ReferenceGate,
    /// The new virtual size in bytes.
    pub size: u64,
    /// Whether bytes behind the new size may be lost.
    pub shrink: bool,
}
