//! What makes changes of metadata survive a crash: the headers, and the log as it is written.
//!
//! ```text
//! first write:  header (new FileWriteGuid and DataWriteGuid) ─► barrier
//! a change:     barrier (data, the entry before in its place) ─► log entry ─► barrier [─► header (LogGuid) ─► barrier]
//!               ─► the sectors in their place
//! at the end:   barrier ─► header (LogGuid zero) ─► barrier
//! ```
//!
//! Every entry is applied, durably, before the next one is written, and names itself as the tail: a replay needs the newest
//! entry alone. No entry is longer than half of the log, so that a torn one cannot have overwritten the one before it. The
//! header names the log only once an entry is in it: a log that is named and empty would be a contradiction.
//!
//! Identifiers of an image that exists are derived from its header and the first write: the same work gives the same file,
//! and copies that went different ways get different ones. The header's sequence number is among what they are derived
//! from, and it always rises, so that entries of an earlier run never count again.

use transload_block::{Result, Storage};
use zerocopy::IntoBytes;

use super::error::Fault;
use super::guid::Guid;
use super::layout::{
    DATA_DESCRIPTOR, DATA_SECTOR, HEADER_BYTES, HEADERS, LOG_SECTOR, LOG_SIGNATURE, RawDataSector, RawDescriptor,
    RawHeader, RawLogHeader, checksum,
};
use super::log::descriptor_sectors;
use super::open::Header;
use super::sectors::Sector;
use crate::IdSource;

/// The headers and the log of a file that is written.
#[derive(Debug)]
pub(crate) struct Journal {
    header: RawHeader,
    /// Which of the two headers holds it.
    number: usize,
    /// Entries of this run have it.
    guid: Guid,
    /// Where in the log the next entry goes.
    position: u64,
    sequence: u64,
}

/// The length of the file, as entries tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileLength {
    /// What is durable.
    pub flushed: u64,
    /// What all structures fit into.
    pub last: u64,
}

impl Journal {
    pub(crate) fn new(header: &Header) -> Self {
        Self { header: header.raw, number: header.number, guid: Guid::ZERO, position: 0, sequence: 1 }
    }

    fn length(&self) -> u64 {
        self.header.log_length.get().into()
    }

    /// The most sectors that one entry changes.
    pub(crate) fn sectors_max(&self) -> usize {
        let mut sectors = self.length() / 2 / LOG_SECTOR;
        while sectors > 0 && descriptor_sectors(sectors) + sectors > self.length() / 2 / LOG_SECTOR {
            sectors -= 1;
        }
        usize::try_from(sectors).unwrap_or(usize::MAX)
    }

    /// Marks the file as changed, durably; `first_write` describes the change.
    ///
    /// # Errors
    /// `Corrupt` when the file has no log.
    pub(crate) fn begin(&mut self, storage: &dyn Storage, first_write: &[u8]) -> Result<()> {
        if self.length() == 0 {
            return Err(Fault::NoLog.into());
        }
        let mut material = self.header.as_bytes().to_vec();
        material.extend_from_slice(first_write);
        let ids = IdSource::from_material(&material);
        self.header.file_write_guid = Guid::from_text_order(ids.uuid("vhdx file write"));
        self.header.data_write_guid = Guid::from_text_order(ids.uuid("vhdx data write"));
        self.header.log_guid = Guid::ZERO;
        self.guid = Guid::from_text_order(ids.uuid("vhdx log"));
        (self.position, self.sequence) = (0, 1);
        self.write_header(storage)
    }

    /// Logs the new content of sectors, at most [`sectors_max`](Self::sectors_max), and puts them into their place. When it
    /// returns, they survive a crash.
    pub(crate) fn commit(
        &mut self,
        storage: &dyn Storage,
        changes: &[(u64, &Sector)],
        length: FileLength,
    ) -> Result<()> {
        let entry = self.entry(changes, length);
        let log = self.header.log_offset.get();
        let before_end = usize::try_from(self.length() - self.position).unwrap_or(usize::MAX).min(entry.len());
        storage.write_at(&entry[..before_end], log + self.position)?;
        storage.write_at(&entry[before_end..], log)?;
        storage.flush()?;
        if self.header.log_guid != self.guid {
            self.header.log_guid = self.guid;
            self.write_header(storage)?;
        }
        self.position = (self.position + entry.len() as u64) % self.length();
        self.sequence += 1;
        write_in_place(storage, changes)
    }

