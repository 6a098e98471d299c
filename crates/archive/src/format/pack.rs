//! Packs: files of many blobs, each encrypted on its own, with a list of them at the end.
//!
//! ```text
//! blob │ blob │ … │ header, encrypted │ length of the header, 4 bytes, little endian
//!
//! entry of the header:  0 data or 1 tree            │ stored length │ SHA-256
//!                       2 data or 3 tree, in zstd   │ stored length │ length │ SHA-256
//! ```

use serde::{Deserialize, Serialize};
use transload_block::{Error, ErrorKind, Result};

use super::crypto::{CryptoKey, OVERHEAD};
use super::id::Id;

/// Bytes of an entry of a blob that is not compressed, and of one that is.
const PLAIN_ENTRY: usize = 1 + 4 + 32;
const PACKED_ENTRY: usize = 1 + 4 + 4 + 32;
/// The most bytes of a header: 400,000 blobs.
const LONGEST_HEADER: u32 = 16 << 20;
/// The longest blob that is read. Chunks have at most 8 MiB; the tree of a folder is one blob, however large.
pub(crate) const LONGEST_BLOB: u32 = 512 << 20;

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder.
    Tree,
}

/// A blob inside a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedBlob {
    pub(crate) id: Id,
    pub(crate) kind: BlobKind,
    pub(crate) offset: u32,
    /// Bytes in the pack.
    pub(crate) stored: u32,
    /// Bytes when unpacked, where it is compressed.
    pub(crate) unpacked: Option<u32>,
}

impl PackedBlob {
    /// Bytes when unpacked.
    pub(crate) fn length(&self) -> u32 {
        self.unpacked.unwrap_or(self.stored.saturating_sub(OVERHEAD_U32))
    }
}

const OVERHEAD_U32: u32 = 32;
const _: () = assert!(OVERHEAD == OVERHEAD_U32 as usize);

/// The header of a pack of `blobs`, encrypted, with its length.
pub(crate) fn header(blobs: &[PackedBlob], key: &CryptoKey) -> Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(blobs.len() * PACKED_ENTRY);
    for blob in blobs {
        let tree = u8::from(blob.kind == BlobKind::Tree);
        plain.push(if blob.unpacked.is_some() { tree + 2 } else { tree });
        plain.extend_from_slice(&blob.stored.to_le_bytes());
        plain.extend(blob.unpacked.into_iter().flat_map(u32::to_le_bytes));
        plain.extend_from_slice(&blob.id.0);
    }
    let mut sealed = key.seal(&plain)?;
    let length = u32::try_from(sealed.len())
        .map_err(|_| Error::new(ErrorKind::TooLarge, format!("a pack of {} blobs", blobs.len())))?;
    sealed.extend_from_slice(&length.to_le_bytes());
    Ok(sealed)
}

/// Reads the header of a pack of `size` bytes. `read` answers so many bytes at an offset.
///
/// # Errors
/// `Corrupt` when it is none, and what reading answers.
pub(crate) fn read_header(
    size: u64,
    key: &CryptoKey,
    mut read: impl FnMut(u64, usize) -> Result<Vec<u8>>,
) -> Result<Vec<PackedBlob>> {
    let corrupt = |what: String| Error::new(ErrorKind::Corrupt, format!("header of a pack of {size} bytes: {what}"));
    let at = size.checked_sub(4).ok_or_else(|| corrupt("there is none".to_owned()))?;
    let tail = read(at, 4)?;
    let length = u32::from_le_bytes(tail.first_chunk().copied().unwrap_or_default());
    let start = at.checked_sub(u64::from(length)).filter(|_| length <= LONGEST_HEADER);
    let start = start.ok_or_else(|| corrupt(format!("it has {length} bytes")))?;
    let sealed = read(start, usize::try_from(length).unwrap_or(0))?;
    let plain = key.open(sealed).ok_or_else(|| corrupt("the authentication code is wrong".to_owned()))?;
    parse(&plain, start).map_err(corrupt)
}

/// The blobs that a header lists; `end` is where they have to end.
fn parse(mut plain: &[u8], end: u64) -> std::result::Result<Vec<PackedBlob>, String> {
    let mut blobs = Vec::new();
    let mut offset = 0_u32;
    while let Some((kind, rest)) = plain.split_first() {
        let is_packed = matches!(kind, 2 | 3);
        let length = if is_packed { PACKED_ENTRY } else { PLAIN_ENTRY } - 1;
        if *kind > 3 || rest.len() < length {
            return Err(format!("entry {} is of kind {kind} with {} bytes left", blobs.len(), rest.len()));
        }
        let (entry, behind) = rest.split_at(length);
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let mut id = [0; 32];
        id.copy_from_slice(&entry[length - 32..]);
        let blob = PackedBlob {
            id: Id(id),
            kind: if kind % 2 == 0 { BlobKind::Data } else { BlobKind::Tree },
            offset,
            stored: word(0),
            unpacked: is_packed.then(|| word(4)),
        };
        offset = offset.checked_add(blob.stored).ok_or_else(|| format!("{} blobs of 4 GiB", blobs.len()))?;
        blobs.push(blob);
        plain = behind;
    }
    if u64::from(offset) != end {
        return Err(format!("its blobs have {offset} bytes, and {end} are there"));
    }
    Ok(blobs)
}

/// The contents of a blob, from its bytes in a pack.
///
/// # Errors
/// `Corrupt` with what is wrong: the authentication code, the compression, the length, the digest.
pub(crate) fn open_blob(blob: &PackedBlob, stored: Vec<u8>, key: &CryptoKey) -> Result<Vec<u8>> {
    let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("chunk {}: {what}", blob.id.short()));
    let mut plain = key.open(stored).ok_or_else(|| corrupt("the authentication code is wrong"))?;
    if let Some(length) = blob.unpacked {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST_BLOB as usize {
            return Err(corrupt(&format!("it is said to have {length} bytes")));
        }
        plain = zstd::bulk::decompress(&plain, length).map_err(|error| corrupt(&format!("zstd: {error}")))?;
        if plain.len() != length {
            return Err(corrupt(&format!("it has {} bytes, and the index says {length}", plain.len())));
        }
    }
    if Id::of(&plain) == blob.id { Ok(plain) } else { Err(corrupt("the digest is wrong")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_lists_what_it_was_made_of() {
        let key = CryptoKey::generate().unwrap();
        let blob = |kind, offset, stored, unpacked| PackedBlob { id: Id::of(&[1]), kind, offset, stored, unpacked };
        let blobs = [
            blob(BlobKind::Data, 0, 100, None),
            blob(BlobKind::Tree, 100, 50, Some(400)),
            blob(BlobKind::Data, 150, 33, Some(1)),
        ];
        let file = [vec![0; 183], header(&blobs, &key).unwrap()].concat();
        let read = |file: &[u8]| {
            read_header(file.len() as u64, &key, |at, length| {
                let at = usize::try_from(at).unwrap();
                Ok(file[at..at + length].to_vec())
            })
        };
        assert_eq!(read(&file).unwrap(), blobs);
        assert_eq!(read(&file[1..]).unwrap_err().kind(), ErrorKind::Corrupt);
        for short in [0, 3, 4, 10] {
            assert_eq!(read(&vec![0xff; short]).unwrap_err().kind(), ErrorKind::Corrupt, "{short}");
        }
        assert!(parse(&[9; 50], 0).is_err() && parse(&[0; 10], 0).is_err());
    }
}
