//! What stands between the payloads of an archive: headers, padding, the end.

use transload_block::{Error, ErrorKind, Result};

use super::header::{self, BLOCK, NAME_MAX};

/// The header of a regular member of `size` bytes: one block, or three where the name is longer than a header holds.
///
/// Sizes below 8 GiB are plain ustar; from there on the size is in base 256 as GNU tar writes it, which every importer
/// of VMware's takes. A pax header, which some of them do not take, is never written.
///
/// # Errors
/// `InvalidInput` for an empty name or one with a NUL in it; `TooLarge` for a size of 2^63 bytes and more.
pub fn member_header(name: &str, size: u64, mtime: u64) -> Result<Vec<u8>> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(Error::new(ErrorKind::InvalidInput, format!("tar: '{name}' is not a member's name")));
    }
    if size > i64::MAX.cast_unsigned() {
        return Err(Error::new(ErrorKind::TooLarge, format!("tar: a member of {size} bytes")));
    }
    let mut header = Vec::new();
    if bytes.len() > NAME_MAX {
        header.extend(header::long_name(bytes.len() as u64 + 1));
        header.extend(bytes);
        header.push(0);
        header.resize(header.len().next_multiple_of(header::BLOCK_BYTES), 0);
    }
    let mut end = bytes.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    header.extend(header::regular(&bytes[..end], size, mtime));
    Ok(header)
}

/// Zeroes behind a payload of `size` bytes.
#[must_use]
pub fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

/// Zeroes behind the last member, which ends at `position`: two blocks, and up to the end of a record of twenty, as tar
/// itself writes it.
#[must_use]
pub fn end_padding(position: u64) -> u64 {
    const RECORD: u64 = 20 * BLOCK;
    (position + 2 * BLOCK).next_multiple_of(RECORD) - position
}
