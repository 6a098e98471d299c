//! Where the bytes of a dynamic or differencing disk stand: the block allocation table and the bitmaps of the blocks.
//!
//! ```text
//! block ──► table entry ──► sector of the file: bitmap (one bit per sector, whole sectors) │ data of the block
//!           0xffffffff: none
//! ```
//!
//! A sector whose bit is 0 reads as zeroes in a dynamic disk and shows the parent in a differencing one, whatever stands
//! in its place. The table is read in pieces as it is needed, and so are the bitmaps; pieces and bitmaps stay in memory up
//! to a bound, however long the table of a hostile image is.

use std::ops::Range;

use transload_block::{BlockRead, BlockStatus, Result, Storage};

use super::cache::Cache;
use super::error::Fault;
use super::layout::{FOOTER_BYTES, SECTOR, UNUSED};

/// Entries of the table that are read at a time: 16 KiB of them.
const PIECE: u64 = 4096;
/// The least that tables may take, however little memory there is.
const CACHE_MIN: usize = 64 << 10;

/// What a disk in blocks is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of the disk, a multiple of a sector.
    pub(super) size: u64,
    /// Bytes of a block, a power of two from a sector on.
    pub(super) block: u64,
    /// The byte of the file at which the block allocation table stands.
    pub(super) table: u64,
    /// A sector that is not here shows the parent.
    pub(super) has_parent: bool,
}

impl Shape {
    /// Bytes of a block's bitmap.
    pub(super) const fn bitmap(&self) -> u64 {
        (self.block / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
    }

    /// Bytes that a block takes in the file.
    pub(super) const fn stride(&self) -> u64 {
        self.bitmap() + self.block
    }

    /// Blocks of the disk.
    pub(super) const fn blocks(&self) -> u64 {
        self.size.div_ceil(self.block)
    }

    /// Bytes of the disk in a block: less than a block's in the last one.
    pub(super) fn bytes_in(&self, block: u64) -> u64 {
        self.block.min(self.size - block * self.block)
    }
}

/// A run of bytes that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) length: u64,
    pub(super) place: Place,
}

/// Where bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From this byte of the file on.
    File(u64),
    /// Nowhere, in a block that has a place: this is where they would stand.
    Unset(u64),
    /// Nowhere, in a block that has no place.
    Nowhere,
}

impl Place {
    pub(super) const fn status(self, has_parent: bool) -> BlockStatus {
        match self {
            Self::File(_) => BlockStatus::Data,
            // Nothing shows through a dynamic disk.
            Self::Unset(_) | Self::Nowhere if !has_parent => BlockStatus::Zero,
            Self::Unset(_) | Self::Nowhere => BlockStatus::Hole,
        }
    }
}

/// The sectors of a block that are set.
#[derive(Debug)]
enum Bits {
    All,
    Some(Vec<u8>),
}

#[derive(Debug)]
struct Bitmap {
    /// Where it stands in the file.
    place: u64,
    bits: Bits,
}

/// The tables of one image. The owner keeps it behind a lock.
#[derive(Debug)]
pub(super) struct Tables {
    shape: Shape,
    entries: Cache<Vec<u32>>,
    bitmaps: Cache<Bitmap>,
}

impl Tables {
    /// The tables of an image, of which about `cache_bytes` bytes may be in memory.
    pub(super) fn new(shape: Shape, cache_bytes: usize) -> Self {
        let bound = cache_bytes.max(CACHE_MIN) / 2;
        Self { shape, entries: Cache::new(bound), bitmaps: Cache::new(bound) }
    }

    /// Where the bytes at the start of `range`, which is inside the disk, stand, and how many are alike. The answer ends at
    /// the latest with the block, or, where blocks have no place, with the piece of the table.
    pub(super) fn run(&mut self, file: &dyn BlockRead, range: Range<u64>) -> Result<Run> {
        self.trim();
        let block = range.start / self.shape.block;
        let Some(place) = self.place(file, block)? else {
            let end = self.end_of_unused(file, block, range.end)?;
            return Ok(Run { length: end - range.start, place: Place::Nowhere });
        };
        let within = range.start % self.shape.block;
        let block_end = block * self.shape.block + self.shape.bytes_in(block);
        let end = range.end.min(block_end);
        let data = place + self.shape.bitmap() + within;
        let (set, sectors) = match self.bits(file, block, place)? {
            Bits::All => (true, u64::MAX),
            Bits::Some(bits) => run_of_bits(bits, within / SECTOR, (within + end - range.start).div_ceil(SECTOR)),
        };
        let alike = sectors.saturating_mul(SECTOR).saturating_sub(within % SECTOR);
        let place = if set { Place::File(data) } else { Place::Unset(data) };
        Ok(Run { length: alike.min(end - range.start), place })
    }

