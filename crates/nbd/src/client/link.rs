//! One connection: requests of any number of threads, and their replies in whatever order they come.
//!
//! No thread is kept for reading. Of those that wait for a reply one reads the line: what is its own goes straight to where
//! it belongs, what is another's into that one's box. When it has all of its own, another takes over.
//!
//! Locks: a thread that holds `boxes` may only try for `reader`; one that holds `reader` may wait for `boxes`.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use transload_block::{Error, ErrorKind, Result};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::protocol::{
    Dialect, EXTENDED_REPLY_MAGIC, EXTENDED_REQUEST_MAGIC, ExtendedReplyHeader, ExtendedRequestHeader, REQUEST_MAGIC,
    RequestHeader, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, SimpleReplyHeader, StructuredReplyHeader, chunk,
    command, command_flag, kind_of,
};
use crate::transport::{Cutter, ReadHalf, WriteHalf, broken, protocol_error, receive, send};

/// The longest payload of a chunk that is no data: an error's message, a list of extents.
const MAX_SMALL_CHUNK: u64 = 1 << 20;

/// A request without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) command: u16,
    pub(super) flags: u16,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What a reply brings.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Nothing but that it is done.
    Nothing,
    /// The bytes that were asked for.
    Bytes(&'a mut [u8]),
    /// Extents: bytes and state.
    Extents {
        /// The context's identifier.
        context: u32,
        /// Where they go.
        list: &'a mut Vec<(u64, u64)>,
    },
}

/// A chunk for somebody who is not reading at the moment.
#[derive(Debug)]
struct Parcel {
    head: ChunkHead,
    payload: Vec<u8>,
}

/// A chunk's header, the same for all dialects.
#[derive(Clone, Copy, Debug)]
struct ChunkHead {
    cookie: u64,
    kind: u16,
    last: bool,
    length: u64,
    /// A simple reply's error number.
    simple_error: u32,
    simple: bool,
}

/// What a request may bring, for checking what stands on the line before any of it is taken.
#[derive(Debug)]
struct Waiting {
    request: Request,
    parcels: Vec<Parcel>,
}

