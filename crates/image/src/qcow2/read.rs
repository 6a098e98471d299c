//! Reading: moves the bytes that [`Qcow2::resolve`] has placed.
//!
//! Any number of threads read at once. Each keeps the last compressed cluster it decoded, so that small requests in a
//! row decode it once; a whole cluster is decoded straight into the caller's buffer.

use std::cell::RefCell;
use std::ops::Range;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, EncodedRead, EncodedUnit, Error, ErrorKind, Extent, HostExtent,
    HostExtents, Result, check_range,
};

use super::device::{Place, Qcow2};
use super::error::Qcow2Error;
use super::map::CompressedRange;
use super::tables::{index, read_padded};
use crate::codec;

/// The request size that is read with the least cost per byte.
const PREFERRED: u32 = 2 << 20;
/// How many runs of the same status are joined in one answer: bounds the tables that one question reads.
const STATUS_RUNS: u32 = 256;

/// The compressed cluster that a thread decoded last.
struct Decoded {
    device: u64,
    range: CompressedRange,
    bytes: Vec<u8>,
}

thread_local! {
    static DECODED: RefCell<Option<Decoded>> = const { RefCell::new(None) };
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Checks that `range` is not empty, not reversed and inside a device of `size` bytes, and returns its length.
fn check_query(range: &Range<u64>, size: u64) -> Result<u64> {
    let length = range.end.checked_sub(range.start).filter(|length| *length > 0);
    let length = length
        .ok_or_else(|| Error::new(ErrorKind::OutOfRange, format!("empty range {}..{}", range.start, range.end)))?;
    check_range(range.start, length, size)?;
    Ok(length)
}

impl BlockRead for Qcow2 {
    fn size(&self) -> u64 {
        self.disk_size()
    }

    fn limits(&self) -> BlockLimits {
        let unit = u32::try_from(self.rules.geometry.subcluster_size()).expect("at most 2 MiB");
        BlockLimits { alignment: unit, preferred: PREFERRED, granularity: unit }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.disk_size())?;
        let _using = self.using_places();
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let run = self.resolve(at, rest.len() as u64)?;
            let (part, behind) = rest.split_at_mut(index(run.length));
            match run.place {
                Place::Hole | Place::Zero => part.fill(0),
                Place::Data { host, .. } => self.read_data(part, host, at)?,
                Place::Compressed(range) => self.read_compressed(part, range, at)?,
            }
            at += run.length;
            rest = behind;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_query(&range, self.disk_size())?;
        let _using = self.using_places();
        let mut found: Option<BlockStatus> = None;
        let mut at = range.start;
        for _ in 0..STATUS_RUNS {
            if at == range.end {
                break;
            }
            let run = self.resolve(at, range.end - at)?;
            let status = match run.place {
                Place::Hole => BlockStatus::Hole,
                Place::Zero => BlockStatus::Zero,
                Place::Data { .. } | Place::Compressed(_) => BlockStatus::Data,
            };
            if *found.get_or_insert(status) != status {
                break;
            }
            at += run.length;
        }
        let status = found.expect("the range is not empty");
        Ok(Extent { offset: range.start, length: at - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let all = Capabilities::none().with_encoded(self).with_host_extents(self);
        if self.writing.is_some() { all.with_reserve(self) } else { all }
    }
}

impl Qcow2 {
    /// Reads plain guest bytes at `host`. A file may end inside its last cluster; the rest of that reads as zeroes.
    pub(super) fn read_data(&self, buf: &mut [u8], host: u64, guest: u64) -> Result<()> {
        let file_size = self.data.size();
        let end = host.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.rules.geometry.round_up(file_size)) {
            return Err(Qcow2Error::DataOutside { guest, host, file_size }.into());
        }
        read_padded(&*self.data, buf, host)
    }

    /// Reads guest bytes at `guest` out of the compressed cluster that stands in `range`.
    fn read_compressed(&self, buf: &mut [u8], range: CompressedRange, guest: u64) -> Result<()> {
        let cluster_size = self.rules.geometry.cluster_size();
        if buf.len() as u64 == cluster_size {
            return self.decode(buf, range, guest);
        }
        let inside = index(guest % cluster_size);
        DECODED.with_borrow_mut(|slot| {
            let known = slot.as_ref().is_some_and(|known| known.device == self.id && known.range == range);
            if !known {
                // Taken out, so that a failure does not leave half a cluster under the old name.
                let mut bytes = slot.take().map(|old| old.bytes).unwrap_or_default();
                bytes.resize(index(cluster_size), 0);
                self.decode(&mut bytes, range, guest)?;
                *slot = Some(Decoded { device: self.id, range, bytes });
            }
            let decoded = slot.as_ref().expect("decoded above");
            buf.copy_from_slice(&decoded.bytes[inside..inside + buf.len()]);
            Ok(())
        })
    }

    /// Decodes a whole cluster into `cluster`.
    pub(super) fn decode(&self, cluster: &mut [u8], range: CompressedRange, guest: u64) -> Result<()> {
        STORED.with_borrow_mut(|stored| {
            self.read_stored(stored, range, guest)?;
            let found = codec::decode(self.header.compression, stored, cluster)
                .map_err(|error| error.context(format!("compressed cluster of guest offset {guest:#x}")))?;
            // The last cluster of a disk need not hold more than the disk does.
            let start = guest - guest % cluster.len() as u64;
            let wanted = index((self.disk_size() - start).min(cluster.len() as u64));
            if found < wanted {
                return Err(Qcow2Error::CompressedLength { guest, found, wanted }.into());
            }
            cluster[found..].fill(0);
            Ok(())
        })
    }

    /// Reads a compressed cluster as stored: the sectors of its range, as far as the file goes.
    fn read_stored(&self, stored: &mut Vec<u8>, range: CompressedRange, guest: u64) -> Result<()> {
        let file_size = self.file.size();
        let there = file_size.saturating_sub(range.offset).min(range.length);
        if there == 0 {
            return Err(Qcow2Error::DataOutside { guest, host: range.offset, file_size }.into());
        }
        stored.resize(index(there), 0);
        self.file.read_at(stored, range.offset)
    }
}

impl EncodedRead for Qcow2 {
    fn encoded_unit_size(&self) -> u64 {
        self.rules.geometry.cluster_size()
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        check_query(&(offset..offset.saturating_add(1)), self.disk_size())?;
        let _using = self.using_places();
        let Place::Compressed(range) = self.resolve(offset, 1)?.place else { return Ok(None) };
        self.read_stored(stored, range, offset)?;
        let cluster_size = self.rules.geometry.cluster_size();
        let start = offset - offset % cluster_size;
        let end = start.saturating_add(cluster_size).min(self.disk_size());
        Ok(Some(EncodedUnit { codec: self.header.compression, range: start..end }))
    }
}

impl HostExtents for Qcow2 {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let length = check_query(&range, self.disk_size())?;
        let run = self.resolve(range.start, length)?;
        let Place::Data { host, .. } = run.place else {
            return Ok(HostExtent { length: run.length, location: None });
        };
        // What lies behind the end of the file is nowhere; the reader knows what to make of it.
        let there = self.data.size().saturating_sub(host).min(run.length);
        match self.data.capabilities().host_extents {
            Some(below) if there > 0 => below.host_extent(host..host + there),
            _ => Ok(HostExtent { length: run.length, location: None }),
        }
    }
}
