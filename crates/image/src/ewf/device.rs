//! The disk: chunks of one length, unpacked and checked by whoever reads them.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Codec, Extent, Result, check_extent, check_range,
};

use super::set::Set;
use crate::codec::{self, adler32};
use crate::kept::Kept;
use crate::mapped::{Tables, corrupt};

/// The upper bit of an entry: the chunk is deflated.
const COMPRESSED: u32 = 1 << 31;

/// The disk.
#[derive(Debug)]
pub(super) struct Chunks {
    set: Set,
    tables: Tables,
    kept: Kept,
}

/// Where a chunk stands in the joined files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    start: u64,
    length: u64,
    pub(super) compressed: bool,
}

impl Chunks {
    /// A disk whose tables list all of its chunks.
    pub(super) fn new(set: Set, cache_bytes: usize) -> Self {
        let tables = Tables::new(Arc::clone(&set.file), cache_bytes / 2);
        Self { tables, kept: Kept::new(cache_bytes / 2), set }
    }

    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    /// The bytes of the disk in chunk `index`.
    pub(super) fn length(&self, index: u64) -> u64 {
        let media = &self.set.media;
        (media.size - index * media.chunk).min(media.chunk)
    }

    /// Where chunk `index` stands.
    pub(super) fn place(&self, index: u64) -> Result<Place> {
        let groups = &self.set.groups;
        let group = groups.partition_point(|group| group.first + group.chunks <= index);
        let Some(group) = groups.get(group) else {
            return Err(corrupt(format!("EWF tables: chunk {index} is not listed")));
        };
        let number = index - group.first;
        let entry = |number: u64| -> Result<u32> {
            Ok(u32::from_le_bytes(self.tables.bytes(group.entries_at + number * 4, "EWF table")?))
        };
        let first = entry(number)?;
        let start = group.base + u64::from(first & !COMPRESSED);
        let end = match number + 1 {
            next if next < group.chunks => group.base + u64::from(entry(next)? & !COMPRESSED),
            _ => group.data_end,
        };
        // Deflate makes nothing longer by more than a little, and four bytes are the checksum of a stored one.
        let most = self.set.media.chunk + self.set.media.chunk / 64 + 1024;
        match end.checked_sub(start).filter(|length| (1..=most).contains(length) && end <= self.set.file.size()) {
            Some(length) => Ok(Place { start, length, compressed: first & COMPRESSED != 0 }),
            None => Err(corrupt(format!("EWF table: chunk {index} stands from byte {start} to byte {end}"))),
        }
    }

    /// Fills `unit` with chunk `index`, whose length it has.
    pub(super) fn unpack(&self, index: u64, unit: &mut [u8]) -> Result<()> {
        thread_local! {
            /// What was read and is not yet unpacked.
            static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let place = self.place(index)?;
        let done = STORED.with_borrow_mut(|stored| {
            stored.resize(usize::try_from(place.length).unwrap_or(0), 0);
            self.set.file.read_at(stored, place.start)?;
            if place.compressed { inflate(stored, unit) } else { take(stored, unit) }
        });
        done.map_err(|error| error.context(format!("EWF chunk {index}")))
    }
}

fn inflate(stored: &[u8], unit: &mut [u8]) -> Result<()> {
    let held = codec::decode(Codec::Zlib, stored, unit)?;
    if held == unit.len() { Ok(()) } else { Err(corrupt(format!("it unpacks to {held} bytes, not {}", unit.len()))) }
}

/// Takes over bytes that are stored with a checksum behind them.
fn take(stored: &[u8], unit: &mut [u8]) -> Result<()> {
    let Some((bytes, noted)) =
        stored.split_at_checked(unit.len()).and_then(|(bytes, rest)| Some((bytes, rest.first_chunk()?)))
    else {
        return Err(corrupt(format!(
            "it is stored in {} bytes, which {} and a checksum do not fit in",
            stored.len(),
            unit.len()
        )));
    };
    let (noted, found) = (u32::from_le_bytes(*noted), adler32(bytes));
    if noted != found {
        return Err(corrupt(format!("its checksum is noted as {noted:08x} and is {found:08x}")));
    }
    unit.copy_from_slice(bytes);
    Ok(())
}

impl BlockRead for Chunks {
    fn size(&self) -> u64 {
        self.set.media.size
    }

    fn limits(&self) -> BlockLimits {
        let granularity = u32::try_from(1_u64 << self.set.media.chunk.trailing_zeros()).unwrap_or(512);
        BlockLimits { alignment: granularity, preferred: granularity.max(1 << 20), granularity }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        let chunk = self.set.media.chunk;
        let (mut at, mut buf) = (offset, buf);
        while at < end {
            let (index, within) = (at / chunk, at % chunk);
            let whole = self.length(index);
            let length = (whole - within).min(end - at);
            let (piece, rest) = buf.split_at_mut(usize::try_from(length).unwrap_or(buf.len()));
            if length == whole {
                self.unpack(index, piece)?;
            } else {
                let unit = self.kept.get(index, whole, |unit| self.unpack(index, unit))?;
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                piece.copy_from_slice(unit.get(from..from.saturating_add(piece.len())).unwrap_or_default());
            }
            at += length;
            buf = rest;
        }
        Ok(())
    }

    /// Everything is data: the format has no word for what was never written.
    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = check_extent(&range, self.size())?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
