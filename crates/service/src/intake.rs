//! A body becomes the source of a conversion.
//!
//! ```text
//!            ┌ a format that is read from front to back ──────────────► Input::Stream      one pass, nothing stored
//! BodyReader ┤
//!            └ any other, or a size that is needed and not known ─► spool ─► Input::Image
//! ```
//!
//! What was read to find that out is played back, so that no byte is asked of the client twice. A format that was declared is
//! never doubted; one that was found by the first bytes is looked at again by the last ones, as a fixed VHD is known by those alone.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, Input, spool_to_temp};
use transload::image::{
    Access, Format, OpenSettings, OptionValues, ProbeWindow, ReferenceGate, Source, StreamRequest, detect,
    detect_window, open, wrapped,
};

use crate::budget::{Reserved, SpoolRoom, Spooled};
use crate::stream::{Bounded, too_large};

/// How a body is taken in.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    /// The format that the client named.
    pub(crate) declared: Option<&'static Format>,
    /// The length of the body, where the client said it and HTTP holds it to that.
    pub(crate) length: Option<u64>,
    /// Whether the target has to know the disk's size beforehand.
    pub(crate) sized: bool,
    /// The most bytes of a disk.
    pub(crate) most: u64,
    /// The source's share of the memory.
    pub(crate) cache_bytes: usize,
    /// Where bodies are stored.
    pub(crate) folder: &'a Path,
    /// The room there.
    pub(crate) room: &'a Arc<SpoolRoom>,
    /// Who may ask to stop.
    pub(crate) cancel: &'a Cancel,
}

/// A source, and the room that it takes while it lives.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) input: Input,
    pub(crate) format: &'static Format,
    pub(crate) reserved: Reserved,
}

impl Intake<'_> {
    /// Makes the source of a conversion from `body`.
    ///
    /// # Errors
    /// `InvalidInput` when the format is not declared and the bytes are ambiguous; `NoSpace` when it has to be stored and there
    /// is no room; `TooLarge`; as its format and the body answer.
    pub(crate) fn take(&self, mut body: Box<dyn Read + Send>) -> Result<Taken> {
        let mut head = Vec::new();
        let read = body.by_ref().take(ProbeWindow::HEAD as u64).read_to_end(&mut head);
        read.map_err(in_body)?;
        if head.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the body is empty"));
        }
        let format = match self.declared {
            Some(format) => format,
            None => detect_window(&ProbeWindow { head: &head, tail: &[], size: None }).unambiguous()?,
        };
        if format.open.is_none() && format.stream.is_none() {
            return Err(Error::new(ErrorKind::Unsupported, format!("{} is recognised, but not read", format.title)));
        }
        let watched = self.declared.is_none().then(|| head.clone());
        let body = Cursor::new(head).chain(body);
        match self.streamed(format, watched, Box::new(body))? {
            Streamed::Stream(input) => Ok(Taken { input, format, reserved: self.room.reserve() }),
            Streamed::Not(body) => self.spooled(body),
        }
    }

    /// Makes the source of a conversion from bytes that can be read at any place.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) fn take_disk(&self, source: Source) -> Result<Taken> {
        self.stored(source, self.declared, self.room.reserve())
    }

    /// Begins to read from front to back, or gives the body back whole.
    fn streamed(
        &self,
        format: &'static Format,
        watched: Option<Vec<u8>>,
        body: Box<dyn Read + Send>,
    ) -> Result<Streamed> {
        let Some(begin) = format.stream else { return Ok(Streamed::Not(body)) };
        // What is inside a compressed file does not say how large it is.
        let declared_size = self.length.filter(|_| format.name == "raw");
        let is_packed = wrapped_formats().any(|packed| packed == format);
        if self.sized && (is_packed || (format.name == "raw" && declared_size.is_none())) {
            return Ok(Streamed::Not(body));
        }
        let (recorder, recorded) = Recorded::new(body);
        let input: Box<dyn Read + Send> = match watched {
            Some(head) => Box::new(Watched { input: recorder, format, head, tail: Vec::new(), size: 0 }),
            None => Box::new(recorder),
        };
        match begin(StreamRequest { input, options: &OptionValues::default() }) {
            Ok(stream) if self.sized && stream.size().or(declared_size).is_none() => {
                drop(stream);
                Ok(Streamed::Not(recorded.take_back()?))
            }
            Ok(stream) => {
                recorded.stop();
                let stream = Box::new(Bounded::new(stream, declared_size, self.most)?);
                Ok(Streamed::Stream(Input::Stream { format, stream }))
            }
            // The format can be read from front to back, this variant of it cannot.
            Err(error) if error.kind() == ErrorKind::Unsupported && format.open.is_some() => {
                recorded.take_back().map(Streamed::Not)
            }
            Err(error) => Err(error.context("the body")),
        }
    }

    /// Stores the body in a file without a name and opens that.
    fn spooled(&self, body: Box<dyn Read + Send>) -> Result<Taken> {
        let mut reserved = self.room.reserve();
        let stored = spool_to_temp(&mut Spooled { input: body, room: &mut reserved }, self.folder, self.cancel)
            .map_err(named)?;
        self.stored(Source::new(Arc::new(stored)).with_path("the body"), self.declared, reserved)
    }

    /// Opens what was stored. What is inside a compressed file is stored in its turn, where it cannot be read in order.
    fn stored(&self, source: Source, declared: Option<&'static Format>, mut reserved: Reserved) -> Result<Taken> {
        let format = declared.map_or_else(|| detect(source.bytes())?.unambiguous(), Ok)?;
        let options = OptionValues::default();
        match wrapped::stream_of(&source, format, &options, self.sized) {
            Ok(Some(stream)) => {
                let stream = Box::new(Bounded::new(stream, None, self.most)?);
                return Ok(Taken { input: Input::Stream { format, stream }, format, reserved });
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let Some(contents) = wrapped::contents(&source, format, &options)? else { return Err(error) };
                let mut contents = Spooled { input: contents, room: &mut reserved };
                let unpacked = spool_to_temp(&mut contents, self.folder, self.cancel).map_err(named)?;
                drop(source);
                let inner = Source::new(Arc::new(unpacked)).with_path("the body");
                let inside = detect(inner.bytes())?.unambiguous()?;
                return self.opened(inner, inside, format, reserved);
            }
            Err(error) => return Err(error),
        }
        self.opened(source, format, format, reserved)
    }

    /// Opens an image that can be read at any place. `format` is its own, `outer` what the client sent.
    fn opened(
        &self,
        source: Source,
        format: &'static Format,
        outer: &'static Format,
        reserved: Reserved,
    ) -> Result<Taken> {
        let settings = OpenSettings {
            format: Some(format),
            // A body is in no folder: nothing that it names could be meant.
            gate: ReferenceGate::Deny,
            access: Access::ReadOnly,
            cache_bytes: self.cache_bytes,
            ..OpenSettings::default()
        };
        let opened = open(source, &settings)?;
        if opened.device.size() > self.most {
            return Err(too_large(opened.device.size(), self.most));
        }
        Ok(Taken { input: Input::Image(opened), format: outer, reserved })
    }
}

