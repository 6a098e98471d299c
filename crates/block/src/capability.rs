//! Rare abilities of a device, offered as optional objects so that the engine can take a shorter way.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::Result;

/// The optional abilities of a device. `None` always means "go the ordinary way".
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Capabilities<'a> {
    /// Compressed units can be fetched as they are stored.
    pub encoded: Option<&'a dyn EncodedRead>,
    /// Some bytes stand unchanged in a file of the operating system.
    pub host_extents: Option<&'a dyn HostExtents>,
    /// Space can be allocated ahead of the bytes.
    pub reserve: Option<&'a dyn Reserve>,
}

impl<'a> Capabilities<'a> {
    /// No ability beyond the contract.
    #[must_use]
    pub const fn none() -> Self {
        Self { encoded: None, host_extents: None, reserve: None }
    }

    /// Adds the ability to fetch compressed units.
    #[must_use]
    pub fn with_encoded(self, encoded: &'a dyn EncodedRead) -> Self {
        Self { encoded: Some(encoded), ..self }
    }

    /// Adds the ability to name places in files.
    #[must_use]
    pub fn with_host_extents(self, host_extents: &'a dyn HostExtents) -> Self {
        Self { host_extents: Some(host_extents), ..self }
    }

    /// Adds the ability to allocate ahead.
    #[must_use]
    pub fn with_reserve(self, reserve: &'a dyn Reserve) -> Self {
        Self { reserve: Some(reserve), ..self }
    }
}

impl std::fmt::Debug for Capabilities<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capabilities")
            .field("encoded", &self.encoded.is_some())
            .field("host_extents", &self.host_extents.is_some())
            .field("reserve", &self.reserve.is_some())
            .finish()
    }
}

/// How the bytes of a compressed unit are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// A bare deflate stream (RFC 1951), as in qcow2.
    Deflate,
    /// A deflate stream with the zlib header and Adler-32 trailer (RFC 1950), as in VMDK.
    Zlib,
    /// One Zstandard frame (RFC 8878), as in qcow2.
    Zstd,
}

/// A compressed unit: what it holds and how it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedUnit {
    /// How the bytes are encoded.
    pub codec: Codec,
    /// The guest bytes it decodes to. Cut off at the device's size: the last unit may decode to more than stands here,
    /// and the rest is of no meaning.
    pub range: Range<u64>,
}

/// Fetches compressed units as they are stored, so that a converter may decode them elsewhere or pass them on.
pub trait EncodedRead {
    /// The guest bytes of a whole unit, which is also what a unit decodes to: cluster size, grain size.
    fn encoded_unit_size(&self) -> u64;

    /// Puts the stored bytes of the compressed unit that holds guest byte `offset` into `stored`, replacing what it
    /// held, without trailing padding where the format records the exact length.
    ///
    /// Answers `None`, with `stored` unspecified, when that place is not a compressed unit.
    ///
    /// # Errors
    /// `OutOfRange` when `offset` is not inside the device; what the storage or the format answers.
    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>>;
}

/// Where in a file of the operating system some guest bytes stand unchanged.
#[derive(Clone, Copy, Debug)]
pub struct HostLocation<'a> {
    /// The open file.
    pub file: &'a File,
    /// Its name, for messages.
    pub path: &'a Path,
    /// The first byte's offset in the file.
    pub offset: u64,
}

/// A run of guest bytes and where they stand.
#[derive(Clone, Copy, Debug)]
pub struct HostExtent<'a> {
    /// Bytes, at least one, that this answer is for.
    pub length: u64,
    /// Where they stand; `None` when they stand nowhere unchanged (compressed, zero, not allocated, in memory).
    pub location: Option<HostLocation<'a>>,
}

/// Names the places of guest bytes in files, so that a converter may have the kernel copy them.
pub trait HostExtents {
    /// Where the bytes at the start of `range` stand. For a device that is written to, the answer holds until the range
    /// is written, zeroed or reserved again.
    ///
    /// # Errors
    /// `OutOfRange` as for [`block_status`](crate::BlockRead::block_status); what the format answers.
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>>;
}

/// Allocates space in a fixed order before the bytes arrive in any order.
pub trait Reserve {
    /// Allocates `range`, so that later writes inside it change no metadata and the layout of the file depends only on
    /// the order of reservations. The reserved bytes are unspecified until they are written: the caller writes all of
    /// them.
    ///
    /// # Errors
    /// As [`write_at`](crate::BlockWrite::write_at).
    fn reserve(&self, range: Range<u64>) -> Result<()>;
}
