//! Makes new VDIs, laid out as VirtualBox does it: the map at 1 MiB, the blocks from the next MiB behind it on.

use std::sync::Arc;

use transload_block::{BlockStatus, Error, ErrorKind, Result, Storage, ZeroMode};
use zerocopy::{FromZeros, IntoBytes};

use super::device::{Shape, Vdi};
use super::layout::{
    BLOCK_FREE, BLOCKS_MAX, FILE_INFO, Geometry, HEADER_OFFSET, Header1, PreHeader, SECTOR, SIGNATURE, swap_uuid,
};
use super::open::{Header, Kind};
use crate::{CreateRequest, ImageWrite, Measure, MeasureRequest, OptionKind, OptionSpec, OptionValues};

/// Bytes of a block of a new image: the only size that QEMU reads, and VirtualBox's own.
const BLOCK: u64 = 1 << 20;
/// Where the map of a new image stands.
const MAP_OFFSET: u64 = 1 << 20;
/// What the header says it is long, with the geometry behind it that version 1.1 brought.
const HEADER_SIZE: u32 = 400;
/// Entries that are written at once.
const ENTRIES: u64 = 1 << 18;

/// What `-o` understands when a VDI is written, named as qemu-img names it where it has the option.
pub(super) const CREATE_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "subformat",
        kind: OptionKind::Choice(&["dynamic", "fixed"]),
        default: "dynamic",
        help: "grow as blocks are written, or have all of them from the start",
    },
    OptionSpec { name: "static", kind: OptionKind::Flag, default: "off", help: "qemu-img's name for subformat=fixed" },
];

/// Makes a new image for random writing.
///
/// # Errors
/// `InvalidInput` for options that contradict each other; `TooLarge` for a disk beyond the format; what the file answers.
pub(crate) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let plan = Plan::new(request.size, request.options)?;
    let storage = request.files.primary()?;
    let stale = storage.size();
    if stale > 0 {
        // A block device: what was there must not look like a part of the image.
        storage.write_zeroes_at(0..plan.data.min(stale), ZeroMode::Unmap)?;
    }
    let end = plan.data + if plan.fixed() { plan.blocks * BLOCK } else { 0 };
    if storage.size() < end {
        storage.set_size(end)?;
    }
    if plan.fixed() && stale > plan.data {
        storage.write_zeroes_at(plan.data..end.min(stale), ZeroMode::Unmap)?;
    }
    storage.write_at(&plan.header(&request), 0)?;
    plan.write_map(&*storage)?;
    let header = Header::read(&*storage)?;
    let shape = Shape { stale, ..header.shape() };
    Ok(Arc::new(Vdi::created(storage, shape, plan.allocated(), request.cache_bytes)))
}

/// Says how large an image would be.
///
/// # Errors
/// As [`create`] for the options and the size.
pub(super) fn measure(request: MeasureRequest<'_>) -> Result<Measure> {
    let plan = Plan::new(request.size, request.options)?;
    let fully_allocated = plan.data + plan.blocks * BLOCK;
    let required = if plan.fixed() { fully_allocated } else { plan.data + touched(&request) * BLOCK };
    Ok(Measure { required, fully_allocated })
}

/// The blocks that data touches, each once.
fn touched(request: &MeasureRequest<'_>) -> u64 {
    let (mut count, mut behind) = (0, 0);
    for extent in request.extents.iter().filter(|extent| extent.status == BlockStatus::Data) {
        let blocks = (extent.offset / BLOCK).max(behind)..extent.end().div_ceil(BLOCK);
        count += blocks.end.saturating_sub(blocks.start);
        behind = behind.max(blocks.end);
    }
    count
}

/// What a new image will be.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    size: u64,
    blocks: u64,
    data: u64,
}

impl Plan {
    fn new(size: u64, options: &OptionValues) -> Result<Self> {
        let kind = match (options.text("subformat"), options.flag("static")) {
            (Some("dynamic"), Some(true)) | (Some("fixed"), Some(false)) => {
                let what = "VDI options: subformat and static contradict each other";
                return Err(Error::new(ErrorKind::InvalidInput, what));
            }
            (Some("fixed"), _) | (_, Some(true)) => Kind::Fixed,
            _ => Kind::Dynamic,
        };
        let size = rounded(size)?;
        let blocks = size.div_ceil(BLOCK);
        let data = (MAP_OFFSET + blocks * 4).next_multiple_of(BLOCK);
        // The header has 32 bits for where the blocks begin.
        if blocks > BLOCKS_MAX || u32::try_from(data).is_err() {
            return Err(too_large(size));
        }
        Ok(Self { kind, size, blocks, data })
    }

    fn fixed(&self) -> bool {
        self.kind == Kind::Fixed
    }

    fn allocated(&self) -> u64 {
        if self.fixed() { self.blocks } else { 0 }
    }

    fn header(&self, request: &CreateRequest<'_>) -> Vec<u8> {
        let number = |number: u64| u32::try_from(number).expect("the plan was checked").into();
        let mut pre = PreHeader::new_zeroed();
        pre.file_info[..FILE_INFO.len()].copy_from_slice(FILE_INFO);
        (pre.signature, pre.major, pre.minor) = (SIGNATURE.into(), 1.into(), 1.into());
        let geometry = Geometry { sector_size: number(SECTOR), ..Geometry::default() };
        let mut header = Header1::new_zeroed();
        header.header_size = HEADER_SIZE.into();
        header.kind = self.kind.number().into();
        header.map_offset = number(MAP_OFFSET);
        header.data_offset = number(self.data);
        header.legacy_geometry = geometry;
        header.size = self.size.into();
        header.block_size = number(BLOCK);
        header.blocks = number(self.blocks);
        header.allocated = number(self.allocated());
        header.uuid = swap_uuid(request.ids.uuid("vdi image"));
        header.modification_uuid = swap_uuid(request.ids.uuid("vdi modification"));
        let bytes = [pre.as_bytes(), header.as_bytes(), geometry.as_bytes()].concat();
        debug_assert_eq!(bytes.len(), HEADER_OFFSET + 400, "the size that the header says");
        bytes
    }

    fn write_map(&self, storage: &dyn Storage) -> Result<()> {
        let mut first = 0;
        while first < self.blocks {
            let end = self.blocks.min(first + ENTRIES);
            let entry = |block: u64| if self.fixed() { u32::try_from(block).unwrap_or(BLOCK_FREE) } else { BLOCK_FREE };
            let bytes: Vec<u8> = (first..end).flat_map(|block| entry(block).to_le_bytes()).collect();
            storage.write_at(&bytes, MAP_OFFSET + first * 4)?;
            first = end;
        }
        Ok(())
    }
}

/// A disk's size in whole sectors, as VirtualBox and QEMU count.
pub(super) fn rounded(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(SECTOR).filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| too_large(size))
}

pub(super) fn too_large(size: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("VDI: a disk of {size} bytes; with its map it would not begin within 4 GiB of the file"),
    )
    .with_remedy("use another format, such as qcow2")
}