    /// Says that the log is empty, when everything in it is in its place, durably.
    pub(crate) fn close(&mut self, storage: &dyn Storage) -> Result<()> {
        if self.header.log_guid == Guid::ZERO {
            return Ok(());
        }
        self.header.log_guid = Guid::ZERO;
        self.write_header(storage)
    }

    /// Writes the same header again, in the place of the other one.
    pub(crate) fn renew(&mut self, storage: &dyn Storage) -> Result<()> {
        self.write_header(storage)
    }

    /// Writes the header over the other one, which does not count, and makes it durable.
    fn write_header(&mut self, storage: &dyn Storage) -> Result<()> {
        self.number = 1 - self.number;
        self.header.sequence_number.set(self.header.sequence_number.get().wrapping_add(1));
        storage.write_at(&header_bytes(self.header), HEADERS[self.number])?;
        storage.flush()
    }

    fn entry(&self, changes: &[(u64, &Sector)], length: FileLength) -> Vec<u8> {
        let count = changes.len() as u64;
        let front = usize::try_from(descriptor_sectors(count) * LOG_SECTOR).expect("a part of the log");
        let mut entry = Vec::with_capacity(front + changes.len() * size_of::<Sector>());
        let header = RawLogHeader {
            signature: LOG_SIGNATURE,
            checksum: 0.into(),
            entry_length: u32::try_from(entry.capacity()).expect("half of the log at most").into(),
            tail: u32::try_from(self.position).expect("inside the log").into(),
            sequence_number: self.sequence.into(),
            descriptor_count: u32::try_from(count).expect("fewer than sectors of the log").into(),
            reserved: 0.into(),
            log_guid: self.guid,
            flushed_file_offset: length.flushed.into(),
            last_file_offset: length.last.into(),
        };
        entry.extend_from_slice(header.as_bytes());
        for (at, sector) in changes {
            let descriptor = RawDescriptor {
                signature: DATA_DESCRIPTOR,
                trailing: *sector.last_chunk().expect("a sector is longer"),
                leading: *sector.first_chunk().expect("a sector is longer"),
                file_offset: (*at).into(),
                sequence_number: self.sequence.into(),
            };
            entry.extend_from_slice(descriptor.as_bytes());
        }
        entry.resize(front, 0);
        let [low, high] = [self.sequence & u64::from(u32::MAX), self.sequence >> 32];
        let half = |number: u64| u32::try_from(number).expect("32 bits").into();
        for (_, sector) in changes {
            let mut data = [0; 4084];
            data.copy_from_slice(&sector[8..4092]);
            let raw =
                RawDataSector { signature: DATA_SECTOR, sequence_high: half(high), data, sequence_low: half(low) };
            entry.extend_from_slice(raw.as_bytes());
        }
        let sum = checksum(&entry);
        entry[4..8].copy_from_slice(&sum.to_le_bytes());
        entry
    }
}

/// A header with its checksum and padding.
pub(crate) fn header_bytes(mut header: RawHeader) -> Vec<u8> {
    header.checksum.set(0);
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(HEADER_BYTES, 0);
    let sum = checksum(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Writes sectors, those that stand behind each other in one piece.
pub(crate) fn write_in_place(storage: &dyn Storage, changes: &[(u64, &Sector)]) -> Result<()> {
    const PIECE_MAX: usize = 1 << 20;
    let mut changes = changes.iter().peekable();
    while let Some((place, sector)) = changes.next() {
        let mut piece = sector.to_vec();
        while piece.len() < PIECE_MAX
            && let Some((_, next)) = changes.next_if(|(at, _)| *at == place + piece.len() as u64)
        {
            piece.extend_from_slice(*next);
        }
        storage.write_at(&piece, *place)?;
    }
    Ok(())
}
