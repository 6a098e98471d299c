//! A disk of nothing but zeroes.

use std::ops::Range;

use crate::{BlockLimits, BlockRead, BlockStatus, Capabilities, Extent, Result, check_extent, check_range};

/// A disk of `size` zeroes that takes no room, such as a VMDK extent of type ZERO. The zeroes are opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zeros(u64);

impl Zeros {
    /// A disk of `size` zeroes.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self(size)
    }
}

impl BlockRead for Zeros {
    fn size(&self) -> u64 {
        self.0
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.0)?;
        buf.fill(0);
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = check_extent(&range, self.0)?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Zero })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
