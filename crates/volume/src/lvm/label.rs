//! The label of a physical volume, its header, and the areas that hold the text of the group.

use std::ops::Range;

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const SECTOR: usize = 512;
/// The label stands in one of the first four sectors.
const LABEL_SECTORS: u64 = 4;
/// More areas than any version writes: two of metadata, one of data, and room for more.
const MAX_AREAS: usize = 64;
/// The text of a group of a thousand volumes has less than a megabyte.
const MAX_TEXT: u64 = 4 << 20;
/// Both checksums begin with this.
const CRC_START: u32 = 0xf597_a6cf;
/// ` LVM2 x[5A%r0N*>`
const AREA_MAGIC: [u8; 16] = *b"\x20LVM2\x20x[5A%r0N*>";

/// The label's own header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LabelHeader {
    magic: [u8; 8],
    sector: U64,
    /// Of the bytes from `offset` to the end of the sector.
    crc: U32,
    /// Where the header of the physical volume begins in the sector.
    offset: U32,
    kind: [u8; 8],
}

/// The header of an area of metadata, without the places of texts that follow it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AreaHeader {
    /// Of the bytes behind it, up to the end of the sector.
    crc: U32,
    magic: [u8; 16],
    version: U32,
    /// Where the area stands on the volume.
    start: U64,
    size: U64,
}

/// The place of a text in its area.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TextPlace {
    offset: U64,
    size: U64,
    crc: U32,
    flags: U32,
}

const _: () = assert!(size_of::<LabelHeader>() == 32 && size_of::<AreaHeader>() == 40 && size_of::<TextPlace>() == 24);

/// The text is not to be read: its area is kept for later.
const IGNORED: u32 = 1;

/// A physical volume's own account of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// In groups with dashes, as lvm2 prints it.
    pub(crate) uuid: String,
    /// Where texts are.
    areas: Vec<Range<u64>>,
}

/// CRC-32 as lvm2 computes it: no inversion, and a start of its own.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(!CRC_START);
    crc.update(bytes);
    !crc.finalize()
}

/// The label of `device`, where it is a physical volume. One that is damaged is none.
pub(crate) fn find_label(device: &dyn BlockRead) -> Result<Option<Label>> {
    for number in 0..LABEL_SECTORS {
        let start = number * SECTOR as u64;
        if start + SECTOR as u64 > device.size() {
            break;
        }
        let sector = device.read_vec(start, SECTOR as u64)?;
        if let Some(label) = parse_label(&sector, number) {
            return Ok(Some(label));
        }
    }
    Ok(None)
}

fn parse_label(sector: &[u8], number: u64) -> Option<Label> {
    const CHECKED_FROM: usize = 20;
    const UUID: usize = 32;
    let (header, _) = LabelHeader::read_from_prefix(sector).ok()?;
    let is_label = header.magic == *b"LABELONE" && header.kind == *b"LVM2 001" && header.sector.get() == number;
    if !is_label || crc(&sector[CHECKED_FROM..]) != header.crc.get() {
        return None;
    }
    let body = sector.get(usize::try_from(header.offset.get()).ok()?..)?;
    let uuid = body.get(..UUID).filter(|uuid| uuid.iter().all(u8::is_ascii_graphic))?;
    // The device's size, then a list of data areas, of which the group's text says more, and one of metadata areas.
    let mut rest = body.get(UUID + 8..)?;
    take_areas(&mut rest)?;
    let areas = take_areas(&mut rest)?;
    Some(Label { uuid: dashed(uuid), areas })
}

/// Takes a list of areas off, which ends with an empty one.
fn take_areas(rest: &mut &[u8]) -> Option<Vec<Range<u64>>> {
    let mut areas = Vec::new();
    loop {
        let (area, behind) = <[U64; 2]>::read_from_prefix(rest).ok()?;
        *rest = behind;
        let [offset, size] = area.map(U64::get);
        if offset == 0 {
            return Some(areas);
        }
        // A size of 0 is all that is left of the volume, and only of data.
        areas.push(offset..offset.checked_add(size)?);
        if areas.len() > MAX_AREAS {
            return None;
        }
    }
}

/// A UUID of lvm2 with the dashes that it is printed with: 6-4-4-4-4-4-6.
pub(super) fn dashed(uuid: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            text.push('-');
        }
        text.push(char::from(*byte));
    }
    text
}

/// The texts that the areas of a physical volume hold now.
///
/// # Errors
/// `Corrupt` when there are areas, and none of them has a sound text; `TooLarge` for a text without measure.
pub(super) fn texts(device: &dyn BlockRead, label: &Label) -> Result<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    let mut failure = None;
    for area in &label.areas {
        match read_text(device, area) {
            Ok(text) => texts.extend(text),
            Err(error) if error.kind() == ErrorKind::Io => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if texts.is_empty() => Err(error.context(format_args!("physical volume {}", label.uuid))),
        _ => Ok(texts),
    }
}

/// The text in one area; nothing in one that has none, or whose text is not to be read.
fn read_text(device: &dyn BlockRead, area: &Range<u64>) -> Result<Option<Vec<u8>>> {
    const CHECKED_FROM: usize = 4;
    let corrupt = |text: String| Error::new(ErrorKind::Corrupt, format!("metadata area at {}: {text}", area.start));
    if area.start.checked_add(SECTOR as u64).is_none_or(|end| end > device.size().min(area.end)) {
        return Err(corrupt(format!("its header is behind the volume's {} bytes", device.size())));
    }
    let sector = device.read_vec(area.start, SECTOR as u64)?;
    let (header, places) = AreaHeader::read_from_prefix(&sector).map_err(|_| corrupt(String::from("cut off")))?;
    if header.magic != AREA_MAGIC {
        return Err(corrupt(String::from("the magic of its header is missing")));
    }
    let (computed, stored) = (crc(&sector[CHECKED_FROM..]), header.crc.get());
    if computed != stored {
        return Err(corrupt(format!("the checksum of its header is {computed:08x}, and it says {stored:08x}")));
    }
    if header.version.get() != 1 {
        let text = format!("metadata area at {}: version {}, and 1 is known", area.start, header.version.get());
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let size = header.size.get();
    if header.start.get() != area.start
        || size > area.end - area.start
        || area.start.saturating_add(size) > device.size()
    {
        return Err(corrupt(format!("its header says {size} bytes at {}", header.start.get())));
    }
    // The first place is the text that was committed; a second one, while the group is changed, is not yet.
    let (place, _) = TextPlace::read_from_prefix(places).map_err(|_| corrupt(String::from("cut off")))?;
    if place.offset.get() == 0 || place.flags.get() & IGNORED != 0 {
        return Ok(None);
    }
    let (offset, length) = (place.offset.get(), place.size.get());
    if length > MAX_TEXT {
        let text = format!("metadata area at {}: a text of {length} bytes, and {MAX_TEXT} are allowed", area.start);
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    let head = SECTOR as u64;
    if !(head..size).contains(&offset) || length > size - head {
        return Err(corrupt(format!("a text of {length} bytes at {offset} in an area of {size}")));
    }
    // It goes on behind the header where it reaches the end of the area.
    let before_end = length.min(size - offset);
    let mut text = device.read_vec(area.start + offset, before_end)?;
    text.extend(device.read_vec(area.start + head, length - before_end)?);
    let (computed, stored) = (crc(&text), place.crc.get());
    if computed != stored {
        return Err(corrupt(format!("the checksum of its text is {computed:08x}, and the header says {stored:08x}")));
    }
    Ok(Some(text))
}
