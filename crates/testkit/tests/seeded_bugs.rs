//! The proof of the conformance suite: drivers with one mistake each. The suite has to catch every one of them, and has
//! to name the sentence that it breaks.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, BlockStatus, BlockWrite, Capabilities, Codec, EncodedRead, EncodedUnit,
    Error, ErrorKind, Extent, FileBlock, HostExtent, HostExtents, HostLocation, Memory, Reserve, Result, Storage,
    ZeroMode, check_range, check_span,
};
use transload_image::codec::{Encoder, Level};
use transload_testkit::conformance::{self, Sentence};
use transload_testkit::{Misbehaving, Overlay, Random};

const SIZE: u64 = 300_000;
const UNIT: u64 = 4096;

/// The mistakes, each the kind of thing that a driver's author would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    ReadLeavesTheLastByte,
    ReadFromTheStartOfTheSector,
    ReadsShareACursor,
    EmptyReadAtTheEndFails,
    ReadBehindTheEndIsZero,
    SumOfOffsetAndLengthWraps,
    OutOfRangeIsAnIoError,
    StatusReachesBehindTheRange,
    StatusBeginsAtTheUnit,
    StatusOfNothingSucceeds,
    StatusOfTheNextUnit,
    StatusOfDataIsZero,
    StatusSkipsAUnit,
    LimitsAreNoPowers,
    GranularityIsTooCoarse,
    WriteDropsTheLastByte,
    PartialWriteClearsTheUnit,
    WriteBehindTheEndWritesWhatFits,
    ZeroingRoundsOutwards,
    ZeroingRoundsInwards,
    ZeroingMakesAHole,
    ZeroWritesAreForgotten,
    ModifyWithoutALock,
    OverlapMixes,
    SizeGrowsWithWrites,
    FlushFails,
    ReserveClearsTheUnit,
    WriteExtends,
    SizeIsRoundedUp,
    CutOffBytesComeBack,
    AllocateClears,
    EncodedUnitIsTheNextOne,
    EncodedUnitIsPadded,
    HostExtentIsOffByOne,
    ReadOnlyIsForgotten,
}

/// A driver with one mistake.
#[derive(Debug)]
struct Driver {
    bug: Bug,
    device: Arc<dyn BlockWrite>,
    /// The same, where its end can be moved.
    storage: Option<Arc<Memory>>,
    cursor: AtomicU64,
    hidden_tail: Mutex<Vec<u8>>,
    file: Option<(File, PathBuf)>,
    unmapped: Mutex<Vec<Range<u64>>>,
}

impl Driver {
    /// With units of which some are holes.
    fn new(bug: Bug) -> Self {
        let layer = Overlay::new(SIZE, u32::try_from(UNIT).expect("small"));
        fill(&layer);
        Self::over(bug, Arc::new(layer), None)
    }

    /// With an end that can be moved.
    fn storage(bug: Bug) -> Self {
        let memory = Arc::new(Memory::new(usize::try_from(SIZE).expect("small")));
        fill(&*memory);
        Self::over(bug, Arc::clone(&memory) as Arc<dyn BlockWrite>, Some(memory))
    }

