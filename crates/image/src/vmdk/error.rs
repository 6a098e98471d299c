//! What can be wrong with a VMDK: one variant per broken rule, with the numbers.
//!
//! Drivers return [`Fault`]s; at the edge they become [`transload_block::Error`]s of the right kind, to which the caller
//! adds the file's name by [`Error::context`].

use thiserror::Error as ThisError;
use transload_block::{Error, ErrorKind};

/// A broken rule, or a valid feature that is not handled.
#[derive(Debug, ThisError)]
pub(crate) enum Fault {
    #[error("{what}: {length} bytes are too few, {needed} are needed")]
    TooShort { what: &'static str, length: u64, needed: u64 },
    #[error("{what}: wrong magic number")]
    Magic { what: &'static str },
    #[error("{what}: version {version} is not known")]
    Version { what: &'static str, version: u64 },
    #[error("header: version is 0")]
    VersionZero,
    #[error("header: the newline test bytes are {found:02x?}, not 0a 20 0d 0a: damaged, or transferred in text mode")]
    NewlineTest { found: [u8; 4] },
    #[error("{what}: incompatible flags {flags:#x} are set")]
    Flags { what: &'static str, flags: u64 },
    #[error("header: markers are declared without compression")]
    MarkersWithoutCompression,
    #[error("header: compression algorithm {0} is not known")]
    Compression(u16),
    #[error("header: grains are declared compressed, and no algorithm is named")]
    CompressionNotNamed,
    #[error("{what}: a grain of {sectors} sectors; the size must be a power of two")]
    GrainSize { what: &'static str, sectors: u64 },
    #[error("{what}: a grain of {sectors} sectors is more than the {most} that are handled")]
    GrainTooLarge { what: &'static str, sectors: u64, most: u64 },
    #[error("{what}: {entries} entries per grain table; the number must be a power of two")]
    TableEntries { what: &'static str, entries: u64 },
    #[error("{what}: {entries} entries per grain table are outside the 128 to 8192 that are handled")]
    TableEntriesRange { what: &'static str, entries: u64 },
    #[error("{what}: a capacity of {sectors} sectors is more than a disk can have")]
    Capacity { what: &'static str, sectors: u64 },
    #[error("{what}: the directory of {bytes} bytes is more than the {most} that are handled")]
    DirectoryTooLarge { what: &'static str, bytes: u64, most: u64 },
    #[error("{what} at sector {sector}, {bytes} bytes long, reaches behind the file's end at byte {file}")]
    OutsideFile { what: &'static str, sector: u64, bytes: u64, file: u64 },
    #[error(
        "grain directory: entry {index} points to sector {sector}, where no grain table of {bytes} bytes can be in a file of {file}"
    )]
    DirectoryEntry { index: u64, sector: u64, bytes: u64, file: u64 },
    #[error("grain directory: entry {index} has the value {value:#x}, which means nothing")]
    DirectoryValue { index: u64, value: u64 },
    #[error("grain directory: none is named")]
    NoDirectory,
    #[error("grain directory: both copies are broken; the first: {first}; the redundant one: {redundant}")]
    BothDirectories { first: Box<Fault>, redundant: Box<Fault> },
    #[error("grain directory: entry {index} is empty, and names a table in the redundant copy")]
    DirectoryEmptied { index: u64 },
    #[error("grain {grain}: its table entry has the value {value:#x}, which means nothing")]
    GrainValue { grain: u64, value: u64 },
    #[error(
        "grain {grain}: {bytes} bytes at byte {offset} reach behind the file's end at byte {file}; the file is cut off"
    )]
    GrainOutside { grain: u64, offset: u64, bytes: u64, file: u64 },
    #[error("grain {grain}: its marker says sector {found}, not {expected}")]
    GrainMarkerPlace { grain: u64, found: u64, expected: u64 },
    #[error("grain {grain}: its marker says {size} compressed bytes, which is not between 1 and {most}")]
    GrainMarkerSize { grain: u64, size: u64, most: u64 },
    #[error("grain {grain}: inflates to {length} bytes, not {expected}")]
    GrainLength { grain: u64, length: u64, expected: u64 },
    #[error("grain directory: {entries} entries are too few, {needed} are needed")]
    DirectoryTooShort { entries: u64, needed: u64 },
    #[error("{what}: wrong magic number {found:#x}")]
    BadMagic { what: &'static str, found: u64 },
    #[error("seSparse header: the {what} is {value} sectors, and only {expected} are known")]
    SeSparseGeometry { what: &'static str, value: u64, expected: u64 },
    #[error("footer: wrong magic number")]
    FooterMagic,
    #[error("footer: not found at the file's end; the file is cut off")]
    NoFooter,
    #[error("end-of-stream marker: {bytes} bytes follow the footer where its 512 must be; the file is cut off")]
    NoEndOfStream { bytes: u64 },
    #[error("footer: {what} is {footer}, and the header says {header}")]
    FooterDiffers { what: &'static str, footer: u64, header: u64 },
    #[error("descriptor: {bytes} bytes are more than the {most} that are handled")]
    DescriptorTooLong { bytes: u64, most: u64 },
    #[error("descriptor: line {line}: {problem}")]
    DescriptorLine { line: usize, problem: String },
    #[error("descriptor: {key} is given twice, as {first:?} and as {second:?}")]
    DescriptorTwice { key: &'static str, first: String, second: String },
    #[error("descriptor: {key} is {value:?}, not {expected}")]
    DescriptorValue { key: &'static str, value: String, expected: &'static str },
    #[error("descriptor: encoding {0:?} is not known")]
    Encoding(String),
    #[error("descriptor: {key} is not valid in the encoding {encoding}")]
    NotDecodable { key: String, encoding: String },
    #[error("descriptor: extent type {0} is not known")]
    ExtentType(String),
    #[error("descriptor: it names no extents")]
    NoExtents,
    #[error("descriptor: its extents have {0} sectors in all, which is more than a disk can have")]
    ExtentsTooLarge(u128),
    #[error("descriptor: parentFileNameHint is {hint:?}, and parentCID says that there is no parent")]
    ParentContradiction { hint: String },
    #[error("extent {index} ({name}): {problem}")]
    Device { index: usize, name: String, problem: &'static str },
    #[error("extent {index} ({name}): it may not be read (NOACCESS)")]
    NoAccess { index: usize, name: String },
    #[error("createType {0} is a disk of the host, not a file")]
    DeviceDisk(String),
    #[error("extent {index} ({name}): {needed} bytes from byte {start} are needed, and the file has {file}")]
    FlatTooShort { index: usize, name: String, start: u64, needed: u64, file: u64 },
    #[error("extent {index} ({name}): an offset of {offset} sectors in a sparse extent")]
    SparseOffset { index: usize, name: String, offset: u64 },
    #[error("extent {index} ({name}): {line} sectors in the descriptor, {header} in its header")]
    ExtentLargerThanHeader { index: usize, name: String, line: u64, header: u64 },
    #[error(
        "extent {index} ({name}): its header says {header} sectors, the descriptor {line}; a grain directory for the header's would reach behind the file's end"
    )]
    HeaderLargerThanFile { index: usize, name: String, line: u64, header: u64 },
    #[error("extent {index} ({name}): the bytes of extent {other} again")]
    Overlap { index: usize, name: String, other: usize },
    #[error("extent {index} ({name}): the file that lists it")]
    DescriptorItself { index: usize, name: String },
    #[error("extent {index} ({name}): a disk of its own that hangs from a parent")]
    ExtentHasParent { index: usize, name: String },
    #[error("extent {index} ({name}): no sparse extent: its magic number is not known")]
    NotSparse { index: usize, name: String },
    #[error("an extent without its descriptor: it may be a part of a disk")]
    BareExtent,
    #[error("seSparse: the journal holds changes that are not in the tables yet")]
    Journal,
    #[error("{0}")]
    StreamUnsupported(&'static str),
    #[error("the stream breaks off {0}")]
    StreamCut(&'static str),
    #[error("grain at sector {lba}: not a multiple of the grain size of {grain} sectors inside {capacity}")]
    StreamPlace { lba: u64, grain: u64, capacity: u64 },
    #[error("grain at sector {lba} follows the one at sector {previous}")]
    StreamOrder { lba: u64, previous: u64 },
    #[error("grain at sector {lba} comes twice")]
    StreamTwice { lba: u64 },
    #[error("marker of type {kind} at byte {offset}: no such type")]
    MarkerKind { kind: u32, offset: u64 },
    #[error("marker of type {kind} at byte {offset}: {sectors} sectors do not fit what it announces")]
    MarkerLength { kind: u32, offset: u64, sectors: u64 },
    #[error("the end-of-stream marker at byte {offset} is followed by something")]
    AfterEnd { offset: u64 },
    #[error("the tables know {tables} grains, and {grains} came")]
    StreamCount { tables: u64, grains: u64 },
    #[error("the end-of-stream marker comes before the footer")]
    NoFooterInStream,
}

impl Fault {
    /// The kind that a program matches on.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Magic { .. } => ErrorKind::NotThisFormat,
            Self::Version { .. }
            | Self::Flags { .. }
            | Self::SeSparseGeometry { .. }
            | Self::Compression(_)
            | Self::GrainTooLarge { .. }
            | Self::TableEntriesRange { .. }
            | Self::Encoding(_)
            | Self::ExtentType(_)
            | Self::Device { .. }
            | Self::NoAccess { .. }
            | Self::DeviceDisk(_)
            | Self::ExtentHasParent { .. }
            | Self::BareExtent
            | Self::Journal
            | Self::StreamOrder { .. }
            | Self::StreamUnsupported(_) => ErrorKind::Unsupported,
            Self::DirectoryTooLarge { .. } | Self::DescriptorTooLong { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Corrupt,
        }
    }

    /// What a user can do about it.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Journal => {
                Some("power the machine on and off once, or consolidate its snapshots, and copy the disk again")
            }
            Self::Device { .. } | Self::DeviceDisk(_) => {
                Some("convert the device itself, or have the hypervisor clone the disk to a file first")
            }
            Self::StreamOrder { .. } | Self::StreamUnsupported(_) => {
                Some("save the input to a file first, or allow it to be spooled")
            }
            _ => None,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind(), fault.to_string());
        match fault.remedy() {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }
}
