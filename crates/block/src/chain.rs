//! A stack of layers as one disk: backing files, parents, snapshots.
//!
//! ```text
//!   offset:     0        1        2        3        4        5
//!   top      [ Data   | Hole   | Zero   | Hole   | Hole   | Hole   ]
//!   middle   [ …      | Data   | …      | Hole   | Hole   ]                 shorter: hides what is below its end
//!   base     [ …      | …      | Data   | Data   | Hole   | Data   ]
//!   chain      top      middle   zeroes   base     zeroes   zeroes
//! ```
//!
//! Only here is a hole looked through. A layer that ends before the top does shows zeroes behind its end, not what lies
//! below it: a guest of that layer never saw those bytes.
//!
//! Writing goes to the top layer alone. Where a write covers only part of a unit (the top's granularity) in which the top
//! has a hole, the rest of the unit is read from below and the unit is written whole: copy-on-write. The top sees that as
//! one write, so that a crash leaves the unit as it was or as it should be, as far as the top promises it for one write.
//!
//! Locks, in a chain that is writable and has something below its top: every operation holds the units it touches,
//! readers and plain writers together with others, a copy-on-write alone. So no two partial writes into one unit undo
//! each other, and no reader sees a unit that is half copied. No lock is held while another is waited for. The layers
//! below must not change.

use std::ops::Range;
use std::sync::Arc;

use crate::ext::{is_all_zero, zeroed};
use crate::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, EncodedRead, EncodedUnit, Error, ErrorKind, Extent,
    HostExtent, HostExtents, RangeGuard, RangeLock, Reserve, Result, ZeroMode, check_extent, check_range, check_span,
};

/// Layers on top of each other: a hole of one shows the one below.
#[derive(Debug)]
pub struct Chain {
    layers: Vec<Arc<dyn BlockRead>>,
    /// The top layer, where it may be written.
    top: Option<Arc<dyn BlockWrite>>,
    /// On units of the top layer, in bytes.
    locks: RangeLock,
}

/// What a chain has at some place.
struct Answer<'a> {
    extent: Extent,
    /// The layer that holds it, unless it is a hole all the way down.
    layer: Option<&'a dyn BlockRead>,
    /// How many layers are above that one.
    depth: usize,
}

impl Chain {
    /// A chain for reading of `layers`, the top one first. The size is the top layer's; a lower layer that is shorter
    /// ends in a hole that nothing further down shows through. A chain of no layers has no bytes.
    #[must_use]
    pub fn new(layers: Vec<Arc<dyn BlockRead>>) -> Self {
        Self { layers, top: None, locks: RangeLock::new() }
    }

    /// A chain for reading and writing: `top` takes the writes, `lower`, the upper one first, shows through its holes.
    #[must_use]
    pub fn writable(top: Arc<dyn BlockWrite>, lower: Vec<Arc<dyn BlockRead>>) -> Self {
        let mut layers = lower;
        layers.insert(0, Arc::clone(&top) as Arc<dyn BlockRead>);
        Self { top: Some(top), ..Self::new(layers) }
    }

    /// The layers, the top one first.
    #[must_use]
    pub fn layers(&self) -> &[Arc<dyn BlockRead>] {
        &self.layers
    }

