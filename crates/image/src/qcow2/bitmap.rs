//! Persistent dirty bitmaps: their directory, for `info` and for the counting of clusters. Their bits are not read.
//!
//! Specification: "Bitmaps extension", "Bitmaps".

use transload_block::{BlockRead, Error, ErrorKind, Result};
use zerocopy::FromBytes;

use super::layout::{BITMAPS_MAX, BitmapHead, autoclear};
use super::open::{ParsedHeader, TableLocation};
use super::tables::{index, read_padded};
use crate::BitmapInfo;

/// What 65535 bitmaps of sensible names need, and what is read of a directory at most.
const DIRECTORY_BYTES_MAX: u64 = 16 << 20;
/// QEMU's limit on a bitmap's name.
const NAME_MAX: u16 = 1023;
/// The one kind there is.
const KIND_DIRTY_TRACKING: u8 = 1;

/// Names of the flags by bit.
const FLAGS: [&str; 3] = ["in-use", "auto", "extra-data-compatible"];

/// One bitmap of the directory.
#[derive(Clone, Debug)]
pub(crate) struct Bitmap {
    /// What `info` shows.
    pub info: BitmapInfo,
    /// Its table; not checked.
    pub table: TableLocation,
}

/// The bitmap directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// First byte; a multiple of the cluster size.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// The bitmaps in their order.
    pub bitmaps: Vec<Bitmap>,
}

/// Reads the bitmap directory. `None` when there is no bitmaps extension, or when it counts for nothing because a writer
/// that does not know bitmaps cleared its feature bit.
///
/// # Errors
/// `Corrupt` when a rule is broken; `TooLarge` when the directory exceeds the limits.
pub(crate) fn read_directory(file: &dyn BlockRead, header: &ParsedHeader) -> Result<Option<Directory>> {
    let Some(extension) = header.bitmaps.filter(|_| header.autoclear & autoclear::BITMAPS != 0) else {
        return Ok(None);
    };
    let (offset, length) = (extension.directory_offset.get(), extension.directory_size.get());
    let count = extension.nb_bitmaps.get();
    if count > BITMAPS_MAX || length > DIRECTORY_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "bitmap directory: {count} bitmaps in {length} bytes, at most {BITMAPS_MAX} in {DIRECTORY_BYTES_MAX} are handled"
            ),
        ));
    }
    let end = offset.checked_add(length).filter(|end| *end <= header.geometry.round_up(file.size()));
    if !offset.is_multiple_of(header.geometry.cluster_size()) || offset == 0 || end.is_none() || count == 0 {
        return Err(corrupt(&format!(
            "{count} bitmaps in {length} bytes at offset {offset:#x} of a file of {} bytes",
            file.size()
        )));
    }
    let mut bytes = vec![0; index(length)];
    read_padded(file, &mut bytes, offset)?;
    let mut rest = bytes.as_slice();
    let mut bitmaps = Vec::new();
    for at in 0..count {
        let (bitmap, after) = parse_entry(rest, at)?;
        bitmaps.push(bitmap);
        rest = after;
    }
    Ok(Some(Directory { offset, length, bitmaps }))
}

/// Lists the bitmaps for `info`.
///
/// # Errors
/// As [`read_directory`].
pub(crate) fn list(file: &dyn BlockRead, header: &ParsedHeader) -> Result<Vec<BitmapInfo>> {
    let directory = read_directory(file, header)?;
    Ok(directory.map_or_else(Vec::new, |found| found.bitmaps.into_iter().map(|bitmap| bitmap.info).collect()))
}

fn parse_entry(bytes: &[u8], at: u32) -> Result<(Bitmap, &[u8])> {
    let cut_off = || corrupt(&format!("entry {at} breaks off"));
    let (head, rest) = BitmapHead::read_from_prefix(bytes).map_err(|_| cut_off())?;
    let (kind, granularity_bits, name_size) = (head.kind, head.granularity_bits, head.name_size.get());
    if kind != KIND_DIRTY_TRACKING {
        return Err(Error::new(ErrorKind::Unsupported, format!("bitmap directory: entry {at} is of kind {kind}")));
    }
    if granularity_bits > 63 || name_size == 0 || name_size > NAME_MAX {
        return Err(corrupt(&format!(
            "entry {at} has granularity bits {granularity_bits} (at most 63) and a name of {name_size} bytes (1 to {NAME_MAX})"
        )));
    }
    let extra = head.extra_size.get() as usize;
    let name = rest.get(extra..).and_then(|rest| rest.get(..name_size.into())).ok_or_else(cut_off)?;
    let length = (size_of::<BitmapHead>() + extra + usize::from(name_size)).next_multiple_of(8);
    let flags = head.flags.get();
    let named = FLAGS.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 != 0);
    let info = BitmapInfo {
        name: String::from_utf8_lossy(name).into_owned(),
        granularity: 1 << granularity_bits,
        flags: named.map(|(_, name)| (*name).to_owned()).collect(),
    };
    let table = TableLocation { offset: head.table_offset.get(), entries: head.table_size.get().into() };
    Ok((Bitmap { info, table }, bytes.get(length..).unwrap_or_default()))
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("bitmap directory: {message}"))
}
