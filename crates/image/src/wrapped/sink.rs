//! Writes a raw disk into a compressed file, from front to back.

use std::sync::Arc;

use transload_block::{BlockEncoder, BlockSink, Error, ErrorKind, Form, Result, check_range};

use super::pack::{How, Packed, Packer, UNIT};
use crate::SinkRequest;

/// Begins a gzip file, of one stream unless members are asked for.
pub(super) fn gzip(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let members = request.options.text("subformat") == Some("members");
    begin(request, if members { How::GzipMembers } else { How::GzipStream })
}

/// Begins a Zstandard file.
pub(super) fn zstd(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    begin(request, How::ZstdFrames)
}

fn begin(request: SinkRequest<'_>, how: How) -> Result<Box<dyn BlockSink>> {
    let packer = Arc::new(Packer::new(how, request.level.unwrap_or_default()));
    Ok(Box::new(Sink { packed: Packed::new(request.output, packer)?, size: request.size, at: 0 }))
}

#[derive(Debug)]
struct Sink {
    packed: Packed,
    size: u64,
    /// The byte of the disk that comes next.
    at: u64,
}

impl BlockSink for Sink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        self.packed.packer()
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let unit = UNIT as u64;
        let length = self.size.saturating_sub(offset).min(unit);
        check_range(offset, length.max(1), self.size)?;
        if form != Form::Encoded || offset < self.at || !offset.is_multiple_of(unit) {
            let what = format!("unit at {offset}: packed units ascend, and begin at multiples of {unit}");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        self.packed.put_zeroes(offset - self.at)?;
        self.at = offset + length;
        match usize::try_from(length) {
            Ok(keep) if keep < UNIT => self.packed.put_front(bytes, keep),
            _ => self.packed.put_packed(bytes, length),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.packed.put_zeroes(self.size - self.at)?;
        self.packed.finish()
    }
}
