//! A UDIF image as a device: chunks of different lengths, unpacked by whoever reads them.
//!
//! Any number of threads read at once. A chunk that is asked for as a whole is unpacked into the reader's buffer; one that is
//! asked for in part is unpacked once and kept for a while.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Extent, HostExtent, HostExtents, Result, check_extent,
    check_range,
};

use super::tables::{Chunk, Method, SECTOR};
use super::unpack::unpack;
use crate::kept::{Kept, lock};
use crate::mapped::corrupt;

/// Chunks from this length on are unpacked one at a time, so that memory stays bounded whatever a file says.
const LARGE: u64 = 8 << 20;

/// The disk.
#[derive(Debug)]
pub(super) struct Udif {
    file: Arc<dyn BlockRead>,
    size: u64,
    /// Ascending, without overlaps.
    chunks: Vec<Chunk>,
    kept: Kept,
    large: Mutex<()>,
}

impl Udif {
    /// A disk of `size` bytes, whose chunks ascend, do not overlap and lie inside it.
    pub(super) fn new(file: Arc<dyn BlockRead>, size: u64, chunks: Vec<Chunk>, cache_bytes: usize) -> Self {
        Self { file, size, chunks, kept: Kept::new(cache_bytes), large: Mutex::default() }
    }

    /// The index of the chunk that holds byte `at`, or of the first one behind it.
    fn index(&self, at: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.end() <= at)
    }

    /// The chunk that holds byte `at` of the disk.
    fn chunk(&self, at: u64) -> Result<(usize, &Chunk)> {
        let index = self.index(at);
        match self.chunks.get(index).filter(|chunk| chunk.start <= at) {
            Some(chunk) => Ok((index, chunk)),
            None => Err(corrupt(format!("DMG tables: no chunk holds byte {at} of the disk"))),
        }
    }

    /// Reads a part of a chunk, all of which is inside it.
    fn read_chunk(&self, index: usize, chunk: &Chunk, within: u64, buf: &mut [u8]) -> Result<()> {
        match chunk.method {
            Method::Zero | Method::Ignore => buf.fill(0),
            Method::Raw => self.file.read_at(buf, chunk.stored_at + within)?,
            _ if buf.len() as u64 == chunk.length => self.unpack_into(chunk, buf)?,
            _ => {
                let unit = self.kept.get(index as u64, chunk.length, |unit| self.unpack_into(chunk, unit))?;
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                let to = from.saturating_add(buf.len());
                buf.copy_from_slice(unit.get(from..to).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn unpack_into(&self, chunk: &Chunk, unit: &mut [u8]) -> Result<()> {
        thread_local! {
            /// What was read and is not yet unpacked.
            static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let _one_at_a_time = (chunk.length.max(chunk.stored_length) >= LARGE).then(|| lock(&self.large));
        STORED.with_borrow_mut(|stored| {
            stored.resize(usize::try_from(chunk.stored_length).unwrap_or(0), 0);
            let done = self.file.read_at(stored, chunk.stored_at).and_then(|()| unpack(chunk.method, stored, unit));
            if chunk.stored_length >= LARGE {
                *stored = Vec::new();
            }
            done.map_err(|error| {
                error.context(format!("DMG chunk of {} bytes at byte {} of the disk", chunk.length, chunk.start))
            })
        })
    }
}

impl BlockRead for Udif {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: 1, preferred: 1 << 20, granularity: u32::try_from(SECTOR).unwrap_or(512) }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let (mut at, mut buf) = (offset, buf);
        while at < end {
            let (index, chunk) = self.chunk(at)?;
            let length = (chunk.end() - at).min(end - at);
            let (piece, rest) = buf.split_at_mut(usize::try_from(length).unwrap_or(buf.len()));
            self.read_chunk(index, chunk, at - chunk.start, piece)?;
            at += length;
            buf = rest;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        /// Chunks that are looked at for one answer.
        const MOST: usize = 4096;
        check_extent(&range, self.size)?;
        let first = self.index(range.start);
        let status = |chunk: &Chunk| match chunk.method {
            Method::Zero => BlockStatus::Zero,
            Method::Ignore => BlockStatus::Hole,
            _ => BlockStatus::Data,
        };
        let here = self.chunks.get(first).filter(|chunk| chunk.start <= range.start);
        let Some(here) = here else {
            // Nothing says what stands here, and reading it is an error.
            let end = self.chunks.get(first).map_or(range.end, |next| next.start.min(range.end));
            return Ok(Extent { offset: range.start, length: end - range.start, status: BlockStatus::Data });
        };
        let (found, mut end) = (status(here), here.end());
        for next in self.chunks[first + 1..].iter().take(MOST) {
            if end >= range.end || next.start != end || status(next) != found {
                break;
            }
            end = next.end();
        }
        Ok(Extent { offset: range.start, length: end.min(range.end) - range.start, status: found })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none().with_host_extents(self)
    }
}

impl HostExtents for Udif {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        check_extent(&range, self.size)?;
        let next = self.index(range.start);
        let here = self.chunks.get(next).filter(|chunk| chunk.start <= range.start);
        let end = match (here, self.chunks.get(next)) {
            (Some(chunk), _) => chunk.end(),
            (None, Some(next)) => next.start,
            (None, None) => range.end,
        };
        let length = end.min(range.end) - range.start;
        match (here.filter(|chunk| chunk.method == Method::Raw), self.file.capabilities().host_extents) {
            (Some(chunk), Some(below)) => {
                let start = chunk.stored_at + (range.start - chunk.start);
                below.host_extent(start..start + length)
            }
            _ => Ok(HostExtent { length, location: None }),
        }
    }
}