    /// Walks down to the first layer that has no hole at the start of `range`, which is inside the size.
    fn resolve(&self, range: Range<u64>) -> Result<Answer<'_>> {
        let start = range.start;
        let mut end = range.end;
        for (depth, layer) in self.layers.iter().enumerate() {
            let layer_end = layer.size();
            if start >= layer_end {
                // Something below that would show is hidden, which is what an opaque zero says.
                let is_last = depth + 1 == self.layers.len();
                let status = if is_last { BlockStatus::Hole } else { BlockStatus::Zero };
                return Ok(Answer {
                    extent: Extent { offset: start, length: end - start, status },
                    layer: None,
                    depth,
                });
            }
            let extent = layer.block_status(start..end.min(layer_end))?;
            if extent.status != BlockStatus::Hole {
                return Ok(Answer { extent, layer: Some(&**layer), depth });
            }
            end = extent.end();
        }
        let extent = Extent { offset: start, length: end - start, status: BlockStatus::Hole };
        Ok(Answer { extent, layer: None, depth: self.layers.len() })
    }

    /// Reads a range that is inside the size, without locks.
    fn read_layers(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut buf = buf;
        let mut at = offset;
        while !buf.is_empty() {
            let answer = self.resolve(at..at + buf.len() as u64)?;
            let length = usize::try_from(answer.extent.length).map_or(buf.len(), |length| length.min(buf.len()));
            let (part, rest) = buf.split_at_mut(length);
            match answer.layer {
                Some(layer) if answer.extent.status == BlockStatus::Data => layer.read_at(part, at)?,
                _ => part.fill(0),
            }
            buf = rest;
            at += length as u64;
        }
        Ok(())
    }

    /// Whether writing can meet a hole that something shows through.
    fn copies_on_write(&self) -> bool {
        self.top.is_some() && self.layers.len() > 1
    }

    /// Holds the units of `range` together with other readers, where there can be a copy-on-write.
    fn share(&self, range: &Range<u64>) -> Option<RangeGuard<'_>> {
        self.copies_on_write().then(|| self.locks.lock_shared(self.whole_units(range)))
    }

    fn writer(&self) -> Result<&dyn BlockWrite> {
        self.top.as_deref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "chain: opened for reading"))
    }

    /// What the top layer allocates at a time.
    fn unit(&self) -> u64 {
        self.layers.first().map_or(1, |top| u64::from(top.limits().granularity.max(1)))
    }

    /// `range` extended to whole units, which end with the disk.
    fn whole_units(&self, range: &Range<u64>) -> Range<u64> {
        let unit = self.unit();
        let end = range.end.checked_next_multiple_of(unit).unwrap_or(u64::MAX).min(self.size());
        range.start - range.start % unit..end.max(range.end)
    }

    /// The units at the ends of `range` that it covers only in part: none, one or two.
    fn partial_units(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let unit = self.unit();
        let units = self.whole_units(range);
        let head = units.start..(units.start.saturating_add(unit)).min(units.end);
        let last = (units.end - 1) - (units.end - 1) % unit;
        let tail = last..units.end;
        let head_is_partial = range.start > head.start || range.end < head.end;
        let tail_is_partial = tail.start != head.start && range.end < tail.end;
        head_is_partial.then_some(head).into_iter().chain(tail_is_partial.then_some(tail))
    }

    /// Whether the top has a hole in a unit that is written in part.
    fn needs_copy(&self, range: &Range<u64>) -> Result<bool> {
        for unit in self.partial_units(range) {
            let mut at = unit.start;
            while at < unit.end {
                let extent = self.layers[0].block_status(at..unit.end)?;
                if extent.status == BlockStatus::Hole {
                    return Ok(true);
                }
                at = extent.end();
            }
        }
        Ok(false)
    }

    /// Runs `plain` on `range`, of which partial units are first cut off and handled by copy-on-write: `edit` changes the
    /// range it is given (in the disk) of the copied bytes. `range` is inside the size and not empty.
    fn modify(
        &self,
        range: &Range<u64>,
        plain: impl Fn(&dyn BlockWrite, Range<u64>) -> Result<()>,
        edit: impl Fn(&mut [u8], Range<u64>),
        zeroing: Option<ZeroMode>,
    ) -> Result<()> {
        let top = self.writer()?;
        if !self.copies_on_write() {
            return plain(top, range.clone());
        }
        let units = self.whole_units(range);
        {
            let _guard = self.locks.lock_shared(units.clone());
            if !self.needs_copy(range)? {
                return plain(top, range.clone());
            }
        }
        let _guard = self.locks.lock(units);
        let mut left = range.clone();
        for unit in self.partial_units(range) {
            let part = unit.start.max(range.start)..unit.end.min(range.end);
            let mut bytes = zeroed(unit.end - unit.start)?;
            self.read_layers(&mut bytes, unit.start)?;
            let within = |at: u64| usize::try_from(at - unit.start).expect("inside a unit that is in memory");
            edit(&mut bytes[within(part.start)..within(part.end)], part.clone());
            match zeroing {
                Some(mode) if is_all_zero(&bytes) => top.write_zeroes_at(unit.clone(), mode)?,
                _ => top.write_at(&bytes, unit.start)?,
            }
            if part.start == left.start {
                left.start = part.end;
            } else {
                left.end = part.start;
            }
        }
        if left.is_empty() { Ok(()) } else { plain(top, left) }
    }
}

impl BlockRead for Chain {
    fn size(&self) -> u64 {
        self.layers.first().map_or(0, |top| top.size())
    }

