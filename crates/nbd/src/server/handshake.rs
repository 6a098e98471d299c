//! The negotiation, as a server: which export, and how requests and replies will look.
//!
//! ```text
//! greeting ──► client flags ──► option, reply … ──► GO or EXPORT_NAME ──► transmission
//!                                              ├──► STARTTLS: TLS, and everything said before is forgotten
//!                                              └──► ABORT: good-bye
//! ```

use std::io::{self, Read, Write};

use zerocopy::IntoBytes;
use zerocopy::big_endian::{U32, U64};

use super::Export;
use crate::protocol::{
    BASE_ALLOCATION, Dialect, GREETING_MAGIC, MAX_PAYLOAD, MAX_STRING, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionHeader,
    OptionReplyHeader, handshake, info, option, option_reply, transmission,
};
use crate::tls::{ServerTls, TlsMode};
use crate::transport::{Negotiable, receive, skip};

/// The longest option that is looked at: two strings and their lengths, and room to spare.
const MAX_OPTION: u32 = 64 << 10;
/// Options in one negotiation: a client needs five.
const MAX_OPTIONS: usize = 256;
/// The identifier of `base:allocation` in replies.
pub(super) const ALLOCATION_ID: u32 = 1;

/// What client and server have agreed on.
#[derive(Debug)]
pub(super) struct Agreement<'a> {
    pub(super) export: &'a Export,
    pub(super) dialect: Dialect,
    /// Whether block status is answered.
    pub(super) allocation: bool,
}

/// What the client has asked for so far.
#[derive(Debug, Default)]
struct Wishes {
    dialect: Dialect,
    /// The export for which `base:allocation` was chosen.
    allocation_of: Option<String>,
}

/// What the server offers: exports, and TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered<'a> {
    pub(super) exports: &'a [Export],
    pub(super) tls: Option<&'a (ServerTls, TlsMode)>,
}

/// Negotiates with the client on `line`. `None` when it only wanted to look.
pub(super) fn negotiate<'a>(line: &mut impl Negotiable, offered: Offered<'a>) -> io::Result<Option<Agreement<'a>>> {
    let exports = offered.exports;
    let flags = handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES;
    let mut greeting = [0; 18];
    greeting[..8].copy_from_slice(&GREETING_MAGIC.to_be_bytes());
    greeting[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    greeting[16..].copy_from_slice(&flags.to_be_bytes());
    line.write_all(&greeting)?;
    let wanted = receive::<U32>(line)?.get();
    if wanted & !u32::from(flags) != 0 {
        return Err(invalid(format!("the client's flags {wanted:#x} are not among those offered, {flags:#x}")));
    }
    let no_zeroes = wanted & u32::from(handshake::NO_ZEROES) != 0;
    let mut wishes = Wishes::default();
    let mut encrypted = false;
    for _ in 0..MAX_OPTIONS {
        let header: OptionHeader = receive(line)?;
        if header.magic.get() != OPTION_MAGIC {
            return Err(invalid(format!("an option begins with {:#x}", header.magic.get())));
        }
        let (option, length) = (header.option.get(), header.length.get());
        if length > MAX_OPTION {
            if option == option::EXPORT_NAME {
                return Err(invalid(format!("the export's name is {length} bytes long")));
            }
            skip(line, u64::from(length))?;
            refuse(line, option, option_reply::TOO_BIG, "the option is too long")?;
            continue;
        }
        let mut data = vec![0; length as usize];
        line.read_exact(&mut data)?;
        if option == option::STARTTLS {
            if start_tls(line, &data, offered.tls, encrypted)? {
                encrypted = true;
                // What was said before may have been said by anybody.
                wishes = Wishes::default();
            }
            continue;
        }
        let waits = !encrypted && matches!(offered.tls, Some((_, TlsMode::Require)));
        if waits && option == option::EXPORT_NAME {
            // This option has no way to say no: the connection ends.
            return Err(invalid("the client asks for an export before TLS"));
        }
        if waits && option != option::ABORT {
            refuse(line, option, option_reply::TLS_REQUIRED, "TLS comes first")?;
            continue;
        }
        match answer(line, option, &data, exports, &mut wishes, no_zeroes)? {
            Next::More => {}
            Next::Done => return Ok(None),
            Next::Transmit(export) => {
                let allocation = wishes.allocation_of.as_deref().and_then(|name| find(exports, name));
                let allocation =
                    allocation.is_some_and(|of| std::ptr::eq(of, export)) && wishes.dialect != Dialect::Simple;
                return Ok(Some(Agreement { export, dialect: wishes.dialect, allocation }));
            }
        }
    }
    Err(invalid(format!("more than {MAX_OPTIONS} options")))
}

