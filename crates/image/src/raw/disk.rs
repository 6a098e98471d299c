//! The one device that raw needs: a bound around a storage.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Extent, Result, Storage, ZeroMode, check_range,
};

use crate::ImageWrite;

/// A raw disk for writing: the first `size` bytes of a storage. They are all of a file; a block device may be longer.
#[derive(Debug)]
pub(super) struct RawDisk {
    storage: Arc<dyn Storage>,
    size: u64,
}

impl RawDisk {
    /// The first `size` bytes of `storage`, which has that many.
    pub(super) fn new(storage: Arc<dyn Storage>, size: u64) -> Self {
        Self { storage, size }
    }

    fn check(&self, range: &Range<u64>) -> Result<()> {
        check_range(range.start, range.end.saturating_sub(range.start), self.size).map(drop)
    }
}

impl BlockRead for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        self.storage.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.storage.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.check(&range)?;
        self.storage.block_status(range)
    }

    /// All that the storage can do stays true: every byte stands where it stood.
    fn capabilities(&self) -> Capabilities<'_> {
        self.storage.capabilities()
    }
}

impl BlockWrite for RawDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.storage.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.check(&range)?;
        self.storage.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.storage.flush()
    }
}

impl ImageWrite for RawDisk {
    fn finish(&self) -> Result<()> {
        self.storage.flush()
    }
}
