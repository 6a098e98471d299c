//! The device: one layer of a disk.
//!
//! The map is behind one mutex, which is held while a place is looked up and never while payload moves. Locks, in this
//! order: `Writing::in_use`, then `state`.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Extent, HostExtent, HostExtents, Result, check_extent,
    check_range,
};

use super::map::{Map, Place, Run};
use super::open::Image;
use super::sectors::Sectors;
use super::write::{State, Writing};

/// What a large read costs least in.
const PREFERRED: u32 = 1 << 20;

/// A VHDX.
#[derive(Debug)]
pub(crate) struct Vhdx {
    /// The file, with its log replayed over it.
    pub(super) file: Arc<dyn BlockRead>,
    pub(super) map: Map,
    pub(super) state: Mutex<State>,
    pub(super) writing: Option<Writing>,
}

impl Vhdx {
    /// A device for reading.
    pub(crate) fn open(image: &Image, cache_bytes: usize) -> Self {
        Self::new(image, Arc::clone(&image.file), State::reading(Sectors::new(cache_bytes)), None)
    }

    pub(super) fn new(image: &Image, file: Arc<dyn BlockRead>, state: State, writing: Option<Writing>) -> Self {
        Self { file, map: Map::new(image), state: Mutex::new(state), writing }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread cannot have left an entry half changed: each is one number.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, range: Range<u64>) -> Result<Run> {
        self.map.run(&mut self.state().sectors, &*self.file, range)
    }
}

impl BlockRead for Vhdx {
    fn size(&self) -> u64 {
        self.map.geometry.size
    }

    fn limits(&self) -> BlockLimits {
        let geometry = self.map.geometry;
        let unit = if geometry.has_parent { geometry.sector } else { geometry.block_size };
        let mut granularity = u32::try_from(unit).unwrap_or(PREFERRED);
        if self.writing.is_none() {
            // Holes of the file are shown as zeroes.
            granularity = granularity.min(self.file.limits().granularity);
        }
        BlockLimits { alignment: 1, preferred: PREFERRED, granularity }
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        while !buf.is_empty() {
            let run = self.run(offset..end)?;
            let (piece, rest) = buf.split_at_mut(usize::try_from(run.length).unwrap_or(buf.len()));
            match run.place {
                Place::Hole | Place::Zero => piece.fill(0),
                Place::File(place) => self.file.read_at(piece, place)?,
            }
            offset += run.length;
            buf = rest;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size())?;
        let run = self.run(range.clone())?;
        let mut extent = Extent { offset: range.start, length: run.length, status: BlockStatus::Data };
        match run.place {
            Place::Hole => extent.status = BlockStatus::Hole,
            Place::Zero => extent.status = BlockStatus::Zero,
            Place::File(place) if self.writing.is_none() => {
                let below = self.file.block_status(place..place + run.length)?;
                extent.length = below.length.min(run.length);
                if below.status.reads_zero() {
                    extent.status = BlockStatus::Zero;
                }
            }
            Place::File(_) => {}
        }
        Ok(extent)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let capabilities = Capabilities::none().with_host_extents(self);
        if self.writing.is_some() { capabilities.with_reserve(self) } else { capabilities }
    }
}

impl HostExtents for Vhdx {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        check_extent(&range, self.size())?;
        let run = self.run(range)?;
        match (run.place, self.file.capabilities().host_extents) {
            (Place::File(place), Some(below)) => below.host_extent(place..place + run.length),
            _ => Ok(HostExtent { length: run.length, location: None }),
        }
    }
}
