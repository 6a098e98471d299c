//! A dynamic or differencing disk as a device.
//!
//! A block gets its place when it is first written or reserved: behind everything else, where the footer at the file's end
//! stood, which has been written anew further behind before. So the first and the last sector of the file, or one of them,
//! are a footer at every moment. Places are handed out in the order of the requests, and bytes move side by side.
//!
//! What a crash leaves: table entries and bits stay in memory until the data they refer to is durable (see
//! [`Tables::write_back`]). A new block reads as zeroes until it is written, in the file as well, so that an entry without
//! its data shows what the disk had there before. In a dynamic disk all sectors of a new block are set at once; in a
//! differencing one each when its data is there.
//!
//! Locks, in this order: `unset` on whole sectors, by those who write where a bit is 0, so that two writes into one sector
//! do not undo each other; then the mutex on tables and allocation, which is never held while payload moves.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Error, ErrorKind, Extent, HostExtent, HostExtents, RangeLock,
    Reserve, Result, Storage, ZeroMode, check_extent, check_range, check_span,
};
use zerocopy::IntoBytes;

use super::layout::{FOOTER_BYTES, Footer, SECTOR, UNUSED};
use super::map::{Place, Run, Shape, Tables};
use crate::ImageWrite;

/// How far the file is made longer at a time, in whole blocks; what is left over goes when the image is finished.
const GROWTH: u64 = 64 << 20;

/// A disk in blocks.
#[derive(Debug)]
pub(super) struct SparseDisk {
    file: Arc<dyn BlockRead>,
    shape: Shape,
    /// The same file, where it may be written, and the footer that belongs at its end.
    writing: Option<(Arc<dyn Storage>, Footer)>,
    state: Mutex<State>,
    /// On bytes of the disk whose sectors are not set.
    unset: RangeLock,
}

#[derive(Debug)]
struct State {
    tables: Tables,
    /// Where the next block goes: behind everything in use.
    next_free: u64,
    /// The file is longer than it needs to be.
    grown: bool,
}

/// What is to stand in some bytes.
#[derive(Clone, Copy)]
enum Content<'a> {
    /// These.
    Bytes(&'a [u8]),
    Zeroes(ZeroMode),
}

impl SparseDisk {
    pub(super) fn for_reading(file: Arc<dyn BlockRead>, shape: Shape, cache_bytes: usize) -> Self {
        let state = State { tables: Tables::new(shape, cache_bytes), next_free: 0, grown: false };
        Self { file, shape, writing: None, state: Mutex::new(state), unset: RangeLock::new() }
    }

