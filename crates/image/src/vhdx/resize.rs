//! Makes a disk larger that nobody has open.
//!
//! ```text
//! zero what a longer disk uncovers ─► entries for the new blocks, where nobody looks yet (in a new region when the old
//! one is too short) ─► barrier ─► one log entry: the virtual size, and the region tables when the region moved
//! ```
//!
//! A crash leaves the old disk or the new one.

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result, Storage, ZeroMode};

use super::create::region_table;
use super::geometry::Geometry;
use super::journal::{FileLength, Journal};
use super::layout::{BAT_REGION, DISK_MAX, LOG_SECTOR, MIB, OFFSET_MASK, REGION_TABLES, STATE_MASK, payload};
use super::map::Map;
use super::open::{Image, read_header};
use super::options::bat_bytes;
use super::replay::replay;
use super::sectors::{Sector, Sectors};
use crate::ResizeRequest;

/// What is copied or written of the table at a time.
const CHUNK: u64 = 1 << 20;

/// Changes the virtual size; the row's `resize`.
///
/// # Errors
/// `InvalidInput` for a smaller size unless that is allowed; `Unsupported` for a smaller size and for a disk with a parent;
/// `TooLarge` for more than 64 TiB.
#[expect(clippy::needless_pass_by_value, reason = "the table of formats hands requests over")]
pub(crate) fn resize(request: ResizeRequest<'_>) -> Result<()> {
    let name = request.source.display_name();
    resize_image(&request).map_err(|error| error.context(name))
}

fn resize_image(request: &ResizeRequest<'_>) -> Result<()> {
    let storage = request.source.storage()?;
    let mut image = Image::read(request.source.bytes())?;
    let new = wanted_geometry(request, &image)?;
    if new.size == image.metadata.size {
        return Ok(());
    }
    replay(storage, &image.header)?;
    image.header = read_header(&**storage)?;
    image.file = Arc::clone(storage) as Arc<dyn BlockRead>;
    let mut journal = Journal::new(&image.header);
    journal.begin(&**storage, format!("resize to {}", new.size).as_bytes())?;
    cover_last_block(&**storage, &image)?;
    let changes = grow_table(&**storage, &image, &new)?;
    storage.flush()?;
    let sectors: Vec<_> = changes.iter().map(|(at, sector)| (*at, sector)).collect();
    let length = FileLength { flushed: storage.size(), last: storage.size() };
    journal.commit(&**storage, &sectors, length)?;
    storage.flush()?;
    journal.close(&**storage)
}

