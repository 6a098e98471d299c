//! Opening what a command reads: an image by its name or address, or standard input. Every command opens through here, and
//! [`transload::location`] tells files from addresses.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use transload::block::{BlockLimits, BlockRead, Capabilities, Error, ErrorKind, Extent, Result};
use transload::convert::{Cancel, Input, spool_to_temp};
use transload::image::{Access, Format, OpenSettings, Opened, OptionValues, ReferenceGate, Source, detect, wrapped};
use transload::location::{self, Located, Location, OnceSettings, require_disk};
use transload::nbd::NbdAddress;
use transload::remote::{Checksum, Checksummed, Options, RemoteStream, Stop};

use crate::args::{ReadArgs, ReferenceArgs, References};

/// Whether `path` stands for standard input or output.
pub(crate) fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The gate that `references` ask for, for the image at `path`.
pub(crate) fn gate(references: &ReferenceArgs, path: &Path) -> ReferenceGate {
    match (references.references, references.allow_dir.as_slice()) {
        (References::Deny, []) => ReferenceGate::Deny,
        (References::SameDir, []) => ReferenceGate::SameDirectory,
        (References::Deny, folders) => ReferenceGate::Allow(folders.to_vec()),
        (References::SameDir, folders) => {
            let own = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            ReferenceGate::Allow([&[own.to_path_buf()], folders].concat())
        }
    }
}

/// An image that is about to be opened: its bytes, its format and how to open it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) source: Source,
    pub(crate) format: &'static Format,
    pub(crate) settings: OpenSettings,
}

impl Prepared {
    /// Opens it.
    pub(crate) fn open(self) -> Result<Opened> {
        transload::image::open(self.source, &self.settings)
    }
}

/// Finds out what the image at `path` is and how the arguments want it opened. Opens no file but that one. What is inside a
/// compressed image is unpacked first if the arguments say so.
pub(crate) fn prepare(path: &Path, args: &ReadArgs, access: Access) -> Result<Prepared> {
    let folder = args.spool.spool.then(env::temp_dir);
    prepare_beside(path, args, access, folder.as_deref(), &Cancel::default())
}

/// As [`prepare`]; `spool` is the folder to unpack into, and `cancel` stops that.
pub(crate) fn prepare_beside(
    path: &Path,
    args: &ReadArgs,
    access: Access,
    spool: Option<&Path>,
    cancel: &Cancel,
) -> Result<Prepared> {
    let location = Location::of(path);
    let source = match location::open(&location, access, &network(cancel))? {
        Located::Anywhere { source, .. } => source,
        Located::Once(mut stream) => {
            let folder = spool.ok_or_else(|| location::only_once(stream.origin()))?;
            let name = stream.origin().shown.clone();
            Source::new(Arc::new(spool_to_temp(&mut stream, folder, cancel)?)).with_path(name)
        }
    };
    let gate = gate_of(&args.references, &location, &source);
    prepare_source(source, args, gate, access, spool, cancel)
}

/// The gate for what is at `location`. An address has no folder that an image there could mean: what it may name are files in the
/// folders that were allowed.
fn gate_of(references: &ReferenceArgs, location: &Location, source: &Source) -> ReferenceGate {
    match (location, references.allow_dir.as_slice()) {
        (Location::File(path), _) => gate(references, source.path().unwrap_or(path)),
        (_, []) => ReferenceGate::Deny,
        (_, folders) => ReferenceGate::Allow(folders.to_vec()),
    }
}

/// How addresses are reached: as the person at the machine asks for.
pub(crate) fn network(cancel: &Cancel) -> Options {
    let cancel = cancel.clone();
    Options { stop: Stop::when(move || cancel.is_cancelled()), ..Options::default() }
}

/// The text of `path` where it is meant as the address of an NBD server's export.
pub(crate) fn nbd_address(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| NbdAddress::is_meant_by(text))
}

/// The bytes at `path`, whatever kind of place that is.
pub(crate) fn bytes(path: &Path, access: Access) -> Result<Source> {
    location::open(&Location::of(path), access, &Options::default())?.anywhere()
}

