//! Moves the last blocks of the file into places that nothing uses, so that the file can end earlier.
//!
//! A block is copied, the copy made durable, and only then its entry changed: a crash leaves each entry with a sound block.

use transload_block::{Error, ErrorKind, Result, Storage, ZeroMode};

use super::check::{Census, for_each_entry};
use super::device::Shape;
use super::layout::{BLOCK_FREE, BLOCK_ZERO};
use super::map::{PAGE, read_entries};

/// Most blocks that are sorted out in memory: 128 MiB of bits, which are 1 PiB of blocks of 1 MiB.
const BLOCKS_MAX: u64 = 1 << 30;
/// What is copied at once.
const COPY: u64 = 1 << 20;

/// Gives the blocks of the disk that have a place the numbers from 0 on, and cuts off what is behind them.
///
/// The census is of a sound map.
///
/// # Errors
/// `TooLarge` beyond what can be sorted out; what the storage answers.
pub(super) fn compact(storage: &dyn Storage, shape: &Shape, census: Census) -> Result<()> {
    let count = census.allocated;
    if census.end > count {
        let mut free = Holes::find(storage, shape, count)?;
        let mut first = 0;
        while first < shape.blocks {
            let length = PAGE.min(shape.blocks - first);
            let mut entries = read_entries(storage, shape.map, first, length)?;
            let mut moved = false;
            for entry in &mut entries {
                if matches!(*entry, BLOCK_FREE | BLOCK_ZERO) || u64::from(*entry) < count {
                    continue;
                }
                let hole = free.next().expect("as many holes as blocks behind the last of the rest");
                copy_block(storage, shape, u64::from(*entry), hole)?;
                *entry = u32::try_from(hole).expect("below the number of blocks");
                moved = true;
            }
            if moved {
                storage.flush()?;
                write_entries(storage, shape.map, first, &entries)?;
            }
            first += length;
        }
        storage.flush()?;
    }
    write_allocated(storage, shape, count)?;
    if storage.size() > shape.end_of(count) {
        storage.set_size(shape.end_of(count))?;
    }
    storage.flush()
}

/// Says in the header how many blocks the file has.
pub(super) fn write_allocated(storage: &dyn Storage, shape: &Shape, count: u64) -> Result<()> {
    let count = u32::try_from(count).expect("below the number of blocks");
    storage.write_at(&count.to_le_bytes(), shape.places.allocated)?;
    storage.flush()
}

/// Writes `entries` of the map at `map`, from block `first` on.
pub(super) fn write_entries(storage: &dyn Storage, map: u64, first: u64, entries: &[u32]) -> Result<()> {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    storage.write_at(&bytes, map + first * 4)
}

/// Copies block `from` of the file, with what stands in front of it, to block `to`. The file is long enough for `to`. What
/// the file has no data for is not copied: of a block and the bytes in front of it, which may be gigabytes, little may exist.
pub(super) fn copy_block(storage: &dyn Storage, shape: &Shape, from: u64, to: u64) -> Result<()> {
    let (start, to, end) = (shape.end_of(from), shape.end_of(to), shape.end_of(from + 1));
    // The last block of the file may be cut off where the disk ends.
    let length = end.min(storage.size()).saturating_sub(start);
    let mut buffer = vec![0; usize::try_from(length.min(COPY)).expect("a megabyte")];
    let mut at = 0;
    while at < length {
        let extent = storage.block_status(start + at..start + length)?;
        if extent.status.reads_zero() {
            storage.write_zeroes_at(to + at..to + at + extent.length, ZeroMode::Unmap)?;
            at += extent.length;
            continue;
        }
        let piece = &mut buffer[..usize::try_from(extent.length.min(COPY)).expect("a megabyte")];
        storage.read_at(piece, start + at)?;
        storage.write_at(piece, to + at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// The blocks of the file that nothing uses, ascending.
struct Holes {
    used: Vec<u64>,
    at: u64,
    end: u64,
}

impl Holes {
    fn find(storage: &dyn Storage, shape: &Shape, end: u64) -> Result<Self> {
        if end > BLOCKS_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("VDI: {end} blocks are more than the {BLOCKS_MAX} whose places can be sorted out"),
            )
            .with_remedy("convert it to a new image"));
        }
        let mut used = vec![0_u64; usize::try_from(end.div_ceil(64)).expect("bounded above")];
        for_each_entry(storage, shape, &mut |_, entry| {
            if let Some(word) = usize::try_from(entry / 64).ok().and_then(|word| used.get_mut(word)) {
                *word |= 1 << (entry % 64);
            }
            Ok(())
        })?;
        Ok(Self { used, at: 0, end })
    }
}

impl Iterator for Holes {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        while self.at < self.end {
            let at = self.at;
            self.at += 1;
            let word = self.used.get(usize::try_from(at / 64).ok()?)?;
            if word & (1 << (at % 64)) == 0 {
                return Some(at);
            }
        }
        None
    }
}