fn wanted_geometry(request: &ResizeRequest<'_>, image: &Image) -> Result<Geometry> {
    let old = image.metadata.geometry();
    let remedy = "convert it to a new image";
    if request.size > DISK_MAX {
        let what = format!("VHDX: a disk of {} bytes; the format ends at 64 TiB ({DISK_MAX} bytes)", request.size);
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    let size = request.size.next_multiple_of(old.sector);
    if size < old.size && !request.shrink {
        let what = format!("shrinking from {} to {size} bytes loses what stands behind the new end", old.size);
        return Err(Error::new(ErrorKind::InvalidInput, what).with_remedy("allow it with --shrink"));
    }
    if size < old.size {
        return Err(Error::new(ErrorKind::Unsupported, "VHDX: making a disk smaller").with_remedy(remedy));
    }
    if old.has_parent && size != old.size {
        return Err(Error::new(ErrorKind::Unsupported, "VHDX: resizing a disk with a parent").with_remedy(remedy));
    }
    Ok(Geometry { size, ..old })
}

/// Zeroes the rest of the last block, which the longer disk shows.
fn cover_last_block(storage: &dyn Storage, image: &Image) -> Result<()> {
    let (map, geometry) = (Map::new(image), image.metadata.geometry());
    let inside = geometry.size % geometry.block_size;
    if inside == 0 {
        return Ok(());
    }
    let block = geometry.size / geometry.block_size;
    let entry = map.payload(&mut Sectors::new(0), storage_as_read(storage), block)?;
    if entry & STATE_MASK == payload::FULLY_PRESENT {
        let place = map.block_place(storage_as_read(storage), block, entry)?;
        let end = place + geometry.block_size;
        if storage.size() < end {
            storage.set_size(end)?;
        }
        storage.write_zeroes_at(place + inside..end, ZeroMode::KeepAllocated)?;
    }
    Ok(())
}

fn storage_as_read(storage: &dyn Storage) -> &dyn BlockRead {
    storage
}

/// Makes entries for the new blocks, and answers the sectors that have to change at once for them to count.
fn grow_table(storage: &dyn Storage, image: &Image, new: &Geometry) -> Result<Vec<(u64, Sector)>> {
    let old = image.metadata.geometry();
    let mut regions = image.regions.all.clone();
    let mut bat = image.regions.bat;
    let mut end = storage.size().next_multiple_of(MIB);
    let moved = new.bat_entries() * 8 > bat.length;
    if moved {
        let from = bat.offset;
        (bat.offset, bat.length) = (end, bat_bytes(new));
        end += bat.length;
        storage.set_size(end)?;
        copy(storage, from, bat.offset, old.bat_entries() * 8)?;
        regions.iter_mut().filter(|region| region.guid == BAT_REGION).for_each(|region| *region = bat);
    }
    if image.metadata.fixed {
        let blocks = new.blocks() - old.blocks();
        storage.set_size(end + blocks * new.block_size)?;
    }
    let (mut number, mut place) = (old.bat_entries(), end);
    while number < new.bat_entries() {
        let until = new.bat_entries().min(number + CHUNK / 8);
        let mut bytes = Vec::with_capacity(usize::try_from((until - number) * 8).expect("1 MiB"));
        for number in number..until {
            let entry = match (new.is_bitmap_entry(number), image.metadata.fixed) {
                (true, _) => 0,
                (false, false) => payload::ZERO,
                (false, true) => {
                    place += new.block_size;
                    (place - new.block_size) & OFFSET_MASK | payload::FULLY_PRESENT
                }
            };
            bytes.extend_from_slice(&entry.to_le_bytes());
        }
        storage.write_at(&bytes, bat.offset + number * 8)?;
        number = until;
    }
    let mut changes = changed_sectors(storage, image.metadata.size_at, &new.size.to_le_bytes())?;
    if moved {
        let table = region_table(&regions);
        for at in REGION_TABLES {
            changes.extend(changed_sectors(storage, at, &table)?);
        }
    }
    changes.sort_by_key(|(at, _)| *at);
    Ok(changes)
}

/// The sectors of the file that differ once `bytes` are written at `at`.
fn changed_sectors(storage: &dyn Storage, at: u64, bytes: &[u8]) -> Result<Vec<(u64, Sector)>> {
    let mut changes = Vec::new();
    let end = at + bytes.len() as u64;
    let mut start = at - at % LOG_SECTOR;
    while start < end {
        let mut sector = [0; 4096];
        storage.read_at(&mut sector, start)?;
        let old = sector;
        for (place, byte) in (at..end).zip(bytes).skip_while(|(place, _)| *place < start).take(sector.len()) {
            if let Some(target) = usize::try_from(place - start).ok().and_then(|inside| sector.get_mut(inside)) {
                *target = *byte;
            }
        }
        if sector != old {
            changes.push((start, sector));
        }
        start += LOG_SECTOR;
    }
    Ok(changes)
}

fn copy(storage: &dyn Storage, from: u64, to: u64, length: u64) -> Result<()> {
    let mut done = 0;
    while done < length {
        let mut bytes = vec![0; usize::try_from((length - done).min(CHUNK)).expect("1 MiB")];
        storage.read_at(&mut bytes, from + done)?;
        storage.write_at(&bytes, to + done)?;
        done += bytes.len() as u64;
    }
    Ok(())
}
