//! Passing over the holes of a sparse file: a table that stands in a hole is all zeroes, and need not be read.

use transload_block::{BlockRead, BlockStatus, Extent, Result};

/// How far ahead the file is asked at once.
const AHEAD: u64 = 1 << 36;

/// What is known of a file's holes: the extent that was met last. Tables are visited in ascending order, so one answer
/// serves many of them.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    met: Option<Extent>,
}

impl Holes {
    /// Whether nothing but zeroes stands at `length` bytes from `offset`, as far as that is known without reading. What
    /// lies behind the end of the file counts as zeroes.
    pub(crate) fn cover(&mut self, file: &dyn BlockRead, offset: u64, length: u64) -> Result<bool> {
        let end = offset.saturating_add(length).min(file.size());
        if offset >= end {
            return Ok(true);
        }
        let met = match self.met.filter(|met| met.range().contains(&offset)) {
            Some(met) => met,
            None => file.block_status(offset..offset.saturating_add(AHEAD).max(end).min(file.size()))?,
        };
        self.met = Some(met);
        Ok(met.status != BlockStatus::Data && end <= met.end())
    }
}
