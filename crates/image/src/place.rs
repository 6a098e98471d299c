//! Where the bytes of a disk stand in the file of an image that allocates in blocks and marks blocks of zeroes.

use transload_block::BlockStatus;

/// A run of bytes that stand in one piece in the file or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) length: u64,
    pub(crate) place: Place,
}

/// Where bytes of the disk stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// From this byte of the file on.
    File(u64),
    /// Nowhere: the format says that they are zeroes.
    Zero,
    /// Nowhere, and nothing is said of them: a parent shows through, if there is one.
    Nowhere,
}

impl Place {
    pub(crate) const fn status(self) -> BlockStatus {
        match self {
            Self::File(_) => BlockStatus::Data,
            Self::Zero => BlockStatus::Zero,
            Self::Nowhere => BlockStatus::Hole,
        }
    }

    /// Whether `next` goes on where this one ends after `length` bytes.
    pub(crate) fn continues(self, length: u64, next: Self) -> bool {
        match (self, next) {
            (Self::File(start), Self::File(place)) => start + length == place,
            _ => self == next,
        }
    }
}