    /// `end` is the byte behind everything in use but the footer at the file's end.
    pub(super) fn for_writing(
        storage: Arc<dyn Storage>,
        shape: Shape,
        footer: Footer,
        end: u64,
        cache_bytes: usize,
    ) -> Self {
        let file = Arc::clone(&storage) as Arc<dyn BlockRead>;
        let state = State { tables: Tables::new(shape, cache_bytes), next_free: end, grown: false };
        Self { file, shape, writing: Some((storage, footer)), state: Mutex::new(state), unset: RangeLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread cannot have left a table half changed: entries are single words.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> Result<(&dyn Storage, &Footer)> {
        let writing = self.writing.as_ref().map(|(storage, footer)| (&**storage, footer));
        writing.ok_or_else(|| Error::new(ErrorKind::ReadOnly, "VHD: opened for reading"))
    }

    fn run(&self, range: Range<u64>) -> Result<Run> {
        self.state().tables.run(&*self.file, range)
    }

    /// The part of `range` that lies in the block of its start.
    fn in_block(&self, range: &Range<u64>) -> Range<u64> {
        range.start..range.end.min((range.start / self.shape.block + 1).saturating_mul(self.shape.block))
    }

    /// Gives the block of `range`, which lies in one, a place where it has none, and says where the start stands then.
    fn ensure(&self, range: Range<u64>) -> Result<Run> {
        let (storage, footer) = self.writing()?;
        let mut state = self.state();
        if state.tables.is_over() {
            state.tables.write_back(storage)?;
            state.tables.trim();
        }
        let block = range.start / self.shape.block;
        if state.tables.place(storage, block)?.is_none() {
            let place = self.take(&mut state, storage, footer)?;
            let all_set = !self.shape.has_parent;
            let bits = vec![if all_set { 0xff } else { 0 }; usize::try_from(self.shape.bitmap()).expect("512 KiB")];
            storage.write_at(&bits, place)?;
            let sector = u32::try_from(place / SECTOR).expect("take() checked it");
            state.tables.set_place(storage, block, sector, all_set)?;
        }
        state.tables.run(storage, range)
    }

    /// Takes room for a block behind everything in use; but for its bitmap it reads as zeroes.
    fn take(&self, state: &mut State, storage: &dyn Storage, footer: &Footer) -> Result<u64> {
        let (place, stride) = (state.next_free, self.shape.stride());
        if place / SECTOR >= u64::from(UNUSED) {
            return Err(Error::new(ErrorKind::TooLarge, "VHD: no block can stand behind 2 TiB of the file"));
        }
        let needed = place + stride + FOOTER_BYTES;
        if storage.size() < needed {
            // The footer stands where a later block's bitmap will, and so never inside its data.
            let far = place + (GROWTH / stride).max(1) * stride + FOOTER_BYTES;
            // A generous step may exceed a limit that the image itself will not.
            storage.set_size(far).or_else(|_| storage.set_size(needed))?;
            state.grown = true;
            storage.write_at(footer.as_bytes(), storage.size() - FOOTER_BYTES)?;
        }
        state.next_free = place + stride;
        Ok(place)
    }

    /// Writes into sectors of which some may not be set: those are first made whole, then marked. `range` lies in one
    /// block, which has a place.
    fn write_unset(&self, range: Range<u64>, content: Content<'_>) -> Result<()> {
        static ZEROES: [u8; 512] = [0; 512];
        let (storage, _) = self.writing()?;
        let _guard = self.unset.lock(range.start / SECTOR * SECTOR..range.end.next_multiple_of(SECTOR));
        let mut at = range.start;
        while at < range.end {
            let run = self.run(at..range.end)?;
            let end = at + run.length;
            let part = content.part(at - range.start, run.length);
            match run.place {
                Place::File(place) => part.put(storage, place, run.length)?,
                Place::Unset(place) => {
                    let before = at % SECTOR;
                    let behind = end.next_multiple_of(SECTOR) - end;
                    let some = |length: u64| &ZEROES[..usize::try_from(length).expect("less than a sector")];
                    storage.write_at(some(before), place - before)?;
                    part.put(storage, place, run.length)?;
                    storage.write_at(some(behind), place + run.length)?;
                    self.state().tables.set_sectors(storage, at..end)?;
                }
                Place::Nowhere => return Err(Error::new(ErrorKind::Io, "VHD: a block has lost its place")),
            }
            at = end;
        }
        Ok(())
    }

    /// Puts tables behind durable data.
    fn write_back(&self, storage: &dyn Storage) -> Result<()> {
        self.state().tables.write_back(storage)
    }
}

impl<'a> Content<'a> {
    /// The `length` bytes from `start` on.
    fn part(self, start: u64, length: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                let index = |at: u64| usize::try_from(at).expect("inside the caller's buffer");
                Self::Bytes(&bytes[index(start)..index(start + length)])
            }
            zeroes => zeroes,
        }
    }

    fn put(self, storage: &dyn Storage, place: u64, length: u64) -> Result<()> {
        match self {
            Self::Bytes(bytes) => storage.write_at(bytes, place),
            Self::Zeroes(mode) => storage.write_zeroes_at(place..place + length, mode),
        }
    }
}

