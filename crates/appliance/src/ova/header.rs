//! One header block of a tar archive: its fields, its checksum, and the two spellings of a number.
//!
//! Read as POSIX.1-1988 (ustar), GNU tar and the archives before both write it; written as ustar, or in GNU's dialect
//! where a size needs it.

use transload_block::{Error, ErrorKind, Result};

/// Bytes in a block: every header is one, and every payload is padded to a multiple of it.
pub const BLOCK: u64 = 512;
/// The same as an index.
pub(super) const BLOCK_BYTES: usize = 512;

/// A block as it stands in the archive.
pub(super) type Block = [u8; BLOCK_BYTES];

/// The first size that eleven octal digits do not hold: 8 GiB.
pub const USTAR_SIZE_LIMIT: u64 = 1 << 33;
/// Bytes of a name that the header itself holds.
pub const NAME_MAX: usize = 100;

/// Where the fields stand (POSIX.1-1988, `<tar.h>`).
mod field {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const UID: Range<usize> = 108..116;
    pub(super) const GID: Range<usize> = 116..124;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const MTIME: Range<usize> = 136..148;
    pub(super) const CHECKSUM: Range<usize> = 148..156;
    pub(super) const KIND: usize = 156;
    pub(super) const MAGIC: Range<usize> = 257..263;
    pub(super) const VERSION: Range<usize> = 263..265;
    pub(super) const DEVICE_MAJOR: Range<usize> = 329..337;
    pub(super) const DEVICE_MINOR: Range<usize> = 337..345;
    pub(super) const PREFIX: Range<usize> = 345..500;
}

const USTAR_MAGIC: &[u8; 6] = b"ustar\0";
const USTAR_VERSION: &[u8; 2] = b"00";
const GNU_MAGIC: &[u8; 6] = b"ustar ";
const GNU_VERSION: &[u8; 2] = b" \0";

/// Which kind of tar a header is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Without a magic: what tar wrote before POSIX.
    V7,
    /// POSIX.1-1988.
    Ustar,
    /// GNU tar.
    Gnu,
}

/// A header whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    block: Block,
}

impl Header {
    /// Takes over `block`, or `None` when its checksum is wrong.
    pub(super) fn parse(block: &Block) -> Option<Self> {
        let stored = octal(&block[field::CHECKSUM])?;
        // Some old archives summed signed bytes.
        let (unsigned, signed) = checksums(block);
        let sound = stored == unsigned || i64::try_from(stored) == Ok(signed);
        sound.then_some(Self { block: *block })
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[field::KIND]
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.block[field::MAGIC] {
            magic if magic == USTAR_MAGIC => Dialect::Ustar,
            magic if magic == GNU_MAGIC => Dialect::Gnu,
            _ => Dialect::V7,
        }
    }

    /// The name, with the prefix of POSIX before it.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.block[field::NAME]);
        let prefix = until_nul(&self.block[field::PREFIX]);
        // GNU keeps other things in the place of the prefix.
        if self.dialect() != Dialect::Ustar || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The size, and whether it is in base 256; `None` when it is neither that nor octal, or no size at all.
    pub(super) fn size(&self) -> Option<(u64, bool)> {
        number(&self.block[field::SIZE])
    }
}

/// A regular member's header. `name` has at most [`NAME_MAX`] bytes.
pub(super) fn regular(name: &[u8], size: u64, mtime: u64) -> Block {
    let dialect = if size >= USTAR_SIZE_LIMIT { Dialect::Gnu } else { Dialect::Ustar };
    build(name, size, mtime, b'0', dialect)
}

/// The header of GNU's carrier of a long name, whose payload is the name and a NUL.
pub(super) fn long_name(size: u64) -> Block {
    build(b"././@LongLink", size, 0, b'L', Dialect::Gnu)
}

fn build(name: &[u8], size: u64, mtime: u64, kind: u8, dialect: Dialect) -> Block {
    let mut block = [0; BLOCK_BYTES];
    block[..name.len()].copy_from_slice(name);
    put_octal(&mut block[field::MODE], 0o644);
    put_octal(&mut block[field::UID], 0);
    put_octal(&mut block[field::GID], 0);
    if size < USTAR_SIZE_LIMIT {
        put_octal(&mut block[field::SIZE], size);
    } else {
        let place = &mut block[field::SIZE];
        place[0] = 0x80;
        place[4..].copy_from_slice(&size.to_be_bytes());
    }
    put_octal(&mut block[field::MTIME], mtime.min(USTAR_SIZE_LIMIT - 1));
    block[field::KIND] = kind;
    let (magic, version) = match dialect {
        Dialect::Gnu => (GNU_MAGIC, GNU_VERSION),
        _ => (USTAR_MAGIC, USTAR_VERSION),
    };
    block[field::MAGIC].copy_from_slice(magic);
    block[field::VERSION].copy_from_slice(version);
    if dialect == Dialect::Ustar {
        put_octal(&mut block[field::DEVICE_MAJOR], 0);
        put_octal(&mut block[field::DEVICE_MINOR], 0);
    }
    let (sum, _) = checksums(&block);
    // Six digits, NUL, space: what every tar since the seventh edition writes.
    put_octal(&mut block[field::CHECKSUM.start..field::CHECKSUM.end - 1], sum);
    block[field::CHECKSUM.end - 1] = b' ';
    block
}

