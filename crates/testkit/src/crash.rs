//! Storage that remembers every write, and hands out the file as a crash would leave it.
//!
//! What was written before the last flush that succeeded is there. Of what was written after it, a crash leaves what it
//! likes: nothing, all, a prefix, some writes without others that came before them, and of each write some sectors
//! without others. A sector of 512 bytes is written whole or not at all. A change of size is one of the writes; bytes
//! behind an end that did not move are lost.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Extent, Memory, Result, Storage, ZeroMode, check_range,
    check_span,
};

use crate::random::{Random, mix};

/// The bytes that a disk writes whole or not at all.
pub const SECTOR: u64 = 512;

/// A storage in memory that remembers its writes.
#[derive(Debug)]
pub struct CrashStorage {
    now: Memory,
    log: Mutex<Log>,
}

#[derive(Clone, Debug)]
struct Log {
    /// What was on the disk when the log began.
    base: Memory,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
enum Event {
    Write(u64, Vec<u8>),
    Zero(Range<u64>),
    SetSize(u64),
    Flush,
}

impl Default for CrashStorage {
    fn default() -> Self {
        Self::new(Memory::default())
    }
}

impl CrashStorage {
    /// Begins with what is in `base`, all of it durable.
    #[must_use]
    pub fn new(base: Memory) -> Self {
        Self { now: base.clone(), log: Mutex::new(Log { base, events: Vec::new() }) }
    }

    /// Forgets the log: what is there now is durable, and crashes come after this.
    pub fn settle(&self) {
        *self.log() = Log { base: self.now.clone(), events: Vec::new() };
    }

    /// How many writes, changes of size and flushes are in the log.
    #[must_use]
    pub fn events(&self) -> usize {
        self.log().events.len()
    }

    /// Files that a crash would leave, at most about `limit` of them: for each point in the log, or for points spread
    /// evenly over it when there are more than `limit`, at first the plain prefix and nothing unflushed, then choices by
    /// `seed` until the limit is reached. The same log, seed and limit give the same files.
    #[must_use]
    pub fn crashes(&self, seed: u64, limit: usize) -> Crashes {
        let log = self.log().clone();
        let points = log.events.len() + 1;
        let chosen = points.min(limit.max(1));
        let per_point = (limit / chosen).max(1);
        Crashes { durable: log.base.clone(), log, chosen, per_point, number: 0, flushed: 0, flushes: 0, seed }
    }

    /// Every file that a crash would leave when writes are torn: for each stretch between two flushes, of its sectors, in
    /// the order in which they were written, each number that arrived before the crash, and each sector that was lost or came
    /// alone; and where the stretch has few writes, each choice of them. A change of size and a zeroing are one sector each.
    #[must_use]
    pub fn every_crash(&self) -> EveryCrash {
        let log = self.log().clone();
        let mut every =
            EveryCrash { durable: log.base.clone(), log, stretch: 0..0, firsts: Vec::new(), flushes: 0, turn: 0 };
        every.measure(0);
        every
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the file and notes it, as one: the log has the order in which the file saw things.
    fn record(&self, event: Event, act: impl FnOnce(&Memory) -> Result<()>) -> Result<()> {
        let mut log = self.log();
        act(&self.now)?;
        log.events.push(event);
        Ok(())
    }
}

/// A file as a crash left it.
#[derive(Debug)]
pub struct Crash {
    /// What is in it.
    pub file: Memory,
    /// How many events of the log came before the crash.
    pub events: usize,
    /// How many flushes among them had succeeded: what was written before them has to be there.
    pub flushes: usize,
    /// Which unflushed writes survived, for messages.
    pub survived: String,
}

/// The files of [`CrashStorage::crashes`].
#[derive(Debug)]
pub struct Crashes {
    log: Log,
    /// The file at the last flush before the point.
    durable: Memory,
    /// The events before that flush, which are in `durable`.
    flushed: usize,
    flushes: usize,
    /// How many points are looked at, and how often each.
    chosen: usize,
    per_point: usize,
    number: usize,
    seed: u64,
}

/// Which of the unflushed writes a crash leaves.
#[derive(Clone, Copy, Debug)]
enum Survivors {
    All,
    None,
    /// All but one: the one that a missing barrier would let slip.
    AllBut(usize),
    /// One alone: the one that came too early.
    Only(usize),
    /// Each write by the toss of a coin.
    Writes(u64),
    /// Each sector of each write by the toss of a coin.
    Sectors(u64),
}

impl Survivors {
    fn choose(turn: usize, pending: usize, random: &mut Random) -> Self {
        let one = usize::try_from(random.below(pending as u64)).unwrap_or(0);
        match turn {
            0 => Self::All,
            1 => Self::None,
            _ => match random.below(4) {
                0 => Self::AllBut(one),
                1 => Self::Only(one),
                2 => Self::Writes(random.next()),
                _ => Self::Sectors(random.next()),
            },
        }
    }

