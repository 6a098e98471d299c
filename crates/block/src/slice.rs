//! A window on a disk: a partition, or the data part of a file.

use std::ops::Range;
use std::sync::Arc;

use crate::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, EncodedRead, EncodedUnit, Error, ErrorKind, Extent, HostExtent,
    HostExtents, Reserve, Result, ZeroMode, check_extent, check_range, check_span,
};

/// The bytes of a range of another device, as a disk that begins at 0.
#[derive(Clone, Debug)]
pub struct Slice {
    inner: Arc<dyn BlockRead>,
    /// The same device, where it may be written.
    writer: Option<Arc<dyn BlockWrite>>,
    start: u64,
    size: u64,
}

impl Slice {
    /// A window for reading on `range` of `inner`.
    ///
    /// # Errors
    /// `OutOfRange` when `range` is reversed or reaches behind the device.
    pub fn new(inner: Arc<dyn BlockRead>, range: Range<u64>) -> Result<Self> {
        let size = check_span(&range, inner.size())?;
        Ok(Self { inner, writer: None, start: range.start, size })
    }

    /// A window for reading and writing on `range` of `inner`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn writable(inner: Arc<dyn BlockWrite>, range: Range<u64>) -> Result<Self> {
        let reader = Arc::clone(&inner) as Arc<dyn BlockRead>;
        Ok(Self { writer: Some(inner), ..Self::new(reader, range)? })
    }

    fn writer(&self) -> Result<&dyn BlockWrite> {
        self.writer.as_deref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "slice: opened for reading"))
    }

    /// Where a checked range stands in the device beneath.
    fn moved(&self, range: &Range<u64>) -> Range<u64> {
        range.start + self.start..range.end + self.start
    }
}

impl BlockRead for Slice {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        self.inner.limits().shifted(self.start)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.inner.read_at(buf, offset + self.start)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let extent = self.inner.block_status(self.moved(&range))?;
        Ok(Extent { offset: range.start, ..extent })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let inner = self.inner.capabilities();
        Capabilities {
            // A window that does not begin with a unit would cut every one of them.
            encoded: inner
                .encoded
                .filter(|encoded| self.start.is_multiple_of(encoded.encoded_unit_size().max(1)))
                .map(|_| self as &dyn EncodedRead),
            host_extents: inner.host_extents.map(|_| self as &dyn HostExtents),
            reserve: inner.reserve.filter(|_| self.writer.is_some()).map(|_| self as &dyn Reserve),
        }
    }
}

impl EncodedRead for Slice {
    fn encoded_unit_size(&self) -> u64 {
        self.inner.capabilities().encoded.map_or(1, EncodedRead::encoded_unit_size)
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        check_extent(&(offset..offset.saturating_add(1)), self.size)?;
        let Some(encoded) = self.inner.capabilities().encoded else { return Ok(None) };
        let unit = encoded.read_encoded(offset + self.start, stored)?;
        Ok(unit.and_then(|unit| {
            let start = unit.range.start.checked_sub(self.start)?;
            Some(EncodedUnit { range: start..(unit.range.end - self.start).min(self.size), ..unit })
        }))
    }
}

impl HostExtents for Slice {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let length = check_extent(&range, self.size)?;
        match self.inner.capabilities().host_extents {
            Some(places) => places.host_extent(self.moved(&range)),
            None => Ok(HostExtent { length, location: None }),
        }
    }
}

impl Reserve for Slice {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.writer()?;
        check_span(&range, self.size)?;
        match self.inner.capabilities().reserve {
            Some(inner) => inner.reserve(self.moved(&range)),
            None => Ok(()),
        }
    }
}

impl BlockWrite for Slice {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let writer = self.writer()?;
        check_range(offset, buf.len() as u64, self.size)?;
        writer.write_at(buf, offset + self.start)
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let writer = self.writer()?;
        check_span(&range, self.size)?;
        writer.write_zeroes_at(self.moved(&range), mode)
    }

    fn flush(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.flush())
    }
}
