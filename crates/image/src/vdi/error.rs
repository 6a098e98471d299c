//! What can be wrong with a VDI: one variant per broken rule, with the numbers.

use thiserror::Error as ThisError;
use transload_block::{Error, ErrorKind};

/// A broken rule, or a valid feature that is not handled.
#[derive(Debug, ThisError)]
pub(super) enum Fault {
    #[error("VDI header: {length} bytes are too few, {needed} are needed")]
    TooShort { length: u64, needed: u64 },
    #[error("VDI header: the signature is missing")]
    Signature,
    #[error("VDI header: version {major}.{minor} is not known")]
    Version { major: u16, minor: u16 },
    #[error("VDI header: it says that it is {found} bytes long, and version 1 has at least {needed}")]
    HeaderSize { found: u32, needed: usize },
    #[error("VDI header: image type {0} is not known")]
    Kind(u32),
    #[error("VDI header: a block of {0} bytes; the size must be a power of two of at least 512")]
    BlockSize(u32),
    #[error("VDI header: {blocks} blocks are more than can be numbered")]
    TooManyBlocks { blocks: u64 },
    #[error("VDI header: {blocks} blocks of {block} bytes do not cover the disk of {size} bytes")]
    TooFewBlocks { blocks: u64, block: u64, size: u64 },
    #[error("VDI header: the map at byte {map} lies over the header, which ends at byte {end}")]
    MapOverHeader { map: u64, end: u64 },
    #[error(
        "VDI header: the map of {blocks} entries at byte {map} reaches behind the start of the blocks at byte {data}"
    )]
    MapOverData { map: u64, blocks: u64, data: u64 },
    #[error("VDI map: {blocks} entries at byte {map} reach behind the file's end at byte {file}; the file is cut off")]
    MapOutside { map: u64, blocks: u64, file: u64 },
    #[error("VDI header: the image is of type {kind} and names no parent")]
    NoParent { kind: &'static str },
    #[error("VDI map: block {block} is said to be block {entry} of the file, and there are {blocks} at most")]
    Entry { block: u64, entry: u32, blocks: u64 },
    #[error(
        "VDI map: block {block}: {bytes} bytes at byte {offset} reach behind the file's end at byte {file}; the file is cut off"
    )]
    BlockOutside { block: u64, bytes: u64, offset: u64, file: u64 },
    #[error("VDI map: block {entry} of the file is used for {uses} blocks of the disk")]
    Shared { entry: u64, uses: &'static str },
    #[error("VDI: all {blocks} blocks of the file are taken, some of them by nothing")]
    Leaked { blocks: u64 },
}

impl Fault {
    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Signature => ErrorKind::NotThisFormat,
            Self::Version { .. } | Self::Kind(_) | Self::Leaked { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind(), fault.to_string());
        match fault {
            Fault::Shared { .. } => error.with_remedy("convert it to a new image, and look at what is in it"),
            Fault::Leaked { .. } => error.with_remedy("run check --repair first"),
            _ => error,
        }
    }
}
