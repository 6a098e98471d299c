//! What there is to do, cut into tasks: the one place where a source is walked from front to back.
//!
//! ```text
//! device: block_status ──► runs of data, gaps of zeroes ──┐
//!                                                         ├──► Task (ticket, gap, range) ──► fill ──► guest bytes
//! stream: next_unit ────► windows of consecutive units ───┘
//! ```
//!
//! Workers call [`Feed::next`] in turn and [`Feed::fill`] at once. The tasks of one source are the same whatever the
//! number of threads: tickets ascend with offsets, and ranges start and end at multiples of the target's unit.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use transload_block::{BlockRead, BlockStream, Codec, Error, ErrorKind, Extent, Payload, Result, StreamUnit};
use transload_image::codec;

use crate::job::{Job, lock};

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Task {
    /// The place in the order, without gaps.
    pub(crate) ticket: u64,
    /// Guest bytes in front of `range` that read as zeroes and belong to no other task.
    pub(crate) gap: Range<u64>,
    /// Guest bytes to move; empty in the last task.
    pub(crate) range: Range<u64>,
    /// The units they come from, for a stream.
    units: Vec<StreamUnit>,
}

impl Task {
    /// Guest bytes in the range.
    pub(crate) fn length(&self) -> usize {
        // A task is as long as a buffer at most.
        usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX)
    }
}

/// Which encoded units of a source are wanted as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Guest bytes of a unit.
    pub(crate) unit: u64,
    /// Whether they are decoded only when somebody asks for their bytes.
    pub(crate) trusted: bool,
}

/// A unit that came encoded.
#[derive(Debug)]
pub(crate) struct Given {
    /// Its first guest byte.
    pub(crate) offset: u64,
    /// Whether it was found sound, and its bytes are in `plain`; else there is no telling what is there.
    pub(crate) decoded: bool,
    /// How it is encoded.
    pub(crate) codec: Codec,
    /// The stored bytes.
    pub(crate) bytes: Vec<u8>,
}

/// The buffers of one task, used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// The guest bytes of the task's range, in front; what stands behind is of no meaning.
    pub(crate) plain: Vec<u8>,
    /// Units of the task that came encoded, ascending, if they were asked for.
    pub(crate) given: Vec<Given>,
    /// Buffers that are not in use.
    pub(crate) spare: Vec<Vec<u8>>,
    /// Room for the units of a stream, empty.
    units: Vec<StreamUnit>,
}

impl Buffers {
    /// A buffer whose contents are of no meaning.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn room(&mut self, length: usize) -> &mut [u8] {
        if self.plain.len() < length {
            self.plain.resize(length, 0);
        }
        &mut self.plain[..length]
    }

    fn recycle(&mut self) {
        /// Units wander from task to task with what was read ahead: without a bound, one task could gather them all.
        const MOST: usize = 64;
        self.spare.extend(self.given.drain(..).map(|given| given.bytes));
        self.spare.truncate(MOST);
    }
}

/// A source of tasks.
#[derive(Debug)]
pub(crate) struct Feed {
    source: FeedSource,
    /// Ranges start at multiples of this, a power of two.
    align: u64,
    /// The most that one task covers, a multiple of `align`.
    span: u64,
    walk: Mutex<Walk>,
}

#[derive(Debug)]
enum FeedSource {
    Device(Arc<dyn BlockRead>),
    Stream { size: Option<u64>, unit: u64 },
}

#[derive(Debug, Default)]
struct Walk {
    ticket: u64,
    /// Everything in front of it belongs to a task.
    cursor: u64,
    /// Device: data reaches at least to here.
    data_until: u64,
    /// Stream: the end of the last unit that came, zeroes included.
    reached: u64,
    stream: Option<StreamEnd>,
    done: bool,
}

/// The moving end of a stream.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    stream: Box<dyn BlockStream>,
    /// Units that were read ahead.
    ahead: VecDeque<StreamUnit>,
}

impl StreamEnd {
    pub(crate) fn new(stream: Box<dyn BlockStream>) -> Self {
        Self { stream, ahead: VecDeque::new() }
    }

