//! A file as it will be once its log is replayed, without a byte of it changed.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockLimits, BlockRead, BlockStatus, Capabilities, Extent, Result, check_extent, check_range};

use super::layout::LOG_SECTOR;
use super::log::Replay;

/// The file with what its log changes shown over it.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: Arc<dyn BlockRead>,
    replay: Replay,
}

impl Overlay {
    pub(crate) const fn new(file: Arc<dyn BlockRead>, replay: Replay) -> Self {
        Self { file, replay }
    }

    /// The end of the last change that begins before `at`.
    fn changed_until(&self, at: u64) -> u64 {
        self.replay.changes.range(..=at).next_back().map_or(0, |(_, change)| change.end)
    }
}

impl BlockRead for Overlay {
    fn size(&self) -> u64 {
        self.replay.file_length
    }

    fn limits(&self) -> BlockLimits {
        let limits = self.file.limits();
        BlockLimits { granularity: limits.granularity.min(4096), ..limits }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        let index = |at: u64| usize::try_from(at - offset).expect("inside a buffer");
        let there = self.file.size().clamp(offset, end);
        buf[index(there)..].fill(0);
        self.file.read_at(&mut buf[..index(there)], offset)?;
        let first = self.replay.changes.range(..=offset).next_back().map_or(offset, |(at, _)| *at);
        for (start, change) in self.replay.changes.range(first..end) {
            let part = offset.max(*start)..end.min(change.end);
            if part.is_empty() {
                continue;
            }
            let sector = change.content.sector(&*self.file)?;
            for at in part {
                let byte = usize::try_from((at - start) % LOG_SECTOR).expect("inside a sector");
                buf[index(at)] = sector[byte];
            }
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size())?;
        let changed = self.changed_until(range.start);
        let extent = |end: u64, status| Extent { offset: range.start, length: end - range.start, status };
        if changed > range.start {
            return Ok(extent(changed.min(range.end), BlockStatus::Data));
        }
        let next = self.replay.changes.range(range.start..).next().map_or(range.end, |(at, _)| *at);
        let end = next.min(range.end);
        if range.start >= self.file.size() {
            return Ok(extent(end, BlockStatus::Zero));
        }
        self.file.block_status(range.start..end.min(self.file.size()))
    }

    /// None: bytes may stand elsewhere than where they belong.
    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