/// As [`prepare_beside`], for bytes that are already open.
fn prepare_source(
    source: Source,
    args: &ReadArgs,
    gate: ReferenceGate,
    access: Access,
    spool: Option<&Path>,
    cancel: &Cancel,
) -> Result<Prepared> {
    let detected = |source: &Source| {
        let format = detect(source.bytes())?.unambiguous().map_err(|error| error.context(source.display_name()))?;
        // Whatever a server sends could be taken for raw.
        if format.name == "raw" && source.path().is_some_and(|path| matches!(Location::of(path), Location::Remote(_))) {
            require_disk(source.bytes().as_ref(), &source.display_name())?;
        }
        Ok(format)
    };
    let format = args.format.map_or_else(|| detected(&source), Ok::<_, Error>)?;
    if let Some(folder) = spool.filter(|_| access == Access::ReadOnly)
        && let Some(mut contents) = wrapped::contents(&source, format, &outer_options(format, args))?
    {
        let stored =
            spool_to_temp(&mut contents, folder, cancel).map_err(|error| error.context(source.display_name()))?;
        let unpacked = Source::new(Arc::new(stored));
        let unpacked = source.path().into_iter().fold(unpacked, Source::with_path);
        let outer = outer_options(format, args);
        let declared = outer.text("inner_format").and_then(Format::by_name);
        let options = if outer.is_empty() { args.options.clone() } else { Vec::new() };
        let inner = ReadArgs { format: declared, options, ..args.clone() };
        return prepare_source(unpacked, &inner, gate, access, None, cancel);
    }
    let options = OptionValues::parse(format.open_options, args.options.iter().map(String::as_str))?;
    let settings = OpenSettings { format: Some(format), gate, options, access, ..OpenSettings::default() };
    Ok(Prepared { source, format, settings })
}

/// What of the options is for the compressed file around an image. What it does not know is for the image.
fn outer_options(format: &Format, args: &ReadArgs) -> OptionValues {
    OptionValues::parse(format.open_options, args.options.iter().map(String::as_str)).unwrap_or_default()
}

/// How the source of a conversion is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceSettings<'a> {
    /// The folder that the caller asked to store in first what cannot be read as it comes.
    pub(crate) spool: Option<&'a Path>,
    /// The folder for what a checksum makes necessary to store.
    pub(crate) folder: &'a Path,
    /// Whether the target has to know beforehand how large the disk is.
    pub(crate) sized: bool,
    /// Bytes for the source's tables.
    pub(crate) cache_bytes: usize,
    /// What the digest of the source's bytes must be.
    pub(crate) checksum: Option<&'a Checksum>,
}

/// The image at `path` as the source of a conversion: what is inside a compressed file, and what a server sends that knows no
/// ranges, is read once, unless it is stored in a file first.
pub(crate) fn source(path: &Path, args: &ReadArgs, settings: &SourceSettings<'_>, cancel: &Cancel) -> Result<Input> {
    let location = Location::of(path);
    let (source, remote) = match location::open(&location, Access::ReadOnly, &network(cancel))? {
        Located::Once(stream) => return once(stream, args, settings, cancel),
        Located::Anywhere { source, remote } => (source, remote),
    };
    if let Some(checksum) = settings.checksum {
        let Some(remote) = remote else {
            location::verify(source.bytes().as_ref(), &source.display_name(), checksum, cancel)?;
            return from_source(source, &location, args, settings, cancel);
        };
        // What is verified has to be what is converted: a server may send other bytes the second time.
        return once(remote.stream(), args, &SourceSettings { spool: None, ..*settings }, cancel).or_else(|error| {
            if error.kind() != ErrorKind::Unsupported {
                return Err(error);
            }
            let stored = store(remote.stream(), settings.folder, settings.checksum, cancel)?;
            from_source(stored, &location, args, settings, cancel)
        });
    }
    from_source(source, &location, args, settings, cancel)
}

/// Bytes that come once, as they come, or from a file that they are stored in first.
fn once(stream: RemoteStream, args: &ReadArgs, settings: &SourceSettings<'_>, cancel: &Cancel) -> Result<Input> {
    if let Some(folder) = settings.spool {
        let location = Location::Remote(stream.origin().shown.clone());
        let stored = store(stream, folder, settings.checksum, cancel)?;
        return from_source(stored, &location, args, settings, cancel);
    }
    let (name, size) = (stream.origin().shown.clone(), stream.origin().size);
    let (format, checksum) = (args.format, settings.checksum);
    let known = OnceSettings { format, options: &args.options, size, checksum, foreign: true };
    let (format, stream) = location::stream(Box::new(stream), &name, &known)?;
    Ok(Input::Stream { format, stream })
}

/// Stores what comes from the network in a file without a name in `folder`.
fn store(stream: RemoteStream, folder: &Path, checksum: Option<&Checksum>, cancel: &Cancel) -> Result<Source> {
    let name = stream.origin().shown.clone();
    let stored = match checksum {
        None => spool_to_temp(&mut Box::new(stream), folder, cancel),
        Some(checksum) => spool_to_temp(&mut Checksummed::new(Box::new(stream), &name, checksum), folder, cancel),
    };
    Ok(Source::new(Arc::new(stored?)).with_path(name))
}