    /// The stream itself, for its sizes.
    pub(crate) fn stream(&self) -> &dyn BlockStream {
        &*self.stream
    }

    /// Reads the first units, at least `bytes` of guest data or 64 units of them where there is that much, and keeps
    /// them for later.
    pub(crate) fn peek(&mut self, bytes: u64) -> Result<&VecDeque<StreamUnit>> {
        let mut seen = 0;
        while seen < bytes && self.ahead.len() < 64 {
            let Some(unit) = self.stream.next_unit(Vec::new())? else { break };
            seen += unit.length;
            self.ahead.push_back(unit);
        }
        Ok(&self.ahead)
    }

    fn next(&mut self, buffers: &mut Buffers) -> Result<Option<StreamUnit>> {
        match self.ahead.pop_front() {
            Some(unit) => Ok(Some(unit)),
            None => self.stream.next_unit(buffers.take()),
        }
    }
}

impl Feed {
    /// The tasks of a device.
    pub(crate) fn device(device: Arc<dyn BlockRead>, align: u64, span: u64) -> Self {
        Self { source: FeedSource::Device(device), align, span, walk: Mutex::default() }
    }

    /// The tasks of a stream.
    pub(crate) fn stream(stream: StreamEnd, align: u64, span: u64) -> Self {
        let (size, unit) = (stream.stream.size(), stream.stream.unit_size().max(1));
        let walk = Walk { stream: Some(stream), ..Walk::default() };
        let source = FeedSource::Stream { size, unit };
        Self { source, align, span: span.max(unit), walk: Mutex::new(walk) }
    }

    /// The next task, `None` when all were handed out. The last task has an empty range at the end of the disk.
    pub(crate) fn next(&self, job: &Job<'_>, buffers: &mut Buffers) -> Result<Option<Task>> {
        buffers.recycle();
        let mut walk = lock(&self.walk);
        job.check()?;
        if walk.done {
            return Ok(None);
        }
        let from = walk.cursor;
        let (range, units) = match &self.source {
            FeedSource::Device(device) => (self.next_run(device.as_ref(), &mut walk, job)?, Vec::new()),
            FeedSource::Stream { size, unit } => self.next_window(*size, *unit, &mut walk, job, buffers)?,
        };
        walk.done = range.is_empty();
        walk.cursor = range.end;
        let ticket = walk.ticket;
        walk.ticket += 1;
        Ok(Some(Task { ticket, gap: from..range.start, range, units }))
    }

    fn align_up(&self, place: u64, size: u64) -> u64 {
        place.checked_next_multiple_of(self.align).map_or(size, |place| place.min(size))
    }

    fn align_down(&self, place: u64) -> u64 {
        place - place % self.align
    }

    /// The next run of data at or behind the cursor, or the empty range at the end.
    fn next_run(&self, device: &dyn BlockRead, walk: &mut Walk, job: &Job<'_>) -> Result<Range<u64>> {
        /// Zeroes shorter than this are read rather than cut out: a task more costs more.
        const BRIDGE: u64 = 64 << 10;
        let size = device.size();
        let mut start = walk.cursor;
        while start >= walk.data_until {
            if start >= size {
                return Ok(size..size);
            }
            job.check()?;
            let extent = status(device, start..size)?;
            // Zeroes that end inside a unit leave that unit to the data behind them.
            let zeroes_end = if extent.end() == size { size } else { self.align_down(extent.end()) };
            if extent.status.reads_zero() && zeroes_end > start {
                start = zeroes_end;
            } else {
                walk.data_until = self.align_up(extent.end(), size);
            }
        }
        let limit = start.saturating_add(self.span).min(size);
        while walk.data_until < limit {
            job.check()?;
            let extent = status(device, walk.data_until..size)?;
            if extent.status.reads_zero() && extent.length >= BRIDGE.max(2 * self.align) || extent.end() == size {
                if !extent.status.reads_zero() {
                    walk.data_until = size;
                }
                break;
            }
            walk.data_until = self.align_up(extent.end(), size);
        }
        Ok(start..limit.min(walk.data_until))
    }

