//! Writes a raw disk from front to back.

use std::io::Write;
use std::sync::Arc;

use transload_block::{BlockEncoder, BlockSink, Codec, Error, ErrorKind, Form, Result, Storage, ZeroMode, check_range};

use super::UNIT;
use super::create::Target;
use crate::preallocation::Preallocation;
use crate::{SinkOutput, SinkRequest};

/// Begins a disk. Whatever is not appended reads as zeroes in the end, on block devices too.
pub(super) fn sink(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let preallocation = Preallocation::of(request.options);
    let output = match request.output {
        SinkOutput::Files(files) => {
            let Target { storage, zeroed } = Target::prepare(files, request.size, preallocation)?;
            Output::Storage { storage, zeroed }
        }
        SinkOutput::Pipe(_) if preallocation == Preallocation::Falloc => {
            let what = "preallocation=falloc: a pipe has no room that could be set aside";
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        SinkOutput::Pipe(pipe) => Output::Pipe(pipe),
    };
    Ok(Box::new(RawSink { output, size: request.size, written: 0 }))
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

enum Output {
    Storage { storage: Arc<dyn Storage>, zeroed: bool },
    Pipe(Box<dyn Write + Send>),
}

struct RawSink {
    output: Output,
    size: u64,
    /// The byte behind the last one that is written or known to be zero.
    written: u64,
}

impl std::fmt::Debug for RawSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSink").field("size", &self.size).field("written", &self.written).finish_non_exhaustive()
    }
}

impl RawSink {
    /// Makes everything from what is written up to `end` zero.
    fn fill(&mut self, end: u64) -> Result<()> {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        match &mut self.output {
            Output::Storage { zeroed: true, .. } => {}
            Output::Storage { storage, .. } => {
                if self.written < end {
                    storage.write_zeroes_at(self.written..end, ZeroMode::Unmap)?;
                }
            }
            Output::Pipe(pipe) => {
                let mut rest = end - self.written;
                while rest > 0 {
                    let length = usize::try_from(rest).unwrap_or(usize::MAX).min(ZEROES.len());
                    pipe.write_all(&ZEROES[..length]).map_err(failed)?;
                    rest -= length as u64;
                }
            }
        }
        self.written = end;
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("writing the raw disk", error)
}

impl BlockSink for RawSink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::new(Plain)
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidInput, format!("raw unit at {offset}: {what}")));
        if form != Form::Plain {
            return invalid("it is encoded");
        }
        if offset < self.written || !offset.is_multiple_of(UNIT as u64) {
            return invalid("offsets must ascend in whole units");
        }
        // The last unit is padded to its full length, and the padding is not the disk's.
        let length = self.size.saturating_sub(offset).min(UNIT as u64);
        check_range(offset, length.max(1), self.size)?;
        let Some(bytes) = usize::try_from(length).ok().and_then(|length| bytes.get(..length)) else {
            return invalid("it is shorter than a unit");
        };
        self.fill(offset)?;
        match &mut self.output {
            Output::Storage { storage, .. } => storage.write_at(bytes, offset)?,
            Output::Pipe(pipe) => pipe.write_all(bytes).map_err(failed)?,
        }
        self.written = offset + length;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.fill(self.size)?;
        match &mut self.output {
            Output::Storage { storage, .. } => storage.flush(),
            Output::Pipe(pipe) => pipe.flush().map_err(failed),
        }
    }
}
