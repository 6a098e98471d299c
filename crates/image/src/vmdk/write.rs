//! A VMDK that is written at random places: one or more extents and the descriptor that names them.
//!
//! ```text
//! create, open ──► write_at, write_zeroes_at, reserve ──► flush … ──► finish
//!                  └ the first one: new CID, extents marked as in use, both durable before the data
//! ```
//!
//! A request is split at the borders of extents and handed to each: a sparse extent looks up or allocates grains
//! ([`SparseExtent`]), a flat one passes the bytes on. Reading the image back while it is written goes the same way.
//!
//! Locks, in this order: `in_use` (shared by writers, exclusive for the first write and for `finish`), then an extent's
//! own mutex.

mod identity;
mod open;
mod sparse;
mod tables;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Error, ErrorKind, Extent, HostExtent, HostExtents,
    Reserve, Result, Storage, ZeroMode, check_range,
};

pub(crate) use identity::DescriptorPlace;
pub(crate) use open::open_for_writing;
pub(crate) use sparse::{SparseExtent, SparseShape};
pub(crate) use tables::Directories;

use crate::ImageWrite;
use crate::place::{Place, Run};

/// One extent and the bytes of the disk that it holds.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) range: Range<u64>,
    pub(crate) content: Content,
}

/// How an extent holds its bytes.
#[derive(Debug)]
pub(crate) enum Content {
    Sparse(SparseExtent),
    /// The bytes themselves, from `offset` of the file on.
    Flat {
        storage: Arc<dyn Storage>,
        offset: u64,
    },
    /// Zeroes without a file, which cannot be written.
    Zero,
}

/// A VMDK open for writing.
#[derive(Debug)]
pub(crate) struct WritableDisk {
    parts: Vec<Part>,
    size: u64,
    /// The descriptor whose CID the first write changes; `None` for a new image, whose CID nobody knows yet.
    descriptor: Mutex<Option<DescriptorPlace>>,
    in_use: RwLock<bool>,
}

impl WritableDisk {
    /// An image that exists: nothing changes before the first write. `parts` ascend without gaps from byte 0.
    pub(crate) fn open(parts: Vec<Part>, descriptor: DescriptorPlace) -> Self {
        Self::new(parts, Some(descriptor), false)
    }

    /// An image that was just made, with its extents marked as in use.
    pub(crate) fn created(parts: Vec<Part>) -> Self {
        Self::new(parts, None, true)
    }

    fn new(parts: Vec<Part>, descriptor: Option<DescriptorPlace>, in_use: bool) -> Self {
        let size = parts.last().map_or(0, |part| part.range.end);
        Self { parts, size, descriptor: Mutex::new(descriptor), in_use: RwLock::new(in_use) }
    }

    /// The parts that `range` touches, with what of it lies in each, counted from the part's start.
    fn split(&self, range: Range<u64>) -> impl Iterator<Item = (&Part, Range<u64>)> {
        let first = self.parts.partition_point(|part| part.range.end <= range.start);
        self.parts[first..].iter().take_while(move |part| part.range.start < range.end).map(move |part| {
            let start = range.start.max(part.range.start) - part.range.start;
            let end = range.end.min(part.range.end) - part.range.start;
            (part, start..end)
        })
    }

    /// Runs `write` between marking the image as in use and any `finish`.
    fn writing<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T> {
        loop {
            let guard = self.in_use.read().unwrap_or_else(PoisonError::into_inner);
            if *guard {
                return write();
            }
            drop(guard);
            self.mark_in_use()?;
            // A `finish` may slip in here; then the mark is set again.
        }
    }

    fn mark_in_use(&self) -> Result<()> {
        let mut guard = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        if *guard {
            return Ok(());
        }
        let mut descriptor = self.descriptor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = descriptor.as_mut() {
            place.renew()?;
            *descriptor = None;
        }
        for extent in self.sparse() {
            extent.mark_in_use()?;
        }
        *guard = true;
        Ok(())
    }

    fn sparse(&self) -> impl Iterator<Item = &SparseExtent> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Sparse(extent) => Some(extent),
            Content::Flat { .. } | Content::Zero => None,
        })
    }

    fn storages(&self) -> impl Iterator<Item = &Arc<dyn Storage>> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Sparse(extent) => Some(extent.storage()),
            Content::Flat { storage, .. } => Some(storage),
            Content::Zero => None,
        })
    }

    /// Checks `range` and says where the bytes at its start stand, and in which part.
    fn run_at(&self, range: &Range<u64>) -> Result<(&Part, Run)> {
        let length = range.end.checked_sub(range.start).filter(|length| *length > 0);
        let length = length.ok_or_else(|| {
            Error::new(ErrorKind::OutOfRange, format!("the range {}..{} is empty", range.start, range.end))
        })?;
        check_range(range.start, length, self.size)?;
        let (part, inside) = self.split(range.clone()).next().expect("parts cover the disk");
        let run = match &part.content {
            Content::Sparse(extent) => extent.run(inside)?,
            Content::Flat { offset, .. } => {
                Run { length: inside.end - inside.start, place: Place::File(offset + inside.start) }
            }
            Content::Zero => Run { length: inside.end - inside.start, place: Place::Zero },
        };
        Ok((part, run))
    }
}

