//! Disks to convert: every pattern that a copy may get wrong, with contents that tell where they belong.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};
use transload_block::{
    BlockRead, BlockReadExt, BlockStatus, BlockWrite, FileBlock, Memory, Storage, ZeroMode, is_all_zero,
};

use crate::random::mix;

/// What fills a range of a sample disk. Bytes depend on their position alone: a block in the wrong place is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Bytes that no codec makes smaller.
    Random,
    /// Text that compresses about as well as a system disk does.
    Text,
    /// Zeroes that are written out.
    WrittenZeroes,
}

/// A disk to convert: its size and what is written to it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// A name for messages.
    pub name: &'static str,
    /// In bytes.
    pub size: u64,
    /// What is written, in ascending order.
    pub parts: Vec<(Range<u64>, Fill)>,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Small disks of every pattern and of sizes that are no multiple of the sector, of the cluster, of 1 MiB.
#[must_use]
pub fn samples() -> Vec<Sample> {
    let whole = |size: u64, fill| vec![(0..size, fill)];
    let alternating = |size: u64, step: u64| {
        let fills = [Fill::Random, Fill::Text];
        let starts = (0..size).step_by(usize::try_from(step * 2).expect("small"));
        starts.zip(fills.into_iter().cycle()).map(|(start, fill)| (start..(start + step).min(size), fill)).collect()
    };
    let sample = |name, size, parts| Sample { name, size, parts };
    vec![
        sample("no bytes", 0, Vec::new()),
        sample("one byte", 1, whole(1, Fill::Random)),
        sample("one sector", 512, whole(512, Fill::Text)),
        sample("less than a sector", 511, whole(511, Fill::Random)),
        sample("a sector and a byte", 513, whole(513, Fill::Text)),
        sample("empty", 5 * MIB, Vec::new()),
        sample("full", 3 * MIB, whole(3 * MIB, Fill::Random)),
        sample("full of text, odd tail", 3 * MIB + 12_345, whole(3 * MIB + 12_345, Fill::Text)),
        sample("written zeroes", 2 * MIB, whole(2 * MIB, Fill::WrittenZeroes)),
        sample("alternating clusters", 4 * MIB + 512, alternating(4 * MIB + 512, 64 * KIB)),
        sample("alternating sectors", 300 * KIB + 7, alternating(300 * KIB + 7, 512)),
        sample("alternating odd pieces", 2 * MIB + 65_535, alternating(2 * MIB + 65_535, 10_007)),
        sample("first and last byte", 7 * MIB + 1, vec![(0..1, Fill::Random), (7 * MIB..7 * MIB + 1, Fill::Random)]),
        sample("data behind the last whole MiB", MIB + 1536, vec![(MIB..MIB + 1536, Fill::Text)]),
        sample(
            "mixed",
            10 * MIB + 3 * 512,
            vec![
                (100..200, Fill::Random),
                (64 * KIB - 1..64 * KIB + 1, Fill::Random),
                (MIB..2 * MIB, Fill::Text),
                (2 * MIB..3 * MIB, Fill::WrittenZeroes),
                (3 * MIB + 511..5 * MIB + 1, Fill::Random),
                (10 * MIB..10 * MIB + 3 * 512, Fill::Text),
            ],
        ),
    ]
}

/// 3 TiB with little in it: more than 32 bits of sectors.
#[must_use]
pub fn huge() -> Sample {
    let size = 3 << 40;
    Sample {
        name: "3 TiB sparse",
        size,
        parts: vec![
            (0..64 * KIB, Fill::Text),
            ((2 << 40) - 4096..(2 << 40) + 4096, Fill::Random),
            (size - MIB..size, Fill::Random),
        ],
    }
}

impl Sample {
    /// The disk in memory.
    ///
    /// # Panics
    /// Never for the samples of this module.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let memory = Memory::default();
        memory.set_size(self.size).expect("memory takes any size");
        self.write_to(&memory);
        memory
    }

    /// A sparse raw file at `path`.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn save(&self, path: &Path) {
        File::create(path).and_then(|file| file.set_len(self.size)).expect("a new file for a sample disk");
        self.write_to(&FileBlock::open(path, true).expect("the file that was just made"));
    }

    /// Writes what is in the sample to a device that reads as zeroes.
    ///
    /// # Panics
    /// When the device refuses.
    pub fn write_to(&self, device: &dyn BlockWrite) {
        for (range, fill) in &self.parts {
            for piece in pieces(range.clone(), MIB) {
                device.write_at(&content(piece.clone(), *fill), piece.start).expect("writing a sample disk");
            }
        }
    }
}

