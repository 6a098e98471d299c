//! Writes the archive: the header with its map, and the units of the disk that may hold data.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockEncoder, BlockSink, BlockStatus, Error, ErrorKind, Extent, Form, Result};

use super::FORMAT;
use super::tar::{BLOCK, Map, RECORD};
use crate::wrapped::pack::{How, Packed, Packer, UNIT};
use crate::{SinkRequest, parse_size};

/// Holes shorter than this are written as zeroes: they cost less packed than the importer's seeks.
const HOLE_MIN: u64 = 8 << 20;

/// Begins an archive. Where it is not known beforehand what the disk holds, all of it is written, zeroes too.
pub(super) fn sink(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let unit = UNIT as u64;
    let default =
        FORMAT.create_options.iter().find(|spec| spec.name == "round_up").and_then(|spec| parse_size(spec.default));
    let round_up = request.options.size("round_up").or(default).unwrap_or(unit).max(1);
    if !round_up.is_multiple_of(unit) {
        let what = format!("option round_up={round_up}: must be a multiple of 1 MiB");
        return Err(Error::new(ErrorKind::InvalidInput, what));
    }
    let size = request.size.max(1).checked_next_multiple_of(round_up).filter(|size| *size <= u64::MAX / 2);
    let size = size.ok_or_else(|| Error::new(ErrorKind::TooLarge, format!("a disk of {} bytes", request.size)))?;
    let runs = request.extents.map_or_else(|| Map::whole(size).runs, |extents| runs(extents, size));
    let map = Map { runs, size };
    let packer = Arc::new(Packer::new(How::GzipStream, request.level.unwrap_or_default()));
    let mut packed = Packed::new(request.output, packer)?;
    let header = map.header();
    packed.put(&header)?;
    let written = header.len() as u64 + map.stored();
    Ok(Box::new(Archive { packed, map, run: 0, at: 0, written }))
}

/// The units that may hold data, in runs.
fn runs(extents: &[Extent], size: u64) -> Vec<Range<u64>> {
    let unit = UNIT as u64;
    let mut runs: Vec<Range<u64>> = Vec::new();
    for extent in extents.iter().filter(|extent| extent.status == BlockStatus::Data && extent.length > 0) {
        let run = extent.offset - extent.offset % unit..extent.end().next_multiple_of(unit).min(size);
        match runs.last_mut().filter(|last| run.start < last.end.saturating_add(HOLE_MIN)) {
            Some(last) => last.end = last.end.max(run.end),
            None => runs.push(run),
        }
    }
    runs
}

#[derive(Debug)]
struct Archive {
    packed: Packed,
    map: Map,
    /// The run that we are in or in front of.
    run: usize,
    /// The byte of the disk that comes next.
    at: u64,
    /// Bytes of the archive once all runs are written.
    written: u64,
}

impl Archive {
    /// Writes zeroes for what of the runs lies in front of `end`.
    fn advance(&mut self, end: u64) -> Result<()> {
        while let Some(run) = self.map.runs.get(self.run).cloned() {
            let from = self.at.max(run.start);
            if from >= end {
                break;
            }
            let until = run.end.min(end);
            self.packed.put_zeroes(until.saturating_sub(from))?;
            self.at = until;
            if until == run.end {
                self.run += 1;
            }
        }
        self.at = self.at.max(end);
        Ok(())
    }
}

impl BlockSink for Archive {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        self.packed.packer()
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let unit = UNIT as u64;
        let ascends = form == Form::Encoded && offset >= self.at && offset.is_multiple_of(unit);
        if ascends {
            self.advance(offset)?;
        }
        let run = self.map.runs.get(self.run).filter(|run| ascends && run.start <= offset);
        let Some(run) = run.filter(|run| offset + unit <= run.end).cloned() else {
            let what = format!("unit at {offset}: it is out of order, or the extents said that there is no data");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        };
        // The disk ends at a whole unit, so that the zeroes behind a short one are its own.
        self.packed.put_packed(bytes, unit)?;
        self.at = offset + unit;
        self.run += usize::from(self.at == run.end);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.advance(self.map.size)?;
        // Two blocks of zeroes are the end of an archive, which is made of whole records.
        let end = (self.written + 2 * BLOCK as u64).next_multiple_of(RECORD as u64);
        self.packed.put_zeroes(end - self.written)?;
        self.packed.finish()
    }
}
