//! Reading a VDI, also one that is being written.

use std::ops::Range;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Extent, HostExtent, HostExtents, Result, check_extent,
    check_range,
};

use super::device::Vdi;
use crate::place::{Place, Run};

impl Vdi {
    /// Checks `range` and says where the bytes at its start stand.
    fn checked_run(&self, range: &Range<u64>) -> Result<Run> {
        check_extent(range, self.shape.size)?;
        self.run(range.clone())
    }
}

impl BlockRead for Vdi {
    fn size(&self) -> u64 {
        self.shape.size
    }

    fn limits(&self) -> BlockLimits {
        let block = u32::try_from(self.shape.block).unwrap_or(1 << 31);
        let granularity = if self.shape.fixed {
            // Its status is that of the file below.
            let below = self.file.limits().shifted(self.shape.block_offset(0));
            below.shifted(self.shape.block + self.shape.extra).granularity.min(block)
        } else {
            block
        };
        BlockLimits { alignment: 1, preferred: block.max(1 << 20), granularity }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.shape.size)?;
        let (mut at, mut buf) = (offset, buf);
        while at < end {
            let run = self.run(at..end)?;
            let (piece, rest) = buf.split_at_mut(usize::try_from(run.length).unwrap_or(buf.len()));
            match run.place {
                Place::File(place) => self.file.read_at(piece, place)?,
                Place::Zero | Place::Nowhere => piece.fill(0),
            }
            at += run.length;
            buf = rest;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let run = self.checked_run(&range)?;
        let mut extent = Extent { offset: range.start, length: run.length, status: run.place.status() };
        if let (Place::File(place), true) = (run.place, self.shape.fixed) {
            // A fixed image is mostly what the file below has no data for.
            let below = self.file.block_status(place..place + run.length)?;
            extent.length = below.length;
            extent.status = if below.status.reads_zero() { BlockStatus::Zero } else { BlockStatus::Data };
        }
        Ok(extent)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let capabilities = Capabilities::none().with_host_extents(self);
        if self.storage.is_some() && !self.shape.fixed { capabilities.with_reserve(self) } else { capabilities }
    }
}

impl HostExtents for Vdi {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let run = self.checked_run(&range)?;
        match (run.place, self.file.capabilities().host_extents) {
            (Place::File(place), Some(below)) => below.host_extent(place..place + run.length),
            _ => Ok(HostExtent { length: run.length, location: None }),
        }
    }
}
