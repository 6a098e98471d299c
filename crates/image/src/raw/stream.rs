//! Reads a raw disk from a pipe.

use std::io::Read;

use transload_block::{BlockStream, Error, Payload, Result, StreamUnit, is_all_zero};

use super::UNIT;
use crate::StreamRequest;

/// Begins to read a disk that is over when its input is: how long it is, nothing says before.
pub(super) fn stream(request: StreamRequest<'_>) -> Result<Box<dyn BlockStream>> {
    Ok(Box::new(RawStream { input: Some(request.input), offset: 0, spare: Vec::new() }))
}

struct RawStream {
    /// Gone once it has ended or failed.
    input: Option<Box<dyn Read + Send>>,
    offset: u64,
    /// The buffer of the last unit of zeroes, which was handed on without it.
    spare: Vec<u8>,
}

impl std::fmt::Debug for RawStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawStream").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl BlockStream for RawStream {
    fn size(&self) -> Option<u64> {
        None
    }

    fn unit_size(&self) -> u64 {
        UNIT as u64
    }

    fn next_unit(&mut self, mut buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        if buffer.capacity() < self.spare.capacity() {
            std::mem::swap(&mut buffer, &mut self.spare);
        }
        buffer.clear();
        buffer.reserve_exact(UNIT);
        let read = (&mut input).take(UNIT as u64).read_to_end(&mut buffer);
        let length = read.map_err(|error| Error::io(format!("reading at offset {}", self.offset), error))?;
        if length == 0 {
            return Ok(None);
        }
        // A short unit is the last one; asking a terminal or a pipe again after its end could wait for ever.
        self.input = (length == UNIT).then_some(input);
        let offset = self.offset;
        self.offset += length as u64;
        let payload = if is_all_zero(&buffer) {
            self.spare = buffer;
            Payload::Zero
        } else {
            Payload::Plain(buffer)
        };
        Ok(Some(StreamUnit { offset, length: length as u64, payload }))
    }
}
