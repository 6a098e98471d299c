//! Changing the virtual size of a fixed or dynamic image that nobody has open.
//!
//! ```text
//! fixed    grow: longer file, new footer ──► zero the old one          shrink: new footer ──► shorter file
//! dynamic  grow: a longer table behind everything ──► header ──► footers ──► zero what would show
//!          shrink: footers ──► entries of the blocks that are cut off
//! ```
//!
//! Each arrow is a flush: a crash leaves the old size or the new one. Only a fixed disk that grows has a moment without a
//! footer at its end, since it has no second one; its bytes are all there. The header changes inside its first sector, which a
//! disk writes whole or not at all. The old table stays where it was as lost space, since blocks stand right behind it.

use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, BlockWrite, Error, ErrorKind, Result, Storage, ZeroMode};
use zerocopy::IntoBytes;

use super::create::{clear_table, with_size};
use super::error::Fault;
use super::layout::{DynamicHeader, FOOTER_BYTES, Footer, SECTOR};
use super::map::Shape;
use super::open::{Body, Image};
use super::options::checked_size;
use super::sparse::SparseDisk;
use crate::{ImageWrite, ResizeRequest};

/// Bytes of tables that the device may keep while a range is zeroed.
const CACHE_BYTES: usize = 8 << 20;
/// Entries of a table that are moved at a time, in bytes.
const STEP: u64 = 64 << 10;

/// Changes the virtual size; the row's `resize`. It is rounded up to 512 bytes, as for a new image.
#[expect(clippy::needless_pass_by_value, reason = "the row of the format gives its requests away")]
pub(super) fn resize(request: ResizeRequest<'_>) -> Result<()> {
    let name = request.source.display_name();
    resize_image(&request).map_err(|error| error.context(name))
}

fn resize_image(request: &ResizeRequest<'_>) -> Result<()> {
    let storage = request.source.storage()?;
    let image = Image::read(&**storage)?;
    if image.is_saved() {
        return Err(Fault::SavedState.into());
    }
    let size = checked_size(request.size.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX))?;
    if size < image.size && !request.shrink {
        let what = format!("shrinking from {} to {size} bytes loses what stands behind the new end", image.size);
        return Err(Error::new(ErrorKind::InvalidInput, what).with_remedy("allow it with --shrink"));
    }
    let footer = with_size(image.footer, size);
    match &image.body {
        Body::Fixed => resize_fixed(&**storage, &image, size, &footer),
        Body::Sparse { shape, .. } if shape.has_parent => {
            let what = "a differencing disk is as large as its parent";
            Err(Error::new(ErrorKind::Unsupported, what).with_remedy("convert it to a new image and resize that"))
        }
        Body::Sparse { header, header_offset, shape } => {
            let header = Header { fields: **header, offset: *header_offset };
            Dynamic { storage, image: &image, shape: *shape, header }.resize(size, &footer)
        }
    }
}

fn resize_fixed(storage: &dyn Storage, image: &Image, size: u64, footer: &Footer) -> Result<()> {
    let before = image.ends.back.map_or(image.size, |(_, before)| before);
    let end = size + FOOTER_BYTES;
    if storage.size() < end {
        storage.set_size(end)?;
        storage.write_at(footer.as_bytes(), size)?;
        storage.flush()?;
        // The old footer, and what a geometry that was too small hid in front of it.
        storage.write_zeroes_at(image.size..(before + FOOTER_BYTES).min(size), ZeroMode::Unmap)?;
    } else {
        if image.size < size {
            storage.write_zeroes_at(image.size..size, ZeroMode::Unmap)?;
        }
        storage.write_at(footer.as_bytes(), size)?;
        storage.flush()?;
        storage.set_size(end)?;
    }
    storage.flush()
}

struct Header {
    fields: DynamicHeader,
    offset: u64,
}

