//! The bytes of a file: packed blocks one after another, and its end in a block that it shares with other files.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, BlockStatus, Capabilities, Extent, Result, check_extent, check_range,
};

use super::Disk;
use crate::fields::corrupt;

/// The bit that says a block is stored as it is.
const STORED: u32 = 1 << 24;

/// Where the end of a file is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) place: u64,
    pub(super) stored: u32,
    pub(super) offset: u32,
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct PackedFile {
    disk: Arc<Disk>,
    /// Place and stored length of every block; a length of 0 is a hole.
    blocks: Vec<(u64, u32)>,
    fragment: Option<Fragment>,
    size: u64,
    /// The block that was unpacked last.
    last: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

impl PackedFile {
    pub(super) fn new(
        disk: Arc<Disk>,
        start: u64,
        lengths: &[u32],
        fragment: Option<Fragment>,
        size: u64,
    ) -> Result<Self> {
        let (mut place, mut blocks) = (start, Vec::with_capacity(lengths.len()));
        for length in lengths {
            blocks.push((place, *length));
            let held = length & !STORED;
            if held > disk.block_size {
                return Err(corrupt(format!("squashfs: a block of {held} bytes")));
            }
            place = place.checked_add(held.into()).ok_or_else(|| corrupt("squashfs: a file's place overflows"))?;
        }
        Ok(Self { disk, blocks, fragment, size, last: Mutex::default() })
    }

    fn block_size(&self) -> u64 {
        self.disk.block_size.into()
    }

    /// The bytes of block `index`, which are fewer in the last one.
    fn block(&self, index: u64) -> Result<Arc<Vec<u8>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, bytes)) = &*last
            && *number == index
        {
            return Ok(Arc::clone(bytes));
        }
        let held = usize::try_from((self.size - index * self.block_size()).min(self.block_size())).unwrap_or(0);
        let entry = usize::try_from(index).ok().and_then(|index| self.blocks.get(index));
        let bytes = match (entry, self.fragment) {
            (Some((_, 0)), _) => vec![0; held],
            (Some((place, stored)), _) => {
                let bytes = self.unpack(*place, *stored)?;
                if bytes.len() < held {
                    return Err(corrupt(format!(
                        "squashfs: block {index} of a file has {} bytes of {held}",
                        bytes.len()
                    )));
                }
                bytes
            }
            (None, Some(fragment)) => {
                let bytes = self.unpack(fragment.place, fragment.stored)?;
                let at = fragment.offset as usize;
                let end = bytes.get(at..at + held);
                end.ok_or_else(|| corrupt(format!("squashfs: {held} bytes at {at} of a fragment")))?.to_vec()
            }
            (None, None) => return Err(corrupt(format!("squashfs: block {index} of a file is nowhere"))),
        };
        let bytes = Arc::new(bytes);
        *last = Some((index, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn unpack(&self, place: u64, stored: u32) -> Result<Vec<u8>> {
        let length = (stored & !STORED).min(self.disk.block_size);
        let device = self.disk.cache.device();
        let packed = device.read_vec(place, length.into()).map_err(|error| match error.kind() {
            transload_block::ErrorKind::OutOfRange => corrupt(format!("squashfs: a block at {place} of the device")),
            _ => error,
        })?;
        if stored & STORED != 0 { Ok(packed) } else { self.disk.codec.unpack(&packed, self.disk.block_size as usize) }
    }
}

impl BlockRead for PackedFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { granularity: 1, ..BlockLimits::NONE }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let index = at / self.block_size();
            let within = usize::try_from(at % self.block_size()).unwrap_or(0);
            let block = self.block(index)?;
            let available = block.get(within..).unwrap_or_default();
            let count = available.len().min(rest.len());
            if count == 0 {
                return Err(corrupt(format!("squashfs: byte {at} of a file is nowhere")));
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&available[..count]);
            rest = later;
            at += count as u64;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let is_hole = |index: u64| {
            let entry = usize::try_from(index).ok().and_then(|index| self.blocks.get(index));
            entry.is_some_and(|(_, stored)| *stored == 0)
        };
        let first = range.start / self.block_size();
        let hole = is_hole(first);
        let mut last = first + 1;
        while last * self.block_size() < range.end && is_hole(last) == hole {
            last += 1;
        }
        let end = (last * self.block_size()).min(range.end);
        let status = if hole { BlockStatus::Hole } else { BlockStatus::Data };
        Ok(Extent { offset: range.start, length: end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::default()
    }
}
