//! The traits of a virtual disk, and the words they are written in.

use std::fmt::Debug;
use std::ops::Range;

use crate::{Capabilities, Error, ErrorKind, Result};

/// A virtual disk that can be read at any place by any number of threads at once.
///
/// Offsets and lengths are in bytes and need no alignment: [`limits`](Self::limits) tells what is cheap, not what is
/// allowed. Every sentence here has a case in `transload_testkit::conformance`.
pub trait BlockRead: Send + Sync + Debug {
    /// The virtual size in bytes. It is constant while the device is shared; only the owner of a [`crate::Storage`]
    /// moves it.
    fn size(&self) -> u64;

    /// What requests are cheapest. Constant for the life of the device.
    fn limits(&self) -> BlockLimits;

    /// Fills all of `buf` with the bytes that start at `offset`.
    ///
    /// An empty `buf` succeeds at any `offset` up to and including the size. On an error the contents of `buf` are
    /// unspecified. Holes and zeroes read as zeroes.
    ///
    /// # Errors
    /// `OutOfRange` when any byte lies behind [`size`](Self::size), in which case nothing is read; otherwise what the
    /// storage or the format answers. Never a short read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Says what stands at the start of `range`: one extent that begins at `range.start`, is at least one byte long and
    /// does not reach behind `range.end`.
    ///
    /// It costs no payload I/O. The status is true for every byte of the extent, but its length is a hint: the next
    /// extent may have the same status. A device that is unsure says [`BlockStatus::Data`]. While the device is open an
    /// extent never goes back to [`BlockStatus::Hole`].
    ///
    /// # Errors
    /// `OutOfRange` when `range` is empty, reversed, or reaches behind [`size`](Self::size).
    fn block_status(&self, range: Range<u64>) -> Result<Extent>;

    /// The optional abilities of the device. A wrapper forwards those that stay true through it.
    fn capabilities(&self) -> Capabilities<'_>;
}

/// A virtual disk that can also be written, by any number of threads at once.
///
/// Two writes that overlap in space and time leave one or the other in each byte, in no promised order; writes that do
/// not overlap never disturb each other, even inside one cluster, grain or sector.
pub trait BlockWrite: BlockRead {
    /// Writes all of `buf` at `offset`. Reads that start after it returned see it.
    ///
    /// An empty `buf` succeeds at any `offset` up to and including the size.
    ///
    /// # Errors
    /// `OutOfRange` when any byte lies behind the size, in which case nothing is written; `ReadOnly` when the device
    /// was opened for reading; `NoSpace` when the storage is full. After any other error the bytes of the range are
    /// unspecified, those outside it unchanged.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Makes `range` read as zeroes, without writing payload where the device can avoid it. Afterwards
    /// [`block_status`](BlockRead::block_status) does not answer [`BlockStatus::Hole`] where something would show
    /// through. An empty range succeeds.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()>;

    /// Makes everything written before the call survive a crash or power cut.
    ///
    /// # Errors
    /// What the storage answers. After an error, nothing is known of the writes since the last flush.
    fn flush(&self) -> Result<()>;
}

/// What stands in an extent of one layer of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockStatus {
    /// Bytes that have to be read to be known.
    Data,
    /// Zeroes. Opaque: what a backing file has here does not show.
    Zero,
    /// Nothing. Transparent: what a backing file has here shows; zeroes where there is none.
    Hole,
}

impl BlockStatus {
    /// Whether the extent reads as zeroes in a device that has nothing below it.
    #[must_use]
    pub const fn reads_zero(self) -> bool {
        matches!(self, Self::Zero | Self::Hole)
    }
}

/// A run of bytes of one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte, from the start of the disk.
    pub offset: u64,
    /// Bytes, at least one.
    pub length: u64,
    /// What stands there.
    pub status: BlockStatus,
}

impl Extent {
    /// The byte behind the last one.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// The extent as a range of bytes.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.end()
    }
}

/// What requests a device serves most cheaply. All three are powers of two, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockLimits {
    /// Requests whose offset and length are multiples of this need no read-modify-write.
    pub alignment: u32,
    /// The request size that costs least per byte; a multiple of `alignment`.
    pub preferred: u32,
    /// The unit in which the device allocates and in which status changes: cluster, grain, block.
    pub granularity: u32,
}

impl BlockLimits {
    /// Any request is as good as any other: memory.
    pub const NONE: Self = Self { alignment: 1, preferred: 1 << 20, granularity: 1 };

    /// The limits of a device whose status also changes at `offset`: a border between two others, or the place where
    /// this one begins in another.
    #[must_use]
    pub const fn shifted(self, offset: u64) -> Self {
        // 0 and the multiples of 2^32 are on every grid that 32 bits can name.
        match offset.trailing_zeros() {
            shift @ 0..32 if 1 << shift < self.granularity => Self { granularity: 1 << shift, ..self },
            _ => self,
        }
    }

    /// The limits of a device that is made of two: requests that suit both, and the finer of the two grids of status.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            alignment: self.alignment.max(other.alignment),
            preferred: self.preferred.max(other.preferred).max(self.alignment.max(other.alignment)),
            granularity: self.granularity.min(other.granularity),
        }
    }
}

/// How to make a range read as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZeroMode {
    /// The space may be given back: punch a hole, mark the cluster as zero.
    Unmap,
    /// The space stays allocated, so that later writes cannot run out of it.
    KeepAllocated,
}

/// Checks that `length` bytes at `offset` lie inside a device of `size` bytes, and returns the end.
///
/// # Errors
/// `OutOfRange` when they do not, or when the sum overflows.
pub fn check_range(offset: u64, length: u64, size: u64) -> Result<u64> {
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(end),
        _ => Err(Error::new(
            ErrorKind::OutOfRange,
            format!("{length} bytes at offset {offset} reach behind the device's {size} bytes"),
        )),
    }
}

/// Checks a range that may be empty, as [`BlockWrite::write_zeroes_at`] is given, and returns its length.
///
/// # Errors
/// `OutOfRange` when it is reversed or reaches behind a device of `size` bytes.
pub fn check_span(range: &Range<u64>, size: u64) -> Result<u64> {
    let length = range.end.checked_sub(range.start).ok_or_else(|| {
        Error::new(ErrorKind::OutOfRange, format!("the range {}..{} is reversed", range.start, range.end))
    })?;
    check_range(range.start, length, size)?;
    Ok(length)
}

/// Checks a range that must hold a byte, as [`BlockRead::block_status`] is given, and returns its length.
///
/// # Errors
/// `OutOfRange` when it is empty, reversed, or reaches behind a device of `size` bytes.
pub fn check_extent(range: &Range<u64>, size: u64) -> Result<u64> {
    match check_span(range, size)? {
        0 => Err(Error::new(ErrorKind::OutOfRange, format!("the range {}..{} is empty", range.start, range.end))),
        length => Ok(length),
    }
}
