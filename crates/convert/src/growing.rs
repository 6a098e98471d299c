//! Raw targets whose size is known only when the source ends: a file that grows, and a pipe.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use transload_block::{
    BlockEncoder, BlockLimits, BlockRead, BlockSink, BlockStatus, BlockWrite, Capabilities, Codec, Error, ErrorKind,
    Extent, Form, Result, Storage, ZeroMode,
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

/// What is written to a pipe at once.
const UNIT: usize = 1 << 20;

/// A pipe that gets the guest's bytes, however many there will be.
///
/// A unit comes padded to its full length, and only the end of the source tells how much of the last one is the disk's: a
/// unit is held back until something follows it.
pub(crate) struct GrowingPipe {
    pipe: Box<dyn Write + Send>,
    held: Vec<u8>,
    /// What went out, zeroes included: where the held unit begins.
    written: u64,
    end: Arc<OnceLock<u64>>,
}

impl GrowingPipe {
    /// A pipe that will end at `end`, which is set before [`finish`](BlockSink::finish).
    pub(crate) fn new(pipe: Box<dyn Write + Send>, end: Arc<OnceLock<u64>>) -> Self {
        Self { pipe, held: Vec::new(), written: 0, end }
    }

    /// Writes the held unit as far as it lies in front of `end`, and zeroes from there on.
    fn reach(&mut self, end: u64) -> Result<()> {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        let wanted = usize::try_from(end.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let held = wanted.min(self.held.len());
        self.pipe.write_all(&self.held[..held]).map_err(failed)?;
        self.held.clear();
        self.written += held as u64;
        while self.written < end {
            let length = usize::try_from(end - self.written).unwrap_or(usize::MAX).min(ZEROES.len());
            self.pipe.write_all(&ZEROES[..length]).map_err(failed)?;
            self.written += length as u64;
        }
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("writing the raw disk", error)
}

impl fmt::Debug for GrowingPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrowingPipe").field("written", &self.written).finish_non_exhaustive()
    }
}

impl BlockSink for GrowingPipe {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::new(Plain)
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        if form != Form::Plain || offset < self.written + self.held.len() as u64 {
            let text = format!("raw unit at {offset}: it is encoded, or does not ascend");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        self.reach(offset)?;
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let end = self.end.get().copied();
        self.reach(end.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the end of the disk is not known"))?)?;
        self.pipe.flush().map_err(failed)
    }
}

/// The parallel half: there is nothing to do.
#[derive(Debug)]
struct Plain;

impl BlockEncoder for Plain {
    fn unit_size(&self) -> u64 {
        UNIT as u64
    }

    fn encode(&self, _unit: &[u8], _stored: &mut Vec<u8>) -> Result<Form> {
        Ok(Form::Plain)
    }

    fn adopt(&self, _codec: Codec, _encoded: &[u8], _unit: Option<&[u8]>, _stored: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }
}
