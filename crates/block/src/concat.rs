//! Disks behind each other as one: the extents of a split image.

use std::ops::Range;
use std::sync::Arc;

use crate::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, EncodedRead, EncodedUnit, Error, ErrorKind, Extent, HostExtent,
    HostExtents, Reserve, Result, ZeroMode, check_extent, check_range, check_span,
};

/// Devices behind each other as one disk. Sizes are those at the time it is made.
#[derive(Clone, Debug)]
pub struct Concat {
    /// In order, none of them empty.
    parts: Vec<Part>,
    size: u64,
    writable: bool,
}

#[derive(Clone, Debug)]
struct Part {
    device: Arc<dyn BlockRead>,
    /// The same device, where it may be written.
    writer: Option<Arc<dyn BlockWrite>>,
    /// Where its first byte is in the whole.
    start: u64,
    end: u64,
}

/// What of a part belongs to a request.
struct Piece<'a> {
    part: &'a Part,
    /// In the part.
    range: Range<u64>,
    /// Where it begins in the caller's request.
    done: u64,
}

impl Piece<'_> {
    fn of_buffer(&self) -> Range<usize> {
        let place = |at: u64| usize::try_from(at).expect("a piece of a buffer lies inside it");
        place(self.done)..place(self.done + (self.range.end - self.range.start))
    }
}

impl Concat {
    /// The devices in `parts` behind each other, for reading.
    ///
    /// # Errors
    /// `TooLarge` when the sum of their sizes exceeds 64 bits.
    pub fn new(parts: Vec<Arc<dyn BlockRead>>) -> Result<Self> {
        Self::join(parts.into_iter().map(|part| (part, None)), false)
    }

    /// The devices in `parts` behind each other, for reading and writing.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn writable(parts: Vec<Arc<dyn BlockWrite>>) -> Result<Self> {
        Self::join(parts.into_iter().map(|part| (Arc::clone(&part) as Arc<dyn BlockRead>, Some(part))), true)
    }

    fn join(
        devices: impl Iterator<Item = (Arc<dyn BlockRead>, Option<Arc<dyn BlockWrite>>)>,
        writable: bool,
    ) -> Result<Self> {
        let mut parts = Vec::new();
        let mut start = 0_u64;
        for (device, writer) in devices {
            let end = start.checked_add(device.size()).ok_or_else(|| {
                Error::new(ErrorKind::TooLarge, format!("{} bytes behind {start} exceed 64 bits", device.size()))
            })?;
            if end > start {
                parts.push(Part { device, writer, start, end });
            }
            start = end;
        }
        Ok(Self { parts, size: start, writable })
    }

    /// The part that holds `offset`, which is inside the size.
    fn part_at(&self, offset: u64) -> Option<&Part> {
        self.parts.get(self.parts.partition_point(|part| part.end <= offset))
    }

    /// What of each part belongs to `range`, which is inside the size.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece<'_>> {
        let first = self.parts.partition_point(|part| part.end <= range.start);
        self.parts[first..].iter().take_while(move |part| part.start < range.end).map(move |part| {
            let (start, end) = (range.start.max(part.start), range.end.min(part.end));
            Piece { part, range: start - part.start..end - part.start, done: start - range.start }
        })
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Error::new(ErrorKind::ReadOnly, "joined disks: opened for reading")) }
    }
}

impl Part {
    fn writer(&self) -> Result<&dyn BlockWrite> {
        self.writer.as_deref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "part of a disk: opened for reading"))
    }
}

impl BlockRead for Concat {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        let limits = self.parts.iter().map(|part| part.device.limits().shifted(part.start));
        limits.reduce(BlockLimits::joined).unwrap_or(BlockLimits::NONE)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        for piece in self.pieces(offset..end) {
            piece.part.device.read_at(&mut buf[piece.of_buffer()], piece.range.start)?;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let out_of_parts = || Error::new(ErrorKind::OutOfRange, format!("{range:?} is in no part of the disk"));
        let piece = self.pieces(range.clone()).next().ok_or_else(out_of_parts)?;
        let extent = piece.part.device.block_status(piece.range)?;
        Ok(Extent { offset: range.start, ..extent })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let any = |has: fn(&Capabilities<'_>) -> bool| self.parts.iter().any(|part| has(&part.device.capabilities()));
        let all = |has: fn(&Capabilities<'_>) -> bool| self.parts.iter().all(|part| has(&part.device.capabilities()));
        Capabilities {
            encoded: any(|part| part.encoded.is_some()).then_some(self as &dyn EncodedRead),
            host_extents: any(|part| part.host_extents.is_some()).then_some(self as &dyn HostExtents),
            reserve: (self.writable && all(|part| part.reserve.is_some())).then_some(self as &dyn Reserve),
        }
    }
}

impl EncodedRead for Concat {
    /// That of the first part that has units. Parts with units of another size, or off their grid, have none here.
    fn encoded_unit_size(&self) -> u64 {
        let units = self.parts.iter().filter_map(|part| part.device.capabilities().encoded);
        units.map(EncodedRead::encoded_unit_size).next().unwrap_or(1)
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        check_extent(&(offset..offset.saturating_add(1)), self.size)?;
        let unit_size = self.encoded_unit_size().max(1);
        let Some(part) = self.part_at(offset) else { return Ok(None) };
        let encoded = part.device.capabilities().encoded;
        let Some(encoded) = encoded.filter(|encoded| encoded.encoded_unit_size() == unit_size) else { return Ok(None) };
        if !part.start.is_multiple_of(unit_size) {
            return Ok(None);
        }
        let unit = encoded.read_encoded(offset - part.start, stored)?;
        let unit =
            unit.map(|unit| EncodedUnit { range: unit.range.start + part.start..unit.range.end + part.start, ..unit });
        // The last unit of a part holds bytes of the next one too, which it does not decode to.
        Ok(unit.filter(|unit| unit.range.end - unit.range.start == unit_size || unit.range.end == self.size))
    }
}

impl HostExtents for Concat {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let length = check_extent(&range, self.size)?;
        let Some(piece) = self.pieces(range).next() else { return Ok(HostExtent { length, location: None }) };
        match piece.part.device.capabilities().host_extents {
            Some(places) => places.host_extent(piece.range),
            None => Ok(HostExtent { length: piece.range.end - piece.range.start, location: None }),
        }
    }
}

impl Reserve for Concat {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.check_writable()?;
        check_span(&range, self.size)?;
        for piece in self.pieces(range) {
            if let Some(part) = piece.part.device.capabilities().reserve {
                part.reserve(piece.range)?;
            }
        }
        Ok(())
    }
}

impl BlockWrite for Concat {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check_writable()?;
        let end = check_range(offset, buf.len() as u64, self.size)?;
        for piece in self.pieces(offset..end) {
            piece.part.writer()?.write_at(&buf[piece.of_buffer()], piece.range.start)?;
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.check_writable()?;
        check_span(&range, self.size)?;
        for piece in self.pieces(range) {
            piece.part.writer()?.write_zeroes_at(piece.range, mode)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.parts.iter().filter_map(|part| part.writer.as_ref()).try_for_each(|writer| writer.flush())
    }
}