    fn over(bug: Bug, device: Arc<dyn BlockWrite>, storage: Option<Arc<Memory>>) -> Self {
        Self {
            bug,
            device,
            storage,
            cursor: AtomicU64::new(0),
            hidden_tail: Mutex::default(),
            file: None,
            unmapped: Mutex::default(),
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn memory(&self) -> &Memory {
        self.storage.as_ref().expect("a driver that is used as a storage has one")
    }

    fn limits_of_bug(&self) -> BlockLimits {
        let limits = self.device.limits();
        match self.bug {
            Bug::LimitsAreNoPowers => BlockLimits { preferred: 3 << 20, ..limits },
            Bug::GranularityIsTooCoarse => BlockLimits { granularity: limits.granularity * 2, ..limits },
            _ => limits,
        }
    }
}

/// Random bytes in some units, none in others, and one unit that begins with zeroes.
fn fill(device: &dyn BlockWrite) {
    let mut random = Random::new(42);
    for unit in [0, 1, 2, 5, 8, 9, 20, 21, 22, 23, 40] {
        let bytes = random.bytes(usize::try_from(UNIT).expect("small"));
        device.write_at(&bytes, unit * UNIT).expect("the disk takes it");
    }
    device.write_at(&[0; 3000], 30 * UNIT).expect("the disk takes it");
    device.write_at(&[9; 1096], 30 * UNIT + 3000).expect("the disk takes it");
}

fn pause() {
    thread::sleep(Duration::from_micros(20));
}

impl BlockRead for Driver {
    fn size(&self) -> u64 {
        let extra = if self.has(Bug::SizeGrowsWithWrites) { self.cursor.load(Ordering::SeqCst) / 4096 } else { 0 };
        self.device.size() + extra
    }

    fn limits(&self) -> BlockLimits {
        self.limits_of_bug()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let size = self.device.size();
        match self.bug {
            Bug::ReadLeavesTheLastByte if buf.len() % 2 == 1 => {
                check_range(offset, buf.len() as u64, size)?;
                let length = buf.len() - 1;
                self.device.read_at(&mut buf[..length], offset)
            }
            Bug::ReadFromTheStartOfTheSector if !offset.is_multiple_of(512) && !buf.is_empty() => {
                check_range(offset, buf.len() as u64, size)?;
                self.device.read_at(buf, offset - offset % 512)
            }
            Bug::ReadsShareACursor => {
                check_range(offset, buf.len() as u64, size)?;
                self.cursor.store(offset, Ordering::SeqCst);
                pause();
                let offset = self.cursor.load(Ordering::SeqCst).min(size - buf.len() as u64);
                self.device.read_at(buf, offset)
            }
            Bug::EmptyReadAtTheEndFails if offset >= size => {
                Err(Error::new(ErrorKind::OutOfRange, "offset is behind the last byte"))
            }
            Bug::ReadBehindTheEndIsZero if offset < 2 * size => {
                let inside = usize::try_from(size.saturating_sub(offset)).expect("small").min(buf.len());
                buf[inside..].fill(0);
                self.device.read_at(&mut buf[..inside], offset.min(size))
            }
            Bug::SumOfOffsetAndLengthWraps => {
                let end = offset.wrapping_add(buf.len() as u64);
                if end > size || (end >= offset && offset > size) {
                    return Err(Error::new(ErrorKind::OutOfRange, "behind the end"));
                }
                if offset > end { Ok(()) } else { self.device.read_at(buf, offset) }
            }
            Bug::OutOfRangeIsAnIoError => {
                self.device.read_at(buf, offset).map_err(|_| Error::new(ErrorKind::Io, "read failed"))
            }
            _ => self.device.read_at(buf, offset),
        }
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        if self.has(Bug::StatusOfNothingSucceeds) && range.is_empty() {
            return Ok(Extent { offset: range.start, length: 0, status: BlockStatus::Data });
        }
        let size = self.size();
        let extent = self.device.block_status(range.clone())?;
        let unit_start = range.start - range.start % UNIT;
        Ok(match self.bug {
            Bug::StatusReachesBehindTheRange => {
                let whole = self.device.block_status(range.start..size)?;
                Extent { length: whole.length, ..extent }
            }
            Bug::StatusBeginsAtTheUnit => Extent { offset: unit_start, ..extent },
            Bug::StatusOfTheNextUnit if !range.start.is_multiple_of(UNIT) && unit_start + UNIT < range.end => {
                let next = self.device.block_status(unit_start + UNIT..range.end)?;
                Extent { status: next.status, length: 1, ..extent }
            }
            Bug::StatusOfDataIsZero if extent.status == BlockStatus::Data => {
                let zero = self.device.read_vec(range.start, extent.length.min(512))?.iter().all(|byte| *byte == 0);
                if zero { Extent { status: BlockStatus::Zero, ..extent } } else { extent }
            }
            Bug::StatusSkipsAUnit => Extent { length: (extent.length + UNIT).min(range.end - range.start), ..extent },
            Bug::ZeroingMakesAHole => {
                let unmapped = self.unmapped.lock().expect("no panic");
                match unmapped.iter().find(|hole| hole.contains(&range.start)) {
                    Some(hole) => {
                        let length = hole.end.min(range.end) - range.start;
                        Extent { status: BlockStatus::Hole, length, ..extent }
                    }
                    None => Extent { length: extent.length.min(UNIT - range.start % UNIT), ..extent },
                }
            }
            _ => extent,
        })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        let none = Capabilities::none();
        match self.bug {
            Bug::ReserveClearsTheUnit => none.with_reserve(self),
            Bug::EncodedUnitIsTheNextOne | Bug::EncodedUnitIsPadded => none.with_encoded(self),
            Bug::HostExtentIsOffByOne => none.with_host_extents(self),
            _ => none,
        }
    }
}

impl EncodedRead for Driver {
    fn encoded_unit_size(&self) -> u64 {
        UNIT
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        check_range(offset, 1, self.size())?;
        let start = offset - offset % UNIT;
        let range = start..(start + UNIT).min(self.size());
        if self.device.block_status(range.clone())?.status != BlockStatus::Data {
            return Ok(None);
        }
        let from = if self.has(Bug::EncodedUnitIsTheNextOne) { (start + UNIT) % (64 * UNIT) } else { start };
        let unit = self.device.read_vec(from, UNIT.min(self.size() - from))?;
        Encoder::new(Codec::Zlib, Level::FAST)?.encode(&unit, 1 << 20, stored)?;
        let end = if self.has(Bug::EncodedUnitIsPadded) { start + 2 * UNIT } else { range.end };
        Ok(Some(EncodedUnit { codec: Codec::Zlib, range: start..end }))
    }
}

impl HostExtents for Driver {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        transload_block::check_extent(&range, self.size())?;
        let (file, path) = self.file.as_ref().expect("a driver with this mistake has a file");
        let location = HostLocation { file, path: Path::new(path), offset: range.start + 1 };
        Ok(HostExtent { length: range.end - range.start, location: Some(location) })
    }
}

impl Reserve for Driver {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        check_span(&range, self.size())?;
        let end = range.end.next_multiple_of(UNIT).min(self.size());
        self.device.write_zeroes_at(range.start - range.start % UNIT..end, ZeroMode::Unmap)
    }
}

