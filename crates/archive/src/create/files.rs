//! Files: read past their holes, cut into chunks, and handed to the threads.

use transload_block::{BlockRead, BlockReadExt, Result};

use super::Watch;
use super::packer::Packing;
use super::workers::{Job, Slot, Workshop};
use crate::chunk::{Chunker, LEAST, MOST};
use crate::format::id::Id;
use crate::format::pack::BlobKind;
use crate::zeroes;

/// Holes shorter than this are stored as zeroes among the bytes around them: a file of many short holes would consist of
/// chunks that are too short to be compressed well.
pub(crate) const SHORTEST_HOLE: u64 = 64 << 10;

/// The name of a chunk, or where it will stand.
#[derive(Clone, Debug)]
pub(crate) enum Chunk {
    Known(Id),
    Coming(Slot),
}

impl Chunk {
    /// Its name, if it is known by now.
    pub(crate) fn get(&self) -> Option<Option<Id>> {
        match self {
            Self::Known(id) => Some(Some(*id)),
            Self::Coming(slot) => slot.get().copied(),
        }
    }

    /// Its name, as soon as it is known; `None` when something failed.
    pub(crate) fn wait(&self) -> Option<Id> {
        match self {
            Self::Known(id) => Some(*id),
            Self::Coming(slot) => *slot.wait(),
        }
    }
}

/// Reads files for a workshop. One thread has one.
pub(crate) struct Reader<'a> {
    workshop: &'a Workshop<'a>,
    watch: &'a dyn Watch,
    chunker: &'a Chunker,
    /// Bytes that were read and not cut yet, from `start` on.
    buffer: Vec<u8>,
    start: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(workshop: &'a Workshop<'a>, watch: &'a dyn Watch, chunker: &'a Chunker) -> Self {
        Self { workshop, watch, chunker, buffer: Vec::new(), start: 0 }
    }

    /// Cuts a file into chunks, which are hashed and stored by others meanwhile.
    pub(crate) fn read(&mut self, file: &dyn BlockRead, packing: Packing) -> Result<Vec<Chunk>> {
        let size = file.size();
        if size <= SHORTEST_HOLE {
            let mut chunks = Vec::new();
            self.data(file, 0, size, packing, &mut chunks)?;
            return Ok(chunks);
        }
        let mut chunks = Vec::new();
        // Where the bytes begin that are still to be read.
        let mut from = 0;
        for extent in file.extents() {
            let extent = extent?;
            if !extent.status.reads_zero() || extent.length < SHORTEST_HOLE {
                continue;
            }
            self.data(file, from, extent.offset, packing, &mut chunks)?;
            self.hole(extent.length, &mut chunks)?;
            from = extent.end();
        }
        self.data(file, from, size, packing, &mut chunks)?;
        Ok(chunks)
    }

    /// Says that so many bytes need not be read.
    pub(crate) fn skip(&self, bytes: u64) {
        self.watch.read(bytes);
    }

    /// A hole: chunks of zeroes whose digests are known. Each is stored once.
    fn hole(&mut self, length: u64, chunks: &mut Vec<Chunk>) -> Result<()> {
        for piece in zeroes::pieces(length) {
            let id = zeroes::id(piece);
            let packer = self.workshop.packer;
            if !packer.has(BlobKind::Data, &id) {
                let (kind, packing, slot) = (BlobKind::Data, Packing::Zstd(3), Slot::default());
                self.workshop.submit(Job { kind, bytes: vec![0; piece], packing, id: Some(id), slot })?;
            }
            chunks.push(Chunk::Known(id));
        }
        self.watch.read(length);
        Ok(())
    }

    /// The bytes of a file from `at` to `end`, cut by their contents.
    fn data(
        &mut self,
        file: &dyn BlockRead,
        at: u64,
        end: u64,
        packing: Packing,
        chunks: &mut Vec<Chunk>,
    ) -> Result<()> {
        let mut at = at;
        // Nothing shorter is cut.
        if end - at < LEAST as u64 {
            if at < end {
                let bytes = file.read_vec(at, end - at)?;
                self.hand_over(bytes, packing, chunks)?;
            }
            return Ok(());
        }
        self.buffer.clear();
        self.start = 0;
        loop {
            self.workshop.check()?;
            let wanted =
                usize::try_from(end - at).unwrap_or(usize::MAX).min(MOST - (self.buffer.len() - self.start).min(MOST));
            if wanted > 0 {
                self.buffer.drain(..self.start);
                self.start = 0;
                let old = self.buffer.len();
                self.buffer.resize(old + wanted, 0);
                file.read_at(&mut self.buffer[old..], at)?;
                at += wanted as u64;
            }
            // Cut until the next chunk could reach behind what was read.
            loop {
                let rest = &self.buffer[self.start..];
                if rest.is_empty() || (rest.len() < MOST && at < end) {
                    break;
                }
                let length = self.chunker.cut(rest).unwrap_or(rest.len());
                let bytes = rest[..length].to_vec();
                self.start += length;
                self.hand_over(bytes, packing, chunks)?;
            }
            if at == end && self.start == self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn hand_over(&mut self, bytes: Vec<u8>, packing: Packing, chunks: &mut Vec<Chunk>) -> Result<()> {
        let (slot, length) = (Slot::default(), bytes.len() as u64);
        chunks.push(Chunk::Coming(Slot::clone(&slot)));
        self.workshop.submit(Job { kind: BlobKind::Data, bytes, packing, id: None, slot })?;
        self.watch.read(length);
        Ok(())
    }
}
