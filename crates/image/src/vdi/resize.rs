//! Changing the virtual size of an image that nobody has open.
//!
//! ```text
//! shrink: forget the blocks behind the end ──► compact ──► header
//! grow:   zero the rest of the last block ──► longer map ──► header
//! ```
//!
//! Size and number of blocks change in one write inside the first sector, with everything it relies on flushed before.
//! Where there is no room for a longer map, the first blocks of the file move to its end, and the new map takes their
//! place; until then the old one is in force, but with a full file it already names blocks behind its own number, and a
//! crash in that moment leaves an image that is refused.

use transload_block::{Error, ErrorKind, Result, Storage, ZeroMode};

use super::check::Census;
use super::compact::{compact, copy_block, write_allocated, write_entries};
use super::create::{rounded, too_large};
use super::device::Shape;
use super::layout::{BLOCK_FREE, BLOCK_ZERO, BLOCKS_MAX};
use super::map::{PAGE, read_entries};
use super::open::{Header, Kind};
use crate::ResizeRequest;

/// Where a header of version 1 says where the map stands, and right behind it where the blocks begin.
const MAP_FIELD: u64 = 0x154;

/// Changes the virtual size, which is rounded up to 512 bytes as for a new image.
#[expect(clippy::needless_pass_by_value, reason = "the row of the format gives its requests away")]
pub(super) fn resize(request: ResizeRequest<'_>) -> Result<()> {
    let storage = &**request.source.storage()?;
    let header = Header::read(storage)?;
    let unsupported = |what: &str| {
        let error = Error::new(ErrorKind::Unsupported, format!("VDI: {what} cannot be resized"));
        error.with_remedy("convert it to a new image first")
    };
    if header.parent.is_some() {
        return Err(unsupported("an image with a parent"));
    }
    if header.version.0 == 0 {
        return Err(unsupported("an image of version 0, whose map has no room of its own,"));
    }
    let size = rounded(request.size)?;
    if size < header.size && !request.shrink {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the new size of {size} bytes is less than the old one of {}", header.size),
        )
        .with_remedy("say with --shrink that what lies behind the new size may be lost"));
    }
    let shape = header.shape();
    let census = Census::take(storage, &shape, &mut |fault| Err(fault.into()))?;
    write_allocated(storage, &shape, census.end)?;
    if size < header.size { shrink(storage, &shape, size) } else { grow(storage, &header, census, size) }
}

fn shrink(storage: &dyn Storage, shape: &Shape, size: u64) -> Result<()> {
    let blocks = size.div_ceil(shape.block);
    let mut first = blocks;
    while first < shape.blocks {
        let count = PAGE.min(shape.blocks - first);
        write_entries(storage, shape.map, first, &vec![BLOCK_FREE; usize::try_from(count).expect("a page")])?;
        first += count;
    }
    storage.flush()?;
    let census = Census::take(storage, shape, &mut |fault| Err(fault.into()))?;
    compact(storage, shape, census)?;
    write_size(storage, shape, size, blocks)
}

fn grow(storage: &dyn Storage, header: &Header, census: Census, size: u64) -> Result<()> {
    let mut shape = header.shape();
    // A header may have more blocks than its size needs.
    let blocks = size.div_ceil(shape.block).max(shape.blocks);
    if blocks > BLOCKS_MAX {
        return Err(too_large(size));
    }
    zero_rest(storage, &shape, size)?;
    if shape.map + blocks * 4 > shape.data {
        shape = relocate(storage, &shape, census, size, blocks)?;
    }
    let fixed = header.kind == Kind::Fixed;
    if fixed {
        // What the file has behind its last block is not known to be zeroes.
        let (old, new) = (shape.end_of(shape.blocks), shape.end_of(blocks));
        storage.set_size(old.min(storage.size()))?;
        storage.set_size(new)?;
    }
    fill_map(storage, &shape, blocks, fixed)?;
    storage.flush()?;
    write_size(storage, &shape, size, blocks)?;
    if fixed {
        write_allocated(storage, &shape, blocks)?;
    }
    Ok(())
}