/// A connection on which requests are on their way.
pub(super) struct Link {
    dialect: Dialect,
    cutter: Cutter,
    next_cookie: AtomicU64,
    writer: Mutex<WriteHalf>,
    reader: Mutex<ReadHalf>,
    boxes: Mutex<Boxes>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Boxes {
    waiting: HashMap<u64, Waiting>,
    /// Why nothing more will come.
    broken: Option<String>,
}

impl Link {
    pub(super) fn new(reader: ReadHalf, writer: WriteHalf, dialect: Dialect, cutter: Cutter) -> Self {
        Self {
            dialect,
            cutter,
            next_cookie: AtomicU64::new(1),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            boxes: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    pub(super) fn hang_up(&self) {
        self.cutter.cut();
    }

    /// Sends a command that has no answer.
    pub(super) fn say(&self, command: u16) -> Result<()> {
        self.send_request(0, Request { command, flags: 0, offset: 0, length: 0 }, &[])
    }

    /// Sends `request`, with `payload` behind it where it is a write, and waits for the answer.
    ///
    /// # Errors
    /// What the server answers; `Network` when the connection breaks or the server does not keep to the protocol, then and
    /// for all later requests.
    pub(super) fn call(&self, request: Request, payload: &[u8], answer: Answer<'_>) -> Result<()> {
        let cookie = self.next_cookie.fetch_add(1, Ordering::Relaxed);
        {
            let mut boxes = self.boxes();
            boxes.alive()?;
            boxes.waiting.insert(cookie, Waiting { request, parcels: Vec::new() });
        }
        let outcome = self.send_request(cookie, request, payload).and_then(|()| self.collect(cookie, request, answer));
        self.boxes().waiting.remove(&cookie);
        match outcome {
            Ok(told) => told,
            Err(error) => {
                self.give_up(&error);
                Err(error)
            }
        }
    }

    fn send_request(&self, cookie: u64, request: Request, payload: &[u8]) -> Result<()> {
        let mut line = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = if self.dialect == Dialect::Extended {
            let payload_flag = if request.command == command::WRITE { command_flag::PAYLOAD_LEN } else { 0 };
            let header = ExtendedRequestHeader {
                magic: U32::new(EXTENDED_REQUEST_MAGIC),
                flags: U16::new(request.flags | payload_flag),
                command: U16::new(request.command),
                cookie: U64::new(cookie),
                offset: U64::new(request.offset),
                length: U64::new(request.length),
            };
            deliver(&mut line, &header, payload)
        } else {
            let length = u32::try_from(request.length)
                .map_err(|_| Error::new(ErrorKind::TooLarge, format!("NBD: a request of {} bytes", request.length)))?;
            let header = RequestHeader {
                magic: U32::new(REQUEST_MAGIC),
                flags: U16::new(request.flags),
                command: U16::new(request.command),
                cookie: U64::new(cookie),
                offset: U64::new(request.offset),
                length: U32::new(length),
            };
            deliver(&mut line, &header, payload)
        };
        sent.map_err(|error| broken(&"NBD", "sending a request", error))
    }

    /// Waits for all of the reply to `cookie`. The outer error is the connection's, the inner one the server's answer.
    fn collect(&self, cookie: u64, request: Request, answer: Answer<'_>) -> Result<Result<()>> {
        let mut reply = Reply { request, answer, received: 0, outcome: Ok(()) };
        let mut boxes = self.boxes();
        loop {
            let waiting = boxes.waiting.get_mut(&cookie);
            let parcels = waiting.map(|waiting| std::mem::take(&mut waiting.parcels)).unwrap_or_default();
            if !parcels.is_empty() {
                drop(boxes);
                for parcel in parcels {
                    if reply.take(parcel.head, &mut parcel.payload.as_slice())? {
                        return reply.finish();
                    }
                }
                boxes = self.boxes();
                continue;
            }
            boxes.alive()?;
            let turn = match self.reader.try_lock() {
                Ok(line) => Some(line),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            let Some(mut line) = turn else {
                boxes = self.arrived.wait(boxes).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(boxes);
            let done = self.read_until_mine(&mut line, cookie, &mut reply);
            drop(line);
            // Whoever waits takes over the line. With the lock held: nobody is between looking and waiting.
            boxes = self.boxes();
            self.arrived.notify_all();
            if done? {
                drop(boxes);
                return reply.finish();
            }
        }
    }

    /// Reads chunks until the last one of the reply to `cookie`, putting those of others into their boxes.
    fn read_until_mine(&self, line: &mut ReadHalf, cookie: u64, reply: &mut Reply<'_>) -> Result<bool> {
        loop {
            let head = self.receive_head(line)?;
            if head.cookie == cookie {
                if reply.take(head, line)? {
                    return Ok(true);
                }
                continue;
            }
            let length = match self.boxes().waiting.get(&head.cookie) {
                Some(waiting) => payload_of(head, waiting.request)?,
                None => return protocol_error(format_args!("a reply to a request {} that nobody made", head.cookie)),
            };
            let mut payload = vec![0; length];
            line.read_exact(&mut payload).map_err(lost)?;
            let mut boxes = self.boxes();
            if let Some(waiting) = boxes.waiting.get_mut(&head.cookie) {
                waiting.parcels.push(Parcel { head, payload });
                self.arrived.notify_all();
            }
        }
    }

    fn receive_head(&self, line: &mut ReadHalf) -> Result<ChunkHead> {
        let magic: U32 = receive(line).map_err(lost)?;
        let magic_bytes = magic;
        let mut rest = Read::chain(magic_bytes.as_bytes(), line);
        match (magic.get(), self.dialect) {
            (SIMPLE_REPLY_MAGIC, Dialect::Simple | Dialect::Structured) => {
                let header: SimpleReplyHeader = receive(&mut rest).map_err(lost)?;
                let head = ChunkHead {
                    cookie: header.cookie.get(),
                    kind: chunk::NONE,
                    last: true,
                    length: 0,
                    simple_error: header.error.get(),
                    simple: true,
                };
                Ok(head)
            }
            (STRUCTURED_REPLY_MAGIC, Dialect::Structured) => {
                let header: StructuredReplyHeader = receive(&mut rest).map_err(lost)?;
                let (flags, length) = (header.flags.get(), u64::from(header.length.get()));
                Ok(ChunkHead::of_chunk(header.cookie.get(), header.kind.get(), flags, length))
            }
            (EXTENDED_REPLY_MAGIC, Dialect::Extended) => {
                let header: ExtendedReplyHeader = receive(&mut rest).map_err(lost)?;
                let (flags, length) = (header.flags.get(), header.length.get());
                Ok(ChunkHead::of_chunk(header.cookie.get(), header.kind.get(), flags, length))
            }
            (other, dialect) => {
                protocol_error(format_args!("a reply begins with {other:#x} among {dialect:?} replies"))
            }
        }
    }

    /// Makes all requests fail, those under way and later ones.
    fn give_up(&self, error: &Error) {
        let mut boxes = self.boxes();
        boxes.broken.get_or_insert_with(|| error.to_string());
        self.arrived.notify_all();
        drop(boxes);
        self.cutter.cut();
    }

    fn boxes(&self) -> MutexGuard<'_, Boxes> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Boxes {
    fn alive(&self) -> Result<()> {
        match &self.broken {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Network, format!("NBD: the connection is lost ({why})"))),
        }
    }
}

impl ChunkHead {
    fn of_chunk(cookie: u64, kind: u16, flags: u16, length: u64) -> Self {
        Self { cookie, kind, last: flags & chunk::DONE != 0, length, simple_error: 0, simple: false }
    }

    fn is_error(&self) -> bool {
        self.kind & chunk::ERROR_BIT != 0
    }
}

/// The bytes behind `head` in the reply to `request`, checked against what may be there.
fn payload_of(head: ChunkHead, request: Request) -> Result<usize> {
    if head.simple {
        let bytes = if request.command == command::READ && head.simple_error == 0 { request.length } else { 0 };
        return Ok(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let most = match head.kind {
        chunk::OFFSET_DATA if request.command == command::READ => request.length + 8,
        chunk::OFFSET_HOLE if request.command == command::READ => 12,
        chunk::BLOCK_STATUS | chunk::BLOCK_STATUS_EXTENDED if request.command == command::BLOCK_STATUS => {
            MAX_SMALL_CHUNK
        }
        _ if head.is_error() => MAX_SMALL_CHUNK,
        chunk::NONE => 0,
        other => {
            return protocol_error(format_args!("a chunk of type {other} in reply to command {}", request.command));
        }
    };
    if head.length > most {
        return protocol_error(format_args!("a chunk of type {} has {} bytes", head.kind, head.length));
    }
    Ok(usize::try_from(head.length).unwrap_or(usize::MAX))
}

/// A reply while it comes in.
struct Reply<'a> {
    request: Request,
    answer: Answer<'a>,
    /// Bytes of a read that have come.
    received: u64,
    /// The server's answer, as far as it is known.
    outcome: Result<()>,
}

impl Reply<'_> {
    /// Takes a chunk's payload from `line`; `true` when it was the last.
    fn take(&mut self, head: ChunkHead, line: &mut dyn Read) -> Result<bool> {
        let length = payload_of(head, self.request)?;
        if head.simple {
            self.take_simple(head, line)?;
        } else if head.is_error() {
            let payload = small(line, length)?;
            self.outcome = Err(told(&payload));
        } else {
            match head.kind {
                chunk::OFFSET_DATA => self.take_data(line, length)?,
                chunk::OFFSET_HOLE => self.take_hole(line, length)?,
                chunk::BLOCK_STATUS => self.take_extents(&small(line, length)?, false)?,
                chunk::BLOCK_STATUS_EXTENDED => self.take_extents(&small(line, length)?, true)?,
                _ => {}
            }
        }
        Ok(head.last)
    }

    fn take_simple(&mut self, head: ChunkHead, line: &mut dyn Read) -> Result<()> {
        if head.simple_error != 0 {
            self.outcome = Err(told(&head.simple_error.to_be_bytes()));
        } else if let Answer::Bytes(bytes) = &mut self.answer {
            line.read_exact(bytes).map_err(lost)?;
            self.received = self.request.length;
        }
        Ok(())
    }

    fn take_data(&mut self, line: &mut dyn Read, length: usize) -> Result<()> {
        let offset: U64 = receive(line).map_err(lost)?;
        let bytes = length.checked_sub(size_of::<U64>()).filter(|bytes| *bytes > 0);
        let Some(bytes) = bytes else { return protocol_error("a chunk of data without data") };
        line.read_exact(self.place(offset.get(), bytes)?).map_err(lost)
    }

    fn take_hole(&mut self, line: &mut dyn Read, length: usize) -> Result<()> {
        if length != 12 {
            return protocol_error(format_args!("a hole of {length} bytes"));
        }
        let offset: U64 = receive(line).map_err(lost)?;
        let bytes: U32 = receive(line).map_err(lost)?;
        self.place(offset.get(), bytes.get() as usize)?.fill(0);
        Ok(())
    }

    /// The place of `length` bytes at `offset` of the disk in the buffer of the reader.
    fn place(&mut self, offset: u64, length: usize) -> Result<&mut [u8]> {
        let Answer::Bytes(buffer) = &mut self.answer else { return protocol_error("data that nobody asked for") };
        let begin = offset.checked_sub(self.request.offset).and_then(|begin| usize::try_from(begin).ok());
        let place = begin.and_then(|begin| buffer.get_mut(begin..begin.checked_add(length)?));
        match place {
            Some(place) => {
                self.received += length as u64;
                Ok(place)
            }
            None => protocol_error(format_args!("{length} bytes at {offset}, which were not asked for")),
        }
    }

    fn take_extents(&mut self, payload: &[u8], extended: bool) -> Result<()> {
        let Answer::Extents { context, list } = &mut self.answer else {
            return protocol_error("block status that nobody asked for");
        };
        let malformed = || protocol_error("a malformed list of extents");
        let Some((id, entries)) = payload.split_first_chunk::<4>() else { return malformed() };
        if u32::from_be_bytes(*id) != *context {
            return Ok(());
        }
        if extended {
            let Some((_, entries)) = entries.split_first_chunk::<4>() else { return malformed() };
            let (entries, rest) = entries.as_chunks::<16>();
            if !rest.is_empty() {
                return malformed();
            }
            list.extend(entries.iter().map(|entry| {
                let entry = u128::from_be_bytes(*entry);
                #[expect(clippy::cast_possible_truncation, reason = "the lower half is the state")]
                let state = entry as u64;
                ((entry >> 64) as u64, state)
            }));
        } else {
            let (entries, rest) = entries.as_chunks::<8>();
            if !rest.is_empty() {
                return malformed();
            }
            list.extend(entries.iter().map(|entry| {
                let entry = u64::from_be_bytes(*entry);
                (entry >> 32, entry & u64::from(u32::MAX))
            }));
        }
        Ok(())
    }

    /// The answer, when all of it is there.
    fn finish(self) -> Result<Result<()>> {
        if self.outcome.is_ok() && self.request.command == command::READ && self.received != self.request.length {
            let (got, wanted) = (self.received, self.request.length);
            return protocol_error(format_args!("{got} bytes in reply to a request for {wanted}"));
        }
        Ok(self.outcome)
    }
}

/// The payload of a chunk that is no data.
fn small(line: &mut dyn Read, length: usize) -> Result<Vec<u8>> {
    let mut payload = vec![0; length];
    line.read_exact(&mut payload).map_err(lost)?;
    Ok(payload)
}

/// The error that a server tells of: a number, and perhaps a message.
fn told(payload: &[u8]) -> Error {
    let (number, rest) =
        payload.split_first_chunk::<4>().map_or((0, payload), |(n, rest)| (u32::from_be_bytes(*n), rest));
    let (kind, name) = kind_of(number);
    let message = rest.split_first_chunk::<2>().map(|(length, text)| {
        let length = usize::from(u16::from_be_bytes(*length)).min(text.len());
        String::from_utf8_lossy(&text[..length]).chars().filter(|c| !c.is_control()).take(200).collect::<String>()
    });
    match message.filter(|message| !message.is_empty()) {
        Some(message) => Error::new(kind, format!("the server says: {name}: {message}")),
        None => Error::new(kind, format!("the server says: {name}")),
    }
}

fn lost(error: io::Error) -> Error {
    broken(&"NBD", "waiting for a reply", error)
}

fn deliver(line: &mut WriteHalf, head: &(impl IntoBytes + Immutable), body: &[u8]) -> io::Result<()> {
    send(line, head, body)
}
