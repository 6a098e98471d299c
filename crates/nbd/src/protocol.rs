//! The numbers and headers of the protocol, as `doc/proto.md` of the NBD project spells them; everything big-endian.

use transload_block::{Error, ErrorKind};
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `NBDMAGIC`: the server's first eight bytes.
pub(crate) const GREETING_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// `IHAVEOPT`: the newstyle greeting's second word, and the head of every option.
pub(crate) const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(crate) const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
pub(crate) const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Handshake flags; the client's answer has the same two bits.
pub(crate) mod handshake {
    pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(crate) const NO_ZEROES: u16 = 1 << 1;
}

/// What a client asks for while negotiating.
pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const STARTTLS: u32 = 5;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
    pub(crate) const EXTENDED_HEADERS: u32 = 11;
}

/// What a server answers to an option.
pub(crate) mod option_reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    /// The bit that every error has.
    pub(crate) const ERROR: u32 = 1 << 31;
    pub(crate) const UNSUPPORTED: u32 = ERROR | 1;
    pub(crate) const POLICY: u32 = ERROR | 2;
    pub(crate) const INVALID: u32 = ERROR | 3;
    pub(crate) const TLS_REQUIRED: u32 = ERROR | 5;
    pub(crate) const UNKNOWN: u32 = ERROR | 6;
    pub(crate) const SHUTDOWN: u32 = ERROR | 7;
    pub(crate) const TOO_BIG: u32 = ERROR | 9;
}

/// Kinds of information in the answer to `GO` and `INFO`.
pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DESCRIPTION: u16 = 2;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: what an export can do.
pub(crate) mod transmission {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Request types.
pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
}

/// Request flags.
pub(crate) mod command_flag {
    /// Durable before it is answered.
    pub(crate) const FUA: u16 = 1 << 0;
    /// Zeroes, but no hole.
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    /// The answer to a read in one piece.
    pub(crate) const DF: u16 = 1 << 2;
    /// One extent of status is enough.
    pub(crate) const REQ_ONE: u16 = 1 << 3;
    /// Extended requests: the length is that of a payload which follows.
    pub(crate) const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Reply chunks.
pub(crate) mod chunk {
    /// This chunk is the last of its reply.
    pub(crate) const DONE: u16 = 1 << 0;
    pub(crate) const NONE: u16 = 0;
    pub(crate) const OFFSET_DATA: u16 = 1;
    pub(crate) const OFFSET_HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const BLOCK_STATUS_EXTENDED: u16 = 6;
    /// The bit that every error has.
    pub(crate) const ERROR_BIT: u16 = 1 << 15;
    pub(crate) const ERROR: u16 = ERROR_BIT | 1;
}

/// The metadata context that both sides speak.
pub(crate) const BASE_ALLOCATION: &str = "base:allocation";
/// `base:allocation`: nothing is allocated here.
pub(crate) const STATE_HOLE: u32 = 1 << 0;
/// `base:allocation`: this reads as zeroes.
pub(crate) const STATE_ZERO: u32 = 1 << 1;

/// The longest read or write that every implementation takes, and that this one does: the specification's advice.
pub(crate) const MAX_PAYLOAD: u32 = 32 << 20;
/// The longest name of an export or of a metadata context.
pub(crate) const MAX_STRING: u32 = 4096;

/// Head of an option.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct OptionHeader {
    pub(crate) magic: U64,
    pub(crate) option: U32,
    pub(crate) length: U32,
}

/// Head of an answer to an option.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct OptionReplyHeader {
    pub(crate) magic: U64,
    pub(crate) option: U32,
    pub(crate) kind: U32,
    pub(crate) length: U32,
}

/// A request in the compact form.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RequestHeader {
    pub(crate) magic: U32,
    pub(crate) flags: U16,
    pub(crate) command: U16,
    pub(crate) cookie: U64,
    pub(crate) offset: U64,
    pub(crate) length: U32,
}

