//! The transmission: reads requests and answers them, several at a time, in any order.
//!
//! Threads take turns: one reads the next request, the payload of a write included, hands the place at the line to
//! another, does the work and sends the answer. There is no queue, and a session has no more memory than its threads have
//! buffers of [`PIECE`] bytes: longer reads and writes go through in pieces.
//!
//! Locks: `reader` while a request is read; `writer` while a chunk of a reply is sent, or a whole simple reply. Nobody
//! waits for one while holding the other, but a write's payload, which may fail at the device and is answered when it is read.

use std::io::{self, Read};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use transload_block::{BlockReadExt, BlockStatus, BlockWrite, Error, ErrorKind, Result, ZeroMode};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::Export;
use super::handshake::ALLOCATION_ID;
use crate::protocol::{
    Dialect, EXTENDED_REPLY_MAGIC, EXTENDED_REQUEST_MAGIC, ExtendedReplyHeader, ExtendedRequestHeader, MAX_PAYLOAD,
    REQUEST_MAGIC, RequestHeader, SIMPLE_REPLY_MAGIC, STATE_HOLE, STATE_ZERO, STRUCTURED_REPLY_MAGIC,
    SimpleReplyHeader, StructuredReplyHeader, chunk, command, command_flag, number_of,
};
use crate::transport::{Cutter, ReadHalf, WriteHalf, broken, receive, send, skip};

/// The bytes that are read from or written to the device at a time.
const PIECE: usize = 256 << 10;
/// Extents in one answer to a question for block status.
const MAX_EXTENTS: usize = 4096;

/// A request, its header checked as far as that goes without the export.
#[derive(Clone, Copy, Debug)]
struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    length: u64,
}

impl Request {
    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn end(&self) -> u64 {
        self.offset + self.length
    }

    fn range(&self) -> Range<u64> {
        self.offset..self.end()
    }
}

/// What one client and the server do after they have agreed.
#[derive(Debug)]
pub(super) struct Session<'a> {
    export: &'a Export,
    dialect: Dialect,
    allocation: bool,
    cutter: Cutter,
}

/// The half that requests come from; `None` when no more will come.
type Reader = Mutex<Option<ReadHalf>>;
type Writer = Mutex<WriteHalf>;

impl<'a> Session<'a> {
    pub(super) fn new(export: &'a Export, dialect: Dialect, allocation: bool, cutter: Cutter) -> Self {
        Self { export, dialect, allocation, cutter }
    }

