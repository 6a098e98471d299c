//! The disk in an archive: at any place, where the archive can be read so, and once.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, BlockStream, Capabilities, Error, ErrorKind, Extent, Payload, Result,
    StreamUnit, check_extent, check_range, is_all_zero,
};

use super::tar::{BLOCK, Header, Map};

/// What a stream hands on at once.
const UNIT: u64 = 1 << 20;

fn not_this() -> Error {
    Error::new(ErrorKind::NotThisFormat, "tar: the first header is missing or has a wrong checksum")
}

/// The disk as a device over the archive.
#[derive(Debug)]
pub(super) struct Member {
    archive: Arc<dyn BlockRead>,
    size: u64,
    /// Runs of the disk, ascending, and where each stands in the archive.
    runs: Vec<(Range<u64>, u64)>,
}

impl Member {
    pub(super) fn open(archive: Arc<dyn BlockRead>) -> Result<Self> {
        let mut at = 0;
        let mut next = || -> Result<[u8; BLOCK]> {
            let mut block = [0; BLOCK];
            if check_range(at, BLOCK as u64, archive.size()).is_err() {
                return Err(if at == 0 { not_this() } else { cut() });
            }
            archive.read_at(&mut block, at)?;
            at += BLOCK as u64;
            Ok(block)
        };
        let header = Header::parse(&next()?).ok_or_else(not_this)?;
        let map = Map::read(header, next)?;
        let size = map.size;
        if check_range(at, map.stored(), archive.size()).is_err() {
            return Err(cut());
        }
        let mut runs = Vec::with_capacity(map.runs.len());
        for run in map.runs {
            let length = run.end - run.start;
            runs.push((run, at));
            at += length;
        }
        Ok(Self { archive, size, runs })
    }

    /// The first run that ends behind `at`.
    fn run(&self, at: u64) -> Option<&(Range<u64>, u64)> {
        self.runs.get(self.runs.partition_point(|(run, _)| run.end <= at))
    }
}

fn cut() -> Error {
    Error::new(ErrorKind::Corrupt, "tar: the archive breaks off in disk.raw")
}

impl BlockRead for Member {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { granularity: 512, ..self.archive.limits() }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let (mut at, mut buf) = (offset, buf);
        while at < end {
            let (until, place) = match self.run(at) {
                Some((run, place)) if run.start <= at => (run.end, Some(place + (at - run.start))),
                Some((run, _)) => (run.start, None),
                None => (end, None),
            };
            let length = usize::try_from(until.min(end) - at).unwrap_or(buf.len());
            let (piece, rest) = buf.split_at_mut(length);
            match place {
                Some(place) => self.archive.read_at(piece, place)?,
                None => piece.fill(0),
            }
            at += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let (end, status) = match self.run(range.start) {
            Some((run, place)) if run.start <= range.start => {
                let inside = range.start - run.start..run.end.min(range.end) - run.start;
                let below = self.archive.block_status(place + inside.start..place + inside.end)?;
                let status = if below.status == BlockStatus::Hole { BlockStatus::Zero } else { below.status };
                (range.start + below.length, status)
            }
            Some((run, _)) => (run.start, BlockStatus::Zero),
            None => (range.end, BlockStatus::Zero),
        };
        Ok(Extent { offset: range.start, length: end.min(range.end) - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

/// The disk, read once.
pub(super) struct MemberStream {
    /// Gone once it has ended or failed.
    input: Option<Box<dyn Read + Send>>,
    size: u64,
    /// What is left of the map, the first run at the back.
    runs: Vec<Range<u64>>,
    /// Where the next unit begins at the earliest.
    at: u64,
    /// What pads the member to whole blocks.
    padding: u64,
}

impl std::fmt::Debug for MemberStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberStream").field("size", &self.size).field("at", &self.at).finish_non_exhaustive()
    }
}

fn exact(input: &mut dyn Read, buf: &mut [u8]) -> Result<()> {
    input.read_exact(buf).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => cut(),
        _ => Error::io("reading the archive", error),
    })
}

impl MemberStream {
    pub(super) fn begin(mut input: Box<dyn Read + Send>) -> Result<Self> {
        let mut next = || -> Result<[u8; BLOCK]> {
            let mut block = [0; BLOCK];
            exact(&mut *input, &mut block)?;
            Ok(block)
        };
        let header = Header::parse(&next()?).ok_or_else(not_this)?;
        let mut map = Map::read(header, next)?;
        map.runs.reverse();
        let block = BLOCK as u64;
        let stored: u64 = map.runs.iter().map(|run| run.end - run.start).sum();
        let padding = stored.next_multiple_of(block) - stored;
        Ok(Self { input: Some(input), size: map.size, runs: map.runs, at: 0, padding })
    }

    /// Reads what stands behind the disk to its end: nothing but zeroes, and the checksums of whatever is around.
    fn drain(&self, mut input: Box<dyn Read + Send>) -> Result<()> {
        let padding = std::io::copy(&mut input.by_ref().take(self.padding), &mut std::io::sink());
        if padding.map_err(|error| Error::io("reading the archive", error))? < self.padding {
            return Err(cut());
        }
        let mut rest = vec![0; 64 << 10];
        loop {
            match input.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(count) if is_all_zero(&rest[..count]) => {}
                Ok(_) => {
                    let what = "tar: something else follows disk.raw in the archive";
                    return Err(
                        Error::new(ErrorKind::Unsupported, what).with_remedy("unpack the archive with tar first")
                    );
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("reading the archive", error)),
            }
        }
    }
}

impl BlockStream for MemberStream {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn unit_size(&self) -> u64 {
        UNIT
    }

    fn next_unit(&mut self, mut buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let Some(first) = self.runs.last() else { return self.drain(input).map(|()| None) };
        let offset = first.start - first.start % UNIT;
        let end = (offset + UNIT).min(self.size);
        buffer.clear();
        buffer.resize(usize::try_from(end - offset).unwrap_or(0), 0);
        while let Some(run) = self.runs.pop() {
            let part = run.start..run.end.min(end);
            if part.is_empty() {
                self.runs.push(run);
                break;
            }
            let place = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            exact(&mut *input, buffer.get_mut(place(part.start)..place(part.end)).unwrap_or_default())?;
            if part.end < run.end {
                self.runs.push(part.end..run.end);
                break;
            }
        }
        self.at = end;
        self.input = Some(input);
        let payload = if is_all_zero(&buffer) { Payload::Zero } else { Payload::Plain(buffer) };
        Ok(Some(StreamUnit { offset, length: end - offset, payload }))
    }
}
