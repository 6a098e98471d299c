//! A layer for reading whose units are compressed, as a compressed qcow2 or a streamOptimized VMDK is.

use std::collections::BTreeMap;
use std::ops::Range;

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, BlockStatus, Capabilities, Codec, EncodedRead, EncodedUnit, Extent, Result,
    check_extent, check_range, is_all_zero,
};
use transload_image::codec::{self, Encoder, Level};

/// Compressed units in memory. Units of zeroes are holes; those that do not become smaller are kept plain.
#[derive(Debug)]
pub struct Packed {
    size: u64,
    unit: u32,
    codec: Codec,
    units: BTreeMap<u64, Unit>,
}

#[derive(Debug)]
enum Unit {
    Plain(Vec<u8>),
    Encoded(Vec<u8>),
}

impl Packed {
    /// Compresses `disk` in units of `unit` bytes.
    ///
    /// # Errors
    /// What reading or the codec answers; `Unsupported` for a codec that is only read.
    pub fn new(disk: &dyn BlockRead, unit: u32, codec: Codec) -> Result<Self> {
        let size = disk.size();
        let mut encoder = Encoder::new(codec, Level::default())?;
        let mut units = BTreeMap::new();
        for (number, range) in (0..).zip(crate::disks::pieces(0..size, u64::from(unit))) {
            let mut bytes = disk.read_vec(range.start, range.end - range.start)?;
            if is_all_zero(&bytes) {
                continue;
            }
            // What is behind the end means nothing; zeroes would hide a reader that takes it for something.
            bytes.resize(usize::try_from(unit).unwrap_or(usize::MAX), 0xEE);
            let mut stored = Vec::new();
            let smaller = encoder.encode(&bytes, bytes.len() - 1, &mut stored)?;
            units.insert(number, if smaller { Unit::Encoded(stored) } else { Unit::Plain(bytes) });
        }
        Ok(Self { size, unit, codec, units })
    }

    /// How many units are compressed.
    #[must_use]
    pub fn encoded_units(&self) -> usize {
        self.units.values().filter(|unit| matches!(unit, Unit::Encoded(_))).count()
    }

    fn range_of(&self, number: u64) -> Range<u64> {
        let start = number * u64::from(self.unit);
        start..(start + u64::from(self.unit)).min(self.size)
    }

    fn unit_bytes(&self, number: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.unit).unwrap_or(usize::MAX)];
        match self.units.get(&number) {
            Some(Unit::Plain(plain)) => bytes.copy_from_slice(plain),
            Some(Unit::Encoded(stored)) => drop(codec::decode(self.codec, stored, &mut bytes)?),
            None => {}
        }
        Ok(bytes)
    }
}

impl BlockRead for Packed {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: self.unit, preferred: self.unit, granularity: self.unit }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let mut at = offset;
        let mut buf = buf;
        while at < end {
            let number = at / u64::from(self.unit);
            let range = self.range_of(number);
            let length = usize::try_from(range.end.min(end) - at).unwrap_or(buf.len());
            let (part, rest) = buf.split_at_mut(length);
            let skip = usize::try_from(at - range.start).unwrap_or(0);
            part.copy_from_slice(&self.unit_bytes(number)?[skip..skip + length]);
            buf = rest;
            at += length as u64;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let number = range.start / u64::from(self.unit);
        let status = if self.units.contains_key(&number) { BlockStatus::Data } else { BlockStatus::Hole };
        let end = self.range_of(number).end.min(range.end);
        Ok(Extent { offset: range.start, length: end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none().with_encoded(self)
    }
}

impl EncodedRead for Packed {
    fn encoded_unit_size(&self) -> u64 {
        u64::from(self.unit)
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        check_range(offset, 1, self.size)?;
        let number = offset / u64::from(self.unit);
        let Some(Unit::Encoded(bytes)) = self.units.get(&number) else { return Ok(None) };
        stored.clone_from(bytes);
        Ok(Some(EncodedUnit { codec: self.codec, range: self.range_of(number) }))
    }
}
