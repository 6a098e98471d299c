//! Where guest bytes stand: from the block allocation table and, where a block is partially present, its sector bitmap.
//!
//! Every place that comes out of here is inside the file and beside the file's other structures.

use std::ops::Range;

use transload_block::{BlockRead, Result};

use super::error::Fault;
use super::geometry::Geometry;
use super::layout::{
    BITMAP_BYTES, CHUNK_SECTORS, HEADER_SECTION, LOG_SECTOR, OFFSET_MASK, STATE_MASK, bitmap, payload,
};
use super::open::Image;
use super::sectors::Sectors;

/// How many blocks a run is followed through.
const BLOCKS_AHEAD: u64 = 1 << 14;

/// Where some guest bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: a parent shows.
    Hole,
    /// Nowhere: they are zeroes.
    Zero,
    /// At this byte of the file.
    File(u64),
}

/// A run of guest bytes and where they stand; behind each other when that is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub place: Place,
    /// At least one.
    pub length: u64,
}

/// The block allocation table of a disk, and the rules for its entries.
#[derive(Debug)]
pub(crate) struct Map {
    pub geometry: Geometry,
    /// Where the table stands.
    pub bat: u64,
    /// What else stands in the file, ascending.
    structures: Vec<(Range<u64>, &'static str)>,
}

impl Map {
    pub(crate) fn new(image: &Image) -> Self {
        let (log, regions) = (image.header.log(), &image.regions);
        let mut structures = vec![(0..HEADER_SECTION, "headers"), (log.offset..log.offset + log.length, "log")];
        for region in &regions.all {
            let name = if *region == regions.bat {
                "block allocation table"
            } else if *region == regions.metadata {
                "metadata region"
            } else {
                "region of another purpose"
            };
            structures.push((region.offset..region.offset + region.length, name));
        }
        structures.sort_by_key(|(range, _)| range.start);
        Self { geometry: image.metadata.geometry(), bat: regions.bat.offset, structures }
    }

    /// The entry of payload block `block`.
    pub(crate) fn payload(&self, sectors: &mut Sectors, file: &dyn BlockRead, block: u64) -> Result<u64> {
        sectors.number(file, self.bat + self.geometry.payload_entry(block) * 8)
    }

    /// Where the bytes at the start of `range` stand, which is inside the disk and not empty.
    pub(crate) fn run(&self, sectors: &mut Sectors, file: &dyn BlockRead, range: Range<u64>) -> Result<Run> {
        let mut run = self.run_in_block(sectors, file, range.clone())?;
        let mut blocks = 0;
        while range.start + run.length < range.end && blocks < BLOCKS_AHEAD {
            let at = range.start + run.length;
            // A bad entry behind is for whoever asks for it.
            let Ok(next) = self.run_in_block(sectors, file, at..range.end) else { break };
            let continues = match (run.place, next.place) {
                (Place::File(first), Place::File(next)) => first + run.length == next,
                (first, next) => first == next,
            };
            if !continues {
                break;
            }
            run.length += next.length;
            blocks += 1;
        }
        Ok(run)
    }

    fn run_in_block(&self, sectors: &mut Sectors, file: &dyn BlockRead, range: Range<u64>) -> Result<Run> {
        let block_size = self.geometry.block_size;
        let (block, inside) = (range.start / block_size, range.start % block_size);
        let length = (range.end - range.start).min(block_size - inside);
        let entry = self.payload(sectors, file, block)?;
        let run = |place| Ok(Run { place, length });
        match entry & STATE_MASK {
            payload::NOT_PRESENT if self.geometry.has_parent => run(Place::Hole),
            // Nothing can show through, so it is as good as zeroes that were written.
            payload::NOT_PRESENT => run(Place::Zero),
            payload::UNDEFINED | payload::ZERO | payload::UNMAPPED => run(Place::Zero),
            payload::FULLY_PRESENT => run(Place::File(self.block_place(file, block, entry)? + inside)),
            payload::PARTIALLY_PRESENT => {
                let place = self.block_place(file, block, entry)? + inside;
                let (present, length) = self.present(sectors, file, range.start..range.start + length)?;
                Ok(Run { place: if present { Place::File(place) } else { Place::Hole }, length })
            }
            state => Err(Fault::BlockState { block, entry, state }.into()),
        }
    }

    /// Where a block that is present stands.
    pub(crate) fn block_place(&self, file: &dyn BlockRead, block: u64, entry: u64) -> Result<u64, Fault> {
        if entry & STATE_MASK == payload::PARTIALLY_PRESENT && !self.geometry.has_parent {
            return Err(Fault::PartialWithoutParent { block });
        }
        let offset = entry & OFFSET_MASK;
        let start = block * self.geometry.block_size;
        // Of the last block, what is behind the disk's end may be missing.
        let length = self.geometry.block_size.min(self.geometry.size - start);
        self.check_place(file, block, offset, length)?;
        Ok(offset)
    }

    fn check_place(&self, file: &dyn BlockRead, block: u64, offset: u64, length: u64) -> Result<(), Fault> {
        let Some(end) = offset.checked_add(length).filter(|end| *end <= file.size()) else {
            return Err(Fault::BlockOutside { block, offset, length, file: file.size() });
        };
        let behind = self.structures.partition_point(|(range, _)| range.end <= offset);
        match self.structures.get(behind) {
            Some((range, structure)) if range.start < end => Err(Fault::BlockOverMetadata { block, offset, structure }),
            _ => Ok(()),
        }
    }

    /// Where the sector bitmap of `block`'s chunk stands.
    pub(crate) fn bitmap_place(&self, sectors: &mut Sectors, file: &dyn BlockRead, block: u64) -> Result<Option<u64>> {
        let chunk = block / self.geometry.chunk_ratio();
        let entry = sectors.number(file, self.bat + self.geometry.bitmap_entry(chunk) * 8)?;
        match entry & STATE_MASK {
            bitmap::PRESENT => {
                self.check_place(file, block, entry & OFFSET_MASK, BITMAP_BYTES)?;
                Ok(Some(entry & OFFSET_MASK))
            }
            bitmap::NOT_PRESENT => Ok(None),
            _ => Err(Fault::NoBitmap { block, chunk, entry }.into()),
        }
    }

    /// Whether the sector at the start of `range`, in one block that is partially present, is in this file, and for how
    /// many bytes of the range that is so.
    fn present(&self, sectors: &mut Sectors, file: &dyn BlockRead, range: Range<u64>) -> Result<(bool, u64)> {
        let block = range.start / self.geometry.block_size;
        let Some(place) = self.bitmap_place(sectors, file, block)? else {
            let chunk = block / self.geometry.chunk_ratio();
            return Err(Fault::NoBitmap { block, chunk, entry: 0 }.into());
        };
        let unit = self.geometry.sector;
        let bit = range.start / unit % CHUNK_SECTORS;
        let at = place + bit / 8;
        let sector = sectors.get(file, at - at % LOG_SECTOR)?;
        // The answer ends with the sector of the bitmap at the latest.
        let (first, per_sector) = (bit % (LOG_SECTOR * 8), LOG_SECTOR * 8);
        let most = (range.end.div_ceil(unit) - range.start / unit).min(per_sector - first);
        let value = is_set(sector, first);
        let mut count = 1;
        while count < most && is_set(sector, first + count) == value {
            count += 1;
        }
        let end = (range.start / unit + count) * unit;
        Ok((value, end.min(range.end) - range.start))
    }
}

fn is_set(sector: &[u8; 4096], bit: u64) -> bool {
    sector[usize::try_from(bit / 8).expect("inside a sector")] >> (bit % 8) & 1 != 0
}