/// The sums of the bytes, unsigned and signed, with spaces in the place of the sum.
fn checksums(block: &Block) -> (u64, i64) {
    let (mut unsigned, mut signed) = (0, 0);
    for (index, byte) in block.iter().enumerate() {
        let byte = if field::CHECKSUM.contains(&index) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

/// Writes `value` as octal digits that fill `place` but for a NUL at its end.
fn put_octal(place: &mut [u8], value: u64) {
    let width = place.len() - 1;
    place[..width].copy_from_slice(format!("{value:0width$o}").as_bytes());
}

/// A number as octal digits, or in GNU's base 256; and whether it is the latter.
fn number(place: &[u8]) -> Option<(u64, bool)> {
    match place[0] {
        // The first byte's other bits and all but the last eight bytes would make it larger than any file.
        0x80 => {
            let (front, value) = place.split_at(place.len() - 8);
            let value = u64::from_be_bytes(value.try_into().ok()?);
            (front[1..].iter().all(|byte| *byte == 0) && value <= i64::MAX.cast_unsigned()).then_some((value, true))
        }
        0x81.. => None,
        _ => Some((octal(place)?, false)),
    }
}

/// Octal digits between spaces and NULs; an empty field is zero.
fn octal(place: &[u8]) -> Option<u64> {
    let end = place.iter().position(|byte| *byte == 0).unwrap_or(place.len());
    let digits = place[..end].trim_ascii();
    digits.iter().try_fold(0_u64, |value, digit| {
        matches!(digit, b'0'..=b'7').then(|| value.checked_mul(8)?.checked_add(u64::from(digit - b'0')))?
    })
}

fn until_nul(place: &[u8]) -> &[u8] {
    let end = place.iter().position(|byte| *byte == 0).unwrap_or(place.len());
    &place[..end]
}

/// The records of a pax extended header: `LENGTH KEY=VALUE\n` each (POSIX.1-2001, "pax Extended Header").
///
/// # Errors
/// `Corrupt` for a record that is not so.
pub(super) fn pax_records(mut payload: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let broken = || Error::new(ErrorKind::Corrupt, "tar: pax header: a record is not `LENGTH KEY=VALUE`");
    let mut records = Vec::new();
    while !payload.is_empty() {
        let space = payload.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let digits = str::from_utf8(&payload[..space]).map_err(|_| broken())?;
        let length: usize = digits.parse().map_err(|_| broken())?;
        let record = payload.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        records.push((&record[..equals], &record[equals + 1..]));
        payload = &payload[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back_as_they_were_written() {
        for size in [0, 1, USTAR_SIZE_LIMIT - 1, USTAR_SIZE_LIMIT, 1 << 40, i64::MAX.cast_unsigned()] {
            let block = regular("schöne Maschine ☃.vmdk".as_bytes(), size, 12);
            let header = Header::parse(&block).unwrap();
            assert_eq!(header.name(), "schöne Maschine ☃.vmdk".as_bytes());
            assert_eq!(header.size(), Some((size, size >= USTAR_SIZE_LIMIT)));
            let dialect = if size < USTAR_SIZE_LIMIT { Dialect::Ustar } else { Dialect::Gnu };
            assert_eq!((header.dialect(), header.kind()), (dialect, b'0'));
        }
    }

    #[test]
    fn a_changed_bit_is_a_wrong_checksum() {
        let block = regular(b"a.ovf", 7, 0);
        for byte in [0, 130, 156, 260, 400] {
            let mut broken = block;
            broken[byte] ^= 1;
            assert!(Header::parse(&broken).is_none(), "{byte}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        assert_eq!(number(b"00000000017\0"), Some((15, false)));
        assert_eq!(number(b"         17 "), Some((15, false)));
        assert_eq!(number(b"777777777777"), Some(((1 << 36) - 1, false)));
        assert_eq!(number(b"0000000008\0\0"), None);
        assert_eq!(number(b"-0000000001\0"), None);
        assert_eq!(number(&[0xff; 12]), None, "negative");
        assert_eq!(number(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None, "more than 64 bits");
        assert_eq!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None, "2^63");
    }

    #[test]
    fn pax_records_are_taken_apart() {
        let records = pax_records(b"12 path=a=b\n9 size=1\n").unwrap();
        assert_eq!(records, [(&b"path"[..], &b"a=b"[..]), (b"size", b"1")]);
        for broken in [&b"x"[..], b"12 path=a\n", b"0 a=b\n", b"2 a=b\n", b"7 path\n", b"99999999999999999999 a=b\n"] {
            assert_eq!(pax_records(broken).unwrap_err().kind(), ErrorKind::Corrupt, "{broken:?}");
        }
    }
}