    fn include(self, number: usize, sector: u64) -> bool {
        let coin = |seed: u64, number: u64| mix(seed ^ mix(number)).is_multiple_of(2);
        match self {
            Self::All => true,
            Self::None => false,
            Self::AllBut(lost) => number != lost,
            Self::Only(kept) => number == kept,
            Self::Writes(seed) => coin(seed, number as u64),
            Self::Sectors(seed) => coin(mix(seed ^ number as u64), sector),
        }
    }
}

impl Crashes {
    fn point(&self, index: usize) -> usize {
        let last = self.log.events.len();
        if self.chosen <= 1 { last } else { last * index / (self.chosen - 1) }
    }

    /// Moves what a flush made durable into the base.
    fn settle(&mut self, point: usize) {
        let flush = self.log.events[self.flushed..point].iter().rposition(|event| matches!(event, Event::Flush));
        let Some(flush) = flush else { return };
        let flushed = self.flushed + flush + 1;
        for event in &self.log.events[self.flushed..flushed] {
            self.flushes += usize::from(matches!(event, Event::Flush));
            apply(&self.durable, event, |_| true);
        }
        self.flushed = flushed;
    }
}

impl Iterator for Crashes {
    type Item = Crash;

    fn next(&mut self) -> Option<Crash> {
        if self.number >= self.chosen * self.per_point {
            return None;
        }
        let (index, turn) = (self.number / self.per_point, self.number % self.per_point);
        let mut random = Random::new(mix(self.seed ^ mix(self.number as u64)));
        self.number += 1;
        let point = self.point(index);
        self.settle(point);
        let pending = &self.log.events[self.flushed..point];
        // With one look at each point, a plain prefix every other time finds less than a choice does.
        let turn = if self.per_point == 1 { index % 8 } else { turn };
        let survivors = Survivors::choose(turn, pending.len(), &mut random);
        let file = self.durable.clone();
        for (number, event) in pending.iter().enumerate() {
            apply(&file, event, |sector| survivors.include(number, sector));
        }
        let survived = format!("{survivors:?} of {} unflushed writes", pending.len());
        Some(Crash { file, events: point, flushes: self.flushes, survived })
    }
}

/// The files of [`CrashStorage::every_crash`].
#[derive(Debug)]
pub struct EveryCrash {
    log: Log,
    /// The file at the flush before the stretch.
    durable: Memory,
    /// The events between two flushes that are looked at.
    stretch: Range<usize>,
    /// How many sectors were written in the stretch before each of its events, and in all of it.
    firsts: Vec<u64>,
    flushes: usize,
    turn: u64,
}

/// Writes of which every choice is tried.
const CHOICES_MAX: usize = 7;

impl EveryCrash {
    /// Takes the stretch that begins with event `first`.
    fn measure(&mut self, first: usize) {
        let events = &self.log.events[first..];
        let length = events.iter().position(|event| matches!(event, Event::Flush)).unwrap_or(events.len());
        self.stretch = first..first + length;
        self.firsts = vec![0];
        for event in &events[..length] {
            let before = self.firsts.last().copied().unwrap_or(0);
            self.firsts.push(before + event.sectors());
        }
        self.turn = 0;
    }

    /// What of the stretch survives in this turn: whether sector `sector` of it does, which belongs to event `event`.
    fn survives(&self, event: usize, sector: u64) -> bool {
        let all = self.firsts.last().copied().unwrap_or(0);
        let sector = self.firsts[event] + sector;
        match self.turn {
            turn if turn <= all => sector < turn,
            turn if turn <= 2 * all => sector != turn - all - 1,
            turn if turn <= 3 * all => sector == turn - 2 * all - 1,
            turn => (turn - 3 * all - 1) >> event & 1 != 0,
        }
    }

    fn turns(&self) -> u64 {
        let (all, writes) = (self.firsts.last().copied().unwrap_or(0), self.stretch.len());
        3 * all + 1 + if writes <= CHOICES_MAX { 1 << writes } else { 0 }
    }
}

impl Iterator for EveryCrash {
    type Item = Crash;

    fn next(&mut self) -> Option<Crash> {
        while self.turn >= self.turns() {
            let end = self.stretch.end;
            if end >= self.log.events.len() {
                return None;
            }
            for event in &self.log.events[self.stretch.clone()] {
                apply(&self.durable, event, |_| true);
            }
            self.flushes += 1;
            self.measure(end + 1);
        }
        let file = self.durable.clone();
        let events = self.log.events[self.stretch.clone()].iter().enumerate();
        for (number, event) in events {
            let first = event.first_sector();
            apply(&file, event, |sector| {
                self.survives(number, if matches!(event, Event::Write(..)) { sector - first } else { 0 })
            });
        }
        let (stretch, turn) = (&self.stretch, self.turn);
        let survived = format!("turn {turn} of {} on events {stretch:?}", self.turns());
        self.turn += 1;
        Some(Crash { file, events: self.stretch.start, flushes: self.flushes, survived })
    }
}

impl Event {
    fn first_sector(&self) -> u64 {
        if let Self::Write(offset, _) = self { offset / SECTOR } else { 0 }
    }

