//! The metadata region: what kind of disk it is, and by what its parent is known. [MS-VHDX], section 2.6.

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::error::Fault;
use super::geometry::Geometry;
use super::guid::Guid;
use super::layout::{
    BLOCK_SIZES, DISK_MAX, FILE_PARAMETERS, ITEM_BYTES_MAX, LOCATOR_VHDX, LOGICAL_SECTOR_SIZE, METADATA_SIGNATURE,
    PARENT_LOCATOR, PHYSICAL_SECTOR_SIZE, RawLocatorEntry, RawLocatorHeader, RawMetadataEntry, RawMetadataHeader,
    TABLE_BYTES, TABLE_ENTRIES_MAX, VIRTUAL_DISK_ID, VIRTUAL_DISK_SIZE, file_flags, item_flags,
};
use super::open::Region;

/// The metadata, checked.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub block_size: u64,
    /// Blocks are never taken back: a fixed disk.
    pub fixed: bool,
    pub has_parent: bool,
    /// Virtual size in bytes.
    pub size: u64,
    /// Where in the file that number stands.
    pub size_at: u64,
    pub disk_id: Guid,
    pub logical_sector: u64,
    pub physical_sector: u64,
    pub parent: Option<Locator>,
}

/// A parent locator: keys and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locator {
    pub pairs: Vec<(String, String)>,
}

impl Metadata {
    pub(crate) const fn geometry(&self) -> Geometry {
        Geometry {
            size: self.size,
            block_size: self.block_size,
            sector: self.logical_sector,
            has_parent: self.has_parent,
        }
    }
}

impl Locator {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The parent's `DataWriteGuid` when the child was made.
    pub(crate) fn linkage(&self) -> Option<Guid> {
        self.get("parent_linkage").and_then(Guid::parse)
    }

    /// File names to try: the relative path first, then what the others end in, and the others as they stand.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: String| {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        };
        let keys = ["relative_path", "absolute_win32_path", "volume_path"];
        if let Some(relative) = self.get("relative_path") {
            let relative = relative.replace('\\', "/");
            add(relative.trim_start_matches("./").to_owned());
        }
        for path in keys.iter().filter_map(|key| self.get(key)) {
            add(path.rsplit(['\\', '/']).next().unwrap_or_default().to_owned());
        }
        for path in keys[1..].iter().filter_map(|key| self.get(key)) {
            add(path.to_owned());
        }
        names
    }
}

/// Reads the metadata in `region`.
///
/// # Errors
/// `Unsupported` for an item or a type of locator that is required and not known; `Corrupt` for what breaks a rule.
pub(crate) fn read(file: &dyn BlockRead, region: &Region) -> Result<Metadata> {
    let items = read_table(file, region)?;
    let item = |id: Guid, what: &'static str, wanted: usize| -> Result<Vec<u8>> {
        let bytes = items.get(file, region, id)?.ok_or(Fault::NoItem(what))?;
        if bytes.len() != wanted {
            return Err(Fault::ItemLength { what, found: bytes.len(), wanted }.into());
        }
        Ok(bytes)
    };
    let parameters = item(FILE_PARAMETERS, "file parameters", 8)?;
    let (block_size, flags) = (number(&parameters[..4]), number(&parameters[4..]));
    let size = number(&item(VIRTUAL_DISK_SIZE, "virtual disk size", 8)?);
    let size_at = region.offset + items.find(VIRTUAL_DISK_SIZE).map_or(0, |entry| u64::from(entry.offset.get()));
    let disk_id = item(VIRTUAL_DISK_ID, "virtual disk id", 16)?;
    let logical_sector = number(&item(LOGICAL_SECTOR_SIZE, "logical sector size", 4)?);
    let physical_sector = number(&item(PHYSICAL_SECTOR_SIZE, "physical sector size", 4)?);

    let rule =
        |holds: bool, what, value, rule| if holds { Ok(()) } else { Err(Fault::ItemValue { what, value, rule }) };
    let is_block = block_size.is_power_of_two() && BLOCK_SIZES.contains(&block_size);
    rule(is_block, "block size", block_size, "a power of two from 1 MiB to 256 MiB")?;
    rule(matches!(logical_sector, 512 | 4096), "logical sector size", logical_sector, "512 or 4096")?;
    rule(matches!(physical_sector, 512 | 4096), "physical sector size", physical_sector, "512 or 4096")?;
    let whole = size.is_multiple_of(logical_sector) && size <= DISK_MAX;
    rule(whole, "virtual disk size", size, "a multiple of the logical sector size, at most 64 TiB")?;

    let has_parent = flags & u64::from(file_flags::HAS_PARENT) != 0;
    let parent = match items.get(file, region, PARENT_LOCATOR)? {
        Some(bytes) if has_parent => Some(parse_locator(&bytes)?),
        None if has_parent => return Err(Fault::NoItem("parent locator, and the disk has a parent").into()),
        _ => None,
    };
    Ok(Metadata {
        block_size,
        fixed: flags & u64::from(file_flags::LEAVE_BLOCK_ALLOCATED) != 0 && !has_parent,
        has_parent,
        size,
        size_at,
        disk_id: Guid::read_from_bytes(&disk_id).unwrap_or_default(),
        logical_sector,
        physical_sector,
        parent,
    })
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The entries of the table, whose places are checked.
struct Items(Vec<RawMetadataEntry>);

