//! A disk in memory.

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use crate::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Error, ErrorKind, Extent, Result, Storage, ZeroMode,
    check_range,
};

/// A growable disk in memory, for tests and small images.
#[derive(Debug, Default)]
pub struct Memory(RwLock<Vec<u8>>);

impl Memory {
    /// A disk of `size` zeroes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::from(vec![0; size])
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Self(RwLock::new(bytes))
    }
}

fn span(offset: u64, length: u64, size: usize) -> Result<Range<usize>> {
    let end = check_range(offset, length, size as u64)?;
    let index = |place: u64| usize::try_from(place).map_err(|_| Error::new(ErrorKind::OutOfRange, "offset"));
    Ok(index(offset)?..index(end)?)
}

impl BlockRead for Memory {
    fn size(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let span = span(offset, buf.len() as u64, bytes.len())?;
        buf.copy_from_slice(&bytes[span]);
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = range.end.checked_sub(range.start).filter(|length| *length > 0);
        let length = length.ok_or_else(|| Error::new(ErrorKind::OutOfRange, "empty range"))?;
        check_range(range.start, length, self.size())?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for Memory {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let span = span(offset, buf.len() as u64, bytes.len())?;
        bytes[span].copy_from_slice(buf);
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, _mode: ZeroMode) -> Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let span = span(range.start, range.end.saturating_sub(range.start), bytes.len())?;
        bytes[span].fill(0);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Storage for Memory {
    fn set_size(&self, size: u64) -> Result<()> {
        let size = usize::try_from(size).map_err(|_| Error::new(ErrorKind::TooLarge, "memory disk"))?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).resize(size, 0);
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        check_range(range.start, range.end.saturating_sub(range.start), self.size()).map(drop)
    }
}
