//! The negotiation, as a client: asks for everything that is of use, and takes what it gets.

use std::io::{self, Read, Write};

use rustls::Connection;
use transload_block::{Error, ErrorKind, Result};
use zerocopy::IntoBytes;
use zerocopy::big_endian::{U32, U64};

use crate::protocol::{
    BASE_ALLOCATION, Dialect, GREETING_MAGIC, MAX_PAYLOAD, MAX_STRING, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionHeader,
    OptionReplyHeader, handshake, info, option, option_reply, transmission,
};
use crate::transport::{Negotiable, broken, protocol_error, receive, skip};

/// The longest reply to an option that is read; longer ones are skipped.
const MAX_REPLY: u32 = 64 << 10;
/// Replies to one option: a server has one or a few things to tell of one export.
const MAX_REPLIES: usize = 64;

/// What the server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The disk's bytes.
    pub(super) size: u64,
    /// Transmission flags.
    pub(super) flags: u16,
    pub(super) dialect: Dialect,
    /// The identifier of `base:allocation`, where the server answers for block status.
    pub(super) allocation: Option<u32>,
    /// Requests begin and end at multiples of this.
    pub(super) minimum: u32,
    /// What the server likes best.
    pub(super) preferred: u32,
    /// The longest payload.
    pub(super) maximum: u32,
}

impl Offer {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Agrees with the server on the export called `name`; over TLS where a connection for it is given, else in the clear.
pub(super) fn negotiate(line: &mut impl Negotiable, name: &str, tls: Option<Connection>) -> Result<Offer> {
    if name.len() > MAX_STRING as usize {
        return Err(Error::new(ErrorKind::InvalidInput, format!("an export's name of {} bytes", name.len())));
    }
    let no_zeroes = greet(line)?;
    if let Some(connection) = tls {
        if !(Talk { line: &mut *line }).accepts(option::STARTTLS)? {
            return Err(Error::new(ErrorKind::Unsupported, "NBD: the server has no TLS")
                .with_remedy("name it with nbd:// where the network is your own"));
        }
        line.start_tls(connection).map_err(untrusted)?;
    }
    let mut talk = Talk { line };
    let dialect = if talk.accepts(option::EXTENDED_HEADERS)? {
        Dialect::Extended
    } else if talk.accepts(option::STRUCTURED_REPLY)? {
        Dialect::Structured
    } else {
        Dialect::Simple
    };
    let allocation = if dialect == Dialect::Simple { None } else { talk.allocation(name)? };
    match talk.go(name)? {
        Some(offer) => Ok(Offer { dialect, allocation, ..offer }),
        None => Ok(Offer { dialect, allocation, ..talk.export_name(name, no_zeroes)? }),
    }
}

/// Reads the greeting and answers it; whether the server leaves out the old padding.
fn greet(line: &mut (impl Read + Write)) -> Result<bool> {
    let heard = |error| broken(&"NBD", "greeting", error);
    let magic: U64 = receive(line).map_err(heard)?;
    if magic.get() != GREETING_MAGIC {
        return protocol_error("the server does not greet as an NBD server does");
    }
    let style: U64 = receive(line).map_err(heard)?;
    if style.get() != OPTION_MAGIC {
        return Err(Error::new(ErrorKind::Unsupported, "NBD: a server of the oldstyle protocol"));
    }
    let flags: zerocopy::big_endian::U16 = receive(line).map_err(heard)?;
    let flags = flags.get();
    if flags & handshake::FIXED_NEWSTYLE == 0 {
        return Err(Error::new(ErrorKind::Unsupported, "NBD: a server without fixed newstyle negotiation"));
    }
    let ours = flags & (handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES);
    line.write_all(&u32::from(ours).to_be_bytes()).map_err(heard)?;
    Ok(ours & handshake::NO_ZEROES != 0)
}

/// Options and the replies to them.
struct Talk<'a, L> {
    line: &'a mut L,
}

/// A reply that is no error.
struct Reply {
    kind: u32,
    data: Vec<u8>,
}