impl Items {
    fn find(&self, id: Guid) -> Option<&RawMetadataEntry> {
        self.0.iter().find(|entry| entry.item_id == id && entry.flags.get() & item_flags::USER == 0)
    }

    fn get(&self, file: &dyn BlockRead, region: &Region, id: Guid) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.find(id) else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(entry.length.get()).unwrap_or(0)];
        file.read_at(&mut bytes, region.offset + u64::from(entry.offset.get()))?;
        Ok(Some(bytes))
    }
}

fn read_table(file: &dyn BlockRead, region: &Region) -> Result<Items> {
    let mut bytes = vec![0; TABLE_BYTES];
    file.read_at(&mut bytes, region.offset)?;
    let Ok((head, rest)) = RawMetadataHeader::read_from_prefix(&bytes) else {
        return Err(Fault::Metadata("it is cut off").into());
    };
    if head.signature != METADATA_SIGNATURE {
        return Err(Fault::Metadata("the signature is not 'metadata'").into());
    }
    let count = head.entry_count.get();
    if u32::from(count) > TABLE_ENTRIES_MAX {
        return Err(Fault::MetadataCount(count).into());
    }
    let raw = rest.chunks_exact(size_of::<RawMetadataEntry>());
    let entries: Vec<_> =
        raw.take(count.into()).filter_map(|raw| RawMetadataEntry::read_from_bytes(raw).ok()).collect();
    for entry in &entries {
        check_item(entry, region)?;
    }
    check_overlaps(&entries)?;
    Ok(Items(entries))
}

fn check_item(entry: &RawMetadataEntry, region: &Region) -> Result<(), Fault> {
    const KNOWN: [Guid; 6] = [
        FILE_PARAMETERS,
        VIRTUAL_DISK_SIZE,
        VIRTUAL_DISK_ID,
        LOGICAL_SECTOR_SIZE,
        PHYSICAL_SECTOR_SIZE,
        PARENT_LOCATOR,
    ];
    let (item, offset, length) = (entry.item_id, entry.offset.get(), entry.length.get());
    let known = KNOWN.contains(&item) && entry.flags.get() & item_flags::USER == 0;
    if !known && entry.flags.get() & item_flags::REQUIRED != 0 {
        return Err(Fault::UnknownItem(item));
    }
    let end = u64::from(offset) + u64::from(length);
    // An empty item has no place.
    let placed = u64::from(offset) >= TABLE_BYTES as u64 && end <= region.length && length <= ITEM_BYTES_MAX;
    if length > 0 && !placed {
        return Err(Fault::ItemPlace { item, offset, length, region: region.length });
    }
    Ok(())
}

fn check_overlaps(entries: &[RawMetadataEntry]) -> Result<(), Fault> {
    let mut names: Vec<_> = entries.iter().map(|entry| (entry.flags.get() & 1, entry.item_id.text_order())).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Fault::ItemTwice(Guid::from_text_order(pair[0].1)));
    }
    let mut places: Vec<_> = entries.iter().filter(|entry| entry.length.get() > 0).collect();
    places.sort_by_key(|entry| entry.offset.get());
    for pair in places.windows(2) {
        if u64::from(pair[0].offset.get()) + u64::from(pair[0].length.get()) > u64::from(pair[1].offset.get()) {
            return Err(Fault::ItemOverlap(pair[0].item_id, pair[1].item_id));
        }
    }
    Ok(())
}

fn parse_locator(bytes: &[u8]) -> Result<Locator, Fault> {
    let Ok((head, rest)) = RawLocatorHeader::read_from_prefix(bytes) else {
        return Err(Fault::Locator("it is cut off"));
    };
    if head.locator_type != LOCATOR_VHDX {
        return Err(Fault::LocatorType(head.locator_type));
    }
    let count = usize::from(head.key_value_count.get());
    let entries = rest.chunks_exact(size_of::<RawLocatorEntry>()).take(count);
    if entries.len() < count {
        return Err(Fault::Locator("its entries reach behind its end"));
    }
    let text = |offset: u32, length: u16| {
        let start = usize::try_from(offset).ok()?;
        let bytes = bytes.get(start..start.checked_add(length.into())?)?;
        let units: Vec<_> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        String::from_utf16(&units).ok()
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for raw in entries {
        let Ok(entry) = RawLocatorEntry::read_from_bytes(raw) else { continue };
        let key = text(entry.key_offset.get(), entry.key_length.get());
        let value = text(entry.value_offset.get(), entry.value_length.get());
        let (Some(key), Some(value)) = (key, value) else {
            return Err(Fault::Locator("a key or value is outside of it, or not UTF-16"));
        };
        // A key and a value are at most 64 KiB each, but many entries may name the same bytes.
        if pairs.len() >= 64 {
            return Err(Fault::Locator("more than 64 entries"));
        }
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(Fault::Locator("a key is there twice"));
        }
        pairs.push((key, value));
    }
    Ok(Locator { pairs })
}