    /// The end of the blocks without a place that follow `block`, as far as `limit` and the piece of the table go.
    fn end_of_unused(&mut self, file: &dyn BlockRead, block: u64, limit: u64) -> Result<u64> {
        let size = self.shape.block;
        let entries = self.piece(file, block / PIECE)?;
        let first = usize::try_from(block % PIECE).expect("inside a piece");
        let unused = entries[first..].iter().take_while(|entry| **entry == UNUSED).count();
        Ok((block + unused as u64).saturating_mul(size).min(limit))
    }

    /// The byte at which `block` stands, which is checked to be in the file.
    pub(super) fn place(&mut self, file: &dyn BlockRead, block: u64) -> Result<Option<u64>> {
        let entry = self.piece(file, block / PIECE)?[usize::try_from(block % PIECE).expect("inside a piece")];
        if entry == UNUSED {
            return Ok(None);
        }
        let offset = u64::from(entry) * SECTOR;
        let bytes = self.shape.bitmap() + self.shape.bytes_in(block);
        let file = file.size();
        if offset < FOOTER_BYTES || offset + bytes > file {
            return Err(Fault::BlockPlace { block, sector: entry, offset, bytes, file }.into());
        }
        Ok(Some(offset))
    }

    /// Gives `block` a place that it did not have, with all of its sectors set or none. The bitmap stands there already.
    pub(super) fn set_place(&mut self, file: &dyn BlockRead, block: u64, sector: u32, all_set: bool) -> Result<()> {
        self.piece(file, block / PIECE)?;
        if let Some(entries) = self.entries.get_mut(block / PIECE) {
            entries[usize::try_from(block % PIECE).expect("inside a piece")] = sector;
        }
        let bits = if all_set { Bits::All } else { Bits::Some(vec![0; self.bitmap_bytes(block)]) };
        self.remember(block, u64::from(sector) * SECTOR, bits);
        Ok(())
    }

    /// Marks the sectors of `range`, which lies in one block that has a place and touches whole sectors, as set.
    pub(super) fn set_sectors(&mut self, file: &dyn BlockRead, range: Range<u64>) -> Result<()> {
        let block = range.start / self.shape.block;
        let Some(place) = self.place(file, block)? else { return Ok(()) };
        if matches!(self.bits(file, block, place)?, Bits::All) {
            return Ok(());
        }
        let count = self.shape.bytes_in(block) / SECTOR;
        let start = block * self.shape.block;
        if let Some(bitmap) = self.bitmaps.get_mut(block)
            && let Bits::Some(bits) = &mut bitmap.bits
        {
            for sector in (range.start - start) / SECTOR..(range.end - start).div_ceil(SECTOR) {
                bits[usize::try_from(sector / 8).expect("a bitmap fits memory")] |= 0x80 >> (sector % 8);
            }
            if is_full(bits, count) {
                bits.fill(0xff);
            }
        }
        Ok(())
    }

    /// Puts everything that was changed into the file, once the data it refers to is durable: first the bitmaps, then the
    /// table. A crash in between leaves blocks with fewer sectors set, which show what was there before.
    pub(super) fn write_back(&mut self, storage: &dyn Storage) -> Result<()> {
        let (bitmaps, pieces) = (self.bitmaps.dirty(), self.entries.dirty());
        if bitmaps.is_empty() && pieces.is_empty() {
            return Ok(());
        }
        storage.flush()?;
        for block in bitmaps {
            if let Some(Bitmap { place, bits: Bits::Some(bits) }) = self.bitmaps.get(block) {
                storage.write_at(bits, *place)?;
            }
            self.bitmaps.clean(block);
        }
        for piece in pieces {
            if let Some(entries) = self.entries.get(piece) {
                let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
                storage.write_at(&bytes, self.shape.table + piece * PIECE * 4)?;
            }
            self.entries.clean(piece);
        }
        Ok(())
    }

