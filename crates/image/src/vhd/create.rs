//! Makes new VHDs for random writing.
//!
//! Every field is what Azure and Hyper-V ask for: the exact size in `current_size`, a table with exactly one entry per
//! block, `win ` on `Wi2k` as the maker, whose images nobody measures by their geometry. Time stamps are 0, so that the same
//! disk gives the same image.

use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};
use zerocopy::{FromZeros, IntoBytes};

use super::fixed::FixedDisk;
use super::geometry::Geometry;
use super::layout::{
    DynamicHeader, FEATURE_RESERVED, FOOTER_BYTES, FOOTER_COOKIE, Footer, HEADER_BYTES, HEADER_COOKIE, NOWHERE, SECTOR,
    VERSION, disk_type, platform,
};
use super::map::Shape;
use super::options::{CreateOptions, Subformat};
use super::parent::to_utf16;
use super::sparse::SparseDisk;
use crate::{ContentId, CreateRequest, IdSource, ImageWrite, TargetFiles};

/// Where the table of a new image stands: behind the copy of the footer and the header.
const TABLE: u64 = FOOTER_BYTES + HEADER_BYTES;
/// Who made the image: "win ", as whom Windows 7 and later, and so Hyper-V, write it.
const CREATOR: [u8; 4] = *b"win ";
const CREATOR_VERSION: u32 = 0x000a_0000;
const CREATOR_HOST: [u8; 4] = *b"Wi2k";

/// Makes a new image for random writing.
///
/// # Errors
/// `InvalidInput` for options that do not fit each other or the parent; `TooLarge` for a disk beyond 2040 GiB;
/// `Unsupported` for a block device, whose end is no place for a footer; what the files answer.
pub(super) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let options = CreateOptions::new(request.options)?;
    let size = options.virtual_size(request.size)?;
    let storage = new_file(request.files)?;
    if options.subformat == Subformat::Fixed {
        let footer = new_footer(disk_type::FIXED, size, request.ids);
        storage.set_size(size + FOOTER_BYTES)?;
        storage.write_at(footer.as_bytes(), size)?;
        return Ok(Arc::new(FixedDisk::for_writing(storage, size)));
    }
    let parent = Parent::of(&request, &options, size)?;
    let kind = if parent.is_some() { disk_type::DIFFERENCING } else { disk_type::DYNAMIC };
    let footer = new_footer(kind, size, request.ids);
    let shape = Shape { size, block: options.block, table: TABLE, has_parent: parent.is_some() };
    let locator = table_end(&shape);
    let name = parent.as_ref().map_or_else(Vec::new, |parent| to_utf16(&format!(".\\{}", parent.name), false));
    let end = locator + (name.len() as u64).next_multiple_of(SECTOR);
    storage.set_size(end + FOOTER_BYTES)?;
    storage.write_at(footer.as_bytes(), 0)?;
    storage.write_at(new_header(&shape, parent.as_ref(), locator).as_bytes(), FOOTER_BYTES)?;
    clear_table(&*storage, TABLE..locator)?;
    storage.write_at(&name, locator)?;
    storage.write_at(footer.as_bytes(), end)?;
    Ok(Arc::new(SparseDisk::for_writing(storage, shape, footer, end, request.cache_bytes)))
}

/// The primary file, when it is one.
pub(super) fn new_file(files: &dyn TargetFiles) -> Result<Arc<dyn Storage>> {
    let storage = files.primary()?;
    // Files begin empty; what has a size already is a block device.
    if storage.size() > 0 {
        let what =
            format!("{}: a VHD has its footer at the file's end, and that of a block device is fixed", files.name());
        return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("write to a file"));
    }
    Ok(storage)
}

/// The footer of a new image.
pub(super) fn new_footer(kind: u32, size: u64, ids: &IdSource) -> Footer {
    let mut footer = Footer::new_zeroed();
    footer.cookie = FOOTER_COOKIE;
    footer.features = FEATURE_RESERVED.into();
    footer.version = VERSION.into();
    footer.data_offset = if kind == disk_type::FIXED { NOWHERE } else { FOOTER_BYTES }.into();
    footer.original_size = size.into();
    footer.disk_type = kind.into();
    footer.unique_id = ids.uuid("vhd unique id");
    with_size(footer, size)
}