/// Answers the wish for TLS, and begins with it where it is granted.
fn start_tls(
    line: &mut impl Negotiable,
    data: &[u8],
    tls: Option<&(ServerTls, TlsMode)>,
    encrypted: bool,
) -> io::Result<bool> {
    let refused = |line: &mut _, kind, why| refuse(line, option::STARTTLS, kind, why).map(|()| false);
    match tls {
        None => refused(line, option_reply::UNSUPPORTED, "this server has no TLS"),
        Some(_) if encrypted => refused(line, option_reply::INVALID, "TLS has begun already"),
        Some(_) if !data.is_empty() => refused(line, option_reply::INVALID, "the option has no data"),
        Some((tls, _)) => {
            reply(line, option::STARTTLS, option_reply::ACK, &[])?;
            line.start_tls(tls.accept()?)?;
            Ok(true)
        }
    }
}

/// What comes after an option.
enum Next<'a> {
    More,
    Done,
    Transmit(&'a Export),
}

fn answer<'a>(
    line: &mut (impl Read + Write),
    option: u32,
    data: &[u8],
    exports: &'a [Export],
    wishes: &mut Wishes,
    no_zeroes: bool,
) -> io::Result<Next<'a>> {
    match option {
        option::EXPORT_NAME => {
            // This option has no way to say no: the connection ends.
            let name = std::str::from_utf8(data).ok();
            let export = name.and_then(|name| find(exports, name)).ok_or_else(|| invalid("no export of that name"))?;
            let mut answer = [0; 10 + 124];
            answer[..8].copy_from_slice(&export.read().size().to_be_bytes());
            answer[8..10].copy_from_slice(&flags_of(export, wishes.dialect).to_be_bytes());
            line.write_all(if no_zeroes { &answer[..10] } else { &answer })?;
            return Ok(Next::Transmit(export));
        }
        option::ABORT => {
            reply(line, option, option_reply::ACK, &[])?;
            return Ok(Next::Done);
        }
        option::LIST if data.is_empty() => list(line, exports)?,
        option::GO | option::INFO => return go(line, option, data, exports, wishes.dialect),
        option::STRUCTURED_REPLY if data.is_empty() && wishes.dialect == Dialect::Extended => {
            refuse(line, option, option_reply::INVALID, "extended headers are agreed on already")?;
        }
        option::STRUCTURED_REPLY if data.is_empty() => {
            wishes.dialect = Dialect::Structured;
            reply(line, option, option_reply::ACK, &[])?;
        }
        option::EXTENDED_HEADERS if data.is_empty() => {
            wishes.dialect = Dialect::Extended;
            reply(line, option, option_reply::ACK, &[])?;
        }
        option::LIST | option::STRUCTURED_REPLY | option::EXTENDED_HEADERS => {
            refuse(line, option, option_reply::INVALID, "the option has no data")?;
        }
        option::LIST_META_CONTEXT | option::SET_META_CONTEXT => contexts(line, option, data, exports, wishes)?,
        _ => refuse(line, option, option_reply::UNSUPPORTED, "unknown option")?,
    }
    Ok(Next::More)
}

/// The export called `name`; the first where the name is empty and none is called so.
fn find<'a>(exports: &'a [Export], name: &str) -> Option<&'a Export> {
    let named = exports.iter().find(|export| export.name == name);
    named.or_else(|| exports.first().filter(|_| name.is_empty()))
}

fn flags_of(export: &Export, dialect: Dialect) -> u16 {
    // Every connection sees the same device, and a flush is one of the whole device.
    let mut flags = transmission::HAS_FLAGS | transmission::CAN_MULTI_CONN;
    flags |= match export.write() {
        None => transmission::READ_ONLY,
        Some(_) => {
            transmission::SEND_FLUSH
                | transmission::SEND_FUA
                | transmission::SEND_TRIM
                | transmission::SEND_WRITE_ZEROES
        }
    };
    if dialect != Dialect::Simple {
        flags |= transmission::SEND_DF;
    }
    flags
}

fn list(line: &mut impl Write, exports: &[Export]) -> io::Result<()> {
    for export in exports {
        let mut data = with_length(export.name.as_bytes());
        data.extend_from_slice(export.description.as_bytes());
        reply(line, option::LIST, option_reply::SERVER, &data)?;
    }
    reply(line, option::LIST, option_reply::ACK, &[])
}

