//! A stack of layers as one disk.

use std::ops::Range;
use std::sync::Arc;

use crate::{BlockLimits, BlockRead, BlockStatus, Capabilities, Error, ErrorKind, Extent, Result, check_range};

/// Layers on top of each other: a hole of one shows the one below.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Arc<dyn BlockRead>>,
}

impl Chain {
    /// A chain for reading of `layers`, the top one first. The size is the top layer's; a lower layer that is shorter
    /// ends in a hole.
    #[must_use]
    pub fn new(layers: Vec<Arc<dyn BlockRead>>) -> Self {
        Self { layers }
    }

    /// The layers, the top one first.
    #[must_use]
    pub fn layers(&self) -> &[Arc<dyn BlockRead>] {
        &self.layers
    }

    /// The extent at the start of `range`, and the layer that it is of; none for what no layer has.
    fn resolve(&self, range: Range<u64>) -> Result<(Extent, Option<&dyn BlockRead>)> {
        let mut end = range.end;
        for layer in &self.layers {
            if layer.size() <= range.start {
                continue;
            }
            let extent = layer.block_status(range.start..end.min(layer.size()))?;
            end = extent.end();
            if extent.status != BlockStatus::Hole {
                return Ok((extent, Some(layer.as_ref())));
            }
        }
        Ok((Extent { offset: range.start, length: end - range.start, status: BlockStatus::Hole }, None))
    }
}

impl BlockRead for Chain {
    fn size(&self) -> u64 {
        self.layers.first().map_or(0, |top| top.size())
    }

    fn limits(&self) -> BlockLimits {
        self.layers.first().map_or(BlockLimits::NONE, |top| top.limits())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        let (mut rest, mut at) = (buf, offset);
        while at < end {
            let (extent, layer) = self.resolve(at..end)?;
            let length = usize::try_from(extent.length).unwrap_or(rest.len()).min(rest.len());
            let (part, behind) = rest.split_at_mut(length);
            match layer {
                Some(layer) if extent.status == BlockStatus::Data => layer.read_at(part, at)?,
                _ => part.fill(0),
            }
            (rest, at) = (behind, extent.end());
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = range.end.checked_sub(range.start).filter(|length| *length > 0);
        let length = length.ok_or_else(|| Error::new(ErrorKind::OutOfRange, "empty range"))?;
        check_range(range.start, length, self.size())?;
        Ok(self.resolve(range)?.0)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
