//! Bochs' growing images: a catalog of extents, each with a bitmap of its sectors.
//!
//! The header is described in Bochs' own documentation, "Hard disk image modes". Read only. Undoable and volatile redologs
//! lie over a disk that they do not name, and are refused.

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::mapped::{Place, Tables, UnitMap, corrupt, field, head, info, layer, row, variant};
use crate::{Format, ImageInfo, Layer, Match, OpenRequest, ProbeWindow, Source, Variant};

/// The row of Bochs in the table of formats.
pub const FORMAT: Format = row(("bochs", &[], "Bochs redolog"), &[], VARIANTS, probe, describe, open);

const VARIANTS: &[Variant] = &[variant("growing", "grows as it is written")];

const HEADER: usize = 512;
const SECTOR: u64 = 512;
/// The catalog's entry of an extent without a place.
const NONE: u32 = u32::MAX;

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The magic fills 32 bytes and "Redolog", the type, 16.
    if window.head_has(0, b"Bochs Virtual HD Image\0") && window.head_has(32, b"Redolog\0") {
        Match::Yes
    } else {
        Match::No
    }
}

/// A header that was found sound, and the map of the image.
#[derive(Debug)]
struct Header {
    catalog: u64,
    entries: u64,
    /// Bytes of an extent's bitmap, in whole sectors.
    bitmap: u64,
    /// Bytes of the disk in an extent.
    extent: u64,
    size: u64,
}

impl Header {
    fn read(file: &dyn BlockRead) -> Result<Self> {
        let head = head(file, HEADER, "Bochs header")?;
        let le32 = |offset| u32::from_le_bytes(field(&head, offset));
        if !head.starts_with(b"Bochs Virtual HD Image\0") || !head[32..].starts_with(b"Redolog\0") {
            return Err(Error::new(ErrorKind::NotThisFormat, "Bochs header: the magic number is missing"));
        }
        if !head[48..].starts_with(b"Growing\0") {
            let what =
                "Bochs header: a redolog that is not of the kind 'Growing' lies over a disk that it does not name";
            return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("commit it with bximage first"));
        }
        let size = match le32(64) {
            0x0001_0000 => u64::from_le_bytes(field(&head, 84)),
            // A time stamp came before the size.
            0x0002_0000 => u64::from_le_bytes(field(&head, 88)),
            other => {
                let what = format!("Bochs header: version {other:#x} is not known");
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
        };
        let [catalog, entries, bitmap, extent] = [68, 72, 76, 80].map(|offset| u64::from(le32(offset)));
        if catalog < HEADER as u64 || extent == 0 || !extent.is_multiple_of(SECTOR) || bitmap * 8 < extent / SECTOR {
            return Err(corrupt(format!(
                "Bochs header: {catalog} bytes of header, extents of {extent} bytes with bitmaps of {bitmap}"
            )));
        }
        if size.div_ceil(extent) > entries || !size.is_multiple_of(SECTOR) {
            return Err(corrupt(format!("Bochs header: {entries} extents of {extent} bytes, and a disk of {size}")));
        }
        let end = catalog + entries * 4;
        if end > file.size() {
            return Err(corrupt(format!("Bochs catalog: it ends at byte {end}, and the file at byte {}", file.size())));
        }
        Ok(Self { catalog, entries, bitmap: bitmap.next_multiple_of(SECTOR), extent, size })
    }

    fn info(&self, source: &Source) -> ImageInfo {
        ImageInfo { variant: Some("growing".to_owned()), ..info(&FORMAT, source, self.size, self.extent) }
    }
}

impl UnitMap for Header {
    fn place(&self, tables: &Tables, index: u64) -> Result<Place> {
        Ok(self.places(tables, index)?.0)
    }

    /// A unit is a sector; the bitmap tells of up to 64 at once, and the catalog of all of an extent without a place.
    fn places(&self, tables: &Tables, index: u64) -> Result<(Place, u64)> {
        let per_extent = self.extent / SECTOR;
        let sector = index % per_extent;
        let at = self.catalog + index / per_extent * 4;
        let number = u32::from_le_bytes(tables.bytes(at, "Bochs catalog")?);
        if number == NONE {
            return Ok((Place::Hole, per_extent - sector));
        }
        let start = u64::from(number).checked_mul(self.bitmap + self.extent);
        let start = start.and_then(|start| start.checked_add(self.catalog + self.entries * 4));
        let start = start.ok_or_else(|| corrupt(format!("Bochs catalog: extent {number} is out of reach")))?;
        // A bitmap is whole sectors, and so whole words of 64 bits; the lowest one of each byte comes first.
        let word = u64::from_le_bytes(tables.bytes(start.saturating_add(sector / 64 * 8), "Bochs bitmap")?);
        let bits = word >> (sector % 64);
        let most = (64 - sector % 64).min(per_extent - sector);
        Ok(if bits & 1 == 0 {
            (Place::Hole, u64::from(bits.trailing_zeros()).min(most))
        } else {
            (Place::File(start + self.bitmap + sector * SECTOR), u64::from(bits.trailing_ones()).min(most))
        })
    }
}

fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Header::read(&**source.bytes())?.info(source))
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let header = Header::read(&**request.source.bytes())?;
    let info = header.info(&request.source);
    layer(&FORMAT, request, header, SECTOR, info, None)
}