fn go<'a>(
    line: &mut (impl Read + Write),
    option: u32,
    data: &[u8],
    exports: &'a [Export],
    dialect: Dialect,
) -> io::Result<Next<'a>> {
    let Some((name, wanted)) = go_request(data) else {
        refuse(line, option, option_reply::INVALID, "the request is malformed")?;
        return Ok(Next::More);
    };
    let Some(export) = find(exports, name) else {
        refuse(line, option, option_reply::UNKNOWN, "no export of that name")?;
        return Ok(Next::More);
    };
    let size = export.read().size();
    if size > i64::MAX as u64 {
        refuse(line, option, option_reply::POLICY, "the disk is larger than clients can address")?;
        return Ok(Next::More);
    }
    let mut answer = info::EXPORT.to_be_bytes().to_vec();
    answer.extend_from_slice(&size.to_be_bytes());
    answer.extend_from_slice(&flags_of(export, dialect).to_be_bytes());
    reply(line, option, option_reply::INFO, &answer)?;
    let preferred = export.read().limits().preferred.clamp(4096, MAX_PAYLOAD);
    let mut answer = info::BLOCK_SIZE.to_be_bytes().to_vec();
    for bytes in [1, preferred, MAX_PAYLOAD] {
        answer.extend_from_slice(&bytes.to_be_bytes());
    }
    reply(line, option, option_reply::INFO, &answer)?;
    for (kind, text) in [(info::NAME, &export.name), (info::DESCRIPTION, &export.description)] {
        if wanted.contains(&kind) && !text.is_empty() {
            reply(line, option, option_reply::INFO, &[&kind.to_be_bytes(), text.as_bytes()].concat())?;
        }
    }
    reply(line, option, option_reply::ACK, &[])?;
    Ok(if option == option::GO { Next::Transmit(export) } else { Next::More })
}

/// The name and the kinds of information in the data of `GO` and `INFO`; `None` when it is malformed.
fn go_request(data: &[u8]) -> Option<(&str, Vec<u16>)> {
    let (name, rest) = string(data)?;
    let (count, kinds) = rest.split_first_chunk::<2>()?;
    let (kinds, rest) = kinds.as_chunks::<2>();
    let kinds: Vec<_> = kinds.iter().map(|kind| u16::from_be_bytes(*kind)).collect();
    (rest.is_empty() && kinds.len() == usize::from(u16::from_be_bytes(*count))).then_some((name, kinds))
}

fn contexts(
    line: &mut (impl Read + Write),
    option: u32,
    data: &[u8],
    exports: &[Export],
    wishes: &mut Wishes,
) -> io::Result<()> {
    if option == option::SET_META_CONTEXT {
        // Whatever comes of it, an earlier choice is void.
        wishes.allocation_of = None;
        if wishes.dialect == Dialect::Simple {
            return refuse(line, option, option_reply::INVALID, "structured replies come first");
        }
    }
    let Some((name, queries)) = context_request(data) else {
        return refuse(line, option, option_reply::INVALID, "the request is malformed");
    };
    if find(exports, name).is_none() {
        return refuse(line, option, option_reply::UNKNOWN, "no export of that name");
    }
    let listing = option == option::LIST_META_CONTEXT;
    let wanted = queries.iter().any(|query| *query == BASE_ALLOCATION || (listing && *query == "base:"));
    if wanted || (listing && queries.is_empty()) {
        let id = if listing { 0 } else { ALLOCATION_ID };
        reply(line, option, option_reply::META_CONTEXT, &[&id.to_be_bytes(), BASE_ALLOCATION.as_bytes()].concat())?;
        if !listing {
            wishes.allocation_of = Some(name.to_owned());
        }
    }
    reply(line, option, option_reply::ACK, &[])
}

/// The export's name and the queries; `None` when the data is malformed.
fn context_request(data: &[u8]) -> Option<(&str, Vec<&str>)> {
    let (name, rest) = string(data)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut queries = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (query, after) = string(rest)?;
        queries.push(query);
        rest = after;
    }
    rest.is_empty().then_some((name, queries))
}

/// A string with its length before it, and what follows.
fn string(data: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    if length > MAX_STRING {
        return None;
    }
    let (text, rest) = rest.split_at_checked(length as usize)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn with_length(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut data = length.to_be_bytes().to_vec();
    data.extend_from_slice(&text[..length as usize]);
    data
}

fn reply(line: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(|_| invalid("a reply of more than 4 GiB"))?;
    let header = OptionReplyHeader {
        magic: U64::new(OPTION_REPLY_MAGIC),
        option: U32::new(option),
        kind: U32::new(kind),
        length: U32::new(length),
    };
    line.write_all(&[header.as_bytes(), data].concat())
}

fn refuse(line: &mut impl Write, option: u32, kind: u32, why: &str) -> io::Result<()> {
    reply(line, option, kind, why.as_bytes())
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
