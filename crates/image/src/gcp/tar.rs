//! The header of a tar member, of POSIX's ustar and of GNU's old format, with the map of a sparse file.
//!
//! The GNU tar manual, "Basic Tar Format" and "Sparse Formats: Old GNU Format".

use std::ops::Range;

use transload_block::{Error, ErrorKind, Result};

pub(super) const BLOCK: usize = 512;
/// What GNU tar writes at once: an archive is as many of them as it takes.
pub(super) const RECORD: usize = 20 * BLOCK;
/// The name that Compute Engine looks for.
const NAME: &str = "disk.raw";
/// Runs in a header, and in a block of more of them.
const RUNS_IN_HEADER: usize = 4;
const RUNS_IN_BLOCK: usize = 21;
const RUN: usize = 24;
/// The most runs that are read: 24 MiB of them.
const RUNS_MAX: usize = 1 << 20;

mod field {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const OWNER: Range<usize> = 108..116;
    pub(super) const GROUP: Range<usize> = 116..124;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const TIME: Range<usize> = 136..148;
    pub(super) const CHECKSUM: Range<usize> = 148..156;
    pub(super) const KIND: usize = 156;
    pub(super) const MAGIC: Range<usize> = 257..265;
    pub(super) const RUNS: usize = 386;
    pub(super) const MORE: usize = 482;
    pub(super) const REAL_SIZE: Range<usize> = 483..495;
    /// In a block of more runs.
    pub(super) const MORE_IN_BLOCK: usize = 504;
}

/// The header of a member, its checksum verified.
#[derive(Debug)]
pub(super) struct Header {
    name: String,
    kind: u8,
    /// Bytes in the archive.
    pub(super) stored: u64,
    /// The first runs of a sparse file, whether more follow, and its size.
    runs: Vec<Range<u64>>,
    pub(super) more: bool,
    real_size: u64,
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let plain = |range: Range<usize>| block[range].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let spaces = field::CHECKSUM.len() as u64 * u64::from(b' ');
        let sum = plain(0..field::CHECKSUM.start) + spaces + plain(field::CHECKSUM.end..BLOCK);
        if number(&block[field::CHECKSUM]) != Some(sum) || !block[field::MAGIC].starts_with(b"ustar") {
            return None;
        }
        let name = &block[field::NAME];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let kind = block[field::KIND];
        let sparse = kind == b'S';
        let stored = number(&block[field::SIZE])?;
        Some(Self {
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            kind,
            stored,
            runs: if sparse { runs(&block[field::RUNS..], RUNS_IN_HEADER)? } else { Vec::new() },
            more: sparse && block[field::MORE] != 0,
            real_size: if sparse { number(&block[field::REAL_SIZE])? } else { stored },
        })
    }

    /// Whether the member is the disk.
    pub(super) fn is_disk(&self) -> bool {
        let name = self.name.strip_prefix("./").unwrap_or(&self.name);
        name == NAME && matches!(self.kind, b'0' | 0 | b'S')
    }
}

/// Where the bytes of a member stand on its disk, ascending; and the disk's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) runs: Vec<Range<u64>>,
    pub(super) size: u64,
}

