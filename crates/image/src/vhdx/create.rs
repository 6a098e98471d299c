//! A new image: identifier, headers, region tables, log, metadata, block allocation table, and then the blocks.

use std::sync::Arc;

use transload_block::{BlockRead, Result, Storage, ZeroMode};
use zerocopy::IntoBytes;

use super::device::Vhdx;
use super::guid::Guid;
use super::journal::{Journal, header_bytes};
use super::layout::{
    BAT_REGION, FILE_PARAMETERS, FILE_SIGNATURE, HEADER_SIGNATURE, HEADERS, LOG_VERSION, LOGICAL_SECTOR_SIZE,
    METADATA_REGION, METADATA_SIGNATURE, MIB, PHYSICAL_SECTOR_SIZE, REGION_SIGNATURE, REGION_TABLES, RawHeader,
    RawMetadataEntry, RawMetadataHeader, RawRegion, RawRegionHeader, TABLE_BYTES, VERSION, VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE, checksum, file_flags, item_flags, payload,
};
use super::open::{Image, Region};
use super::options::NewImage;
use super::write::{State, Writing};
use crate::{CreateRequest, IdSource, ImageWrite};

/// Who made the file; in the identifier, for people (section 2.2.1).
const CREATOR: &str = "Transload";
/// What is written of the table at a time.
const BAT_CHUNK: u64 = 1 << 17;
/// Bytes of a physical sector: what disks have, and what Hyper-V writes.
const PHYSICAL_SECTOR: u32 = 4096;

/// Makes a new image and opens it for random writing.
///
/// # Errors
/// What is wrong with the options; what the storage answers.
pub(crate) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let image = NewImage::new(request.size, request.options)?;
    let storage = request.files.primary()?;
    // Files begin empty; what has a size already is a block device that may hold anything.
    let stale = storage.size();
    write_new_image(&*storage, &image, request.ids, stale)?;
    let opened = Image::read(&(Arc::clone(&storage) as Arc<dyn BlockRead>))?;
    let end = image.file_length(if image.fixed { image.geometry.blocks() } else { 0 });
    let state = State::writing(request.cache_bytes, end, None);
    let journal = Journal::new(&opened.header);
    let writing = Writing::created(Arc::clone(&storage), stale, journal);
    Ok(Arc::new(Vhdx::new(&opened, storage, state, Some(writing))))
}

fn write_new_image(storage: &dyn Storage, image: &NewImage, ids: &IdSource, stale: u64) -> Result<()> {
    let blocks = if image.fixed { image.geometry.blocks() } else { 0 };
    let length = image.file_length(blocks);
    if storage.size() < length {
        storage.set_size(length)?;
    }
    if stale > 0 {
        storage.write_zeroes_at(0..stale.min(length), ZeroMode::Unmap)?;
    }
    write_bat(storage, image)?;
    storage.write_at(&metadata(image, ids), image.metadata_at())?;
    let regions = [
        Region { guid: BAT_REGION, offset: image.bat_at(), length: image.bat_bytes(), required: true },
        Region { guid: METADATA_REGION, offset: image.metadata_at(), length: MIB, required: true },
    ];
    let table = region_table(&regions);
    for at in REGION_TABLES {
        storage.write_at(&table, at)?;
    }
    let mut header = RawHeader {
        signature: HEADER_SIGNATURE,
        checksum: 0.into(),
        sequence_number: 0.into(),
        file_write_guid: Guid::from_text_order(ids.uuid("vhdx file write")),
        data_write_guid: Guid::from_text_order(ids.uuid("vhdx data write")),
        log_guid: Guid::ZERO,
        log_version: LOG_VERSION.into(),
        version: VERSION.into(),
        log_length: u32::try_from(image.log_size).expect("at most 64 MiB").into(),
        log_offset: NewImage::log_at().into(),
    };
    for (at, sequence) in HEADERS.into_iter().zip(0..) {
        header.sequence_number.set(sequence);
        storage.write_at(&header_bytes(header), at)?;
    }
    // The identifier comes last: before it, this is no VHDX.
    let mut identifier = FILE_SIGNATURE.to_vec();
    identifier.extend(CREATOR.encode_utf16().flat_map(u16::to_le_bytes));
    storage.write_at(&identifier, 0)
}