impl BlockWrite for Driver {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let size = self.device.size();
        let end = offset.checked_add(buf.len() as u64);
        match self.bug {
            Bug::WriteDropsTheLastByte if buf.len() > 4096 => {
                check_range(offset, buf.len() as u64, size)?;
                self.device.write_at(&buf[..buf.len() - 1], offset)
            }
            Bug::PartialWriteClearsTheUnit if !buf.is_empty() => {
                let end = check_range(offset, buf.len() as u64, size)?;
                let clear = end..end.next_multiple_of(UNIT).min(size);
                self.device.write_zeroes_at(clear, ZeroMode::KeepAllocated)?;
                self.device.write_at(buf, offset)
            }
            Bug::WriteBehindTheEndWritesWhatFits if offset < size && end.is_some_and(|end| end > size) => {
                let inside = usize::try_from(size - offset).expect("small");
                self.device.write_at(&buf[..inside], offset)?;
                Err(Error::new(ErrorKind::OutOfRange, "behind the end"))
            }
            Bug::ZeroWritesAreForgotten if buf.len() > 1 && buf.iter().all(|byte| *byte == 0) => {
                check_range(offset, buf.len() as u64, size).map(drop)
            }
            Bug::ModifyWithoutALock if !buf.is_empty() => {
                let end = check_range(offset, buf.len() as u64, size)?;
                let start = offset - offset % UNIT;
                let mut units = self.device.read_vec(start, end.next_multiple_of(UNIT).min(size) - start)?;
                pause();
                units[usize::try_from(offset - start).expect("small")..][..buf.len()].copy_from_slice(buf);
                self.device.write_at(&units, start)
            }
            Bug::OverlapMixes if !buf.is_empty() => {
                let old = self.device.read_vec(offset, buf.len() as u64)?;
                thread::sleep(Duration::from_micros(self.cursor.fetch_add(1, Ordering::SeqCst) % 8 * 100));
                let now = self.device.read_vec(offset, buf.len() as u64)?;
                let mixed: Vec<u8> =
                    buf.iter().zip(old.iter().zip(&now)).map(|(new, (old, now))| new ^ old ^ now).collect();
                self.device.write_at(&mixed, offset)
            }
            Bug::SizeGrowsWithWrites => {
                self.cursor.fetch_add(buf.len() as u64, Ordering::SeqCst);
                self.device.write_at(buf, offset)
            }
            Bug::WriteExtends if end.is_some_and(|end| end > size && end < 1 << 30) => {
                self.memory().set_size(end.unwrap_or(0))?;
                self.device.write_at(buf, offset)
            }
            Bug::ZeroingMakesAHole => {
                self.device.write_at(buf, offset)?;
                let end = offset + buf.len() as u64;
                self.unmapped.lock().expect("no panic").retain(|hole| hole.end <= offset || end <= hole.start);
                Ok(())
            }
            _ => self.device.write_at(buf, offset),
        }
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        check_span(&range, self.device.size())?;
        let (down, up) = (|at: u64| at - at % UNIT, |at: u64| at.next_multiple_of(UNIT));
        match self.bug {
            Bug::ZeroingRoundsOutwards if !range.is_empty() => {
                let end = up(range.end).min(self.device.size());
                self.device.write_zeroes_at(down(range.start)..end, mode)
            }
            Bug::ZeroingRoundsInwards => {
                let start = up(range.start).min(range.end);
                self.device.write_zeroes_at(start..down(range.end).max(start), mode)
            }
            Bug::ZeroingMakesAHole => {
                self.device.write_zeroes_at(range.clone(), mode)?;
                let whole = up(range.start)..down(range.end);
                if mode == ZeroMode::Unmap && !whole.is_empty() {
                    self.unmapped.lock().expect("no panic").push(whole);
                }
                Ok(())
            }
            _ => self.device.write_zeroes_at(range, mode),
        }
    }

    fn flush(&self) -> Result<()> {
        if self.has(Bug::FlushFails) { Err(Error::new(ErrorKind::Io, "flush")) } else { self.device.flush() }
    }
}