impl Map {
    /// The map of a file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { runs: std::iter::once(0..size).collect(), size }
    }

    /// The map of the member behind `header`; `more` gives the next block of the archive.
    ///
    /// # Errors
    /// `Unsupported` when it is no disk; `Corrupt` for runs that do not ascend, reach out of the disk or do not add up; what `more`
    /// answers.
    pub(super) fn read(header: Header, mut more: impl FnMut() -> Result<[u8; BLOCK]>) -> Result<Self> {
        if !header.is_disk() {
            let what = format!("tar: the first member is '{}', not {NAME}", header.name.escape_debug());
            return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("unpack the archive with tar first"));
        }
        let (mut runs_found, mut goes_on) = (header.runs, header.more);
        while goes_on {
            let block = more()?;
            runs_found.extend(runs(&block, RUNS_IN_BLOCK).ok_or_else(|| broken("a number in its map"))?);
            goes_on = block[field::MORE_IN_BLOCK] != 0;
            if runs_found.len() > RUNS_MAX {
                let what = format!("tar: a sparse file of more than {RUNS_MAX} runs");
                return Err(Error::new(ErrorKind::TooLarge, what));
            }
        }
        if header.kind != b'S' {
            runs_found = std::iter::once(0..header.stored).filter(|run| !run.is_empty()).collect();
        }
        let size = header.real_size;
        let ascend = runs_found.windows(2).all(|pair| pair[0].end <= pair[1].start);
        let held = runs_found.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.end - run.start));
        let inside = runs_found.last().is_none_or(|last| last.end <= size) && size <= u64::MAX / 2;
        if !ascend || !inside || held != Some(header.stored) {
            return Err(broken("its map does not fit its size"));
        }
        runs_found.retain(|run| !run.is_empty());
        Ok(Self { runs: runs_found, size })
    }

    /// Bytes in the archive.
    pub(super) fn stored(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// The header of a member with this map, and the blocks of the map.
    pub(super) fn header(&self) -> Vec<u8> {
        let sparse = *self != Self::whole(self.size);
        let mut block = vec![0; BLOCK];
        block[..NAME.len()].copy_from_slice(NAME.as_bytes());
        block[field::MODE].copy_from_slice(b"0000644\0");
        block[field::OWNER].copy_from_slice(b"0000000\0");
        block[field::GROUP].copy_from_slice(b"0000000\0");
        put(&mut block[field::SIZE], self.stored());
        put(&mut block[field::TIME], 0);
        block[field::KIND] = if sparse { b'S' } else { b'0' };
        block[field::MAGIC].copy_from_slice(b"ustar  \0");
        let mut runs: Vec<_> = if sparse { self.runs.clone() } else { Vec::new() };
        // A hole at the end is ended by a run of nothing.
        if sparse && runs.last().is_none_or(|last| last.end < self.size) {
            runs.push(self.size..self.size);
        }
        let (first, rest) = runs.split_at(runs.len().min(RUNS_IN_HEADER));
        put_runs(&mut block[field::RUNS..], first);
        if sparse {
            block[field::MORE] = u8::from(!rest.is_empty());
            put(&mut block[field::REAL_SIZE], self.size);
        }
        block[field::CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[field::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let blocks = rest.chunks(RUNS_IN_BLOCK);
        let last = blocks.len().saturating_sub(1);
        for (index, runs) in blocks.enumerate() {
            let mut more = vec![0; BLOCK];
            put_runs(&mut more, runs);
            more[field::MORE_IN_BLOCK] = u8::from(index < last);
            block.extend(more);
        }
        block
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("tar: {NAME}: {what}"))
}

/// The runs of a header or of a block of them; empty places at the end are none.
fn runs(bytes: &[u8], most: usize) -> Option<Vec<Range<u64>>> {
    let used = bytes.chunks_exact(RUN).take(most).take_while(|run| run[12] != 0);
    used.map(|run| {
        let (start, length) = (number(&run[..12])?, number(&run[12..])?);
        Some(start..start.checked_add(length)?)
    })
    .collect()
}

fn put_runs(place: &mut [u8], runs: &[Range<u64>]) {
    for (place, run) in place.chunks_exact_mut(RUN).zip(runs) {
        let (start, length) = place.split_at_mut(12);
        put(start, run.start);
        put(length, run.end - run.start);
    }
}

/// A number as tar writes it: octal digits between spaces and NULs, or binary behind a byte of 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        let (high, low) = rest.split_at(rest.len().checked_sub(8)?);
        return high.iter().all(|byte| *byte == 0).then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    // A sign is a number to the parser and none to tar.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| u64::from_str_radix(text, 8).ok())?
}

/// Writes a number of twelve bytes: octal where it fits.
fn put(field: &mut [u8], number: u64) {
    const OCTAL_MAX: u64 = (1 << 33) - 1;
    if number <= OCTAL_MAX {
        field.copy_from_slice(format!("{number:011o}\0").as_bytes());
    } else {
        field[0] = 0x80;
        field[1..4].fill(0);
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for size in [1 << 30, 20 << 30, 64 << 40] {
            for count in [0, 1, 3, 4, 5, 24, 25, 26, 46, 47, 1000] {
                let runs: Vec<_> = (0..count).map(|index| index * 2048..index * 2048 + 1024).collect();
                for map in [Map { runs, size }, Map::whole(size)] {
                    let bytes = map.header();
                    let (blocks, []) = bytes.as_chunks() else { unreachable!("whole blocks") };
                    let mut blocks = blocks.iter();
                    let header = Header::parse(blocks.next().unwrap()).unwrap();
                    assert!(header.is_disk());
                    assert_eq!(
                        Map::read(header, || Ok(*blocks.next().unwrap())).unwrap(),
                        map,
                        "{count} runs of {size}"
                    );
                    assert_eq!(blocks.len(), 0);
                }
            }
        }
    }

    #[test]
    fn maps_that_lie_are_corrupt() {
        let map = |runs: Vec<Range<u64>>| Map { runs, size: 1 << 30 };
        for wrong in
            [map(vec![1024..2048, 0..512]), map(vec![0..1024, 512..2048]), Map { size: 1 << 30, ..Map::whole(2 << 30) }]
        {
            let bytes = wrong.header();
            let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
            let error = Map::read(header, || Ok([0; BLOCK])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{wrong:?}: {error}");
        }
    }
}