/// Writes the table, where it is not all zeroes.
fn write_bat(storage: &dyn Storage, image: &NewImage) -> Result<()> {
    let geometry = &image.geometry;
    if !image.fixed && !image.state_zero {
        return Ok(());
    }
    let (entries, mut first, mut block) = (geometry.bat_entries(), 0, 0);
    while first < entries {
        let end = entries.min(first + BAT_CHUNK);
        let mut bytes = Vec::with_capacity(usize::try_from((end - first) * 8).expect("1 MiB"));
        for number in first..end {
            let entry = if geometry.is_bitmap_entry(number) {
                0
            } else {
                let place = image.file_length(block);
                block += 1;
                if image.fixed { place | payload::FULLY_PRESENT } else { payload::ZERO }
            };
            bytes.extend_from_slice(&entry.to_le_bytes());
        }
        storage.write_at(&bytes, image.bat_at() + first * 8)?;
        first = end;
    }
    Ok(())
}

/// A region table with its checksum.
pub(crate) fn region_table(regions: &[Region]) -> Vec<u8> {
    let header = RawRegionHeader {
        signature: REGION_SIGNATURE,
        checksum: 0.into(),
        entry_count: u32::try_from(regions.len()).expect("at most 2047").into(),
        reserved: 0.into(),
    };
    let mut table = header.as_bytes().to_vec();
    for region in regions {
        let raw = RawRegion {
            guid: region.guid,
            file_offset: region.offset.into(),
            length: u32::try_from(region.length).expect("it was read from 32 bits, or is a new table's").into(),
            required: u32::from(region.required).into(),
        };
        table.extend_from_slice(raw.as_bytes());
    }
    table.resize(TABLE_BYTES, 0);
    let sum = checksum(&table);
    table[4..8].copy_from_slice(&sum.to_le_bytes());
    table
}

/// The table of metadata items with the items behind it.
fn metadata(image: &NewImage, ids: &IdSource) -> Vec<u8> {
    let flags = if image.fixed { file_flags::LEAVE_BLOCK_ALLOCATED } else { 0 };
    let block_size = u32::try_from(image.geometry.block_size).expect("at most 256 MiB");
    let sector = u32::try_from(image.geometry.sector).expect("512 or 4096");
    let disk = item_flags::VIRTUAL_DISK | item_flags::REQUIRED;
    let id = Guid::from_text_order(ids.uuid("vhdx virtual disk"));
    let items: [(Guid, u32, Vec<u8>); 5] = [
        (FILE_PARAMETERS, item_flags::REQUIRED, [block_size.to_le_bytes(), flags.to_le_bytes()].concat()),
        (VIRTUAL_DISK_SIZE, disk, image.geometry.size.to_le_bytes().to_vec()),
        (VIRTUAL_DISK_ID, disk, id.as_bytes().to_vec()),
        (LOGICAL_SECTOR_SIZE, disk, sector.to_le_bytes().to_vec()),
        (PHYSICAL_SECTOR_SIZE, disk, PHYSICAL_SECTOR.to_le_bytes().to_vec()),
    ];
    let header = RawMetadataHeader {
        signature: METADATA_SIGNATURE,
        reserved: 0.into(),
        entry_count: 5.into(),
        reserved2: [0; 20],
    };
    let (mut table, mut data) = (header.as_bytes().to_vec(), Vec::new());
    for (item_id, flags, bytes) in items {
        let offset = u32::try_from(TABLE_BYTES + data.len()).expect("a few bytes behind the table");
        let length = u32::try_from(bytes.len()).expect("a few bytes");
        let entry = RawMetadataEntry {
            item_id,
            offset: offset.into(),
            length: length.into(),
            flags: flags.into(),
            reserved: 0.into(),
        };
        table.extend_from_slice(entry.as_bytes());
        data.extend(bytes);
    }
    table.resize(TABLE_BYTES, 0);
    table.extend(data);
    table
}