    fn limits(&self) -> BlockLimits {
        let size = self.size();
        let limits = self.layers.iter().map(|layer| {
            let limits = layer.limits();
            if layer.size() < size { limits.shifted(layer.size()) } else { limits }
        });
        limits.reduce(BlockLimits::joined).unwrap_or(BlockLimits::NONE)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        if buf.is_empty() {
            return Ok(());
        }
        let _guard = self.share(&(offset..end));
        self.read_layers(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size())?;
        // One unit is enough to keep a copy-on-write out of the answer, and a long question waits for no write far away.
        let _guard = self.share(&(range.start..range.start + 1));
        Ok(self.resolve(range)?.extent)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let any = |has: fn(&Capabilities<'_>) -> bool| self.layers.iter().any(|layer| has(&layer.capabilities()));
        let top_reserves = self.top.as_ref().is_some_and(|top| top.capabilities().reserve.is_some());
        Capabilities {
            encoded: any(|layer| layer.encoded.is_some()).then_some(self as &dyn EncodedRead),
            host_extents: any(|layer| layer.host_extents.is_some()).then_some(self as &dyn HostExtents),
            reserve: top_reserves.then_some(self as &dyn Reserve),
        }
    }
}

impl EncodedRead for Chain {
    /// That of the uppermost layer that has units. Layers with units of another size have none here.
    fn encoded_unit_size(&self) -> u64 {
        let units = self.layers.iter().filter_map(|layer| layer.capabilities().encoded);
        units.map(EncodedRead::encoded_unit_size).next().unwrap_or(1)
    }

    /// A unit is passed on only where all of it shows, and nothing above covers a part.
    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        let here = offset..offset.saturating_add(1);
        check_extent(&here, self.size())?;
        let unit_size = self.encoded_unit_size().max(1);
        let unit_start = offset - offset % unit_size;
        let unit = unit_start..unit_start.saturating_add(unit_size).min(self.size());
        let _guard = self.share(&unit);
        let answer = self.resolve(here)?;
        let Some(layer) = answer.layer.filter(|_| answer.extent.status == BlockStatus::Data) else { return Ok(None) };
        let encoded = layer.capabilities().encoded.filter(|encoded| encoded.encoded_unit_size() == unit_size);
        let Some(encoded) = encoded else { return Ok(None) };
        if unit.end > layer.size() || !self.layers[..answer.depth].iter().all(|above| is_hole(&**above, &unit)) {
            return Ok(None);
        }
        let found = encoded.read_encoded(offset, stored)?;
        Ok(found.map(|found| EncodedUnit { range: found.range.start..found.range.end.min(unit.end), ..found }))
    }
}

/// Whether one answer says that all of `range` is a hole that shows what is below: inside the layer, and nothing else.
fn is_hole(layer: &dyn BlockRead, range: &Range<u64>) -> bool {
    range.end <= layer.size()
        && layer
            .block_status(range.clone())
            .is_ok_and(|extent| extent.status == BlockStatus::Hole && extent.end() == range.end)
}

impl HostExtents for Chain {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        check_extent(&range, self.size())?;
        let _guard = self.share(&(range.start..range.start + 1));
        let answer = self.resolve(range)?;
        let nowhere = HostExtent { length: answer.extent.length, location: None };
        match answer.layer.and_then(|layer| layer.capabilities().host_extents) {
            Some(places) if answer.extent.status == BlockStatus::Data => places.host_extent(answer.extent.range()),
            _ => Ok(nowhere),
        }
    }
}

impl Reserve for Chain {
    /// Copies what is below into units that are reserved in part, so that their rest keeps its bytes.
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.writer()?;
        if check_span(&range, self.size())? == 0 {
            return Ok(());
        }
        let reserve = |top: &dyn BlockWrite, range: Range<u64>| match top.capabilities().reserve {
            Some(reserve) => reserve.reserve(range),
            None => Ok(()),
        };
        self.modify(&range, reserve, |_, _| (), None)
    }
}

impl BlockWrite for Chain {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let top = self.writer()?;
        let end = check_range(offset, buf.len() as u64, self.size())?;
        if buf.is_empty() {
            return top.write_at(buf, offset);
        }
        let of_buf = |range: &Range<u64>| {
            let place = |at: u64| usize::try_from(at - offset).expect("inside the caller's buffer");
            &buf[place(range.start)..place(range.end)]
        };
        self.modify(
            &(offset..end),
            |top, range| top.write_at(of_buf(&range), range.start),
            |bytes, range| bytes.copy_from_slice(of_buf(&range)),
            None,
        )
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.writer()?;
        if check_span(&range, self.size())? == 0 {
            return Ok(());
        }
        self.modify(&range, |top, range| top.write_zeroes_at(range, mode), |bytes, _| bytes.fill(0), Some(mode))
    }

    fn flush(&self) -> Result<()> {
        self.top.as_ref().map_or(Ok(()), |top| top.flush())
    }
}