impl<L: Read + Write> Talk<'_, L> {
    fn ask(&mut self, option: u32, data: &[u8]) -> Result<()> {
        let header = OptionHeader {
            magic: U64::new(OPTION_MAGIC),
            option: U32::new(option),
            length: U32::new(u32::try_from(data.len()).unwrap_or(u32::MAX)),
        };
        let message = [header.as_bytes(), data].concat();
        self.line.write_all(&message).map_err(|error| broken(&"NBD", "negotiation", error))
    }

    /// The next reply to `option`: what it says, or the kind and the text of a refusal.
    fn reply(&mut self, option: u32) -> Result<Result<Reply, (u32, String)>> {
        let heard = |error| broken(&"NBD", "negotiation", error);
        let header: OptionReplyHeader = receive(self.line).map_err(heard)?;
        if header.magic.get() != OPTION_REPLY_MAGIC || header.option.get() != option {
            return protocol_error(format_args!("the answer to option {option} is for option {}", header.option.get()));
        }
        let (kind, length) = (header.kind.get(), header.length.get());
        let mut data = Vec::new();
        if length > MAX_REPLY {
            skip(self.line, u64::from(length)).map_err(heard)?;
        } else {
            data.resize(length as usize, 0);
            self.line.read_exact(&mut data).map_err(heard)?;
        }
        if kind & option_reply::ERROR == 0 {
            return Ok(Ok(Reply { kind, data }));
        }
        let text = String::from_utf8_lossy(&data).chars().filter(|c| !c.is_control()).take(200).collect();
        Ok(Err((kind, text)))
    }

    /// Whether the server agrees to an option that has no data.
    fn accepts(&mut self, option: u32) -> Result<bool> {
        self.ask(option, &[])?;
        match self.reply(option)? {
            Ok(reply) if reply.kind == option_reply::ACK => Ok(true),
            Ok(reply) => protocol_error(format_args!("reply {} to option {option}", reply.kind)),
            Err((option_reply::TLS_REQUIRED, _)) => Err(needs_tls()),
            Err(_) => Ok(false),
        }
    }

    /// Asks for `base:allocation` of the export called `name`.
    fn allocation(&mut self, name: &str) -> Result<Option<u32>> {
        let mut data = string(name);
        data.extend_from_slice(&1_u32.to_be_bytes());
        data.extend_from_slice(&string(BASE_ALLOCATION));
        self.ask(option::SET_META_CONTEXT, &data)?;
        let mut found = None;
        for _ in 0..MAX_REPLIES {
            match self.reply(option::SET_META_CONTEXT)? {
                Ok(Reply { kind: option_reply::ACK, .. }) => return Ok(found),
                Ok(Reply { kind: option_reply::META_CONTEXT, data }) => {
                    if let Some((id, context)) = data.split_first_chunk::<4>()
                        && context == BASE_ALLOCATION.as_bytes()
                    {
                        found = Some(u32::from_be_bytes(*id));
                    }
                }
                Ok(reply) => return protocol_error(format_args!("reply {} to a metadata context", reply.kind)),
                // What is wrong with the name will be said by the answer to GO.
                Err(_) => return Ok(None),
            }
        }
        protocol_error("metadata contexts without end")
    }

    /// Begins with the export; `None` where the server does not know how to be asked this way.
    fn go(&mut self, name: &str) -> Result<Option<Offer>> {
        let mut data = string(name);
        data.extend_from_slice(&1_u16.to_be_bytes());
        data.extend_from_slice(&info::BLOCK_SIZE.to_be_bytes());
        self.ask(option::GO, &data)?;
        let (mut export, mut sizes) = (None, (1, 4096, MAX_PAYLOAD));
        for _ in 0..MAX_REPLIES {
            match self.reply(option::GO)? {
                Ok(Reply { kind: option_reply::ACK, .. }) => {
                    let Some((size, flags)) = export else { return protocol_error("an export without a size") };
                    return offer(size, flags, sizes).map(Some);
                }
                Ok(Reply { kind: option_reply::INFO, data }) => match information(&data) {
                    Some(Information::Export(size, flags)) => export = Some((size, flags)),
                    Some(Information::BlockSizes(minimum, preferred, maximum)) => sizes = (minimum, preferred, maximum),
                    Some(Information::Other) => {}
                    None => return protocol_error("malformed information about the export"),
                },
                Ok(reply) => return protocol_error(format_args!("reply {} to GO", reply.kind)),
                Err((option_reply::UNSUPPORTED, _)) => return Ok(None),
                Err((kind, text)) => return Err(refusal(kind, name, &text)),
            }
        }
        protocol_error("information without end")
    }

    /// The old way to begin: the server closes the connection where there is no such export.
    fn export_name(&mut self, name: &str, no_zeroes: bool) -> Result<Offer> {
        self.ask(option::EXPORT_NAME, name.as_bytes())?;
        let heard = |error| broken(&"NBD", "the export's size", error);
        let size: U64 = receive(self.line).map_err(heard)?;
        let flags: zerocopy::big_endian::U16 = receive(self.line).map_err(heard)?;
        if !no_zeroes {
            skip(self.line, 124).map_err(heard)?;
        }
        offer(size.get(), flags.get(), (1, 4096, MAX_PAYLOAD))
    }
}