/// The footer with another size, and with a maker whose images are measured by it.
pub(super) fn with_size(mut footer: Footer, size: u64) -> Footer {
    footer.creator_application = CREATOR;
    footer.creator_version = CREATOR_VERSION.into();
    footer.creator_host_os = CREATOR_HOST;
    footer.current_size = size.into();
    let Geometry { cylinders, heads, sectors_per_track } = Geometry::of_size(size);
    footer.cylinders = cylinders.into();
    (footer.heads, footer.sectors_per_track) = (heads, sectors_per_track);
    footer.sealed()
}

/// The byte behind the table of a new image, where a parent's name or the first block goes.
pub(super) const fn table_end(shape: &Shape) -> u64 {
    TABLE + (shape.blocks() * 4).next_multiple_of(SECTOR)
}

/// Makes all entries of a table, or the padding behind them, say that there is no block.
pub(super) fn clear_table(storage: &dyn Storage, range: std::ops::Range<u64>) -> Result<()> {
    static UNUSED: [u8; 1 << 16] = [0xff; 1 << 16];
    let mut at = range.start;
    while at < range.end {
        let step = usize::try_from(range.end - at).map_or(UNUSED.len(), |left| left.min(UNUSED.len()));
        storage.write_at(&UNUSED[..step], at)?;
        at += step as u64;
    }
    Ok(())
}

fn new_header(shape: &Shape, parent: Option<&Parent>, locator: u64) -> DynamicHeader {
    let mut header = DynamicHeader::new_zeroed();
    header.cookie = HEADER_COOKIE;
    header.data_offset = NOWHERE.into();
    header.table_offset = shape.table.into();
    header.version = VERSION.into();
    header.max_table_entries = u32::try_from(shape.blocks()).expect("bounded by the largest size").into();
    header.block_size = u32::try_from(shape.block).expect("512 KiB or 2 MiB").into();
    if let Some(parent) = parent {
        header.parent_unique_id = parent.id;
        let name = to_utf16(&parent.name, true);
        header.parent_name[..name.len()].copy_from_slice(&name);
        let length = to_utf16(&format!(".\\{}", parent.name), false).len();
        let entry = &mut header.locators[0];
        entry.platform_code = platform::W2RU;
        entry.data_length = u32::try_from(length).expect("a file name").into();
        // In bytes, as Windows counts it.
        entry.data_space = u32::try_from(length.next_multiple_of(512)).expect("a file name").into();
        entry.data_offset = locator.into();
    }
    header.sealed()
}

/// What a new image hangs from.
struct Parent {
    id: [u8; 16],
    /// The name relative to the new image, as Windows writes paths.
    name: String,
}

impl Parent {
    fn of(request: &CreateRequest<'_>, options: &CreateOptions, size: u64) -> Result<Option<Self>> {
        let Some(file) = &options.backing_file else { return Ok(None) };
        let invalid = |why: &str| {
            let what = format!("VHD options: backing_file={}: {why}", file.escape_debug());
            Err(Error::new(ErrorKind::InvalidInput, what))
        };
        let Some(layer) = request.backing.filter(|layer| layer.format.name == super::FORMAT.name) else {
            return invalid("the parent must be a VHD");
        };
        if layer.device.size() != size {
            return invalid(&format!("it has {} bytes, and a child of {size} must be as large", layer.device.size()));
        }
        let id = layer.content_ids.iter().find_map(|id| match id {
            ContentId::Uuid(id) => Some(*id),
            _ => None,
        });
        let Some(id) = id.filter(|id| *id != [0; 16]) else { return invalid("it has no unique id") };
        // A backslash would be taken for a separator by whoever reads the name back.
        if file.contains('\\') || file.starts_with('/') {
            return invalid("the name must be relative to the new image and without backslashes");
        }
        let name = file.trim_start_matches("./").replace('/', "\\");
        // The name in the header ends with a NUL.
        if name.is_empty() || to_utf16(&name, true).len() > 510 {
            return invalid("the name must have 1 to 255 characters");
        }
        Ok(Some(Self { id, name }))
    }
}