struct Dynamic<'a> {
    storage: &'a Arc<dyn Storage>,
    image: &'a Image,
    shape: Shape,
    header: Header,
}

impl Dynamic<'_> {
    fn resize(mut self, size: u64, footer: &Footer) -> Result<()> {
        let old = self.shape;
        let new = Shape { size, ..old };
        let end = self.image.end_of_blocks(self.storage.size());
        if new.blocks() < old.blocks() {
            self.write_footers(footer, end)?;
            clear_table(&**self.storage, old.table + new.blocks() * 4..old.table + old.blocks() * 4)?;
            return self.storage.flush();
        }
        let mut end = end;
        if new.blocks() > u64::from(self.header.fields.max_table_entries.get()) {
            end = self.move_table(&new, end)?;
        } else if new.blocks() > old.blocks() {
            // Entries that no block needed may say anything.
            let table = self.shape.table;
            let (first, last) = (table + old.blocks() * 4, table + new.blocks() * 4);
            if last > end {
                return Err(Fault::TablePlace { offset: table, bytes: last - table, file: end }.into());
            }
            clear_table(&**self.storage, first..last)?;
            self.storage.flush()?;
        }
        self.write_footers(footer, end)?;
        self.zero_uncovered(old.size, Shape { table: self.shape.table, ..new }, footer, end)
    }

    /// Writes a table for `new` behind everything else and has the header name it. Answers the end of what is in use.
    fn move_table(&mut self, new: &Shape, end: u64) -> Result<u64> {
        let (storage, old) = (self.storage, self.shape);
        let (bytes, kept) = ((new.blocks() * 4).next_multiple_of(SECTOR), old.blocks() * 4);
        storage.set_size(end + bytes + FOOTER_BYTES)?;
        storage.write_at(self.image.footer.as_bytes(), end + bytes)?;
        storage.flush()?;
        let mut at = 0;
        while at < kept {
            let mut entries = vec![0; usize::try_from(STEP.min(kept - at)).expect("at most 64 KiB")];
            storage.read_at(&mut entries, old.table + at)?;
            storage.write_at(&entries, end + at)?;
            at += entries.len() as u64;
        }
        clear_table(&**storage, end + kept..end + bytes)?;
        storage.flush()?;
        let fields = &mut self.header.fields;
        fields.table_offset = end.into();
        fields.max_table_entries = u32::try_from(new.blocks()).expect("bounded by the largest size").into();
        let sealed = fields.sealed();
        // Everything that changes stands in the first sector.
        storage.write_at(&sealed.as_bytes()[..512], self.header.offset)?;
        storage.flush()?;
        self.shape.table = end;
        Ok(end + bytes)
    }

    /// Writes both footers, the one at the file's end behind `end`.
    fn write_footers(&self, footer: &Footer, end: u64) -> Result<()> {
        let storage = self.storage;
        if storage.size() < end + FOOTER_BYTES {
            storage.set_size(end + FOOTER_BYTES)?;
        }
        storage.flush()?;
        storage.write_at(footer.as_bytes(), 0)?;
        storage.flush()?;
        storage.write_at(footer.as_bytes(), end)?;
        storage.flush()?;
        storage.set_size(end + FOOTER_BYTES)
    }

    /// Zeroes the rest of what was the last block: a device knows no bytes behind its size, so that anything may be there.
    fn zero_uncovered(&self, old: u64, shape: Shape, footer: &Footer, end: u64) -> Result<()> {
        let uncovered = old..old.next_multiple_of(shape.block).min(shape.size);
        let device = SparseDisk::for_writing(Arc::clone(self.storage), shape, *footer, end, CACHE_BYTES);
        let mut at = uncovered.start;
        while at < uncovered.end {
            let extent = device.block_status(at..uncovered.end)?;
            if extent.status == BlockStatus::Data {
                device.write_zeroes_at(extent.range(), ZeroMode::Unmap)?;
            }
            at = extent.end();
        }
        device.finish()
    }
}