impl Storage for Driver {
    fn set_size(&self, size: u64) -> Result<()> {
        let old = self.device.size();
        match self.bug {
            Bug::SizeIsRoundedUp => self.memory().set_size(size.next_multiple_of(512)),
            Bug::CutOffBytesComeBack => {
                let mut tail = self.hidden_tail.lock().expect("no panic");
                if size < old {
                    *tail = self.memory().read_vec(size, old - size)?;
                    return self.memory().set_size(size);
                }
                self.memory().set_size(size)?;
                let length = tail.len().min(usize::try_from(size - old).expect("small"));
                self.memory().write_at(&tail[..length], old)
            }
            _ => self.memory().set_size(size),
        }
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        if self.has(Bug::AllocateClears) {
            return self.device.write_zeroes_at(range, ZeroMode::KeepAllocated);
        }
        self.memory().allocate(range)
    }
}

/// Puts a driver through the suite of a writable layer.
fn write_suite(bug: Bug) -> conformance::Verdict {
    conformance::write(&Driver::new(bug), 1)
}

/// Puts a driver through the suite of a storage.
fn storage_suite(bug: Bug) -> conformance::Verdict {
    conformance::storage(&Driver::storage(bug), 1)
}

#[test]
fn a_driver_without_a_mistake_passes() {
    write_suite(Bug::None).assert();
    storage_suite(Bug::None).assert();
}

/// Runs both suites as the mistake needs them, and wants the sentence named.
#[track_caller]
fn caught(bug: Bug, sentence: Sentence) {
    let verdict = match sentence {
        Sentence::WriteDoesNotExtend
        | Sentence::SizeMoves
        | Sentence::NewBytesAreZero
        | Sentence::AllocateKeepsContents => storage_suite(bug),
        _ => write_suite(bug),
    };
    assert!(verdict.broke(sentence), "{bug:?} was not caught as {sentence:?}, but as:\n{verdict}");
}

#[test]
fn mistakes_in_reading_are_caught() {
    caught(Bug::ReadLeavesTheLastByte, Sentence::ReadFillsTheBuffer);
    caught(Bug::ReadFromTheStartOfTheSector, Sentence::ReadFillsTheBuffer);
    caught(Bug::ReadsShareACursor, Sentence::ReadsRunAtOnce);
    caught(Bug::EmptyReadAtTheEndFails, Sentence::EmptySucceeds);
    caught(Bug::ReadBehindTheEndIsZero, Sentence::ReadOutOfRange);
    caught(Bug::SumOfOffsetAndLengthWraps, Sentence::ReadOutOfRange);
    caught(Bug::OutOfRangeIsAnIoError, Sentence::ReadOutOfRange);
    caught(Bug::LimitsAreNoPowers, Sentence::LimitsAreSane);
}

