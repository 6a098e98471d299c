//! Reads all that is inside once, to learn what nothing says beforehand: how much it is, where it is zero, what it begins and
//! ends with.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Error, ErrorKind, Extent, Result, check_extent, check_range,
    is_all_zero,
};

/// In what steps zeroes are told from data.
pub(super) const STEP: u64 = 1 << 20;
/// What is remembered of the front: the headers and tables that formats describe themselves by.
const HEAD: usize = 4 << 20;
/// What is remembered of the end: footers, and a streamOptimized VMDK's directory.
const TAIL: usize = 64 << 10;

/// What was learned.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) size: u64,
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    /// A bit for each step that holds data.
    data: Vec<u64>,
}

impl Survey {
    pub(super) fn read(mut input: Box<dyn Read + Send>) -> Result<Self> {
        let mut survey = Self::default();
        let mut step = vec![0; usize::try_from(STEP).unwrap_or(1 << 20)];
        for index in 0.. {
            let count = read_full(&mut input, &mut step).map_err(|error| Error::io("unpacking", error))?;
            let bytes = &step[..count];
            if index % 64 == 0 {
                survey.data.push(0);
            }
            if let Some(word) = survey.data.last_mut().filter(|_| !is_all_zero(bytes)) {
                *word |= 1 << (index % 64);
            }
            survey.size += count as u64;
            let room = HEAD.saturating_sub(survey.head.len());
            survey.head.extend_from_slice(&bytes[..room.min(count)]);
            let kept = survey.tail.len().min(TAIL.saturating_sub(count));
            survey.tail.drain(..survey.tail.len() - kept);
            survey.tail.extend_from_slice(&bytes[count - count.min(TAIL)..]);
            if count < step.len() {
                break;
            }
        }
        Ok(survey)
    }

    /// Whether step `index` holds a byte that is not zero.
    pub(super) fn has_data(&self, index: u64) -> bool {
        let word = usize::try_from(index / 64).ok().and_then(|word| self.data.get(word));
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// The two ends, as a file with nothing known between them.
    pub(super) fn glance(&self) -> Glance {
        Glance { size: self.size, head: self.head.clone(), tail: self.tail.clone() }
    }
}

/// Reads until `buffer` is full or the input ends.
pub(super) fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The bytes of a device in order.
#[derive(Debug)]
pub(super) struct Bytes {
    device: Arc<dyn BlockRead>,
    at: u64,
}

impl Bytes {
    pub(super) fn new(device: Arc<dyn BlockRead>) -> Self {
        Self { device, at: 0 }
    }
}

impl Read for Bytes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.device.size() - self.at;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.device.read_at(&mut buf[..count], self.at).map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A file of which only the ends are known.
#[derive(Debug)]
pub(super) struct Glance {
    size: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl BlockRead for Glance {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    /// What lies in neither end is `OutOfRange` as well: for the one caller it means the same.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let tail_start = self.size - self.tail.len() as u64;
        let (bytes, start) = if end <= self.head.len() as u64 { (&self.head, 0) } else { (&self.tail, tail_start) };
        let from = offset.checked_sub(start).and_then(|from| usize::try_from(from).ok());
        let found = from.and_then(|from| bytes.get(from..)?.get(..buf.len())).ok_or_else(|| {
            Error::new(ErrorKind::OutOfRange, format!("bytes {offset} to {end} of what is inside are not at its ends"))
        })?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = check_extent(&range, self.size)?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