fn from_source(
    source: Source,
    location: &Location,
    args: &ReadArgs,
    settings: &SourceSettings<'_>,
    cancel: &Cancel,
) -> Result<Input> {
    let gate = gate_of(&args.references, location, &source);
    let name = source.display_name();
    let mut prepared = prepare_source(source, args, gate, Access::ReadOnly, settings.spool, cancel)?;
    let watched =
        Source::new(Arc::new(Interruptible { bytes: Arc::clone(prepared.source.bytes()), cancel: cancel.clone() }));
    let (format, options) = (prepared.format, &prepared.settings.options);
    let stream = wrapped::stream_of(&watched, format, options, settings.sized);
    if let Some(stream) = stream.map_err(|error| error.context(name))? {
        return Ok(Input::Stream { format, stream });
    }
    prepared.settings.cache_bytes = settings.cache_bytes;
    Ok(Input::Image(prepared.open()?))
}

/// Bytes that cannot be read any more once somebody has asked to stop.
#[derive(Debug)]
struct Interruptible {
    bytes: Arc<dyn BlockRead>,
    cancel: Cancel,
}

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

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.bytes.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

/// Opens the image at `path` for reading, with everything it hangs from.
pub(crate) fn open(path: &Path, args: &ReadArgs) -> Result<Opened> {
    prepare(path, args, Access::ReadOnly)?.open()
}

/// Standard input as the source of a conversion: a file that was redirected here is read at any place, a pipe is read
/// once, or stored in a file first.
pub(crate) fn standard_input(args: &ReadArgs, settings: &SourceSettings<'_>, cancel: &Cancel) -> Result<Input> {
    let in_stdin = |error| Error::io(NAME, error);
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Error::new(ErrorKind::InvalidInput, "standard input is a terminal")
            .with_remedy("redirect an image to it, or name one"));
    }
    let descriptor = stdin.as_fd().try_clone_to_owned().map_err(in_stdin)?;
    let mut file = File::from(descriptor);
    let kind = file.metadata().map_err(in_stdin)?.file_type();
    // Only from its first byte on is a file that was redirected here the same as the file opened by name.
    if (kind.is_file() || kind.is_block_device()) && file.stream_position().map_err(in_stdin)? == 0 {
        let source = Source::from_file(file, NAME, Access::ReadOnly)?;
        if let Some(checksum) = settings.checksum {
            location::verify(source.bytes().as_ref(), NAME, checksum, cancel)?;
        }
        return image(source, args, settings, cancel);
    }
    let mut pipe = Pipe { descriptor: OwnedFd::from(file), cancel: cancel.clone() };
    let Some(folder) = settings.spool else {
        let known = OnceSettings {
            format: args.format,
            options: &args.options,
            checksum: settings.checksum,
            ..OnceSettings::default()
        };
        let (format, stream) = location::stream(Box::new(pipe), NAME, &known)?;
        return Ok(Input::Stream { format, stream });
    };
    let stored = match settings.checksum {
        None => spool_to_temp(&mut pipe, folder, cancel)?,
        Some(checksum) => spool_to_temp(&mut Checksummed::new(Box::new(pipe), NAME, checksum), folder, cancel)?,
    };
    image(Source::new(Arc::new(stored)).with_path(NAME), args, settings, cancel)
}

/// Standard input as bytes that come once, with an eye on an interrupt.
pub(crate) fn standard_bytes(cancel: &Cancel) -> Result<Box<dyn Read + Send>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Error::new(ErrorKind::InvalidInput, "standard input is a terminal")
            .with_remedy("redirect a file to it, or name one"));
    }
    let descriptor = stdin.as_fd().try_clone_to_owned().map_err(|error| Error::io(NAME, error))?;
    Ok(Box::new(Pipe { descriptor, cancel: cancel.clone() }))
}

/// What messages call standard input. It has no folder: an image in it may name no file.
const NAME: &str = "standard input";

fn image(source: Source, args: &ReadArgs, settings: &SourceSettings<'_>, cancel: &Cancel) -> Result<Input> {
    let gate = match args.references.allow_dir.as_slice() {
        [] => ReferenceGate::Deny,
        folders => ReferenceGate::Allow(folders.to_vec()),
    };
    let mut prepared = prepare_source(source, args, gate, Access::ReadOnly, settings.spool, cancel)?;
    prepared.settings.cache_bytes = settings.cache_bytes;
    Ok(Input::Image(prepared.open()?))
}

/// The reading end of a pipe that notices an interrupt while nothing arrives.
#[derive(Debug)]
pub(crate) struct Pipe {
    descriptor: OwnedFd,
    cancel: Cancel,
}

impl Pipe {
    /// How long an interrupt may go unnoticed when the signal reaches another thread.
    const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Err(error) = self.cancel.check() {
                return Err(io::Error::other(error));
            }
            let mut ready = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match poll(&mut ready, Some(&Self::PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(&self.descriptor, &mut *buf)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