    /// Whether tables should be written back so that memory can be given back.
    pub(super) fn is_over(&self) -> bool {
        self.entries.is_over() || self.bitmaps.is_over()
    }

    /// Gives memory back.
    pub(super) fn trim(&mut self) {
        self.entries.trim();
        self.bitmaps.trim();
    }

    fn piece(&mut self, file: &dyn BlockRead, piece: u64) -> Result<&[u32]> {
        if self.entries.get(piece).is_none() {
            let count = PIECE.min(self.shape.blocks() - piece * PIECE);
            let mut bytes = vec![0; usize::try_from(count * 4).expect("at most 16 KiB")];
            file.read_at(&mut bytes, self.shape.table + piece * PIECE * 4)?;
            let (words, _) = bytes.as_chunks::<4>();
            let entries = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
            self.entries.put(piece, entries, bytes.len());
        }
        Ok(self.entries.get(piece).expect("it was put there"))
    }

    /// Bytes of the part of a bitmap that counts.
    fn bitmap_bytes(&self, block: u64) -> usize {
        usize::try_from((self.shape.bytes_in(block) / SECTOR).div_ceil(8)).expect("at most 512 KiB")
    }

    fn bits(&mut self, file: &dyn BlockRead, block: u64, place: u64) -> Result<&Bits> {
        if self.bitmaps.get(block).is_none() {
            let mut bits = vec![0; self.bitmap_bytes(block)];
            file.read_at(&mut bits, place)?;
            let full = is_full(&bits, self.shape.bytes_in(block) / SECTOR);
            self.remember(block, place, if full { Bits::All } else { Bits::Some(bits) });
        }
        Ok(&self.bitmaps.get(block).expect("it was put there").bits)
    }

    fn remember(&mut self, block: u64, place: u64, bits: Bits) {
        let bytes = match &bits {
            Bits::All => 0,
            Bits::Some(bits) => bits.len(),
        };
        self.bitmaps.put(block, Bitmap { place, bits }, bytes);
    }
}

/// Whether the first `count` bits are set.
fn is_full(bits: &[u8], count: u64) -> bool {
    count == 0 || run_of_bits(bits, 0, count) == (true, count)
}

/// The value of bit `from`, the highest of a byte being its first, and how many bits up to `end` have it from there on.
fn run_of_bits(bits: &[u8], from: u64, end: u64) -> (bool, u64) {
    let byte = |index: u64| bits[usize::try_from(index / 8).expect("a bitmap fits memory")];
    let is_set = |index: u64| byte(index) & (0x80 >> (index % 8)) != 0;
    let set = is_set(from);
    let whole = if set { 0xff } else { 0 };
    let mut at = from + 1;
    while at < end {
        if at.is_multiple_of(8) && at + 8 <= end && byte(at) == whole {
            at += 8;
        } else if is_set(at) == set {
            at += 1;
        } else {
            break;
        }
    }
    (set, at.min(end) - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_bits_end_where_the_value_does() {
        let bits = [0xff, 0xff, 0xf0, 0x00, 0x01];
        for (from, end, expected) in [
            (0, 40, (true, 20)),
            (3, 40, (true, 17)),
            (3, 10, (true, 7)),
            (20, 40, (false, 19)),
            (39, 40, (true, 1)),
            (24, 32, (false, 8)),
        ] {
            assert_eq!(run_of_bits(&bits, from, end), expected, "{from}..{end}");
        }
        assert!(is_full(&bits, 20) && !is_full(&bits, 21) && is_full(&[], 0));
    }

    #[test]
    fn a_bitmap_takes_whole_sectors() {
        let shape = |block| Shape { size: 1 << 40, block, table: 1536, has_parent: false };
        for (block, bitmap) in [(512, 512), (4096, 512), (2 << 20, 512), (4 << 20, 1024), (1 << 31, 512 << 10)] {
            assert_eq!(shape(block).bitmap(), bitmap, "{block}");
        }
        let last = Shape { size: (5 << 20) + 512, ..shape(2 << 20) };
        assert_eq!((last.blocks(), last.bytes_in(1), last.bytes_in(2)), (3, 2 << 20, (1 << 20) + 512));
    }
}
