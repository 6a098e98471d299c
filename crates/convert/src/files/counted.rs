//! Counts the bytes that go into a file or a pipe.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transload_block::{BlockLimits, BlockRead, BlockWrite, Capabilities, Extent, Result, Storage, ZeroMode};

/// A storage that counts what is written to it.
#[derive(Debug)]
pub(super) struct Counted {
    inner: Arc<dyn Storage>,
    written: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn new(inner: Arc<dyn Storage>, written: Arc<AtomicU64>) -> Self {
        Self { inner, written }
    }
}

#[deny(clippy::missing_trait_methods)]
impl BlockRead for Counted {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn limits(&self) -> BlockLimits {
        self.inner.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.inner.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.inner.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        self.inner.capabilities()
    }
}

#[deny(clippy::missing_trait_methods)]
impl BlockWrite for Counted {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.inner.write_at(buf, offset)?;
        self.written.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.inner.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Storage for Counted {
    fn set_size(&self, size: u64) -> Result<()> {
        self.inner.set_size(size)
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.inner.allocate(range)
    }
}

/// A pipe that counts what is written to it.
pub(crate) struct CountedPipe {
    inner: Box<dyn Write + Send>,
    written: Arc<AtomicU64>,
}

impl CountedPipe {
    pub(crate) fn new(inner: Box<dyn Write + Send>, written: Arc<AtomicU64>) -> Self {
        Self { inner, written }
    }
}

impl Write for CountedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
