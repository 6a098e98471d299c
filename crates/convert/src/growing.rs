//! A raw target whose size is known only when the source ends.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Error, ErrorKind, Extent, Result, Storage, ZeroMode,
};

use crate::job::lock;

/// A storage that grows under what is written to it. To those who write it looks as large as a disk can be.
#[derive(Debug)]
pub(crate) struct Growing {
    storage: Arc<dyn Storage>,
    /// The storage's size. Held while it grows, so that it never shrinks.
    size: Mutex<u64>,
}

impl Growing {
    /// Grows `storage`, which is empty.
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, size: Mutex::new(0) }
    }

    fn reach(&self, end: u64) -> Result<()> {
        let mut size = lock(&self.size);
        if end > *size {
            self.storage.set_size(end)?;
            *size = end;
        }
        Ok(())
    }

    /// Ends at `size` bytes, and makes them durable.
    pub(crate) fn finish(&self, size: u64) -> Result<()> {
        self.reach(size)?;
        self.storage.flush()
    }
}

impl BlockRead for Growing {
    fn size(&self) -> u64 {
        i64::MAX.unsigned_abs()
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: 1, preferred: 1 << 20, granularity: 4096 }
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "reading a target that still grows"))
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        Ok(Extent { offset: range.start, length: range.end - range.start, status: BlockStatus::Hole })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for Growing {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size());
        self.reach(end.ok_or_else(|| Error::new(ErrorKind::TooLarge, "the stream does not end"))?)?;
        self.storage.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.reach(range.end)?;
        self.storage.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.storage.flush()
    }
}