impl BlockRead for WritableDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        let granularity = self.sparse().map(SparseExtent::grain).max().unwrap_or(4096);
        let granularity = u32::try_from(granularity).unwrap_or(1 << 31);
        BlockLimits { alignment: 1, preferred: granularity.max(1 << 20), granularity }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let mut rest = buf;
        for (part, inside) in self.split(offset..end) {
            let (piece, behind) = rest.split_at_mut(usize::try_from(inside.end - inside.start).unwrap_or(0));
            match &part.content {
                Content::Sparse(extent) => extent.read_at(piece, inside.start)?,
                Content::Flat { storage, offset } => storage.read_at(piece, offset + inside.start)?,
                Content::Zero => piece.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let (part, run) = self.run_at(&range)?;
        let mut extent = Extent { offset: range.start, length: run.length, status: run.place.status() };
        if let (Content::Flat { storage, .. }, Place::File(place)) = (&part.content, run.place) {
            let below = storage.block_status(place..place + run.length)?;
            extent.length = below.length;
            // A flat extent has no parent that could show through.
            extent.status = if below.status == BlockStatus::Data { BlockStatus::Data } else { BlockStatus::Zero };
        }
        Ok(extent)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let capabilities = Capabilities::none().with_host_extents(self);
        if self.sparse().next().is_some() { capabilities.with_reserve(self) } else { capabilities }
    }
}

impl HostExtents for WritableDisk {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let (part, run) = self.run_at(&range)?;
        let storage = match &part.content {
            Content::Sparse(extent) => extent.storage(),
            Content::Flat { storage, .. } => storage,
            Content::Zero => return Ok(HostExtent { length: run.length, location: None }),
        };
        match (run.place, storage.capabilities().host_extents) {
            (Place::File(place), Some(below)) if place + run.length <= storage.size() => {
                below.host_extent(place..place + run.length)
            }
            _ => Ok(HostExtent { length: run.length, location: None }),
        }
    }
}

impl Reserve for WritableDisk {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        check_range(range.start, range.end.saturating_sub(range.start), self.size)?;
        if range.is_empty() {
            return Ok(());
        }
        self.writing(|| {
            for (part, inside) in self.split(range.clone()) {
                match &part.content {
                    Content::Sparse(extent) => extent.reserve(inside)?,
                    Content::Flat { .. } => {}
                    Content::Zero => return Err(no_room(part)),
                }
            }
            Ok(())
        })
    }
}

impl BlockWrite for WritableDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        if buf.is_empty() {
            return Ok(());
        }
        self.writing(|| {
            let mut rest = buf;
            for (part, inside) in self.split(offset..end) {
                let (piece, behind) = rest.split_at(usize::try_from(inside.end - inside.start).unwrap_or(0));
                match &part.content {
                    Content::Sparse(extent) => extent.write_at(piece, inside.start)?,
                    Content::Flat { storage, offset } => storage.write_at(piece, offset + inside.start)?,
                    Content::Zero => return Err(no_room(part)),
                }
                rest = behind;
            }
            Ok(())
        })
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        check_range(range.start, range.end.saturating_sub(range.start), self.size)?;
        if range.is_empty() {
            return Ok(());
        }
        self.writing(|| {
            for (part, inside) in self.split(range.clone()) {
                match &part.content {
                    Content::Sparse(extent) => extent.write_zeroes_at(inside, mode)?,
                    Content::Flat { storage, offset } => {
                        storage.write_zeroes_at(offset + inside.start..offset + inside.end, mode)?;
                    }
                    Content::Zero => {}
                }
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<()> {
        for extent in self.sparse() {
            extent.write_back()?;
        }
        self.storages().try_for_each(|storage| storage.flush())
    }
}

impl ImageWrite for WritableDisk {
    fn finish(&self) -> Result<()> {
        let mut guard = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        if *guard {
            for extent in self.sparse() {
                extent.close()?;
            }
            *guard = false;
        }
        self.storages().try_for_each(|storage| storage.flush())
    }
}

fn no_room(part: &Part) -> Error {
    Error::new(
        ErrorKind::ReadOnly,
        format!("VMDK: bytes {} to {} are an extent of type ZERO, which has no file", part.range.start, part.range.end),
    )
}