enum Information {
    Export(u64, u16),
    BlockSizes(u32, u32, u32),
    Other,
}

/// Reads the data of an `INFO` reply; `None` when it is malformed.
fn information(data: &[u8]) -> Option<Information> {
    let (kind, data) = data.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*kind) {
        info::EXPORT => {
            let (size, data) = data.split_first_chunk::<8>()?;
            let flags: [u8; 2] = data.try_into().ok()?;
            Some(Information::Export(u64::from_be_bytes(*size), u16::from_be_bytes(flags)))
        }
        info::BLOCK_SIZE => {
            let data: [u8; 12] = data.try_into().ok()?;
            let (sizes, _) = data.as_chunks::<4>();
            Some(Information::BlockSizes(
                u32::from_be_bytes(sizes[0]),
                u32::from_be_bytes(sizes[1]),
                u32::from_be_bytes(sizes[2]),
            ))
        }
        _ => Some(Information::Other),
    }
}

/// Checks what the server says of an export.
fn offer(size: u64, flags: u16, (minimum, preferred, maximum): (u32, u32, u32)) -> Result<Offer> {
    if flags & transmission::HAS_FLAGS == 0 {
        return protocol_error("an export without flags");
    }
    // The specification's bounds: the smallest block is a power of two of at most 64 KiB, the largest a multiple of it.
    let minimum_is_sound = minimum.is_power_of_two() && minimum <= 64 << 10;
    if !minimum_is_sound || !preferred.is_power_of_two() || preferred < minimum || maximum < minimum {
        return protocol_error(format_args!("block sizes {minimum}, {preferred} and {maximum} make no sense"));
    }
    let maximum = (maximum / minimum * minimum).min(MAX_PAYLOAD);
    Ok(Offer { size, flags, dialect: Dialect::Simple, allocation: None, minimum, preferred, maximum })
}

fn refusal(kind: u32, name: &str, text: &str) -> Error {
    let said = if text.is_empty() { String::new() } else { format!(": {text}") };
    match kind {
        option_reply::UNKNOWN => Error::new(
            ErrorKind::InvalidInput,
            format!("NBD: the server has no export '{}'{said}", name.escape_debug()),
        ),
        option_reply::POLICY => Error::new(ErrorKind::Denied, format!("NBD: the server refuses{said}")),
        option_reply::TLS_REQUIRED => needs_tls(),
        option_reply::SHUTDOWN => Error::new(ErrorKind::Network, format!("NBD: the server is shutting down{said}")),
        _ => Error::new(ErrorKind::Network, format!("NBD: the server answers with error {kind:#x}{said}")),
    }
}

fn needs_tls() -> Error {
    Error::new(ErrorKind::Denied, "NBD: the server demands TLS").with_remedy("name it with nbds:// instead of nbd://")
}

/// What went wrong while shaking hands: a certificate of a stranger is another matter than a broken line.
fn untrusted(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData => Error::new(ErrorKind::Denied, "NBD: TLS").with_source(error),
        _ => broken(&"NBD", "TLS", error),
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut data = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    data.extend_from_slice(text.as_bytes());
    data
}
