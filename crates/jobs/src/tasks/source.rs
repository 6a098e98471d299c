//! What a job reads: a file under the root, an upload, or an address.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload::block::{BlockLimits, BlockRead, Capabilities, Error, ErrorKind, Extent, Result};
use transload::convert::{Cancel, Input, spool_to_temp};
use transload::image::{
    Access, Format, OpenSettings, Opened, OptionValues, ReferenceGate, Source, detect, open, wrapped,
};
use transload::import::ImportSource;
use transload::location::{self, Located, OnceSettings, require_disk};
use transload::remote::{Checksum, Checksummed, Options, RemoteStream, Stop};

use super::Context;
use crate::model::{Location, ReadOptions, References};

/// A source whose format is known, about to be opened.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) source: Source,
    pub(super) format: &'static Format,
    settings: OpenSettings,
}

impl Prepared {
    pub(super) fn gate(&self) -> &ReferenceGate {
        &self.settings.gate
    }

    pub(super) fn open(self) -> Result<Opened> {
        open(self.source, &self.settings)
    }

    /// As the source of a conversion: what is inside a compressed file is read once, or unpacked into `spool` first.
    fn into_input(self, wish: &Wish<'_>, cancel: &Cancel) -> Result<Input> {
        let Self { source, format, settings } = self;
        let bytes = Arc::new(Interruptible { bytes: Arc::clone(source.bytes()), cancel: cancel.clone() });
        let watched = Source::new(bytes);
        if let Some(folder) = wish.spool
            && let Some(mut contents) = wrapped::contents(&watched, format, &settings.options)?
        {
            let unpacked = Source::new(Arc::new(spool_to_temp(&mut contents, folder, cancel)?));
            let inner = settings.options.text("inner_format").and_then(Format::by_name);
            // What is inside a compressed file has no folder that it could name files of.
            let (gate, cache_bytes) = (ReferenceGate::Deny, settings.cache_bytes);
            let alone = OpenSettings { format: inner, gate, cache_bytes, ..OpenSettings::default() };
            return Ok(Input::Image(open(unpacked, &alone)?));
        }
        if let Some(stream) = wrapped::stream_of(&watched, format, &settings.options, wish.sized)? {
            return Ok(Input::Stream { format, stream });
        }
        Ok(Input::Image(open(source, &settings)?))
    }
}

/// What the target of a conversion needs of its source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The folder to store in first what cannot be read as it comes, if that was asked for.
    pub(super) spool: Option<&'a Path>,
    /// The folder for what a checksum makes necessary to store.
    pub(super) folder: &'a Path,
    /// Whether the target has to know beforehand how large the disk is.
    pub(super) sized: bool,
}

impl Context {
    /// The file that `location` is.
    pub(super) fn file(&self, location: &Location) -> Result<PathBuf> {
        match location {
            Location::Path(name) => self.root.resolve_existing(name),
            Location::Upload(id) => {
                let uploads = self.uploads.as_ref();
                let uploads = uploads.ok_or_else(|| Error::new(ErrorKind::Unsupported, "uploads are not kept here"))?;
                uploads.resolve_existing(id).map_err(|error| error.context("upload"))
            }
            Location::Url(_) => {
                let error = Error::new(ErrorKind::Unsupported, "source: this is not done with what is at an address");
                Err(error.with_remedy("upload it, or put it under the root folder first"))
            }
            Location::Stream(_) => Err(Error::new(ErrorKind::InvalidInput, "the request that carried it has ended")),
        }
    }

    /// How addresses are reached for this job.
    pub(super) fn network(&self) -> Options {
        let cancel = self.cancel.clone();
        let mut options = Options { stop: Stop::when(move || cancel.is_cancelled()), ..self.network.clone() };
        options.limits.cache_bytes = options.limits.cache_bytes.min(self.cache_bytes());
        options
    }

    /// What is at `location`.
    fn locate(&self, location: &Location) -> Result<Located> {
        match location {
            Location::Url(address) => {
                location::open(&location::Location::Remote(address.clone()), Access::ReadOnly, &self.network())
            }
            _ => Ok(Located::Anywhere {
                source: Source::from_path(&self.file(location)?, Access::ReadOnly)?,
                remote: None,
            }),
        }
    }

    /// What the image is at `location`: its bytes, its format and how to open it. Opens nothing that it refers to.
    pub(super) fn prepare(&self, location: &Location, read: &ReadOptions) -> Result<Prepared> {
        let source = self.locate(location)?.anywhere()?;
        if let Some(checksum) = checksum(read)? {
            location::verify(source.bytes().as_ref(), &source.display_name(), &checksum, &self.cancel)?;
        }
        self.prepare_source(source, location, read)
    }