    /// Answers requests until the client says good-bye or goes, with `threads` of them at a time.
    ///
    /// # Errors
    /// `Network` when the client breaks the protocol or the connection; what the device answers where the reply has begun
    /// and cannot tell any more.
    pub(super) fn run(&self, reader: ReadHalf, writer: WriteHalf, threads: usize) -> Result<()> {
        let (reader, writer): (Reader, Writer) = (Mutex::new(Some(reader)), Mutex::new(writer));
        let failure = Mutex::new(None);
        let work = || {
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.work(&reader, &writer)));
            // A fault in a device ends this session and no other.
            let outcome = outcome.unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the device failed unexpectedly")));
            if let Err(error) = outcome {
                // The others wait at the line: they are woken, find it cut, and end as well.
                self.cutter.cut();
                lock(&reader).take();
                lock(&failure).get_or_insert(error);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    fn work(&self, reader: &Reader, writer: &Writer) -> Result<()> {
        let mut buffer = Vec::new();
        loop {
            let mut line = lock(reader);
            let Some(half) = line.as_mut() else { return Ok(()) };
            let request = match self.receive(half) {
                Ok(Some(request)) => request,
                Ok(None) => {
                    line.take();
                    return Ok(());
                }
                Err(error) => return Err(broken(&"connection", "reading a request", error)),
            };
            if request.command == command::DISCONNECT {
                line.take();
                return Ok(());
            }
            if request.command == command::WRITE {
                let outcome = self.take_payload(half, &request, &mut buffer);
                drop(line);
                let written =
                    outcome.map_err(|error| broken(&"connection", "reading the payload of a write", error))?;
                self.acknowledge(writer, &request, written)?;
            } else {
                drop(line);
                self.answer(writer, &request, &mut buffer)?;
            }
        }
    }

    /// The next request; `None` when the client has gone between two of them.
    fn receive(&self, line: &mut ReadHalf) -> io::Result<Option<Request>> {
        let mut magic = [0; 4];
        loop {
            match line.read(&mut magic[..1]) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        line.read_exact(&mut magic[1..])?;
        let mut rest = Read::chain(&magic[..], line);
        let (magic, expected, request) = if self.dialect == Dialect::Extended {
            let header: ExtendedRequestHeader = receive(&mut rest)?;
            let request = Request {
                flags: header.flags.get(),
                command: header.command.get(),
                cookie: header.cookie.get(),
                offset: header.offset.get(),
                length: header.length.get(),
            };
            (header.magic.get(), EXTENDED_REQUEST_MAGIC, request)
        } else {
            let header: RequestHeader = receive(&mut rest)?;
            let request = Request {
                flags: header.flags.get(),
                command: header.command.get(),
                cookie: header.cookie.get(),
                offset: header.offset.get(),
                length: u64::from(header.length.get()),
            };
            (header.magic.get(), REQUEST_MAGIC, request)
        };
        if magic != expected {
            return Err(invalid(format!("a request begins with {magic:#x}, not {expected:#x}")));
        }
        if self.dialect == Dialect::Extended
            && request.has(command_flag::PAYLOAD_LEN)
            && request.command != command::WRITE
        {
            // Nothing that this server offers has such a payload: it is taken off the line, and the request refused.
            if request.length > u64::from(MAX_PAYLOAD) {
                return Err(invalid(format!("a payload of {} bytes", request.length)));
            }
            skip(rest.get_mut().1, request.length)?;
        }
        Ok(Some(request))
    }

    /// Takes the payload of a write off the line and puts it on the disk, piece by piece. The inner result is the device's.
    fn take_payload(&self, line: &mut ReadHalf, request: &Request, buffer: &mut Vec<u8>) -> io::Result<Result<()>> {
        if request.length > u64::from(MAX_PAYLOAD) {
            return Err(invalid(format!("a write of {} bytes; {MAX_PAYLOAD} are allowed", request.length)));
        }
        let device = match self.writable(request) {
            Ok(device) => device,
            Err(error) => {
                skip(line, request.length)?;
                return Ok(Err(error));
            }
        };
        let mut outcome = Ok(());
        let mut at = request.offset;
        while at < request.end() {
            let piece = room(buffer, request.end() - at);
            line.read_exact(piece)?;
            if outcome.is_ok() {
                outcome = device.write_at(piece, at);
            }
            at += piece.len() as u64;
        }
        Ok(outcome.and_then(|()| if request.has(command_flag::FUA) { device.flush() } else { Ok(()) }))
    }

    /// The device for writing to the range of `request`.
    fn writable(&self, request: &Request) -> Result<&dyn BlockWrite> {
        let device = self.export.write().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the export is read-only"))?;
        match request.offset.checked_add(request.length) {
            Some(end) if end <= device.size() => Ok(device),
            // The specification wants this number, not that of an invalid argument, behind the end of the disk.
            _ => Err(Error::new(ErrorKind::NoSpace, "behind the end of the disk")),
        }
    }

    fn answer(&self, writer: &Writer, request: &Request, buffer: &mut Vec<u8>) -> Result<()> {
        match request.command {
            command::READ => self.read(writer, request, buffer),
            command::BLOCK_STATUS => match self.statuses(request) {
                Ok(payload) => self.send_statuses(writer, request, &payload),
                Err(error) => self.fail(writer, request, &error),
            },
            _ => self.acknowledge(writer, request, self.change(request)),
        }
    }

    /// What is done without payload in either direction.
    fn change(&self, request: &Request) -> Result<()> {
        if request.has(command_flag::PAYLOAD_LEN) && self.dialect == Dialect::Extended {
            return Err(Error::new(ErrorKind::InvalidInput, "the command has no payload"));
        }
        match request.command {
            command::FLUSH => return self.export.write().map_or(Ok(()), BlockWrite::flush),
            command::TRIM => self.writable(request)?.write_zeroes_at(request.range(), ZeroMode::Unmap)?,
            command::WRITE_ZEROES => {
                let keep = request.has(command_flag::NO_HOLE);
                let mode = if keep { ZeroMode::KeepAllocated } else { ZeroMode::Unmap };
                self.writable(request)?.write_zeroes_at(request.range(), mode)?;
            }
            other => return Err(Error::new(ErrorKind::InvalidInput, format!("command {other} is not known"))),
        }
        if request.has(command_flag::FUA) { self.writable(request)?.flush() } else { Ok(()) }
    }

    fn read(&self, writer: &Writer, request: &Request, buffer: &mut Vec<u8>) -> Result<()> {
        let device = self.export.read();
        let inside = request.offset.checked_add(request.length).is_some_and(|end| end <= device.size());
        if !inside || request.length == 0 {
            let error = Error::new(ErrorKind::InvalidInput, "a read of nothing, or behind the end of the disk");
            return self.fail(writer, request, &error);
        }
        if request.length > u64::from(MAX_PAYLOAD) {
            let why = format!("a read of {} bytes; {MAX_PAYLOAD} are allowed", request.length);
            return self.fail(writer, request, &Error::new(ErrorKind::TooLarge, why));
        }
        if self.dialect == Dialect::Simple || request.has(command_flag::DF) {
            return self.read_whole(writer, request, buffer);
        }
        let extents = match device.extents_in(request.range()) {
            Ok(extents) => extents,
            Err(error) => return self.fail(writer, request, &error),
        };
        for extent in extents {
            let extent = match extent {
                Ok(extent) => extent,
                Err(error) => return self.fail(writer, request, &error),
            };
            if extent.status.reads_zero() {
                let last = extent.end() == request.end();
                self.send_hole(writer, request, extent.range(), last)?;
                continue;
            }
            let mut at = extent.offset;
            while at < extent.end() {
                let piece = room(buffer, extent.end() - at);
                if let Err(error) = device.read_at(piece, at) {
                    return self.fail(writer, request, &error);
                }
                let last = at + piece.len() as u64 == request.end();
                self.send_data(writer, request, at, piece, last)?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Answers a read with one header and all of its bytes. A device that fails after the header is gone can only be told
    /// of by hanging up.
    fn read_whole(&self, writer: &Writer, request: &Request, buffer: &mut Vec<u8>) -> Result<()> {
        let device = self.export.read();
        let first = room(buffer, request.length);
        if let Err(error) = device.read_at(first, request.offset) {
            return self.fail(writer, request, &error);
        }
        let mut line = lock(writer);
        if self.dialect == Dialect::Simple {
            deliver(&mut line, &simple(request, 0), first)?;
        } else {
            let offset = U64::new(request.offset);
            let length = request.length + size_of::<U64>() as u64;
            self.send_head(&mut line, request, chunk::OFFSET_DATA, chunk::DONE, length, offset.as_bytes())?;
            deliver(&mut line, first, &[])?;
        }
        let mut at = request.offset + first.len() as u64;
        while at < request.end() {
            let piece = room(buffer, request.end() - at);
            device.read_at(piece, at)?;
            deliver(&mut line, piece, &[])?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn send_data(&self, writer: &Writer, request: &Request, offset: u64, bytes: &[u8], last: bool) -> Result<()> {
        let length = bytes.len() as u64 + size_of::<U64>() as u64;
        let mut line = lock(writer);
        self.send_head(&mut line, request, chunk::OFFSET_DATA, done(last), length, U64::new(offset).as_bytes())?;
        deliver(&mut line, bytes, &[])
    }

    fn send_hole(&self, writer: &Writer, request: &Request, range: Range<u64>, last: bool) -> Result<()> {
        let mut payload = range.start.to_be_bytes().to_vec();
        // A read is no longer than MAX_PAYLOAD, so neither is the hole in it.
        let length = u32::try_from(range.end - range.start).unwrap_or(MAX_PAYLOAD);
        payload.extend_from_slice(&length.to_be_bytes());
        self.send_head(&mut lock(writer), request, chunk::OFFSET_HOLE, done(last), payload.len() as u64, &payload)
    }

    /// Sends the header of a chunk of `length` bytes, and the first of them.
    fn send_head(
        &self,
        line: &mut WriteHalf,
        request: &Request,
        kind: u16,
        flags: u16,
        length: u64,
        begin: &[u8],
    ) -> Result<()> {
        if self.dialect == Dialect::Extended {
            let header = ExtendedReplyHeader {
                magic: U32::new(EXTENDED_REPLY_MAGIC),
                flags: U16::new(flags),
                kind: U16::new(kind),
                cookie: U64::new(request.cookie),
                offset: U64::new(request.offset),
                length: U64::new(length),
            };
            return deliver(line, &header, begin);
        }
        let header = StructuredReplyHeader {
            magic: U32::new(STRUCTURED_REPLY_MAGIC),
            flags: U16::new(flags),
            kind: U16::new(kind),
            cookie: U64::new(request.cookie),
            length: U32::new(u32::try_from(length).map_err(|_| Error::new(ErrorKind::TooLarge, "a reply of 4 GiB"))?),
        };
        deliver(line, &header, begin)
    }

    /// The extents in the range of `request`, as the payload of a chunk.
    fn statuses(&self, request: &Request) -> Result<Vec<u8>> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidInput, why);
        if !self.allocation {
            return Err(wrong("no metadata context was agreed on"));
        }
        if request.length == 0 || request.has(command_flag::PAYLOAD_LEN) {
            return Err(wrong("a question for the status of nothing"));
        }
        let end = request.offset.checked_add(request.length).ok_or_else(|| wrong("behind the end of the disk"))?;
        let extents = self.export.read().extents_in(request.offset..end)?;
        let most = if request.has(command_flag::REQ_ONE) { 1 } else { MAX_EXTENTS };
        let extended = self.dialect == Dialect::Extended;
        let (mut entries, mut count) = (Vec::new(), 0_u32);
        for extent in extents.take(most) {
            let extent = extent?;
            let state = match extent.status {
                BlockStatus::Data => 0,
                BlockStatus::Zero => STATE_ZERO,
                BlockStatus::Hole => STATE_HOLE | STATE_ZERO,
            };
            if extended {
                entries.extend_from_slice(&extent.length.to_be_bytes());
                entries.extend_from_slice(&u64::from(state).to_be_bytes());
            } else {
                // Inside a request of 32 bits.
                let length = u32::try_from(extent.length).map_err(|_| wrong("the range is longer than 4 GiB"))?;
                entries.extend_from_slice(&length.to_be_bytes());
                entries.extend_from_slice(&state.to_be_bytes());
            }
            count += 1;
        }
        let mut payload = ALLOCATION_ID.to_be_bytes().to_vec();
        if extended {
            payload.extend_from_slice(&count.to_be_bytes());
        }
        payload.append(&mut entries);
        Ok(payload)
    }

    fn send_statuses(&self, writer: &Writer, request: &Request, payload: &[u8]) -> Result<()> {
        let extended = self.dialect == Dialect::Extended;
        let kind = if extended { chunk::BLOCK_STATUS_EXTENDED } else { chunk::BLOCK_STATUS };
        self.send_head(&mut lock(writer), request, kind, chunk::DONE, payload.len() as u64, payload)
    }

    /// Answers a request that has no data in its answer.
    fn acknowledge(&self, writer: &Writer, request: &Request, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) => self.fail(writer, request, &error),
            // Structured replies are for reads and block status; others may be answered either way, as all clients know.
            Ok(()) if self.dialect != Dialect::Extended => deliver(&mut lock(writer), &simple(request, 0), &[]),
            Ok(()) => self.send_head(&mut lock(writer), request, chunk::NONE, chunk::DONE, 0, &[]),
        }
    }

    fn fail(&self, writer: &Writer, request: &Request, error: &Error) -> Result<()> {
        /// The longest message that a client has to take.
        const LONGEST: usize = 1024;
        let number = number_of(error);
        let in_chunks = self.dialect == Dialect::Extended
            || (self.dialect == Dialect::Structured
                && matches!(request.command, command::READ | command::BLOCK_STATUS));
        if !in_chunks {
            return deliver(&mut lock(writer), &simple(request, number), &[]);
        }
        let message = error.to_string();
        let message = &message[..message.floor_char_boundary(LONGEST)];
        let mut payload = number.to_be_bytes().to_vec();
        payload.extend_from_slice(&u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
        payload.extend_from_slice(message.as_bytes());
        self.send_head(&mut lock(writer), request, chunk::ERROR, chunk::DONE, payload.len() as u64, &payload)
    }
}

fn done(last: bool) -> u16 {
    if last { chunk::DONE } else { 0 }
}

fn simple(request: &Request, error: u32) -> SimpleReplyHeader {
    SimpleReplyHeader { magic: U32::new(SIMPLE_REPLY_MAGIC), error: U32::new(error), cookie: U64::new(request.cookie) }
}

fn deliver(line: &mut WriteHalf, head: &(impl IntoBytes + Immutable + ?Sized), body: &[u8]) -> Result<()> {
    send(line, head, body).map_err(|error| broken(&"connection", "sending a reply", error))
}

/// The front of `buffer`, `wanted` bytes or a piece.
fn room(buffer: &mut Vec<u8>, wanted: u64) -> &mut [u8] {
    let length = usize::try_from(wanted).map_or(PIECE, |wanted| wanted.min(PIECE));
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
