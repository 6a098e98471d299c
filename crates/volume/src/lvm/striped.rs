//! Devices in stripes: pieces of one size, from each device in turn.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, Capabilities, Error, ErrorKind, Extent, HostExtent, HostExtents, Result, check_extent,
    check_range,
};

/// Devices of one size whose pieces follow each other in turn, for reading.
#[derive(Clone, Debug)]
pub struct Striped {
    parts: Vec<Arc<dyn BlockRead>>,
    /// Bytes of a piece, a power of two.
    stripe: u64,
    size: u64,
}

impl Striped {
    /// The devices in `parts` in stripes of `stripe` bytes. What is behind the last whole stripe of a part is not in it.
    ///
    /// # Errors
    /// `InvalidInput` when there are no parts, they differ in size, or `stripe` is no power of two of at least 512;
    /// `TooLarge` when the sum of their sizes exceeds 64 bits.
    pub fn new(parts: Vec<Arc<dyn BlockRead>>, stripe: u64) -> Result<Self> {
        let Some(first) = parts.first().map(|part| part.size()) else {
            return Err(Error::new(ErrorKind::InvalidInput, "stripes of no devices"));
        };
        if !stripe.is_power_of_two() || stripe < 512 {
            let text = format!("stripes of {stripe} bytes, must be a power of two of at least 512");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        if let Some(other) = parts.iter().map(|part| part.size()).find(|size| *size != first) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("stripes of devices of {first} and of {other} bytes"),
            ));
        }
        let whole = first / stripe * stripe;
        let size = whole.checked_mul(parts.len() as u64).ok_or_else(|| {
            Error::new(ErrorKind::TooLarge, format!("{} devices of {first} bytes exceed 64 bits", parts.len()))
        })?;
        Ok(Self { parts, stripe, size })
    }

    /// Where the bytes from `range.start` on stand, as far as one stripe has them: a part, and a range in it.
    fn piece(&self, range: &Range<u64>) -> (&dyn BlockRead, Range<u64>) {
        let (number, within) = (range.start / self.stripe, range.start % self.stripe);
        let width = self.parts.len() as u64;
        let part = usize::try_from(number % width).expect("a part's number is less than their count");
        let start = number / width * self.stripe + within;
        let length = (range.end - range.start).min(self.stripe - within);
        (self.parts[part].as_ref(), start..start + length)
    }
}

impl BlockRead for Striped {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        let limits =
            self.parts.iter().map(|part| part.limits()).reduce(BlockLimits::joined).unwrap_or(BlockLimits::NONE);
        limits.shifted(self.stripe)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let (mut at, mut rest) = (offset, buf);
        while at < end {
            let (part, range) = self.piece(&(at..end));
            let length = usize::try_from(range.end - range.start).expect("a piece of a buffer fits into memory");
            let (now, later) = rest.split_at_mut(length);
            part.read_at(now, range.start)?;
            (at, rest) = (at + length as u64, later);
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let (part, within) = self.piece(&range);
        let extent = part.block_status(within)?;
        Ok(Extent { offset: range.start, ..extent })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let any = self.parts.iter().any(|part| part.capabilities().host_extents.is_some());
        let mut capabilities = Capabilities::none();
        capabilities.host_extents = any.then_some(self as &dyn HostExtents);
        capabilities
    }
}

impl HostExtents for Striped {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        check_extent(&range, self.size)?;
        let (part, within) = self.piece(&range);
        match part.capabilities().host_extents {
            Some(places) => places.host_extent(within),
            None => Ok(HostExtent { length: within.end - within.start, location: None }),
        }
    }
}
