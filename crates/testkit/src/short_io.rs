//! A file below the loops over short I/O that answers as shortly as an operating system may.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Error, Extent, Memory, PositionedIo, Result, Storage, ZeroMode,
    check_range, read_full_at, write_full_at,
};

use crate::random::Random;

/// A disk whose every read and write is cut short at a random place or interrupted, beneath the loops that a file's
/// driver runs.
#[derive(Debug)]
pub struct ShortIo {
    raw: Raw,
}

/// What stands for the file.
#[derive(Debug)]
struct Raw {
    memory: Memory,
    random: Mutex<Random>,
}

impl ShortIo {
    /// Over `memory`, with cuts that are the same for the same `seed`.
    #[must_use]
    pub fn new(memory: Memory, seed: u64) -> Self {
        Self { raw: Raw { memory, random: Mutex::new(Random::new(seed)) } }
    }
}

impl Raw {
    /// How much of `length` bytes this call moves, which is at least one.
    fn cut(&self, length: usize) -> io::Result<usize> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        if random.below(4) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(usize::try_from(random.below(length as u64)).map_or(length, |less| less + 1).min(length))
    }
}

impl PositionedIo for Raw {
    fn read_some_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.memory.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = self.cut(buf.len())?.min(left);
        self.memory.read_at(&mut buf[..count], offset).map_err(io::Error::other)?;
        Ok(count)
    }

    fn write_some_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let count = self.cut(buf.len())?;
        self.memory.write_at(&buf[..count], offset).map_err(io::Error::other)?;
        Ok(count)
    }
}

impl BlockRead for ShortIo {
    fn size(&self) -> u64 {
        self.raw.memory.size()
    }

    fn limits(&self) -> BlockLimits {
        self.raw.memory.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        read_full_at(&self.raw, buf, offset).map_err(|error| Error::io(format!("read at {offset}"), error))
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.raw.memory.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for ShortIo {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        write_full_at(&self.raw, buf, offset).map_err(|error| Error::io(format!("write at {offset}"), error))
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.raw.memory.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Storage for ShortIo {
    fn set_size(&self, size: u64) -> Result<()> {
        self.raw.memory.set_size(size)
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.raw.memory.allocate(range)
    }
}