    fn sectors(&self) -> u64 {
        match self {
            Self::Write(offset, bytes) => (offset + bytes.len() as u64).div_ceil(SECTOR) - offset / SECTOR,
            _ => 1,
        }
    }
}

/// Does what a logged event did, in those sectors that `survives` says.
fn apply(file: &Memory, event: &Event, survives: impl Fn(u64) -> bool) {
    let range = match event {
        Event::Flush => return,
        Event::SetSize(size) => {
            if survives(0) {
                file.set_size(*size).expect("memory takes any size");
            }
            return;
        }
        Event::Write(offset, bytes) => *offset..offset + bytes.len() as u64,
        Event::Zero(range) => range.clone(),
    };
    let end = range.end.min(file.size());
    let mut at = range.start;
    while at < end {
        // As many sectors at a time as share their fate, so that zeroing a terabyte is one call.
        let fate = survives(at / SECTOR);
        let mut stop = ((at / SECTOR + 1) * SECTOR).min(end);
        while stop < end && stop - at < LONGEST_RUN && survives(stop / SECTOR) == fate {
            stop = (stop + SECTOR).min(end);
        }
        if fate {
            apply_whole(file, event, at..stop, range.start);
        }
        at = stop;
    }
}

/// Far more than a test writes at once.
const LONGEST_RUN: u64 = 64 << 20;

fn apply_whole(file: &Memory, event: &Event, part: Range<u64>, start: u64) {
    let answer = match event {
        Event::Write(_, bytes) => {
            let place = |at: u64| usize::try_from(at - start).expect("inside a write that is in memory");
            file.write_at(&bytes[place(part.start)..place(part.end)], part.start)
        }
        _ => file.write_zeroes_at(part, ZeroMode::Unmap),
    };
    answer.expect("inside the file");
}

impl BlockRead for CrashStorage {
    fn size(&self) -> u64 {
        self.now.size()
    }

    fn limits(&self) -> BlockLimits {
        self.now.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.now.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.now.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for CrashStorage {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        self.record(Event::Write(offset, buf.to_vec()), |now| now.write_at(buf, offset))
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        check_span(&range, self.size())?;
        self.record(Event::Zero(range.clone()), |now| now.write_zeroes_at(range, mode))
    }

    fn flush(&self) -> Result<()> {
        self.record(Event::Flush, |_| Ok(()))
    }
}

impl Storage for CrashStorage {
    fn set_size(&self, size: u64) -> Result<()> {
        self.record(Event::SetSize(size), |now| now.set_size(size))
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.now.allocate(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> CrashStorage {
        let storage = CrashStorage::new(Memory::from(vec![b'.'; 2048]));
        storage.write_at(&[b'a'; 1024], 0).unwrap();
        storage.flush().unwrap();
        storage.set_size(4096).unwrap();
        storage.write_at(&[b'b'; 1024], 512).unwrap();
        storage.write_at(&[b'c'; 100], 3996).unwrap();
        storage
    }

    #[test]
    fn flushed_bytes_survive_every_crash() {
        let crashes: Vec<_> = storage().crashes(1, 600).collect();
        assert!(crashes.len() >= 500, "{}", crashes.len());
        for crash in &crashes {
            let bytes = crash.file.to_vec();
            assert_eq!(bytes[1536..2048], [b'.'; 512]);
            if crash.flushes == 1 {
                assert_eq!(bytes[..512], [b'a'; 512], "{}", crash.survived);
                assert!(bytes[512..1024] == [b'a'; 512] || bytes[512..1024] == [b'b'; 512]);
            }
        }
        // Torn writes, lost sizes and lost writes all come up.
        let torn = |crash: &&Crash| {
            let bytes = crash.file.to_vec();
            (bytes[512] == b'b') != (bytes[1024] == b'b') && crash.flushes == 1
        };
        assert!(crashes.iter().find(torn).is_some());
        assert!(crashes.iter().any(|crash| crash.events == 5 && crash.file.size() == 2048));
        assert!(crashes.iter().any(|crash| crash.file.size() == 4096 && crash.file.to_vec()[4000] == 0));
        assert!(crashes.iter().any(|crash| crash.file.size() == 4096 && crash.file.to_vec()[4000] == b'c'));
    }

    #[test]
    fn every_torn_write_comes_up_once() {
        let crashes: Vec<_> = storage().every_crash().collect();
        // Two sectors before the flush, and behind it a size, two sectors and a short one.
        assert_eq!(crashes.len(), (3 * 2 + 1 + 2) + (3 * 4 + 1 + 8));
        for crash in &crashes {
            let bytes = crash.file.to_vec();
            if crash.flushes == 1 {
                assert_eq!(bytes[..512], [b'a'; 512], "{}", crash.survived);
            }
        }
        let of_b = |first: u8, second: u8| {
            crashes.iter().any(|crash| {
                crash.flushes == 1 && crash.file.to_vec()[512..1025].iter().step_by(512).eq(&[first, second])
            })
        };
        assert!(of_b(b'b', b'.') && of_b(b'a', b'b') && of_b(b'b', b'b') && of_b(b'a', b'.'), "either half is lost");
    }

    #[test]
    fn the_same_seed_gives_the_same_crashes() {
        let run = |seed| -> Vec<_> { storage().crashes(seed, 100).map(|crash| crash.file.to_vec()).collect() };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).len() <= 100);
    }
}