/// The formats that wrap another one.
fn wrapped_formats() -> impl Iterator<Item = &'static Format> {
    [&wrapped::GZIP, &wrapped::BZIP2, &wrapped::XZ, &wrapped::ZSTD]
        .into_iter()
        .filter_map(|known| Format::by_name(known.name))
}

enum Streamed {
    Stream(Input),
    Not(Box<dyn Read + Send>),
}

fn in_body(error: io::Error) -> Error {
    Error::io("the body", error)
}

fn named(error: Error) -> Error {
    error.context("storing the body")
}

/// What was read of a body until somebody decided whether it can be read that way.
#[derive(Debug)]
struct Recorded(Arc<Shared>);

struct Shared {
    state: Mutex<Recording>,
    changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

struct Recording {
    /// `None` when nothing is recorded any more.
    read: Option<Vec<u8>>,
    /// Where the recorder puts the body when it is dropped.
    body: Option<Box<dyn Read + Send>>,
}

/// Reads a body and records what it read.
struct Recorder {
    body: Option<Box<dyn Read + Send>>,
    shared: Arc<Shared>,
    recording: bool,
}

impl Recorded {
    /// The most that is recorded: more than any format reads to say what it is, and unpacks ahead.
    const MOST: usize = 8 << 20;

    fn new(body: Box<dyn Read + Send>) -> (Recorder, Self) {
        let state = Mutex::new(Recording { read: Some(Vec::new()), body: None });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        (Recorder { body: Some(body), shared: Arc::clone(&shared), recording: true }, Self(shared))
    }

    /// The way that was tried is taken.
    fn stop(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).read = None;
    }

    /// The body from its first byte, once whoever read it has let go.
    fn take_back(&self) -> Result<Box<dyn Read + Send>> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(body) = state.body.take() {
                let too_much = || {
                    let text = "what is inside cannot be read from front to back, which was found too late to store it";
                    Error::new(ErrorKind::Unsupported, text).with_remedy("decompress it before it is sent")
                };
                let read = state.read.take().ok_or_else(too_much)?;
                return Ok(Box::new(Cursor::new(read).chain(body)));
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for Recorder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(body) = &mut self.body else { return Ok(0) };
        let count = body.read(buf)?;
        if self.recording {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut state.read {
                Some(read) if read.len() + count <= Recorded::MOST => read.extend_from_slice(&buf[..count]),
                read => {
                    *read = None;
                    self.recording = false;
                }
            }
        }
        Ok(count)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.body = self.body.take();
        self.shared.changed.notify_all();
    }
}

/// Looks at the end of what was taken for one format by its beginning.
struct Watched<R> {
    input: R,
    format: &'static Format,
    head: Vec<u8>,
    tail: Vec<u8>,
    size: u64,
}

impl<R> Watched<R> {
    fn judge(&self) -> io::Result<()> {
        let window = ProbeWindow { head: &self.head, tail: &self.tail, size: Some(self.size) };
        let candidates = detect_window(&window).candidates;
        if candidates.as_slice() == [self.format] {
            return Ok(());
        }
        let names: Vec<_> = candidates.iter().map(|format| format.name).collect();
        let text = format!("by its end, the body is {}, and {} by its beginning", names.join(" or "), self.format.name);
        Err(io::Error::other(
            Error::new(ErrorKind::InvalidInput, text).with_remedy("name the format with the parameter src"),
        ))
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buf)?;
        if count == 0 && !buf.is_empty() {
            self.judge()?;
        }
        self.size += count as u64;
        let kept = count.min(ProbeWindow::TAIL);
        let room = ProbeWindow::TAIL - kept;
        self.tail.drain(..self.tail.len().saturating_sub(room));
        self.tail.extend_from_slice(&buf[count - kept..count]);
        Ok(count)
    }
}
