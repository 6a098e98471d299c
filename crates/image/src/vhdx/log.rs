//! The log, as it is read: finds the entries that have to be replayed, and what they change.
//!
//! [MS-VHDX], section 2.3. The log is a ring of sectors of 4 KiB. Entries follow each other with ascending sequence
//! numbers; the newest one says where the oldest one stands that still matters. A crash may have torn the last entry, and
//! older ones may be half overwritten: an entry counts when its checksum, its descriptors and its data sectors agree, and
//! a run of entries counts when it reaches back to where its newest entry says that it must. Of several runs, the one with
//! the newest entry is the active one.
//!
//! Nothing is changed here: [`find`] answers a [`Replay`], which `overlay.rs` shows over the file and `replay.rs` writes
//! into it.

use std::collections::BTreeMap;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::error::Fault;
use super::guid::Guid;
use super::layout::{
    DATA_DESCRIPTOR, DATA_SECTOR, LOG_SECTOR, LOG_SIGNATURE, REGION_TABLES, RawDataSector, RawDescriptor, RawLogHeader,
    ZERO_DESCRIPTOR, checksum,
};

/// The longest log that is replayed: an entry is checked in memory. Writers make logs of 1 MiB.
pub(crate) const REPLAY_MAX: u64 = 64 << 20;
/// No file is longer: twice the largest disk.
const FILE_MAX: u64 = 128 << 40;
/// Checking all entries of a sound log reads it about twice; entries that overlap without end are made up.
const CHECKS_MAX: u64 = 8;

/// Where the log stands, and which entries in it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPlace {
    pub offset: u64,
    pub length: u64,
    pub guid: Guid,
}

/// What has to be done to a file that was not closed.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// By first byte; they do not overlap, and all are multiples of 4 KiB.
    pub changes: BTreeMap<u64, Change>,
    /// The length that the file needs at least.
    pub file_length: u64,
    /// How many entries were replayed.
    pub entries: usize,
}

/// New content of some bytes of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The byte behind the last one.
    pub end: u64,
    pub content: Content,
}

/// What the bytes become.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Zero,
    /// A sector, whose middle stands in the data sector at `at` of the file.
    Sector {
        at: u64,
        leading: [u8; 8],
        trailing: [u8; 4],
    },
}

impl Content {
    /// Reads the sector of a change that is one.
    pub(crate) fn sector(&self, file: &dyn BlockRead) -> Result<[u8; 4096]> {
        let mut sector = [0; 4096];
        if let Self::Sector { at, leading, trailing } = self {
            file.read_at(&mut sector, *at)?;
            sector[..8].copy_from_slice(leading);
            sector[4092..].copy_from_slice(trailing);
        }
        Ok(sector)
    }
}

/// An entry whose checks hold.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where in the log.
    position: u64,
    length: u64,
    tail: u64,
    sequence: u64,
    descriptors: u64,
    flushed: u64,
    last: u64,
}

/// Finds what has to be replayed; `None` when no entry of the log counts.
///
/// # Errors
/// `TooLarge` for a log that is too long to replay; `Corrupt` when the file is shorter than the log says it was, and for
/// changes that make no sense; what the storage answers.
pub(crate) fn find(file: &dyn BlockRead, place: LogPlace) -> Result<Option<Replay>> {
    if place.length > REPLAY_MAX {
        return Err(Fault::LogTooLong { length: place.length, most: REPLAY_MAX }.into());
    }
    let mut scan = Scan { file, place, checked: 0 };
    let active = scan.active_sequence()?;
    let Some(head) = active.last() else { return Ok(None) };
    if file.size() < head.flushed {
        return Err(Fault::LogFileCut { file: file.size(), flushed: head.flushed }.into());
    }
    if head.last > FILE_MAX {
        return Err(Fault::LogFileLength { sequence: head.sequence, length: head.last, most: FILE_MAX }.into());
    }
    let file_length = head.last.max(file.size());
    let mut replay = Replay { changes: BTreeMap::new(), file_length, entries: active.len() };
    for entry in &active {
        scan.collect(entry, &mut replay)?;
    }
    Ok(Some(replay))
}

