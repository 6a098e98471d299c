//! The disk inside a compressed file, read once: from a pipe, or from a file in one pass.

use std::io::{self, Cursor, Read};

use transload_block::{BlockStream, Error, ErrorKind, Result, StreamUnit};

use super::inner::Inside;
use super::limits::Limits;
use super::survey::read_full;
use super::{Kind, ahead};
use crate::{Format, OptionValues, ProbeWindow, StreamRequest, detect_window};

/// Begins to read the disk inside.
pub(super) fn begin(kind: Kind, request: StreamRequest<'_>) -> Result<Box<dyn BlockStream>> {
    let input = ahead::unpack(kind, request.input, &Limits::of(request.options))?;
    of_inside(kind, input, Inside::declared(request.options)?)
}

/// Begins to read the disk that `input` is, in the format that is declared, or else in what it begins with.
pub(super) fn of_inside(
    kind: Kind,
    mut input: Box<dyn Read + Send>,
    declared: Option<&'static Format>,
) -> Result<Box<dyn BlockStream>> {
    let mut head = vec![0; ProbeWindow::HEAD];
    let count = read_full(&mut input, &mut head).map_err(|error| Error::io("unpacking", error))?;
    head.truncate(count);
    let found = Inside::of_window(&ProbeWindow { head: &head, tail: &[], size: None }, declared)?;
    let begin = found.format.stream.ok_or_else(|| found.needs_a_file(kind))?;
    let watched = declared.is_none().then(|| head.clone());
    let input = Cursor::new(head).chain(input);
    let input: Box<dyn Read + Send> = match watched {
        Some(head) => Box::new(Watched { input, found: found.format, head, tail: Vec::new(), size: 0 }),
        None => Box::new(input),
    };
    begin(StreamRequest { input, options: &OptionValues::default() }).map_err(|error| match error.kind() {
        // The format can be read from front to back, this variant of it cannot.
        ErrorKind::Unsupported => error.with_remedy("unpack it into a temporary file first with --spool"),
        _ => error,
    })
}

/// Looks at the end of what was taken for one format by its beginning: a fixed VHD is known by its end alone, and would
/// otherwise be a raw disk with a footer.
struct Watched<R> {
    input: R,
    found: &'static Format,
    head: Vec<u8>,
    tail: Vec<u8>,
    size: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buf)?;
        if count == 0 && !buf.is_empty() {
            let tail = &self.tail[self.tail.len().saturating_sub(ProbeWindow::TAIL)..];
            let window = ProbeWindow { head: &self.head, tail, size: Some(self.size) };
            let candidates = detect_window(&window).candidates;
            if candidates.len() != 1 || candidates[0] != self.found {
                let names: Vec<_> = candidates.iter().map(|format| format.name).collect();
                let what = format!("by its end, what is inside the compressed file is {}", names.join(" or "));
                let error = Error::new(ErrorKind::InvalidInput, what);
                return Err(io::Error::other(error.with_remedy("unpack it into a temporary file first with --spool")));
            }
        }
        self.size += count as u64;
        let keep = self.tail.len().min(ProbeWindow::TAIL.saturating_sub(count));
        self.tail.drain(..self.tail.len() - keep);
        self.tail.extend_from_slice(&buf[count - count.min(ProbeWindow::TAIL)..count]);
        Ok(count)
    }
}

/// A stream whose size was learned before.
#[derive(Debug)]
pub(super) struct Sized {
    stream: Box<dyn BlockStream>,
    size: u64,
    /// The byte behind the last unit.
    end: u64,
}

impl Sized {
    pub(super) fn new(stream: Box<dyn BlockStream>, size: u64) -> Self {
        Self { stream, size, end: 0 }
    }
}

impl BlockStream for Sized {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn unit_size(&self) -> u64 {
        self.stream.unit_size()
    }

    fn next_unit(&mut self, buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        let unit = self.stream.next_unit(buffer)?;
        self.end = unit.as_ref().map_or(self.end, |unit| unit.offset + unit.length);
        if unit.is_none() && self.end != self.size || self.end > self.size {
            let what = format!("the compressed file changed while it was read: it held {} bytes", self.size);
            return Err(Error::new(ErrorKind::Io, what));
        }
        Ok(unit)
    }
}