    /// The next units that lie in one window of the disk, and the range they make.
    fn next_window(
        &self,
        size: Option<u64>,
        unit_size: u64,
        walk: &mut Walk,
        job: &Job<'_>,
        buffers: &mut Buffers,
    ) -> Result<(Range<u64>, Vec<StreamUnit>)> {
        let Some(end) = walk.stream.as_mut() else {
            return Err(Error::new(ErrorKind::InvalidInput, "the stream was read already"));
        };
        let mut units = std::mem::take(&mut buffers.units);
        let mut window_end = u64::MAX;
        while let Some(unit) = end.next(buffers)? {
            job.check()?;
            if unit.offset >= window_end {
                end.ahead.push_front(unit);
                break;
            }
            walk.reached = checked_unit(&unit, walk.reached, unit_size, size)?;
            if matches!(unit.payload, Payload::Zero) {
                continue;
            }
            if units.is_empty() {
                // A window holds no more units than fit into its span: one step instead of many.
                units.reserve(usize::try_from(self.span / unit_size).unwrap_or(0).min(64));
                window_end = (unit.offset - unit.offset % self.span).saturating_add(self.span);
            }
            units.push(unit);
        }
        let range = match (units.first(), units.last()) {
            (Some(first), Some(last)) => {
                let stop = size.map_or(unit_end(last), |size| self.align_up(unit_end(last), size));
                self.align_down(first.offset)..stop
            }
            // A stream that does not know its size ends where its last unit does.
            _ => size.map_or(walk.reached..walk.reached, |size| size..size),
        };
        Ok((range, units))
    }

    /// Puts the guest bytes of `task` into `buffers.plain`. Units that are `wanted` as they are and that the source has
    /// encoded also go into `buffers.given`.
    pub(crate) fn fill(&self, task: &mut Task, wanted: Option<Wanted>, buffers: &mut Buffers) -> Result<()> {
        match &self.source {
            FeedSource::Device(device) => fill_from_device(device.as_ref(), &task.range, wanted, buffers),
            FeedSource::Stream { unit, .. } => {
                fill_from_units(task, *unit, wanted.filter(|wanted| wanted.unit == *unit), buffers)
            }
        }
    }
}

fn unit_end(unit: &StreamUnit) -> u64 {
    unit.offset.saturating_add(unit.length)
}

/// Holds a stream to its contract, so that a driver's mistake cannot place bytes wrongly.
fn checked_unit(unit: &StreamUnit, from: u64, unit_size: u64, size: Option<u64>) -> Result<u64> {
    let end = unit.offset.checked_add(unit.length).filter(|end| *end <= size.unwrap_or(u64::MAX));
    let plain_length_is_wrong = matches!(&unit.payload, Payload::Plain(bytes) if bytes.len() as u64 != unit.length);
    match end {
        Some(end)
            if unit.offset >= from
                && unit.offset.is_multiple_of(unit_size)
                && (1..=unit_size).contains(&unit.length)
                && !plain_length_is_wrong =>
        {
            Ok(end)
        }
        _ => Err(Error::new(
            ErrorKind::Corrupt,
            format!("stream: unit of {} bytes at offset {} behind offset {from}", unit.length, unit.offset),
        )),
    }
}

/// The extent at the start of `range`, held to its contract.
pub(crate) fn status(device: &dyn BlockRead, range: Range<u64>) -> Result<Extent> {
    let extent = device.block_status(range.clone())?;
    let sound = extent.offset == range.start
        && extent.length > 0
        && extent.offset.checked_add(extent.length).is_some_and(|end| end <= range.end);
    if sound {
        return Ok(extent);
    }
    let text = format!("block status of {range:?} answered {} bytes at {}", extent.length, extent.offset);
    Err(Error::new(ErrorKind::Io, text))
}