    /// The image at `location` as the source of a conversion.
    pub(super) fn input(&self, location: &Location, read: &ReadOptions, wish: &Wish<'_>) -> Result<Input> {
        let checksum = checksum(read)?;
        let (source, remote) = match self.locate(location)? {
            Located::Once(stream) => return self.once(stream, location, read, wish),
            Located::Anywhere { source, remote } => (source, remote),
        };
        match (&checksum, remote) {
            (Some(checksum), None) => {
                location::verify(source.bytes().as_ref(), &source.display_name(), checksum, &self.cancel)?;
            }
            // What is verified has to be what is converted: a server may send other bytes the second time.
            (Some(_), Some(remote)) => {
                let direct = Wish { spool: None, ..*wish };
                return self.once(remote.stream(), location, read, &direct).or_else(|error| match error.kind() {
                    ErrorKind::Unsupported => {
                        self.once(remote.stream(), location, read, &Wish { spool: Some(wish.folder), ..*wish })
                    }
                    _ => Err(error),
                });
            }
            (None, _) => {}
        }
        self.prepare_source(source, location, read)?.into_input(wish, &self.cancel)
    }

    /// The package at `location` as the source of an import.
    pub(super) fn package(&self, location: &Location) -> Result<ImportSource> {
        if !matches!(location, Location::Url(_)) {
            return self.file(location).map(ImportSource::File);
        }
        Ok(ImportSource::Stream(match self.locate(location)? {
            Located::Once(stream) => Box::new(stream),
            Located::Anywhere { remote: Some(remote), .. } => Box::new(remote.stream()),
            Located::Anywhere { remote: None, .. } => return self.file(location).map(ImportSource::File),
        }))
    }

    /// Bytes that come once, as they come, or from a file that they are stored in first.
    fn once(&self, stream: RemoteStream, location: &Location, read: &ReadOptions, wish: &Wish<'_>) -> Result<Input> {
        let checksum = checksum(read)?;
        let (name, size) = (stream.origin().shown.clone(), stream.origin().size);
        let Some(folder) = wish.spool else {
            let options: Vec<String> = read.options.iter().map(|(key, value)| pair(key, value)).collect();
            let format = declared(read)?;
            let known = OnceSettings { format, options: &options, size, checksum: checksum.as_ref(), foreign: true };
            let (format, stream) = location::stream(Box::new(stream), &name, &known)?;
            return Ok(Input::Stream { format, stream });
        };
        self.meter.step("store");
        let stored = match &checksum {
            None => spool_to_temp(&mut Box::new(stream), folder, &self.cancel)?,
            Some(checksum) => {
                spool_to_temp(&mut Checksummed::new(Box::new(stream), &name, checksum), folder, &self.cancel)?
            }
        };
        self.meter.step("convert");
        let source = Source::new(Arc::new(stored)).with_path(name);
        self.prepare_source(source, location, read)?.into_input(wish, &self.cancel)
    }

    fn prepare_source(&self, source: Source, location: &Location, read: &ReadOptions) -> Result<Prepared> {
        let gate = match (location, read.references) {
            (Location::Path(_), References::SameDir) => ReferenceGate::SameDirectory,
            _ => ReferenceGate::Deny,
        };
        let format = match declared(read)? {
            Some(format) => format,
            None => {
                let found = detect(source.bytes())?.unambiguous().and_then(|format| {
                    // Whatever a server sends could be taken for raw.
                    if format.name == "raw" && matches!(location, Location::Url(_)) {
                        require_disk(source.bytes().as_ref(), &source.display_name())?;
                    }
                    Ok(format)
                });
                found.map_err(|error| error.with_remedy("name its format in read.format"))?
            }
        };
        let mut options = OptionValues::default();
        for (key, value) in &read.options {
            options.set(format.open_options, key, value).map_err(|error| error.context("read.options"))?;
        }
        let cache_bytes = self.cache_bytes();
        let settings = OpenSettings { format: Some(format), gate, options, cache_bytes, ..OpenSettings::default() };
        Ok(Prepared { source, format, settings })
    }
}

/// The format that the request says the source is of.
fn declared(read: &ReadOptions) -> Result<Option<&'static Format>> {
    read.format.as_deref().map(|name| known_format("read.format", name)).transpose()
}

fn checksum(read: &ReadOptions) -> Result<Option<Checksum>> {
    let parsed = read.checksum.as_deref().map(str::parse).transpose();
    parsed.map_err(|error: Error| error.context("read.checksum"))
}

/// An option as the command line has it, where a comma separates two.
fn pair(key: &str, value: &str) -> String {
    format!("{key}={}", value.replace(',', ",,"))
}

/// A format by the name that a request has for it.
pub(super) fn known_format(field: &str, name: &str) -> Result<&'static Format> {
    Format::by_name(name).ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{field}: {name:?} is no format")))
}

/// Bytes that cannot be read any more once somebody has asked to stop.
#[derive(Debug)]
struct Interruptible {
    bytes: Arc<dyn BlockRead>,
    cancel: Cancel,
}

#[deny(clippy::missing_trait_methods)]
impl BlockRead for Interruptible {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn limits(&self) -> BlockLimits {
        self.bytes.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.cancel.check()?;
        self.bytes.read_at(buf, offset)
    }

    fn block_status(&self, range: std::ops::Range<u64>) -> Result<Extent> {
        self.bytes.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
