//! What a job reads: a file under the root, an upload, or an address.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload::block::{BlockLimits, BlockRead, Capabilities, Error, ErrorKind, Extent, Result};
use transload::convert::{Cancel, Input, spool_to_temp};
use transload::image::{
    Access, Format, OpenSettings, Opened, OptionValues, ReferenceGate, Source, detect, open, wrapped,
};

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

    /// As the source of a conversion: what is inside a compressed file is read once, or unpacked into `spool` first. `sized`
    /// says that the target has to know beforehand how large the disk is.
    pub(super) fn into_input(self, spool: Option<&Path>, sized: bool, cancel: &Cancel) -> Result<Input> {
        let Self { source, format, settings } = self;
        let watched = Source::new(Arc::new(Interruptible { bytes: Arc::clone(source.bytes()), cancel: cancel.clone() }));
        if let Some(folder) = spool
            && let Some(mut contents) = wrapped::contents(&watched, format, &settings.options)?
        {
            let unpacked = Source::new(Arc::new(spool_to_temp(&mut contents, folder, cancel)?));
            let inner = settings.options.text("inner_format").and_then(Format::by_name);
            // What is inside a compressed file has no folder that it could name files of.
            let alone = OpenSettings { format: inner, gate: ReferenceGate::Deny, cache_bytes: settings.cache_bytes, ..OpenSettings::default() };
            return Ok(Input::Image(open(unpacked, &alone)?));
        }
        if let Some(stream) = wrapped::stream_of(&watched, format, &settings.options, sized)? {
            return Ok(Input::Stream { format, stream });
        }
        Ok(Input::Image(open(source, &settings)?))
    }
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
            Location::Url(_) => Err(Error::new(ErrorKind::Unsupported, "an address; this has to be a file under the root")),
            Location::Stream(_) => Err(Error::new(ErrorKind::InvalidInput, "the request that carried it has ended")),
        }
    }

    /// What the image is at `location`: its bytes, its format and how to open it. Opens nothing that it refers to.
    pub(super) fn prepare(&self, location: &Location, read: &ReadOptions) -> Result<Prepared> {
        let declared = read.format.as_deref().map(|name| known_format("read.format", name)).transpose()?;
        let source = Source::from_path(&self.file(location)?, Access::ReadOnly)?;
        let gate = match (location, read.references) {
            (Location::Path(_), References::SameDir) => ReferenceGate::SameDirectory,
            _ => ReferenceGate::Deny,
        };
        let found = |source: &Source| detect(source.bytes())?.unambiguous();
        let format = declared.map_or_else(|| found(&source), Ok).map_err(|error| {
            error.context(location.as_str()).with_remedy("name its format in read.format")
        })?;
        let mut options = OptionValues::default();
        for (key, value) in &read.options {
            options.set(format.open_options, key, value).map_err(|error| error.context("read.options"))?;
        }
        let cache_bytes = self.cache_bytes();
        let settings = OpenSettings { format: Some(format), gate, options, cache_bytes, ..OpenSettings::default() };
        Ok(Prepared { source, format, settings })
    }
}

/// A format by the name that a request has for it.
pub(super) fn known_format(field: &str, name: &str) -> Result<&'static Format> {
    Format::by_name(name)
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{field}: {name:?} is no format")))
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