fn fill_from_device(
    device: &dyn BlockRead,
    range: &Range<u64>,
    wanted: Option<Wanted>,
    buffers: &mut Buffers,
) -> Result<()> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let encoded = device.capabilities().encoded;
    let agreed = encoded.zip(wanted).filter(|(encoded, wanted)| encoded.encoded_unit_size() == wanted.unit);
    let Some((encoded, wanted)) = agreed else {
        return device.read_at(buffers.room(length), range.start);
    };
    let unit = usize::try_from(encoded.encoded_unit_size()).unwrap_or(usize::MAX);
    // A unit at the end of the disk decodes to a whole one.
    buffers.room(length.next_multiple_of(unit));
    let mut offset = range.start;
    while offset < range.end {
        let at = usize::try_from(offset - range.start).unwrap_or(usize::MAX);
        let mut stored = buffers.take();
        let found = encoded.read_encoded(offset, &mut stored)?.filter(|found| found.range.start == offset);
        // What the disk's end cuts off may hold less than a unit, and has to be looked at.
        let trusted = wanted.trusted && found.as_ref().is_some_and(|found| found.range.end - offset == wanted.unit);
        let place = &mut buffers.plain[at..at + unit];
        match found {
            Some(found) if trusted || codec::decode_and_trim(found.codec, &mut stored, place)? == unit => {
                buffers.given.push(Given { offset, decoded: !trusted, codec: found.codec, bytes: stored });
            }
            // Not encoded, or shorter than its unit: then the driver knows what that means.
            _ => {
                device.read_at(&mut buffers.plain[at..length.min(at + unit)], offset)?;
                buffers.spare.push(stored);
            }
        }
        offset += unit as u64;
    }
    Ok(())
}

fn fill_from_units(task: &mut Task, unit_size: u64, wanted: Option<Wanted>, buffers: &mut Buffers) -> Result<()> {
    let length = task.length();
    let whole =
        task.units.len() == 1 && task.units[0].offset == task.range.start && unit_end(&task.units[0]) == task.range.end;
    if whole && let Payload::Plain(bytes) = &mut task.units[0].payload {
        std::mem::swap(bytes, &mut buffers.plain);
        let old = std::mem::take(bytes);
        buffers.spare.push(old);
        task.units.clear();
        buffers.units = std::mem::take(&mut task.units);
        return Ok(());
    }
    buffers.room(length);
    let mut filled = 0;
    for unit in task.units.drain(..) {
        let start = usize::try_from(unit.offset - task.range.start).unwrap_or(usize::MAX);
        let end = start + usize::try_from(unit.length).unwrap_or(usize::MAX);
        buffers.plain[filled..start].fill(0);
        filled = end;
        match unit.payload {
            Payload::Zero => buffers.plain[start..end].fill(0),
            Payload::Plain(bytes) => {
                buffers.plain[start..end].copy_from_slice(&bytes);
                buffers.spare.push(bytes);
            }
            Payload::Encoded { codec, bytes } => {
                let trusted = wanted.is_some_and(|wanted| wanted.trusted) && unit.length == unit_size;
                if !trusted {
                    decode_unit(codec, &bytes, unit_size, &mut buffers.plain[start..end], &mut buffers.spare)
                        .map_err(|error| error.context(format!("unit at offset {}", unit.offset)))?;
                }
                if wanted.is_some() {
                    buffers.given.push(Given { offset: unit.offset, decoded: !trusted, codec, bytes });
                } else {
                    buffers.spare.push(bytes);
                }
            }
        }
    }
    buffers.plain[filled..length].fill(0);
    buffers.units = std::mem::take(&mut task.units);
    Ok(())
}

/// Decodes a unit of `unit_size` bytes of which only the front goes into `place`.
fn decode_unit(codec: Codec, bytes: &[u8], unit_size: u64, place: &mut [u8], spare: &mut Vec<Vec<u8>>) -> Result<()> {
    let whole = usize::try_from(unit_size).unwrap_or(usize::MAX);
    let held = if place.len() == whole {
        codec::decode(codec, bytes, place)?
    } else {
        let mut unit = spare.pop().unwrap_or_default();
        unit.resize(whole, 0);
        let held = codec::decode(codec, bytes, &mut unit)?;
        place.copy_from_slice(&unit[..place.len()]);
        spare.push(unit);
        held
    };
    if held < place.len() {
        let text = format!("{codec:?} unit holds {held} bytes, must be {}", place.len());
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    Ok(())
}
