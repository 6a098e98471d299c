//! Changing the virtual size of an image that nobody has open.
//!
//! ```text
//! grow:   room for a longer L1 table, its copy ──► header (L1) ──► free the old table ──► zero what would show
//!                                                                                        ──► header (size)
//! shrink: zero what is cut off ──► header (size) ──► cut free clusters off the file's end
//! ```
//!
//! The header changes in one write of 24 bytes inside its first sector, with everything it names flushed before. A crash
//! leaves the old size or the new one, and at most leaked clusters. What a new size uncovers must read as zeroes: the rest
//! of the last cluster, clusters that are mapped behind the end, and the range in which a longer backing file would show. That is done before the header says the
//! size, by a device that knows it already: no crash shows what stood behind the old end.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, BlockWrite, Chain, Error, ErrorKind, Result, Storage, ZeroMode};

use super::bitmap;
use super::check::{rebuild_refcounts, walk_for_counts};
use super::device::Qcow2;
use super::error::Qcow2Error;
use super::layout::{L1_BYTES_MAX, VERSION_3};
use super::open::{ParsedHeader, TableLocation};
use super::options::SECTOR;
use super::refcounts::{StoredCounts, extend_to, write_anew};
use super::references::Use;
use super::tables::{index, read_padded};
use crate::{Access, Format, ImageWrite, OpenSettings, ResizeRequest};

/// Where the virtual size stands in the header; encryption method, L1 entries and the L1 table's offset follow.
const HEADER_SIZE: u64 = 24;
/// Bytes of tables that the device may keep while a range is zeroed.
const CACHE_BYTES: usize = 8 << 20;

/// Changes the virtual size; the row's `resize`. It is rounded up to 512 bytes, as for a new image.
#[expect(clippy::needless_pass_by_value, reason = "the row of the format gives its requests away")]
pub(crate) fn resize(request: ResizeRequest<'_>) -> Result<()> {
    let name = request.source.display_name();
    resize_image(&request).map_err(|error| error.context(name))
}

fn resize_image(request: &ResizeRequest<'_>) -> Result<()> {
    let storage = request.source.storage()?;
    let mut header = ParsedHeader::read(&**storage)?;
    if header.corrupt() {
        return Err(Qcow2Error::MarkedCorrupt.into());
    }
    if let Some(method) = header.crypt.name() {
        return Err(Qcow2Error::Encrypted(method).into());
    }
    let size = new_size(request, &header)?;
    refuse_dependents(&**storage, &header)?;
    if header.dirty() {
        rebuild_refcounts(&**storage, &header)?;
        header = ParsedHeader::read(&**storage)?;
    }
    let data_file = match &header.data_file {
        Some(name) if header.has_data_file() => {
            let source = request.gate.open(&request.source, name, Access::ReadWrite)?;
            Some(Arc::clone(source.storage()?))
        }
        _ => None,
    };
    if size > header.size {
        let backing = open_backing(request, &header)?;
        if let Some(data_file) = &data_file {
            extend_to(&**data_file, size)?;
        }
        lengthen_l1(&**storage, &header, size)?;
        let header = ParsedHeader::read(&**storage)?;
        let l1 = header.l1;
        if let Some(data_file) = data_file.as_ref().filter(|_| header.data_file_raw()) {
            data_file.write_zeroes_at(header.size..data_file.size().min(size), ZeroMode::Unmap)?;
        }
        let uncovered = header.size..size;
        zero(storage, data_file, ParsedHeader { size, ..header }, uncovered, backing)?;
        write_size(&**storage, size, l1)
    } else if size < header.size {
        // Holes that a backing file shows through need nothing: they are cut off, and growing again covers them.
        zero(storage, data_file.clone(), header.clone(), size..header.size, None)?;
        let header = ParsedHeader::read(&**storage)?;
        write_size(&**storage, size, header.l1)?;
        match data_file {
            Some(data_file) if header.data_file_raw() => data_file.set_size(size),
            _ => cut_free_clusters(&**storage, &header),
        }
    } else {
        Ok(())
    }
}

fn new_size(request: &ResizeRequest<'_>, header: &ParsedHeader) -> Result<u64> {
    let too_large = || {
        Error::new(ErrorKind::TooLarge, format!("a size of {} bytes exceeds what the L1 table may map", request.size))
    };
    let size = request.size.checked_next_multiple_of(SECTOR).ok_or_else(too_large)?;
    if header.geometry.l1_entries(size).saturating_mul(8) > L1_BYTES_MAX || i64::try_from(size).is_err() {
        return Err(too_large());
    }
    if size < header.size && !request.shrink {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the new size of {size} bytes is less than the old one of {}", header.size),
        )
        .with_remedy("say with --shrink that what lies behind the new size may be lost"));
    }
    Ok(size)
}

