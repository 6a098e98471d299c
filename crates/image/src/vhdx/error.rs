//! What can be wrong with a VHDX: one variant per broken rule, with the numbers.
//!
//! Drivers return [`Fault`]s; at the edge they become [`transload_block::Error`]s of the right kind, to which the caller
//! adds the file's name.

use thiserror::Error as ThisError;
use transload_block::{Error, ErrorKind};

use super::guid::Guid;

/// A broken rule, or a valid feature that is not handled.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub(crate) enum Fault {
    #[error("the file has {size} bytes; identifier, headers and region tables need {needed}")]
    TooShort { size: u64, needed: u64 },
    #[error("the file does not begin with 'vhdxfile'")]
    Magic,
    #[error("header {number}: {problem}")]
    Header { number: usize, problem: &'static str },
    #[error("header {number}: the checksum is {found:#010x}, the bytes have {computed:#010x}")]
    HeaderChecksum { number: usize, found: u32, computed: u32 },
    #[error("both headers are damaged; the first: {first}; the second: {second}")]
    BothHeaders { first: Box<Fault>, second: Box<Fault> },
    #[error("the headers differ and have the same sequence number {0}")]
    SameSequence(u64),
    #[error("header: version {0}; version 1 is known")]
    Version(u16),
    #[error("header: log version {0}; version 0 is known, and the log has to be replayed")]
    LogVersion(u16),
    #[error("{what}: {length} bytes at offset {offset:#x}; both must be multiples of 1 MiB, behind the first MiB")]
    Placement { what: String, offset: u64, length: u64 },
    #[error("{what}: {length} bytes at offset {offset:#x} reach behind the file's {file} bytes")]
    OutsideFile { what: String, offset: u64, length: u64, file: u64 },
    #[error("{what} and {other} overlap at offset {offset:#x}")]
    Overlap { what: String, other: String, offset: u64 },
    #[error("log: {length} bytes to replay, at most {most} are handled")]
    LogTooLong { length: u64, most: u64 },
    #[error("log: its entries overlap each other")]
    LogEntangled,
    #[error("log: the file has {file} bytes and had at least {flushed} when the log was written; it is cut off")]
    LogFileCut { file: u64, flushed: u64 },
    #[error("log: entry {sequence} says that the file has {length} bytes, at most {most} are possible")]
    LogFileLength { sequence: u64, length: u64, most: u64 },
    #[error(
        "log: entry {sequence}: a change of {length} bytes at {offset:#x} is not in multiples of 4 KiB inside {last} bytes"
    )]
    LogChange { sequence: u64, offset: u64, length: u64, last: u64 },
    #[error("log: there is none, and nothing can be written without one")]
    NoLog,
    #[error("region table {number}: {problem}")]
    Region { number: usize, problem: &'static str },
    #[error("region table {number}: the checksum is {found:#010x}, the bytes have {computed:#010x}")]
    RegionChecksum { number: usize, found: u32, computed: u32 },
    #[error("region table {number}: {count} entries, at most 2047 are possible")]
    RegionCount { number: usize, count: u32 },
    #[error("both region tables are damaged; the first: {first}; the second: {second}")]
    BothRegions { first: Box<Fault>, second: Box<Fault> },
    #[error("region {0} is required and not known")]
    UnknownRegion(Guid),
    #[error("region {0} is listed twice")]
    RegionTwice(Guid),
    #[error("there is no {0} region")]
    NoRegion(&'static str),
    #[error("metadata table: {0}")]
    Metadata(&'static str),
    #[error("metadata table: {0} entries, at most 2047 are possible")]
    MetadataCount(u16),
    #[error("metadata item {item}: {length} bytes at offset {offset} of a region of {region}")]
    ItemPlace { item: Guid, offset: u32, length: u32, region: u64 },
    #[error("metadata item {0} is listed twice")]
    ItemTwice(Guid),
    #[error("metadata items {0} and {1} overlap")]
    ItemOverlap(Guid, Guid),
    #[error("metadata item {0} is required and not known")]
    UnknownItem(Guid),
    #[error("metadata: there is no {0}")]
    NoItem(&'static str),
    #[error("metadata: the {what} has {found} bytes, must have {wanted}")]
    ItemLength { what: &'static str, found: usize, wanted: usize },
    #[error("metadata: the {what} is {value}, must be {rule}")]
    ItemValue { what: &'static str, value: u64, rule: &'static str },
    #[error("block allocation table: {entries} entries are needed, the region of {bytes} bytes has fewer")]
    BatTooShort { entries: u64, bytes: u64 },
    #[error("parent locator: {0}")]
    Locator(&'static str),
    #[error("parent locator: type {0} is not known")]
    LocatorType(Guid),
    #[error("block {block}: its entry {entry:#018x} has the state {state}, which is not defined")]
    BlockState { block: u64, entry: u64, state: u64 },
    #[error("block {block}: partially present in a disk without a parent")]
    PartialWithoutParent { block: u64 },
    #[error("block {block}: {length} bytes at offset {offset:#x} reach behind the file's {file} bytes")]
    BlockOutside { block: u64, offset: u64, length: u64, file: u64 },
    #[error("block {block}: its place {offset:#x} is inside the {structure}")]
    BlockOverMetadata { block: u64, offset: u64, structure: &'static str },
    #[error("block {block}: partially present, and the sector bitmap of chunk {chunk} has the entry {entry:#018x}")]
    NoBitmap { block: u64, chunk: u64, entry: u64 },
}

impl Fault {
    /// The kind that a program matches on.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Magic => ErrorKind::NotThisFormat,
            Self::Version(_)
            | Self::LogVersion(_)
            | Self::UnknownRegion(_)
            | Self::UnknownItem(_)
            | Self::LocatorType(_) => ErrorKind::Unsupported,
            Self::LogTooLong { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Corrupt,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind(), fault.to_string())
    }
}