struct Scan<'a> {
    file: &'a dyn BlockRead,
    place: LogPlace,
    /// Bytes whose checksum was computed.
    checked: u64,
}

impl Scan<'_> {
    /// The entries to replay, in their order (section 2.3.3).
    fn active_sequence(&mut self) -> Result<Vec<Entry>> {
        let mut candidate: Vec<Entry> = Vec::new();
        let (mut start, mut looked_at) = (0, 0);
        while looked_at < self.place.length {
            let sequence = self.sequence_at(start)?;
            let length: u64 = sequence.iter().map(|entry| entry.length).sum();
            let newest = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.sequence);
            let reaches_back = sequence.last().and_then(|head| sequence.iter().position(|e| e.position == head.tail));
            match reaches_back {
                Some(first) => {
                    if newest(&sequence) > newest(&candidate) {
                        candidate = sequence[first..].to_vec();
                    }
                    looked_at += length;
                    start = (start + length) % self.place.length;
                }
                None => {
                    looked_at += LOG_SECTOR;
                    start = (start + LOG_SECTOR) % self.place.length;
                }
            }
        }
        Ok(candidate)
    }

    /// The entries that follow each other from `start` on.
    fn sequence_at(&mut self, start: u64) -> Result<Vec<Entry>> {
        let mut sequence: Vec<Entry> = Vec::new();
        let (mut position, mut length) = (start, 0);
        while let Some(entry) = self.entry_at(position)? {
            let follows = sequence.last().is_none_or(|last| last.sequence.checked_add(1) == Some(entry.sequence));
            length += entry.length;
            if !follows || length > self.place.length {
                break;
            }
            position = (position + entry.length) % self.place.length;
            sequence.push(entry);
        }
        Ok(sequence)
    }

    /// The entry at `position`, if one stands there that counts.
    fn entry_at(&mut self, position: u64) -> Result<Option<Entry>> {
        let first = self.read(position, LOG_SECTOR)?;
        let Ok((header, _)) = RawLogHeader::read_from_prefix(&first) else { return Ok(None) };
        let entry = Entry {
            position,
            length: header.entry_length.get().into(),
            tail: header.tail.get().into(),
            sequence: header.sequence_number.get(),
            descriptors: header.descriptor_count.get().into(),
            flushed: header.flushed_file_offset.get(),
            last: header.last_file_offset.get(),
        };
        let plausible = header.signature == LOG_SIGNATURE
            && header.log_guid == self.place.guid
            && entry.sequence > 0
            && entry.length >= LOG_SECTOR
            && entry.length <= self.place.length
            && entry.length.is_multiple_of(LOG_SECTOR)
            && entry.tail < self.place.length
            && entry.tail.is_multiple_of(LOG_SECTOR)
            && descriptor_sectors(entry.descriptors) <= entry.length / LOG_SECTOR;
        if !plausible {
            return Ok(None);
        }
        self.checked += entry.length;
        if self.checked > CHECKS_MAX * self.place.length {
            return Err(Fault::LogEntangled.into());
        }
        let bytes = self.read(position, entry.length)?;
        Ok((checksum(&bytes) == header.checksum.get() && is_consistent(&bytes, &entry)).then_some(entry))
    }

    /// Puts what `entry` changes over what earlier ones change.
    fn collect(&self, entry: &Entry, replay: &mut Replay) -> Result<()> {
        let front = self.read(entry.position, descriptor_sectors(entry.descriptors) * LOG_SECTOR)?;
        let mut next = front.len() as u64;
        for descriptor in descriptors(&front, entry.descriptors) {
            let offset = descriptor.file_offset.get();
            let (length, content) = if descriptor.signature == ZERO_DESCRIPTOR {
                (u64::from_le_bytes(descriptor.leading), Content::Zero)
            } else {
                let at = self.place.offset + (entry.position + next) % self.place.length;
                next += LOG_SECTOR;
                let (leading, trailing) = (descriptor.leading, descriptor.trailing);
                (LOG_SECTOR, Content::Sector { at, leading, trailing })
            };
            let end = self.check_change(entry, offset, length, replay.file_length)?;
            if length > 0 {
                replay.put(offset, Change { end, content });
            }
        }
        Ok(())
    }

    fn check_change(&self, entry: &Entry, offset: u64, length: u64, last: u64) -> Result<u64, Fault> {
        let log = self.place.offset..self.place.offset + self.place.length;
        let bad = Fault::LogChange { sequence: entry.sequence, offset, length, last };
        match offset.checked_add(length) {
            // Neither the identifier and the headers nor the log itself are changed through the log.
            Some(end)
                if offset.is_multiple_of(LOG_SECTOR)
                    && length.is_multiple_of(LOG_SECTOR)
                    && offset >= REGION_TABLES[0]
                    && end <= last.next_multiple_of(LOG_SECTOR)
                    && (end <= log.start || offset >= log.end) =>
            {
                Ok(end)
            }
            _ => Err(bad),
        }
    }

    /// Reads from the ring.
    fn read(&self, position: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).expect("no longer than the log, which fits memory")];
        let before_end = usize::try_from((self.place.length - position).min(length)).expect("as above");
        let (front, back) = bytes.split_at_mut(before_end);
        self.file.read_at(front, self.place.offset + position)?;
        self.file.read_at(back, self.place.offset)?;
        Ok(bytes)
    }
}