/// Enters the blocks from the old number on: as places of their own in a fixed image, otherwise as having none.
fn fill_map(storage: &dyn Storage, shape: &Shape, blocks: u64, fixed: bool) -> Result<()> {
    let mut first = shape.blocks;
    while first < blocks {
        let count = PAGE.min(blocks - first);
        let entry = |block: u64| if fixed { u32::try_from(block).unwrap_or(BLOCK_FREE) } else { BLOCK_FREE };
        let entries: Vec<u32> = (first..first + count).map(entry).collect();
        write_entries(storage, shape.map, first, &entries)?;
        first += count;
    }
    Ok(())
}

/// Zeroes what the blocks hold behind the old end, which now comes to light.
fn zero_rest(storage: &dyn Storage, shape: &Shape, size: u64) -> Result<()> {
    let mut at = shape.size;
    let end = size.min(shape.blocks * shape.block);
    while at < end {
        let block = at / shape.block;
        let entry = read_entries(storage, shape.map, block, 1)?[0];
        let until = end.min((block + 1) * shape.block);
        if !matches!(entry, BLOCK_FREE | BLOCK_ZERO) {
            let start = shape.checked_block(storage, block, entry)?;
            let whole = start + shape.block;
            if storage.size() < whole && shape.end_of(u64::from(entry) + 1) == whole {
                storage.set_size(whole)?;
            }
            storage
                .write_zeroes_at(start + at % shape.block..start + (until - block * shape.block), ZeroMode::Unmap)?;
        }
        at = until;
    }
    Ok(())
}

/// Makes room for a map of `blocks` entries by moving the first blocks of the file to its end.
fn relocate(storage: &dyn Storage, shape: &Shape, census: Census, size: u64, blocks: u64) -> Result<Shape> {
    let taken = (blocks * 4).div_ceil(shape.block + shape.extra);
    let moved = taken.min(census.end);
    let end = census.end.max(taken) + moved;
    let new = Shape { map: shape.data, data: shape.end_of(taken), ..*shape };
    let (Ok(map), Ok(data)) = (u32::try_from(new.map), u32::try_from(new.data)) else { return Err(too_large(size)) };
    if storage.size() < shape.end_of(end) {
        storage.set_size(shape.end_of(end))?;
    }
    let first = census.end.max(taken);
    for index in 0..moved {
        copy_block(storage, shape, index, first + index)?;
    }
    storage.flush()?;
    rewrite(storage, shape, shape.map, &|entry| if entry < moved { entry + first } else { entry })?;
    storage.flush()?;
    rewrite(storage, shape, new.map, &|entry| entry - taken)?;
    storage.flush()?;
    storage.write_at(&[map.to_le_bytes(), data.to_le_bytes()].concat(), MAP_FIELD)?;
    write_allocated(storage, shape, end - taken)?;
    Ok(new)
}

/// Writes the map anew at `target`, with every place that a block has changed by `change`.
fn rewrite(storage: &dyn Storage, shape: &Shape, target: u64, change: &dyn Fn(u64) -> u64) -> Result<()> {
    let mut first = 0;
    while first < shape.blocks {
        let count = PAGE.min(shape.blocks - first);
        let mut entries = read_entries(storage, shape.map, first, count)?;
        for entry in entries.iter_mut().filter(|entry| !matches!(**entry, BLOCK_FREE | BLOCK_ZERO)) {
            *entry = u32::try_from(change(u64::from(*entry))).expect("below the number of blocks");
        }
        write_entries(storage, target, first, &entries)?;
        first += count;
    }
    Ok(())
}

/// Writes the virtual size and the number of blocks, which stand near each other, at once.
fn write_size(storage: &dyn Storage, shape: &Shape, size: u64, blocks: u64) -> Result<()> {
    storage.flush()?;
    let (start, end) = (shape.places.size, shape.places.blocks + 4);
    let mut fields = vec![0; usize::try_from(end - start).expect("a few bytes")];
    storage.read_at(&mut fields, start)?;
    let length = fields.len();
    fields[..8].copy_from_slice(&size.to_le_bytes());
    fields[length - 4..].copy_from_slice(&u32::try_from(blocks).expect("bounded above").to_le_bytes());
    storage.write_at(&fields, start)?;
    storage.flush()
}
