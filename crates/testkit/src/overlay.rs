//! A writable layer in memory that has holes, as a format's driver would hand it to a chain.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Extent, Reserve, Result, ZeroMode, check_extent,
    check_range, check_span,
};

/// A layer that allocates whole units. A unit that was never written is a hole; a write to a part of it makes all of it
/// data, the rest zeroes: what a driver does that knows nothing of the layers below, and what a chain has to prevent by
/// writing whole units.
#[derive(Debug)]
pub struct Overlay {
    size: u64,
    unit: u32,
    units: Mutex<BTreeMap<u64, Unit>>,
}

#[derive(Debug)]
enum Unit {
    Zero,
    Data(Vec<u8>),
}

impl Overlay {
    /// A layer of `size` bytes that is one hole and allocates `unit` bytes at a time.
    ///
    /// # Panics
    /// When `unit` is no power of two.
    #[must_use]
    pub fn new(size: u64, unit: u32) -> Self {
        assert!(unit.is_power_of_two(), "a unit of {unit} bytes");
        Self { size, unit, units: Mutex::default() }
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<u64, Unit>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The units of `range`: number, what of the unit is meant, where that is in the range.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
        let unit = u64::from(self.unit);
        (range.start / unit..range.end.div_ceil(unit)).map(move |number| {
            let first = number * unit;
            let (start, end) = (range.start.max(first), range.end.min(first + unit));
            (number, index(start - first)..index(end - first), index(start - range.start)..index(end - range.start))
        })
    }

    fn unit_bytes(&self) -> usize {
        index(u64::from(self.unit))
    }
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("a place in a test's buffer")
}

impl BlockRead for Overlay {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: 1, preferred: self.unit, granularity: self.unit }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let units = self.units();
        for (number, within, place) in self.pieces(offset..end) {
            match units.get(&number) {
                Some(Unit::Data(bytes)) => buf[place].copy_from_slice(&bytes[within]),
                _ => buf[place].fill(0),
            }
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let unit = u64::from(self.unit);
        let units = self.units();
        let status = |number: u64| match units.get(&number) {
            None => BlockStatus::Hole,
            Some(Unit::Zero) => BlockStatus::Zero,
            Some(Unit::Data(_)) => BlockStatus::Data,
        };
        let first = range.start / unit;
        let found = status(first);
        let next = (first + 1..range.end.div_ceil(unit)).find(|number| status(*number) != found);
        let end = next.map_or(range.end, |number| number * unit);
        Ok(Extent { offset: range.start, length: end - range.start, status: found })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none().with_reserve(self)
    }
}

/// Reserved bytes of new units are soiled, so that whoever does not write all of them is found out.
impl Reserve for Overlay {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        check_span(&range, self.size)?;
        let mut units = self.units();
        for (number, within, _) in self.pieces(range).filter(|(_, within, _)| !within.is_empty()) {
            if let Some(Unit::Data(_)) = units.get(&number) {
                continue;
            }
            let mut bytes = vec![0; self.unit_bytes()];
            bytes[within].fill(0xEE);
            units.insert(number, Unit::Data(bytes));
        }
        Ok(())
    }
}

impl BlockWrite for Overlay {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let mut units = self.units();
        for (number, within, place) in self.pieces(offset..end).filter(|(_, within, _)| !within.is_empty()) {
            let unit = units.entry(number).or_insert(Unit::Zero);
            if let Unit::Zero = unit {
                *unit = Unit::Data(vec![0; self.unit_bytes()]);
            }
            if let Unit::Data(bytes) = unit {
                bytes[within].copy_from_slice(&buf[place]);
            }
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, _mode: ZeroMode) -> Result<()> {
        check_span(&range, self.size)?;
        let mut units = self.units();
        for (number, within, _) in self.pieces(range).filter(|(_, within, _)| !within.is_empty()) {
            match units.entry(number).or_insert(Unit::Zero) {
                Unit::Data(bytes) if within.len() < bytes.len() => bytes[within].fill(0),
                unit => *unit = Unit::Zero,
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