/// Sectors that the header and `count` descriptors fill.
pub(crate) const fn descriptor_sectors(count: u64) -> u64 {
    (size_of::<RawLogHeader>() as u64 + count * size_of::<RawDescriptor>() as u64).div_ceil(LOG_SECTOR)
}

/// The descriptors of an entry that begins with `bytes`.
fn descriptors(bytes: &[u8], count: u64) -> impl Iterator<Item = RawDescriptor> {
    let all = bytes[size_of::<RawLogHeader>()..].chunks_exact(size_of::<RawDescriptor>());
    all.take(usize::try_from(count).unwrap_or(usize::MAX)).filter_map(|raw| RawDescriptor::read_from_bytes(raw).ok())
}

/// Whether descriptors and data sectors are those of the entry.
fn is_consistent(bytes: &[u8], entry: &Entry) -> bool {
    let mut data = bytes.chunks_exact(4096).skip(usize::try_from(descriptor_sectors(entry.descriptors)).unwrap_or(0));
    descriptors(bytes, entry.descriptors).all(|descriptor| {
        descriptor.sequence_number.get() == entry.sequence
            && match descriptor.signature {
                ZERO_DESCRIPTOR => true,
                DATA_DESCRIPTOR => data.next().is_some_and(|sector| is_data_sector(sector, entry.sequence)),
                _ => false,
            }
    })
}

fn is_data_sector(bytes: &[u8], sequence: u64) -> bool {
    RawDataSector::ref_from_bytes(bytes).is_ok_and(|sector| {
        let number = u64::from(sector.sequence_high.get()) << 32 | u64::from(sector.sequence_low.get());
        sector.signature == DATA_SECTOR && number == sequence
    })
}

impl Replay {
    /// Puts a change over those that are there.
    fn put(&mut self, start: u64, change: Change) {
        // At most one reaches into the range from before it.
        let before = self.changes.range(..start).next_back().map(|(at, old)| (*at, *old));
        if let Some((at, old)) = before.filter(|(_, old)| old.end > start) {
            self.changes.insert(at, Change { end: start, ..old });
            if old.end > change.end {
                self.changes.insert(change.end, old);
            }
        }
        while let Some((at, old)) = self.changes.range(start..change.end).next().map(|(at, old)| (*at, *old)) {
            self.changes.remove(&at);
            if old.end > change.end {
                self.changes.insert(change.end, old);
            }
        }
        self.changes.insert(start, change);
    }
}