impl BlockRead for SparseDisk {
    fn size(&self) -> u64 {
        self.shape.size
    }

    fn limits(&self) -> BlockLimits {
        // Status changes from sector to sector, by the bitmaps.
        let sector = u32::try_from(SECTOR).expect("512");
        BlockLimits { alignment: sector, preferred: 1 << 20, granularity: sector }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.shape.size)?;
        let (mut rest, mut at) = (buf, offset);
        while at < end {
            let run = self.run(at..end)?;
            let (piece, behind) = rest.split_at_mut(usize::try_from(run.length).expect("inside the caller's buffer"));
            match run.place {
                Place::File(place) => self.file.read_at(piece, place)?,
                Place::Unset(_) | Place::Nowhere => piece.fill(0),
            }
            rest = behind;
            at += run.length;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.shape.size)?;
        let run = self.run(range.clone())?;
        Ok(Extent { offset: range.start, length: run.length, status: run.place.status(self.shape.has_parent) })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let capabilities = Capabilities::none().with_host_extents(self);
        if self.writing.is_some() { capabilities.with_reserve(self) } else { capabilities }
    }
}

impl HostExtents for SparseDisk {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        check_extent(&range, self.shape.size)?;
        let run = self.run(range)?;
        match (run.place, self.file.capabilities().host_extents) {
            (Place::File(place), Some(host)) => host.host_extent(place..place + run.length),
            _ => Ok(HostExtent { length: run.length, location: None }),
        }
    }
}

impl BlockWrite for SparseDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let (storage, _) = self.writing()?;
        let end = check_range(offset, buf.len() as u64, self.shape.size)?;
        let (mut rest, mut at) = (buf, offset);
        while at < end {
            let run = self.ensure(self.in_block(&(at..end)))?;
            let (piece, behind) = rest.split_at(usize::try_from(run.length).expect("inside the caller's buffer"));
            match run.place {
                Place::File(place) => storage.write_at(piece, place)?,
                Place::Unset(_) | Place::Nowhere => self.write_unset(at..at + run.length, Content::Bytes(piece))?,
            }
            rest = behind;
            at += run.length;
        }
        Ok(())
    }

    /// Bytes that have a place are zeroed there, by a hole in the file where that is allowed. A sector of a differencing
    /// disk that shows the parent needs a place to be zero in; the format has no mark for zeroes.
    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let (storage, _) = self.writing()?;
        check_span(&range, self.shape.size)?;
        let mut at = range.start;
        while at < range.end {
            let mut run = self.run(at..range.end)?;
            let covers = self.shape.has_parent && !matches!(run.place, Place::File(_));
            if covers {
                run = self.ensure(self.in_block(&(at..at + run.length)))?;
            }
            match run.place {
                Place::File(place) => storage.write_zeroes_at(place..place + run.length, mode)?,
                _ if covers => self.write_unset(at..at + run.length, Content::Zeroes(mode))?,
                Place::Unset(_) | Place::Nowhere => {}
            }
            at += run.length;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let Ok((storage, _)) = self.writing() else { return Ok(()) };
        self.write_back(storage)?;
        storage.flush()
    }
}

impl Reserve for SparseDisk {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.writing()?;
        check_span(&range, self.shape.size)?;
        let mut at = range.start;
        while at < range.end {
            let part = self.in_block(&(at..range.end));
            at = part.end;
            self.ensure(part)?;
        }
        Ok(())
    }
}

impl ImageWrite for SparseDisk {
    fn finish(&self) -> Result<()> {
        let (storage, footer) = self.writing()?;
        let mut state = self.state();
        state.tables.write_back(storage)?;
        storage.flush()?;
        if state.grown {
            storage.write_at(footer.as_bytes(), state.next_free)?;
            storage.flush()?;
            storage.set_size(state.next_free + FOOTER_BYTES)?;
            storage.flush()?;
            state.grown = false;
        }
        Ok(())
    }
}
