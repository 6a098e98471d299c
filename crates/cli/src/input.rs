//! Opening what a command reads: an image by its name, or standard input.

use std::env;
use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use transload::block::{BlockLimits, BlockRead, Capabilities, Error, ErrorKind, Extent, Result};
use transload::convert::{Cancel, Input, spool_to_temp};
use transload::image::{
    Access, Format, OpenSettings, Opened, OptionValues, ProbeWindow, ReferenceGate, Source, StreamRequest, detect,
    detect_window, wrapped,
};
use transload::nbd::{ConnectSettings, NbdAddress, NbdDisk};

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
    let source = file_or_export(path, access)?;
    let gate = gate(&args.references, source.path().unwrap_or(path));
    prepare_source(source, args, gate, access, spool, cancel)
}

/// The text of `path` where it is meant as the address of an NBD server's export.
pub(crate) fn nbd_address(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| NbdAddress::is_meant_by(text))
}

/// The bytes at `path`: a file, or the export of an NBD server whose address it is.
pub(crate) fn file_or_export(path: &Path, access: Access) -> Result<Source> {
    let Some(address) = nbd_address(path) else { return Source::from_path(path, access) };
    let settings = ConnectSettings { read_only: access == Access::ReadOnly, ..ConnectSettings::default() };
    let disk = Arc::new(NbdDisk::connect(&address.parse()?, &settings)?);
    let source = if access == Access::ReadOnly { Source::new(disk) } else { Source::writable(disk) };
    Ok(source.with_path(path))
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
    let detected =
        |source: &Source| detect(source.bytes())?.unambiguous().map_err(|error| error.context(source.display_name()));
    let format = args.format.map_or_else(|| detected(&source), Ok)?;
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

/// The image at `path` as the source of a conversion: what is inside a compressed file is read once, unless it is
/// unpacked into a file in `spool` first. `sized` says that the target has to know beforehand how large the disk is.
pub(crate) fn source(
    path: &Path,
    args: &ReadArgs,
    spool: Option<&Path>,
    sized: bool,
    cache_bytes: usize,
    cancel: &Cancel,
) -> Result<Input> {
    let mut prepared = prepare_beside(path, args, Access::ReadOnly, spool, cancel)?;
    let watched =
        Source::new(Arc::new(Interruptible { bytes: Arc::clone(prepared.source.bytes()), cancel: cancel.clone() }));
    let (format, options) = (prepared.format, &prepared.settings.options);
    let stream = wrapped::stream_of(&watched, format, options, sized);
    if let Some(stream) = stream.map_err(|error| error.context(path.display()))? {
        return Ok(Input::Stream { format, stream });
    }
    prepared.settings.cache_bytes = cache_bytes;
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
/// once, or stored in a file in `spool` first.
pub(crate) fn standard_input(
    args: &ReadArgs,
    spool: Option<&Path>,
    cache_bytes: usize,
    cancel: &Cancel,
) -> Result<Input> {
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
        return image(source, args, spool, cache_bytes, cancel);
    }
    let mut pipe = Pipe { descriptor: OwnedFd::from(file), cancel: cancel.clone() };
    match spool {
        Some(folder) => {
            let stored = spool_to_temp(&mut pipe, folder, cancel)?;
            image(Source::new(Arc::new(stored)).with_path(NAME), args, Some(folder), cache_bytes, cancel)
        }
        None => stream(pipe, args),
    }
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

fn image(source: Source, args: &ReadArgs, spool: Option<&Path>, cache_bytes: usize, cancel: &Cancel) -> Result<Input> {
    let gate = match args.references.allow_dir.as_slice() {
        [] => ReferenceGate::Deny,
        folders => ReferenceGate::Allow(folders.to_vec()),
    };
    let mut prepared = prepare_source(source, args, gate, Access::ReadOnly, spool, cancel)?;
    prepared.settings.cache_bytes = cache_bytes;
    Ok(Input::Image(prepared.open()?))
}

fn stream(pipe: Pipe, args: &ReadArgs) -> Result<Input> {
    let (format, input) = match args.format {
        Some(format) => (format, Box::new(pipe) as Box<dyn Read + Send>),
        None => pipe.detect()?,
    };
    let remedy = "store it in a temporary file first with --spool";
    let begin = format.stream.ok_or_else(|| {
        let text = format!("{NAME}: {} cannot be read from a pipe", format.title);
        Error::new(ErrorKind::Unsupported, text).with_remedy(remedy)
    })?;
    let options = OptionValues::parse(format.open_options, args.options.iter().map(String::as_str))?;
    let stream = begin(StreamRequest { input, options: &options }).map_err(|error| {
        let error = error.context(NAME);
        // The format can be streamed, this variant of it cannot.
        if error.kind() == ErrorKind::Unsupported { error.with_remedy(remedy) } else { error }
    })?;
    Ok(Input::Stream { format, stream })
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

    /// Reads the head that formats are told by, and says which format it is; the answer reads from the first byte on.
    pub(crate) fn detect(mut self) -> Result<(&'static Format, Box<dyn Read + Send>)> {
        let mut head = Vec::new();
        let window = ProbeWindow::HEAD as u64;
        let read = self.by_ref().take(window).read_to_end(&mut head);
        read.map_err(|error| Error::io(NAME, error))?;
        let detection = detect_window(&ProbeWindow { head: &head, tail: &[], size: None });
        let format = detection.unambiguous().map_err(|error| error.context(NAME))?;
        Ok((format, Box::new(Cursor::new(head).chain(self))))
    }
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