/// The bytes of a range of a disk that is filled so from its first byte on.
#[must_use]
pub fn content(range: Range<u64>, fill: Fill) -> Vec<u8> {
    const WORDS: [&[u8; 8]; 8] =
        [b"cluster ", b"virtual ", b"machine ", b"sector, ", b"backing ", b"extent; ", b"and the ", b"offset: "];
    let first = range.start / 8;
    let word = |number: u64| match fill {
        Fill::Random => mix(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).to_le_bytes(),
        // Each eighth word is the position, so that no two blocks are alike.
        Fill::Text if number.is_multiple_of(8) => std::array::from_fn(|digit| {
            b"0123456789abcdef"[usize::from(((number >> 3) >> (4 * digit)).to_le_bytes()[0] & 15)]
        }),
        Fill::Text => *WORDS[usize::from(mix(number).to_le_bytes()[0] & 7)],
        Fill::WrittenZeroes => [0; 8],
    };
    let mut bytes: Vec<u8> = (first..range.end.div_ceil(8)).flat_map(word).collect();
    let skip = usize::try_from(range.start % 8).expect("less than 8");
    bytes.drain(..skip);
    bytes.truncate(usize::try_from(range.end - range.start).expect("a piece fits into memory"));
    bytes
}

/// Cuts a range into pieces of at most `longest` bytes.
pub(crate) fn pieces(range: Range<u64>, longest: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = at.saturating_add(longest).min(range.end);
        (start < range.end).then_some(start..at)
    })
}

/// Writes a disk into a new sparse file, which replaces one at `path`.
///
/// # Panics
/// When the device or the operating system refuses.
pub fn save(device: &dyn BlockRead, path: &Path) {
    File::create(path).and_then(|file| file.set_len(device.size())).expect("a new file for a disk");
    let file = FileBlock::open(path, true).expect("the file that was just made");
    for_each_piece(device, |offset, bytes| file.write_at(bytes, offset).expect("writing a disk into a file"));
}

/// Hands out what is neither status zero nor all zero, in ascending pieces.
fn for_each_piece(device: &dyn BlockRead, mut visit: impl FnMut(u64, &[u8])) {
    for extent in device.extents() {
        let extent = extent.expect("the status of a disk in a test");
        if extent.status != BlockStatus::Data {
            continue;
        }
        for piece in pieces(extent.range(), MIB) {
            let bytes = device.read_vec(piece.start, piece.end - piece.start).expect("reading a disk in a test");
            if !is_all_zero(&bytes) {
                visit(piece.start, &bytes);
            }
        }
    }
}

/// The SHA-256 of a disk's bytes as lower-case hexadecimal digits: what the corpus lists.
///
/// # Panics
/// When the device cannot be read.
#[must_use]
pub fn sha256(device: &dyn BlockRead) -> String {
    let mut hasher = Sha256::new();
    let zeroes = vec![0; 1 << 20];
    let mut hashed = 0;
    let pad = |hasher: &mut Sha256, hashed: u64, to: u64| {
        for piece in pieces(hashed..to, MIB) {
            hasher.update(&zeroes[..usize::try_from(piece.end - piece.start).expect("at most 1 MiB")]);
        }
    };
    for_each_piece(device, |offset, bytes| {
        pad(&mut hasher, hashed, offset);
        hasher.update(bytes);
        hashed = offset + bytes.len() as u64;
    });
    pad(&mut hasher, hashed, device.size());
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first byte in which two disks differ, their size counting as a byte; `None` when they are the same.
///
/// # Panics
/// When one of them cannot be read.
#[must_use]
pub fn first_difference(one: &dyn BlockRead, other: &dyn BlockRead) -> Option<u64> {
    let common = one.size().min(other.size());
    let mut at = 0;
    while at < common {
        let status = |device: &dyn BlockRead| device.block_status(at..common).expect("the status of a disk in a test");
        let (a, b) = (status(one), status(other));
        let run = a.end().min(b.end());
        if a.status.reads_zero() && b.status.reads_zero() {
            at = run;
            continue;
        }
        let length = (run - at).min(MIB);
        let read = |device: &dyn BlockRead| device.read_vec(at, length).expect("reading a disk in a test");
        let (a, b) = (read(one), read(other));
        if let Some(place) = a.iter().zip(&b).position(|(a, b)| a != b) {
            return Some(at + place as u64);
        }
        at += length;
    }
    (one.size() != other.size()).then_some(common)
}

/// Makes all of a device read as zeroes.
///
/// # Panics
/// When the device refuses.
pub fn wipe(device: &dyn BlockWrite) {
    device.write_zeroes_at(0..device.size(), ZeroMode::Unmap).expect("zeroing a disk in a test");
}