/// Refuses what a new size would make wrong elsewhere in the image.
fn refuse_dependents(file: &dyn BlockRead, header: &ParsedHeader) -> Result<()> {
    if header.nb_snapshots > 0 && header.version < VERSION_3 {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a version 2 image with snapshots cannot be resized: its snapshots do not know their size",
        )
        .with_remedy("convert it to a new image"));
    }
    if bitmap::read_directory(file, header)?.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, "resizing an image with persistent bitmaps")
            .with_remedy("remove the bitmaps with `qemu-img bitmap --remove`"));
    }
    Ok(())
}

/// What lies below an overlay, with everything that hangs from it.
fn open_backing(request: &ResizeRequest<'_>, header: &ParsedHeader) -> Result<Option<Arc<dyn BlockRead>>> {
    let Some(name) = &header.backing_file else { return Ok(None) };
    let source = request.gate.open(&request.source, name, Access::ReadOnly)?;
    let settings = OpenSettings {
        format: header.backing_format.as_deref().and_then(Format::by_name),
        gate: request.gate.clone(),
        ..OpenSettings::default()
    };
    Ok(Some(crate::open(source, &settings)?.device))
}

/// Makes the data in `range` of the disk zero that `header` describes; with `backing` also what shows through from it.
fn zero(
    storage: &Arc<dyn Storage>,
    data_file: Option<Arc<dyn Storage>>,
    header: ParsedHeader,
    range: Range<u64>,
    backing: Option<Arc<dyn BlockRead>>,
) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let device = Arc::new(Qcow2::writable(header, Arc::clone(storage), data_file, CACHE_BYTES)?);
    let disk = Chain::writable(Arc::clone(&device) as Arc<dyn BlockWrite>, backing.into_iter().collect());
    let mut at = range.start;
    while at < range.end {
        let extent = disk.block_status(at..range.end)?;
        if extent.status == BlockStatus::Data {
            disk.write_zeroes_at(extent.range(), ZeroMode::Unmap)?;
        }
        at = extent.end();
    }
    device.finish()
}

/// Gives the image an L1 table for `size` bytes. Its size stays what it is.
fn lengthen_l1(storage: &dyn Storage, header: &ParsedHeader, size: u64) -> Result<()> {
    let geometry = header.geometry;
    let (old, needed) = (header.l1, geometry.l1_entries(size));
    if needed <= old.entries {
        return Ok(());
    }
    let room = geometry.round_up(old.entries * 8);
    if needed * 8 <= room {
        let start = old.offset + old.entries * 8;
        extend_to(storage, old.offset + room)?;
        storage.write_at(&vec![0; index(needed * 8 - old.entries * 8)], start)?;
        return write_size(storage, header.size, TableLocation { entries: needed, ..old });
    }
    let new = TableLocation { offset: geometry.round_up(storage.size()), entries: needed };
    let end = new.offset + geometry.round_up(needed * 8);
    let mut counts = StoredCounts::read(storage, header)?;
    let mut table = vec![0; index(end - new.offset)];
    read_padded(storage, &mut table[..index(old.entries * 8)], old.offset)?;
    if counts.claim(storage, header, new.offset, end)?.is_none() {
        // The refcount table is full: all counts are written anew, into a longer one.
        let mut references = walk_for_counts(storage, header)?;
        references.add(new.offset, end - new.offset, 1, Use::Metadata)?;
        write_anew(storage, header, &references)?;
    }
    extend_to(storage, end)?;
    storage.write_at(&table, new.offset)?;
    let header = ParsedHeader::read(storage)?;
    write_size(storage, header.size, new)?;

    let mut counts = StoredCounts::read(storage, &header)?;
    let freed = old.offset / geometry.cluster_size()..(old.offset + room) / geometry.cluster_size();
    let freed: Vec<_> = freed.filter(|cluster| counts.has_block(*cluster)).map(|cluster| (cluster, 0)).collect();
    counts.set_all(storage, &freed)?;
    storage.flush()
}

/// Lets the header say `size` and `l1`, in one write.
fn write_size(storage: &dyn Storage, size: u64, l1: TableLocation) -> Result<()> {
    storage.flush()?;
    let entries = u32::try_from(l1.entries).expect("bounded by the L1 table's limit");
    let mut fields = size.to_be_bytes().to_vec();
    // The encryption method: none, or the image would have been refused.
    fields.extend_from_slice(&[0; 4]);
    fields.extend_from_slice(&entries.to_be_bytes());
    fields.extend_from_slice(&l1.offset.to_be_bytes());
    storage.write_at(&fields, HEADER_SIZE)?;
    storage.flush()
}

/// Cuts clusters that nothing uses off the file's end.
fn cut_free_clusters(storage: &dyn Storage, header: &ParsedHeader) -> Result<()> {
    let cluster_size = header.geometry.cluster_size();
    let mut counts = StoredCounts::read(storage, header)?;
    let mut clusters = header.geometry.round_up(storage.size()) / cluster_size;
    while clusters > 1 && counts.get(storage, clusters - 1)? == 0 {
        clusters -= 1;
    }
    if clusters * cluster_size < storage.size() {
        storage.set_size(clusters * cluster_size)?;
    }
    storage.flush()
}
