//! An output that is written from front to back in large pieces: a pipe, or a growing file.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use transload_block::{Error, Result, Storage, ZeroMode};

/// Bytes gathered before they go out: enough that a call costs nothing beside its copy.
const BUFFER: usize = 1 << 20;
/// How far a file is made longer at a time.
const GROWTH: u64 = 64 << 20;

/// What is written to.
pub(crate) enum Destination {
    Pipe(Box<dyn Write + Send>),
    File(Arc<dyn Storage>),
}

/// Appends bytes and knows how many there were.
pub(crate) struct Sequential {
    destination: Destination,
    buffer: Vec<u8>,
    /// Bytes that went out; the buffer's come behind them.
    written: u64,
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequential").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Sequential {
    pub(crate) fn new(destination: Destination) -> Self {
        Self { destination, buffer: Vec::with_capacity(BUFFER), written: 0 }
    }

    /// Whether the output can be written again at its front.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.destination, Destination::File(_))
    }

    /// The bytes so far: where the next one will stand.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.drain()?;
        }
        if bytes.len() >= BUFFER {
            return self.emit(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends zeroes up to the next multiple of `unit`.
    pub(crate) fn pad(&mut self, unit: u64) -> Result<()> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let mut left = self.position().next_multiple_of(unit) - self.position();
        while left > 0 {
            let step = left.min(ZEROES.len() as u64);
            self.append(&ZEROES[..usize::try_from(step).unwrap_or(ZEROES.len())])?;
            left -= step;
        }
        Ok(())
    }

    /// Leaves zeroes up to byte `end` of a file, without writing them where they are already there.
    pub(crate) fn skip_to(&mut self, end: u64) -> Result<()> {
        self.drain()?;
        let Destination::File(storage) = &self.destination else { return Ok(()) };
        let present = storage.size().min(end);
        if self.written < present {
            storage.write_zeroes_at(self.written..present, ZeroMode::Unmap)?;
        }
        if storage.size() < end {
            storage.set_size(end)?;
        }
        self.written = end;
        Ok(())
    }

    /// The file, once everything appended is in it and it ends there.
    pub(crate) fn into_file(mut self) -> Result<Option<Arc<dyn Storage>>> {
        self.drain()?;
        match self.destination {
            Destination::Pipe(mut pipe) => {
                pipe.flush().map_err(|error| Error::io("output", error))?;
                Ok(None)
            }
            Destination::File(storage) => {
                storage.set_size(self.written)?;
                Ok(Some(storage))
            }
        }
    }

    fn drain(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let outcome = self.emit(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        outcome
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.destination {
            Destination::Pipe(pipe) => pipe.write_all(bytes).map_err(|error| Error::io("output", error))?,
            Destination::File(storage) => {
                let end = self.written + bytes.len() as u64;
                if storage.size() < end {
                    // A generous step may exceed a limit that the file itself will not.
                    storage.set_size(end + GROWTH).or_else(|_| storage.set_size(end))?;
                }
                storage.write_at(bytes, self.written)?;
            }
        }
        self.written += bytes.len() as u64;
        Ok(())
    }
}