#[test]
fn mistakes_in_status_are_caught() {
    caught(Bug::StatusReachesBehindTheRange, Sentence::ExtentIsInside);
    caught(Bug::StatusBeginsAtTheUnit, Sentence::ExtentIsInside);
    caught(Bug::StatusOfNothingSucceeds, Sentence::StatusOutOfRange);
    caught(Bug::StatusOfTheNextUnit, Sentence::StatusIsTrue);
    caught(Bug::StatusOfDataIsZero, Sentence::ZeroReadsZero);
    caught(Bug::StatusSkipsAUnit, Sentence::ZeroReadsZero);
    caught(Bug::GranularityIsTooCoarse, Sentence::StatusChangesAtGranularity);
}

#[test]
fn mistakes_in_writing_are_caught() {
    caught(Bug::WriteDropsTheLastByte, Sentence::WriteIsSeen);
    caught(Bug::PartialWriteClearsTheUnit, Sentence::RestIsUnchanged);
    caught(Bug::WriteBehindTheEndWritesWhatFits, Sentence::WriteOutOfRange);
    caught(Bug::ZeroWritesAreForgotten, Sentence::WriteIsSeen);
    caught(Bug::ZeroingRoundsOutwards, Sentence::RestIsUnchanged);
    caught(Bug::ZeroingRoundsInwards, Sentence::ZeroedReadsZero);
    caught(Bug::ZeroingMakesAHole, Sentence::WrittenIsNoHole);
    caught(Bug::ZeroingMakesAHole, Sentence::NeverBackToHole);
    caught(Bug::SizeGrowsWithWrites, Sentence::SizeIsConstant);
    caught(Bug::FlushFails, Sentence::FlushKeeps);
    caught(Bug::ReserveClearsTheUnit, Sentence::ReserveKeepsTheRest);
}

#[test]
fn races_are_caught() {
    caught(Bug::ModifyWithoutALock, Sentence::WritesDoNotDisturb);
    caught(Bug::OverlapMixes, Sentence::OverlapLeavesOne);
}

#[test]
fn mistakes_in_moving_the_end_are_caught() {
    caught(Bug::WriteExtends, Sentence::WriteDoesNotExtend);
    caught(Bug::SizeIsRoundedUp, Sentence::SizeMoves);
    caught(Bug::CutOffBytesComeBack, Sentence::NewBytesAreZero);
    caught(Bug::AllocateClears, Sentence::AllocateKeepsContents);
}

#[test]
fn mistakes_in_abilities_are_caught() {
    caught(Bug::EncodedUnitIsTheNextOne, Sentence::EncodedIsTheUnit);
    caught(Bug::EncodedUnitIsPadded, Sentence::EncodedIsTheUnit);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let mut driver = Driver::new(Bug::HostExtentIsOffByOne);
    transload_testkit::disks::save(&driver, &path);
    driver.file = Some((File::open(&path).unwrap(), path));
    assert!(conformance::write(&driver, 1).broke(Sentence::HostExtentIsTrue));
}

#[test]
fn a_reader_that_takes_writes_is_caught() {
    let verdict = conformance::read_only(&Driver::new(Bug::ReadOnlyIsForgotten));
    assert!(verdict.broke(Sentence::ReadOnlyRefuses), "{verdict}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, [1; 5000]).unwrap();
    conformance::read_only(&FileBlock::open(&path, false).unwrap()).assert();
}

/// A driver that looks into the bytes to know whether they are zero.
#[derive(Debug)]
struct Curious(Arc<Misbehaving>);

impl BlockRead for Curious {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn limits(&self) -> BlockLimits {
        self.0.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let extent = self.0.block_status(range)?;
        let bytes = self.0.read_vec(extent.offset, extent.length)?;
        let zero = transload_block::is_all_zero(&bytes);
        Ok(Extent { status: if zero { BlockStatus::Zero } else { extent.status }, ..extent })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

#[test]
fn a_status_that_reads_payload_is_caught() {
    let below = Arc::new(Misbehaving::new(Arc::new(Memory::from(vec![1; 200_000]))));
    let verdict = conformance::status_costs(&Curious(Arc::clone(&below)), &below, 0);
    assert!(verdict.broke(Sentence::StatusIsCheap), "{verdict}");
    conformance::status_costs(&*below, &below, 0).assert();
}