/// A request in the extended form: its length has 64 bits.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtendedRequestHeader {
    pub(crate) magic: U32,
    pub(crate) flags: U16,
    pub(crate) command: U16,
    pub(crate) cookie: U64,
    pub(crate) offset: U64,
    pub(crate) length: U64,
}

/// Head of a simple reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SimpleReplyHeader {
    pub(crate) magic: U32,
    pub(crate) error: U32,
    pub(crate) cookie: U64,
}

/// Head of a chunk of a structured reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct StructuredReplyHeader {
    pub(crate) magic: U32,
    pub(crate) flags: U16,
    pub(crate) kind: U16,
    pub(crate) cookie: U64,
    pub(crate) length: U32,
}

/// Head of a chunk of an extended reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtendedReplyHeader {
    pub(crate) magic: U32,
    pub(crate) flags: U16,
    pub(crate) kind: U16,
    pub(crate) cookie: U64,
    pub(crate) offset: U64,
    pub(crate) length: U64,
}

const _: () = assert!(size_of::<OptionHeader>() == 16);
const _: () = assert!(size_of::<OptionReplyHeader>() == 20);
const _: () = assert!(size_of::<RequestHeader>() == 28);
const _: () = assert!(size_of::<ExtendedRequestHeader>() == 32);
const _: () = assert!(size_of::<SimpleReplyHeader>() == 16);
const _: () = assert!(size_of::<StructuredReplyHeader>() == 20);
const _: () = assert!(size_of::<ExtendedReplyHeader>() == 32);

/// The form of requests and replies that both sides have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// One header, then all data or none.
    #[default]
    Simple,
    /// Reads and block status are answered in chunks.
    Structured,
    /// Everything is answered in chunks; lengths have 64 bits.
    Extended,
}

/// Error numbers as they go over the wire.
pub(crate) mod errno {
    pub(crate) const PERMISSION: u32 = 1;
    pub(crate) const IO: u32 = 5;
    pub(crate) const NO_MEMORY: u32 = 12;
    pub(crate) const INVALID: u32 = 22;
    pub(crate) const NO_SPACE: u32 = 28;
    pub(crate) const OVERFLOW: u32 = 75;
    pub(crate) const NOT_SUPPORTED: u32 = 95;
    pub(crate) const SHUTDOWN: u32 = 108;
}

/// The error number that tells a client of `error`.
pub(crate) fn number_of(error: &Error) -> u32 {
    match error.kind() {
        ErrorKind::ReadOnly | ErrorKind::Denied => errno::PERMISSION,
        ErrorKind::OutOfRange | ErrorKind::InvalidInput => errno::INVALID,
        ErrorKind::NoSpace => errno::NO_SPACE,
        ErrorKind::TooLarge => errno::OVERFLOW,
        ErrorKind::Unsupported => errno::NOT_SUPPORTED,
        ErrorKind::Cancelled => errno::SHUTDOWN,
        _ => errno::IO,
    }
}

/// The kind of failure that a server's error number stands for, and its name.
pub(crate) fn kind_of(number: u32) -> (ErrorKind, &'static str) {
    match number {
        errno::PERMISSION => (ErrorKind::ReadOnly, "operation not permitted"),
        errno::IO => (ErrorKind::Io, "input/output error"),
        errno::NO_MEMORY => (ErrorKind::Io, "out of memory"),
        errno::INVALID => (ErrorKind::InvalidInput, "invalid argument"),
        errno::NO_SPACE => (ErrorKind::NoSpace, "no space left"),
        errno::OVERFLOW => (ErrorKind::TooLarge, "value too large"),
        errno::NOT_SUPPORTED => (ErrorKind::Unsupported, "operation not supported"),
        errno::SHUTDOWN => (ErrorKind::Network, "the server is shutting down"),
        _ => (ErrorKind::Io, "an error that the protocol does not name"),
    }
}
