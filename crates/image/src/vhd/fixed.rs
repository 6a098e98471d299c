//! A fixed disk: the guest's bytes from the start of the file on, bounded by the disk's size.
//!
//! The footer behind them is made with the image and changed by nobody who writes to the disk.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Error, ErrorKind, Extent, Result, Storage, ZeroMode,
    check_extent, check_range, check_span,
};

use crate::ImageWrite;

/// The first `size` bytes of a file, which is longer.
#[derive(Debug)]
pub(super) struct FixedDisk {
    file: Arc<dyn BlockRead>,
    /// The same file, where it may be written.
    storage: Option<Arc<dyn Storage>>,
    size: u64,
}

impl FixedDisk {
    pub(super) fn for_reading(file: Arc<dyn BlockRead>, size: u64) -> Self {
        Self { file, storage: None, size }
    }

    pub(super) fn for_writing(storage: Arc<dyn Storage>, size: u64) -> Self {
        Self { file: Arc::clone(&storage) as Arc<dyn BlockRead>, storage: Some(storage), size }
    }

    fn storage(&self) -> Result<&dyn Storage> {
        let storage = self.storage.as_deref();
        storage.ok_or_else(|| Error::new(ErrorKind::ReadOnly, "VHD: opened for reading"))
    }
}

impl BlockRead for FixedDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        // The size need not be a multiple of what the file is allocated in.
        self.file.limits().shifted(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.file.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        self.file.block_status(range)
    }

    /// What the file can do stays true: every byte stands where it stood.
    fn capabilities(&self) -> Capabilities<'_> {
        self.file.capabilities()
    }
}

impl BlockWrite for FixedDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let storage = self.storage()?;
        check_range(offset, buf.len() as u64, self.size)?;
        storage.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let storage = self.storage()?;
        check_span(&range, self.size)?;
        storage.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.storage.as_ref().map_or(Ok(()), |storage| storage.flush())
    }
}

impl ImageWrite for FixedDisk {
    fn finish(&self) -> Result<()> {
        self.flush()
    }
}
