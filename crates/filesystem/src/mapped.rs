//! A file as a list of runs on the device: the one place where the bytes of files are moved.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Error, ErrorKind, Extent, Result, check_extent, check_range,
};

use crate::fields::corrupt;

/// The most runs that one file may have: 48 MiB of them. A file that is in more pieces than that is not in use anywhere.
const MOST_RUNS: usize = 2 << 20;

/// Bytes of a file that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// From the start of the file.
    start: u64,
    length: u64,
    /// From the start of the device, or [`ZEROES`].
    place: u64,
}

/// The place of a run that is allocated and reads as zeroes.
const ZEROES: u64 = u64::MAX;

/// Runs in the making, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
}

impl Runs {
    /// Adds bytes that stand on the device at `place`.
    pub(crate) fn push(&mut self, start: u64, length: u64, place: u64) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let end = start.checked_add(length);
        if end.is_none() || (place != ZEROES && place.checked_add(length).is_none()) {
            return Err(corrupt(format!(
                "a run of {length} bytes at {start} of a file, {place} of the device, overflows"
            )));
        }
        if let Some(last) = self.runs.last_mut() {
            let last_end = last.start + last.length;
            if start < last_end {
                return Err(corrupt(format!(
                    "runs of a file overlap: one ends at {last_end}, the next starts at {start}"
                )));
            }
            let adjoins = match place {
                ZEROES => last.place == ZEROES,
                _ => last.place != ZEROES && last.place + last.length == place,
            };
            if start == last_end && adjoins {
                last.length += length;
                return Ok(());
            }
        }
        if self.runs.len() >= MOST_RUNS {
            return Err(Error::new(ErrorKind::TooLarge, format!("a file is in more than {MOST_RUNS} pieces")));
        }
        self.runs.push(Run { start, length, place });
        Ok(())
    }

    /// Adds bytes that are allocated and read as zeroes.
    pub(crate) fn push_zeroes(&mut self, start: u64, length: u64) -> Result<()> {
        self.push(start, length, ZEROES)
    }

    /// Where the runs stand on the device, and how long they are, in the order of the file. For files without zeroes.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|run| (run.place, run.length))
    }

    /// All runs in the order of the file: start, length, and place on the device, which those of zeroes have not.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u64, Option<u64>)> + '_ {
        self.runs.iter().map(|run| (run.start, run.length, Some(run.place).filter(|place| *place != ZEROES)))
    }

    /// The byte behind the last run.
    pub(crate) fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.start + run.length)
    }
}

/// The bytes of a file that stand in runs on a device. What lies between the runs are holes.
#[derive(Debug)]
pub(crate) struct MappedFile {
    device: Arc<dyn BlockRead>,
    runs: Vec<Run>,
    size: u64,
    /// What is behind it reads as zeroes: NTFS and exFAT know how much of a file was ever written.
    valid: u64,
}

impl MappedFile {
    /// A file of `size` bytes. Runs that reach behind the device are the filesystem's fault.
    pub(crate) fn new(device: Arc<dyn BlockRead>, runs: Runs, size: u64, valid: u64) -> Result<Self> {
        let mut runs = runs.runs;
        runs.retain(|run| run.start < size);
        let end = device.size();
        for run in &mut runs {
            run.length = run.length.min(size - run.start);
            if run.place != ZEROES && run.place + run.length > end {
                let Run { length, place, .. } = run;
                return Err(corrupt(format!(
                    "a file has {length} bytes at offset {place} of the device, which ends at {end}"
                )));
            }
        }
        Ok(Self { device, runs, size, valid })
    }

    /// Where `length` bytes at `offset` stand together on the device; `None` where they do not.
    pub(crate) fn place(&self, offset: u64, length: u64) -> Option<u64> {
        let (place, held) = self.at(offset);
        place.filter(|place| *place != ZEROES && held >= length)
    }

    /// What stands at `offset`: a place and how many bytes of it, or a hole and how far it reaches.
    fn at(&self, offset: u64) -> (Option<u64>, u64) {
        let next = self.runs.partition_point(|run| run.start <= offset);
        if let Some(run) = next.checked_sub(1).and_then(|index| self.runs.get(index)) {
            let within = offset - run.start;
            if within < run.length {
                let place = if run.place == ZEROES { ZEROES } else { run.place + within };
                let mut length = run.length - within;
                if place != ZEROES && offset < self.valid {
                    length = length.min(self.valid - offset);
                } else {
                    return (Some(ZEROES), length);
                }
                return (Some(place), length);
            }
        }
        (None, self.runs.get(next).map_or(self.size, |run| run.start) - offset)
    }
}

impl BlockRead for MappedFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { granularity: 1, ..self.device.limits() }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let mut rest = buf;
        let mut offset = offset;
        while !rest.is_empty() {
            let (place, length) = self.at(offset);
            let count = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            match place {
                Some(ZEROES) | None => now.fill(0),
                Some(place) => self.device.read_at(now, place)?,
            }
            rest = later;
            offset += count as u64;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let asked = check_extent(&range, self.size)?;
        let (place, length) = self.at(range.start);
        let status = match place {
            None => BlockStatus::Hole,
            Some(ZEROES) => BlockStatus::Zero,
            Some(_) => BlockStatus::Data,
        };
        Ok(Extent { offset: range.start, length: length.min(asked), status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::default()
    }
}
