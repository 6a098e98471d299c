//! A VMDK as a device: its extents behind each other.
//!
//! All state is constant but for the cache of tables, which has a lock of its own; any number of threads may read.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, EncodedRead, EncodedUnit, Error, ErrorKind, Extent, HostExtent,
    HostExtents, Result, check_range,
};

use super::sparse::Sparse;

/// What a large read costs least in.
const PREFERRED: u32 = 1 << 20;

/// One extent, and its place on the disk.
#[derive(Debug)]
pub(crate) struct Part {
    /// First byte.
    pub start: u64,
    /// Bytes, at least one.
    pub size: u64,
    pub body: Body,
}

/// What an extent is stored in.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    Zero,
    /// The file's bytes from `offset` on.
    Flat { file: Arc<dyn BlockRead>, offset: u64 },
    /// Grains and tables.
    Sparse(Sparse),
}

/// The disk.
#[derive(Debug)]
pub(crate) struct VmdkDevice {
    size: u64,
    parts: Vec<Part>,
    limits: BlockLimits,
    /// The grain size, when compressed grains can be fetched by their place on the disk.
    unit: Option<u64>,
}

impl VmdkDevice {
    /// A disk of `parts`, which follow each other without gaps.
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let size = parts.last().map_or(0, |part| part.start + part.size);
        debug_assert!(parts.windows(2).all(|pair| pair[0].start + pair[0].size == pair[1].start));
        let limits = parts.iter().map(Part::limits).fold(
            BlockLimits { alignment: 1, preferred: PREFERRED, granularity: 1 },
            |all, part| BlockLimits {
                alignment: all.alignment.max(part.alignment),
                preferred: all.preferred.max(part.alignment),
                granularity: all.granularity.max(part.granularity),
            },
        );
        let unit = unit_of(&parts);
        Self { size, parts, limits, unit }
    }

    /// The index of the part that holds byte `at`, which is inside the disk.
    fn index(&self, at: u64) -> usize {
        self.parts.partition_point(|part| part.start + part.size <= at)
    }

    /// The part that holds the start of `range`, and that range as far as the part goes, counted from the part's start.
    fn part(&self, range: &Range<u64>) -> Result<(&Part, Range<u64>)> {
        let length = range.end.checked_sub(range.start).filter(|length| *length > 0);
        let length = length.ok_or_else(|| {
            Error::new(ErrorKind::OutOfRange, format!("the range {}..{} is empty", range.start, range.end))
        })?;
        check_range(range.start, length, self.size)?;
        let part = &self.parts[self.index(range.start)];
        Ok((part, range.start - part.start..(range.end - part.start).min(part.size)))
    }
}

impl BlockRead for VmdkDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        self.limits
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let mut index = self.index(offset);
        while !buf.is_empty() {
            let part = &self.parts[index];
            let at = offset - part.start;
            let length = usize::try_from(part.size - at).unwrap_or(usize::MAX).min(buf.len());
            let (front, rest) = buf.split_at_mut(length);
            match &part.body {
                Body::Zero => front.fill(0),
                Body::Flat { file, offset } => file.read_at(front, offset + at)?,
                Body::Sparse(sparse) => sparse.read(front, at)?,
            }
            buf = rest;
            offset += length as u64;
            index += 1;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let (part, inside) = self.part(&range)?;
        let (status, length) = match &part.body {
            Body::Zero => (BlockStatus::Zero, inside.end - inside.start),
            Body::Sparse(sparse) => sparse.status(inside)?,
            Body::Flat { file, offset } => {
                let extent = file.block_status(offset + inside.start..offset + inside.end)?;
                // A hole of the file is zeroes of the disk: a flat extent hides a parent everywhere.
                let status = if extent.status.reads_zero() { BlockStatus::Zero } else { extent.status };
                (status, extent.length)
            }
        };
        Ok(Extent { offset: range.start, length, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let capabilities = Capabilities::none().with_host_extents(self);
        if self.unit.is_some() { capabilities.with_encoded(self) } else { capabilities }
    }
}

impl HostExtents for VmdkDevice {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let (part, inside) = self.part(&range)?;
        let length = inside.end - inside.start;
        match &part.body {
            Body::Zero => Ok(HostExtent { length, location: None }),
            Body::Sparse(sparse) => sparse.host_extent(inside),
            Body::Flat { file, offset } => match file.capabilities().host_extents {
                Some(host) => host.host_extent(offset + inside.start..offset + inside.end),
                None => Ok(HostExtent { length, location: None }),
            },
        }
    }
}

impl EncodedRead for VmdkDevice {
    fn encoded_unit_size(&self) -> u64 {
        // Without a unit the ability is not offered.
        self.unit.unwrap_or(1)
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        let (part, inside) = self.part(&(offset..offset.saturating_add(1)))?;
        let (Body::Sparse(sparse), Some(unit)) = (&part.body, self.unit) else { return Ok(None) };
        let start = sparse.read_encoded(inside.start, stored)?;
        Ok(start.map(|start| {
            let start = part.start + start;
            EncodedUnit { codec: transload_block::Codec::Zlib, range: start..start + unit }
        }))
    }
}

impl Part {
    fn limits(&self) -> BlockLimits {
        let of = |bytes: u64| u32::try_from(bytes).unwrap_or(1 << 31);
        match &self.body {
            Body::Zero => BlockLimits::NONE,
            Body::Flat { file, .. } => file.limits(),
            Body::Sparse(sparse) => {
                let file = sparse.tables.file.limits();
                let grain = of(sparse.tables.grain_bytes);
                // To read a part of a compressed grain is to inflate all of it.
                let alignment = if sparse.is_compressed() { grain.max(file.alignment) } else { file.alignment };
                BlockLimits { alignment, granularity: grain, ..file }
            }
        }
    }
}

/// The grain size of the compressed extents, if it is one and the same and all their grains stand at multiples of it.
fn unit_of(parts: &[Part]) -> Option<u64> {
    let mut unit = None;
    for part in parts {
        let Body::Sparse(sparse) = &part.body else { continue };
        if !sparse.is_compressed() {
            continue;
        }
        let grain = sparse.tables.grain_bytes;
        if part.start % grain != 0 || unit.is_some_and(|unit| unit != grain) {
            return None;
        }
        unit = Some(grain);
    }
    unit
}
