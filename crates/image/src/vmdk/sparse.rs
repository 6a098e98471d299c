//! The bytes of one sparse extent, of whatever dialect: maps by [`Tables`], reads and inflates.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockStatus, Codec, HostExtent, Result};
use zerocopy::FromBytes;

use super::cache::{BlockKey, BlockKind};
use super::error::Fault;
use super::layout::{GrainMarker, SECTOR};
use super::map::{Alike, Dialect, Place, Tables};
use crate::codec;

/// How many runs one answer about status is put together from at most.
const RUNS_PER_STATUS: usize = 1024;

/// Bytes of a grain marker.
const MARKER: usize = size_of::<GrainMarker>();

/// A sparse extent.
#[derive(Debug)]
pub(crate) struct Sparse {
    pub tables: Tables,
    /// Bytes of the disk.
    pub size: u64,
    /// Markers stand in front of compressed grains.
    pub markers: bool,
}

/// A run of bytes inside one kind of place.
struct Piece {
    grain: u64,
    /// Of the first byte in the grain.
    within: u64,
    /// Bytes, at least one.
    length: u64,
    place: Place,
}

impl Sparse {
    /// Whether its grains are compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self.tables.dialect, Dialect::Hosted { compressed: true, .. })
    }

    /// Fills `buf` from byte `at`; both are inside the extent.
    pub(crate) fn read(&self, mut buf: &mut [u8], mut at: u64) -> Result<()> {
        while !buf.is_empty() {
            let piece = self.piece(at..at + buf.len() as u64, Alike::InFile)?;
            let length = usize::try_from(piece.length).expect("not longer than the buffer");
            let (front, rest) = buf.split_at_mut(length);
            match piece.place {
                Place::Hole | Place::Zero => front.fill(0),
                Place::Stored(offset) => self.read_stored(&piece, offset, front)?,
                Place::Compressed(offset, next) => self.read_compressed(&piece, offset, next, front)?,
            }
            buf = rest;
            at += piece.length;
        }
        Ok(())
    }

    /// The status at the start of `range`, and of how many bytes it is true.
    pub(crate) fn status(&self, range: Range<u64>) -> Result<(BlockStatus, u64)> {
        let first = self.piece(range.clone(), Alike::InKind)?;
        let status = status_of(first.place);
        let mut end = range.start + first.length;
        for _ in 0..RUNS_PER_STATUS {
            if end == range.end {
                break;
            }
            let Ok(next) = self.piece(end..range.end, Alike::InKind) else { break };
            if status_of(next.place) != status {
                break;
            }
            end += next.length;
        }
        Ok((status, end - range.start))
    }

    /// Where in the file the bytes at the start of `range` stand.
    pub(crate) fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let piece = self.piece(range, Alike::InFile)?;
        let nowhere = HostExtent { length: piece.length, location: None };
        let Place::Stored(offset) = piece.place else { return Ok(nowhere) };
        let start = offset + piece.within;
        let end = start.checked_add(piece.length).filter(|end| *end <= self.tables.file.size());
        match (end, self.tables.file.capabilities().host_extents) {
            (Some(end), Some(file)) => file.host_extent(start..end),
            _ => Ok(nowhere),
        }
    }

    /// Puts the zlib stream of the grain that holds byte `at` into `stored`, and answers the grain's first byte. `None`
    /// when it is not compressed, when its length is not on record, or when it is the extent's last and not whole: that
    /// one may be stored short.
    pub(crate) fn read_encoded(&self, at: u64, stored: &mut Vec<u8>) -> Result<Option<u64>> {
        let grain = at / self.tables.grain_bytes;
        let start = grain * self.tables.grain_bytes;
        if !self.markers || self.size - start < self.tables.grain_bytes {
            return Ok(None);
        }
        let Place::Compressed(offset, next) = self.tables.run(grain, 1, Alike::InFile)?.place else { return Ok(None) };
        self.load_compressed(grain, offset, next, stored)?;
        stored.drain(..MARKER);
        Ok(Some(start))
    }

    /// Maps the start of `range`.
    fn piece(&self, range: Range<u64>, alike: Alike) -> Result<Piece> {
        let grain_bytes = self.tables.grain_bytes;
        let (grain, within) = (range.start / grain_bytes, range.start % grain_bytes);
        let most = range.end.div_ceil(grain_bytes) - grain;
        let run = self.tables.run(grain, most, alike)?;
        let end = ((grain + run.grains) * grain_bytes).min(range.end);
        Ok(Piece { grain, within, length: end - range.start, place: run.place })
    }

    fn read_stored(&self, piece: &Piece, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (start, file) = (offset + piece.within, self.tables.file.size());
        if start.checked_add(piece.length).is_none_or(|end| end > file) {
            let fault = Fault::GrainOutside { grain: piece.grain, offset: start, bytes: piece.length, file };
            return Err(fault.into());
        }
        self.tables.file.read_at(buf, start)
    }

    /// Bytes of `grain` that are inside the extent: all but for the last one.
    fn valid(&self, grain: u64) -> u64 {
        (self.size - grain * self.tables.grain_bytes).min(self.tables.grain_bytes)
    }

    fn read_compressed(&self, piece: &Piece, offset: u64, next: Option<u64>, buf: &mut [u8]) -> Result<()> {
        let whole = self.tables.grain_bytes;
        if piece.within == 0 && piece.length == whole {
            return self.inflate(piece.grain, offset, next, buf);
        }
        let key = BlockKey { extent: self.tables.extent, kind: BlockKind::Grain, place: piece.grain };
        let grain = match self.tables.cache.find(key) {
            Some(grain) => grain,
            None => {
                let mut grain = vec![0; usize::try_from(whole).expect("a compressed grain fits memory")];
                self.inflate(piece.grain, offset, next, &mut grain)?;
                let grain: Arc<[u8]> = grain.into();
                // Who asks for a part will ask for the next; who asks for the end will not.
                if piece.within + piece.length < self.valid(piece.grain) {
                    self.tables.cache.put(key, Arc::clone(&grain));
                }
                grain
            }
        };
        let within = usize::try_from(piece.within).expect("inside a grain");
        buf.copy_from_slice(&grain[within..within + buf.len()]);
        Ok(())
    }

    /// Inflates a grain into `buf`, which has the length of one.
    ///
    /// A grain must inflate to a whole one. The extent's last may hold just the bytes that are inside, as VMware's
    /// open-vmdk writes it.
    fn inflate(&self, grain: u64, offset: u64, next: Option<u64>, buf: &mut [u8]) -> Result<()> {
        thread_local! {
            static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let length = STORED.with_borrow_mut(|stored| {
            let front = self.load_compressed(grain, offset, next, stored)?;
            codec::decode(Codec::Zlib, &stored[front..], buf).map_err(|error| error.context(format!("grain {grain}")))
        })?;
        let (length, whole, valid) = (length as u64, self.tables.grain_bytes, self.valid(grain));
        if length != whole && (valid == whole || length < valid) {
            return Err(Fault::GrainLength { grain, length, expected: valid }.into());
        }
        Ok(())
    }

    /// Reads the stored bytes of a compressed grain, the marker included if there is one, and answers where the zlib
    /// stream begins in them.
    fn load_compressed(&self, grain: u64, offset: u64, next: Option<u64>, stored: &mut Vec<u8>) -> Result<usize> {
        let (file, size) = (&self.tables.file, self.tables.file.size());
        let most = self.tables.grain_bytes * 2;
        let outside = |bytes| Fault::GrainOutside { grain, offset, bytes, file: size };
        let left = size.checked_sub(offset).filter(|left| *left > MARKER as u64).ok_or_else(|| outside(SECTOR))?;
        let guess = next.map_or(self.tables.grain_bytes / 2, |next| next - offset).min(most).min(left);
        read_into(&**file, stored, 0, guess, offset)?;
        if !self.markers {
            // The length is on record nowhere: the stream itself knows its end.
            read_into(&**file, stored, guess, most.min(left), offset)?;
            return Ok(0);
        }
        let (marker, _) = GrainMarker::read_from_prefix(stored).expect("longer than a marker");
        let (found, expected) = (marker.lba.get(), grain * (self.tables.grain_bytes / SECTOR));
        if found != expected {
            return Err(Fault::GrainMarkerPlace { grain, found, expected }.into());
        }
        let length = u64::from(marker.size.get());
        if length == 0 || length > most {
            return Err(Fault::GrainMarkerSize { grain, size: length, most }.into());
        }
        let bytes = length + MARKER as u64;
        if bytes > left {
            return Err(outside(bytes).into());
        }
        read_into(&**file, stored, guess, bytes, offset)?;
        stored.truncate(usize::try_from(bytes).expect("two grains fit memory"));
        Ok(MARKER)
    }
}

/// Extends `stored`, which holds the first `have` bytes from `offset`, to `want` of them; does nothing if it has more.
fn read_into(
    file: &dyn transload_block::BlockRead,
    stored: &mut Vec<u8>,
    have: u64,
    want: u64,
    offset: u64,
) -> Result<()> {
    let index = |bytes| usize::try_from(bytes).expect("two grains fit memory");
    stored.resize(index(have.max(want)), 0);
    if want > have { file.read_at(&mut stored[index(have)..], offset + have) } else { Ok(()) }
}

fn status_of(place: Place) -> BlockStatus {
    match place {
        Place::Hole => BlockStatus::Hole,
        Place::Zero => BlockStatus::Zero,
        Place::Stored(_) | Place::Compressed(..) => BlockStatus::Data,
    }
}
