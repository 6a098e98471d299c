//! Writes a fixed VHD from front to back: the guest's bytes, then the footer.

use std::io::Write;
use std::sync::Arc;

use transload_block::{BlockEncoder, BlockSink, Codec, Error, ErrorKind, Form, Result, Storage, check_range};
use zerocopy::IntoBytes;

use super::create::{new_file, new_footer};
use super::layout::{FOOTER_BYTES, Footer, disk_type};
use super::options::{CreateOptions, Subformat};
use crate::{SinkOutput, SinkRequest};

/// What is written at a time.
const UNIT: u64 = 1 << 20;

/// Begins a fixed disk.
///
/// # Errors
/// As [`create`](super::create::create); `Unsupported` for a kind that cannot be written in order.
pub(super) fn sink(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let options = CreateOptions::new(request.options)?;
    if options.subformat != Subformat::Fixed {
        let what = "VHD: only a fixed image is written from front to back";
        return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("choose subformat=fixed, or write to a file"));
    }
    let size = options.virtual_size(request.size)?;
    let footer = new_footer(disk_type::FIXED, size, request.ids);
    let output = match request.output {
        SinkOutput::Files(files) => {
            let storage = new_file(files)?;
            storage.set_size(size + FOOTER_BYTES)?;
            Output::Storage(storage)
        }
        SinkOutput::Pipe(pipe) => Output::Pipe(pipe),
    };
    Ok(Box::new(FixedSink { output, footer, size, written: 0 }))
}

/// The parallel half: there is nothing to do.
#[derive(Debug)]
struct Plain;

impl BlockEncoder for Plain {
    fn unit_size(&self) -> u64 {
        UNIT
    }

    fn encode(&self, _unit: &[u8], _stored: &mut Vec<u8>) -> Result<Form> {
        Ok(Form::Plain)
    }

    fn adopt(&self, _codec: Codec, _encoded: &[u8], _unit: Option<&[u8]>, _stored: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }
}

enum Output {
    Storage(Arc<dyn Storage>),
    Pipe(Box<dyn Write + Send>),
}

struct FixedSink {
    output: Output,
    footer: Footer,
    size: u64,
    /// The byte behind the last one that is written or known to be zero.
    written: u64,
}

impl std::fmt::Debug for FixedSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixedSink").field("size", &self.size).field("written", &self.written).finish_non_exhaustive()
    }
}

impl FixedSink {
    /// Writes what stands at `at`, and zeroes in front of it where something was left out.
    fn put(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        let failed = |error| Error::io("writing the fixed VHD", error);
        match &mut self.output {
            Output::Storage(storage) => storage.write_at(bytes, at)?,
            Output::Pipe(pipe) => {
                let mut rest = at - self.written;
                while rest > 0 {
                    let length = usize::try_from(rest).unwrap_or(usize::MAX).min(ZEROES.len());
                    pipe.write_all(&ZEROES[..length]).map_err(failed)?;
                    rest -= length as u64;
                }
                pipe.write_all(bytes).map_err(failed)?;
            }
        }
        self.written = at + bytes.len() as u64;
        Ok(())
    }
}

impl BlockSink for FixedSink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::new(Plain)
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidInput, format!("VHD unit at {offset}: {what}")));
        if form != Form::Plain {
            return invalid("it is encoded");
        }
        if offset < self.written || !offset.is_multiple_of(UNIT) {
            return invalid("offsets must ascend in whole units");
        }
        // The last unit is padded to its full length, and the padding is not the disk's.
        let length = self.size.saturating_sub(offset).min(UNIT);
        check_range(offset, length.max(1), self.size)?;
        match usize::try_from(length).ok().and_then(|length| bytes.get(..length)) {
            Some(bytes) => self.put(bytes, offset),
            None => invalid("it is shorter than a unit"),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let (footer, size) = (self.footer, self.size);
        self.put(footer.as_bytes(), size)?;
        match &mut self.output {
            Output::Storage(storage) => storage.flush(),
            Output::Pipe(pipe) => pipe.flush().map_err(|error| Error::io("writing the fixed VHD", error)),
        }
    }
}
