//! What can be wrong with a VHD: one variant per broken rule, with the numbers.
//!
//! Drivers return [`Fault`]s; at the edge they become [`transload_block::Error`]s of the right kind, to which the caller
//! adds the file's name.

use thiserror::Error as ThisError;
use transload_block::{Error, ErrorKind};

/// A broken rule, or a valid feature that is not handled.
#[derive(Debug, ThisError)]
pub(super) enum Fault {
    #[error("no footer: 'conectix' stands neither at the file's end nor at its start")]
    NoFooter,
    #[error("footer: checksum {found:#010x} is wrong, and there is no sound copy of it")]
    FooterDamaged { found: u32 },
    #[error("footer: file format version {0:#010x} is not known")]
    Version(u32),
    #[error("footer: disk type {0} is none of fixed (2), dynamic (3) and differencing (4)")]
    DiskType(u32),
    #[error("footer: the disk has {size} bytes, no whole number of sectors")]
    PartialSector { size: u64 },
    #[error("footer: the disk has {size} bytes, and {there} stand in front of the footer; the file is cut off")]
    CutOff { size: u64, there: u64 },
    #[error("footer: a disk of {size} bytes, and a VHD can have {most} (2040 GiB)")]
    TooLarge { size: u64, most: u64 },
    #[error("dynamic header: at byte {offset}, where no 1024 bytes are in a file of {file}")]
    HeaderPlace { offset: u64, file: u64 },
    #[error("dynamic header: at byte {offset}, 'cxsparse' is missing")]
    HeaderCookie { offset: u64 },
    #[error("dynamic header: checksum {found:#010x} should be {right:#010x}")]
    HeaderChecksum { found: u32, right: u32 },
    #[error("dynamic header: version {0:#010x} is not known")]
    HeaderVersion(u32),
    #[error("dynamic header: a block of {0} bytes; the size must be a power of two from 512 on")]
    BlockSize(u32),
    #[error("dynamic header: {entries} table entries are too few for {needed} blocks of {block} bytes")]
    TooFewEntries { entries: u32, needed: u64, block: u64 },
    #[error("block allocation table: {bytes} bytes at byte {offset} reach behind the file's end at byte {file}")]
    TablePlace { offset: u64, bytes: u64, file: u64 },
    #[error(
        "block {block}: its table entry {sector} puts {bytes} bytes at byte {offset}, which is not between the header and the \
         file's end at byte {file}"
    )]
    BlockPlace { block: u64, sector: u32, offset: u64, bytes: u64, file: u64 },
    #[error("the disk is in a saved state: a suspended machine goes on from what stands in it")]
    SavedState,
}

impl Fault {
    /// The kind that a program matches on.
    pub(super) const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoFooter => ErrorKind::NotThisFormat,
            Self::Version(_) | Self::HeaderVersion(_) | Self::SavedState => ErrorKind::Unsupported,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Corrupt,
        }
    }

    const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::SavedState => Some("resume the machine and shut it down, or discard its saved state"),
            _ => None,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind(), format!("VHD {fault}"));
        match fault.remedy() {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }
}
