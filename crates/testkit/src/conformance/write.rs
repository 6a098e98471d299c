//! The sentences of `BlockWrite`.

use std::ops::Range;
use std::sync::Barrier;
use std::thread;

use transload_block::{BlockRead, BlockReadExt, BlockStatus, BlockWrite, ErrorKind, Extent, Memory, Storage, ZeroMode};

use super::read::{outside, walk};
use super::{Sentence, Verdict, difference};
use crate::disks::pieces;
use crate::random::Random;

/// Writes, zeroings and flushes at random places.
const ROUNDS: u64 = 150;
const LONGEST: u64 = 300_000;
/// Threads that write into the same units.
const THREADS: u64 = 4;
/// What threads write over each other.
const WRITERS: [u8; 3] = [0x11, 0x22, 0x44];
const MODES: [ZeroMode; 2] = [ZeroMode::Unmap, ZeroMode::KeepAllocated];

/// Checks a writable device with nothing below it, whose contents are lost: every sentence of `BlockWrite`, and those of
/// `BlockRead` before and after. The device should be at most some tens of MiB long, or sparse. Random choices are by
/// `seed`.
pub fn write(device: &dyn BlockWrite, seed: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let model = copy(device, &mut verdict);
    verdict.merge(super::read(device, &model));
    if !verdict.is_sound() {
        return verdict;
    }
    let mut tester = Tester { device, model, verdict, random: Random::new(seed), holes: Vec::new() };
    tester.holes = tester.current_holes();
    tester.check_edges();
    tester.check_random();
    tester.check_reserve();
    tester.check_neighbours();
    tester.check_overlap();
    let Tester { model, mut verdict, .. } = tester;
    verdict.merge(super::read(device, &model));
    verdict
}

/// Checks that a device which was opened for reading refuses to be written.
pub fn read_only(device: &dyn BlockWrite) -> Verdict {
    let mut verdict = Verdict::default();
    let before = copy(device, &mut verdict);
    if device.size() > 0 {
        let answers = [device.write_at(&[1], 0), device.write_zeroes_at(0..1, ZeroMode::Unmap)];
        for answer in answers {
            let kind = answer.as_ref().err().map(transload_block::Error::kind);
            verdict.check(Sentence::ReadOnlyRefuses, kind == Some(ErrorKind::ReadOnly), || format!("{answer:?}"));
        }
    }
    verdict.merge(super::read(device, &before));
    verdict
}

/// The bytes that the device has now. Only what it says is data is read; that the rest is zero is checked by the caller.
fn copy(device: &dyn BlockRead, verdict: &mut Verdict) -> Memory {
    let model = Memory::default();
    model.set_size(device.size()).expect("memory takes any size");
    for extent in walk(device, verdict).iter().filter(|extent| extent.status == BlockStatus::Data) {
        for piece in pieces(extent.range(), 1 << 20) {
            match device.read_vec(piece.start, piece.end - piece.start) {
                Ok(bytes) => model.write_at(&bytes, piece.start).expect("memory takes any bytes"),
                Err(error) => {
                    verdict.check(Sentence::ReadFillsTheBuffer, false, || format!("read of {piece:?}: {error}"));
                }
            }
        }
    }
    model
}

struct Tester<'a> {
    device: &'a dyn BlockWrite,
    model: Memory,
    verdict: Verdict,
    random: Random,
    /// What was a hole when last looked at.
    holes: Vec<Range<u64>>,
}

impl Tester<'_> {
    fn current_holes(&mut self) -> Vec<Range<u64>> {
        let extents = walk(self.device, &mut self.verdict);
        extents.iter().filter(|extent| extent.status == BlockStatus::Hole).map(Extent::range).collect()
    }

    /// Writes into the device and the model, and looks at it from near.
    fn write(&mut self, bytes: &[u8], offset: u64) {
        let answer = self.device.write_at(bytes, offset);
        let range = offset..offset + bytes.len() as u64;
        let sentence = if bytes.is_empty() { Sentence::EmptySucceeds } else { Sentence::WriteIsSeen };
        self.verdict.check(sentence, answer.is_ok(), || format!("write of {range:?}: {answer:?}"));
        self.model.write_at(bytes, offset).expect("the model takes what the device takes");
        self.compare_around(&range, Sentence::WriteIsSeen);
        self.check_no_hole(&range);
    }

    fn zero(&mut self, range: Range<u64>, mode: ZeroMode) {
        let answer = self.device.write_zeroes_at(range.clone(), mode);
        let sentence = if range.is_empty() { Sentence::EmptySucceeds } else { Sentence::ZeroedReadsZero };
        self.verdict.check(sentence, answer.is_ok(), || format!("zeroing of {range:?}: {answer:?}"));
        self.model.write_zeroes_at(range.clone(), mode).expect("the model takes what the device takes");
        self.compare_around(&range, Sentence::ZeroedReadsZero);
        self.check_no_hole(&range);
    }

    /// Compares a range, and apart from it what lies beside.
    fn compare_around(&mut self, range: &Range<u64>, inside: Sentence) {
        let beside = 5000;
        self.compare(range.clone(), inside);
        self.compare(range.start.saturating_sub(beside)..range.start, Sentence::RestIsUnchanged);
        self.compare(range.end..(range.end + beside).min(self.model.size()), Sentence::RestIsUnchanged);
    }

    fn compare(&mut self, range: Range<u64>, sentence: Sentence) {
        let length = range.end.saturating_sub(range.start);
        let should = self.model.read_vec(range.start, length).expect("the model can be read");
        match self.device.read_vec(range.start, length) {
            Ok(found) => self.verdict.check(sentence, found == should, || difference(&found, &should, range.start)),
            Err(error) => self.verdict.check(sentence, false, || format!("read of {range:?}: {error}")),
        };
    }

    fn compare_all(&mut self, sentence: Sentence) {
        let mut at = 0;
        while at < self.model.size() {
            // What the model never had is looked at where the device says that it has something.
            let size = self.model.size();
            let (Ok(found), Ok(known)) = (self.device.block_status(at..size), self.model.block_status(at..size)) else {
                return;
            };
            let both_zero = found.status.reads_zero() && known.status.reads_zero();
            let length = found.length.min(known.length).max(1);
            if !both_zero {
                for piece in pieces(at..at + length, 1 << 20) {
                    self.compare(piece, sentence);
                }
            }
            at += length;
        }
    }

    fn check_no_hole(&mut self, range: &Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let Some(extent) = super::read::ask(self.device, at..range.end, &mut self.verdict) else { return };
            self.verdict.check(Sentence::WrittenIsNoHole, extent.status != BlockStatus::Hole, || {
                format!("{extent:?} after {range:?} was written")
            });
            at = extent.end();
        }
    }

    /// Whatever is a hole now was one before.
    fn check_holes(&mut self) {
        let now = self.current_holes();
        for hole in &now {
            let was_hole = self.holes.iter().any(|before| before.start <= hole.start && hole.end <= before.end);
            self.verdict.check(Sentence::NeverBackToHole, was_hole, || format!("{hole:?} is a hole again"));
        }
        self.holes = now;
    }

    /// Empty requests, and those behind the end.
    fn check_edges(&mut self) {
        let size = self.device.size();
        for offset in [0, size / 2, size] {
            self.write(&[], offset);
            MODES.into_iter().for_each(|mode| self.zero(offset..offset, mode));
        }
        for (offset, length) in outside(size) {
            let end = offset.saturating_add(length as u64);
            let mut answers = vec![self.device.write_at(&vec![0xAA; length], offset)];
            answers.extend(MODES.map(|mode| self.device.write_zeroes_at(offset..end, mode)));
            // Where the end cannot be said, the last byte that can be is left out, and an empty range says nothing.
            let answers = answers.into_iter().take(if end == u64::MAX { 1 } else { 3 });
            for answer in answers {
                let kind = answer.as_ref().err().map(transload_block::Error::kind);
                self.verdict.check(Sentence::WriteOutOfRange, kind == Some(ErrorKind::OutOfRange), || {
                    format!("{length} bytes at {offset} of {size}: {answer:?}")
                });
            }
        }
        let reversed = Range { start: size / 2 + 1, end: size / 2 };
        // Whatever the answer to that is, it writes nothing.
        let _ = self.device.write_zeroes_at(reversed, ZeroMode::Unmap);
        self.verdict.check(Sentence::SizeIsConstant, self.device.size() == size, || "the size moved".to_owned());
        self.compare_all(Sentence::WriteOutOfRange);
    }

    fn check_random(&mut self) {
        let size = self.model.size();
        for round in 0..ROUNDS {
            let longest = if round.is_multiple_of(10) { LONGEST } else { 9000 };
            let range = self.random.range(size, longest);
            let length = usize::try_from(range.end - range.start).expect("shorter than the longest");
            match self.random.below(8) {
                0 => self.zero(range, ZeroMode::Unmap),
                1 => self.zero(range, ZeroMode::KeepAllocated),
                2 => self.write(&vec![0; length], range.start),
                3 => self.check_flush(),
                _ => {
                    let bytes = self.random.bytes(length);
                    self.write(&bytes, range.start);
                }
            }
            if round % 10 == 9 {
                self.check_holes();
            }
        }
        self.compare_all(Sentence::RestIsUnchanged);
        self.verdict.check(Sentence::SizeIsConstant, self.device.size() == size, || "the size moved".to_owned());
    }

    fn check_flush(&mut self) {
        let answer = self.device.flush();
        self.verdict.check(Sentence::FlushKeeps, answer.is_ok(), || format!("flush: {answer:?}"));
    }

    /// Reserves ranges in one order and writes them in another.
    fn check_reserve(&mut self) {
        let Some(reserve) = self.device.capabilities().reserve else { return };
        let unit = u64::from(self.device.limits().granularity).max(512);
        let size = self.model.size();
        let mut ranges: Vec<_> = (0..4).map(|_| self.random.range(size, 3 * unit)).collect();
        ranges.push(size.saturating_sub(unit / 2 + 3)..size);
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let answer = reserve.reserve(range.clone());
            self.verdict.check(Sentence::ReserveKeepsTheRest, answer.is_ok(), || format!("{range:?}: {answer:?}"));
        }
        // Nothing is known of the bytes of a reservation until all of them are written.
        for range in ranges.into_iter().rev() {
            let bytes = self.random.bytes(usize::try_from(range.end - range.start).expect("a few units"));
            let answer = self.device.write_at(&bytes, range.start);
            self.verdict.check(Sentence::ReserveKeepsTheRest, answer.is_ok(), || format!("{range:?}: {answer:?}"));
            self.model.write_at(&bytes, range.start).expect("the model takes what the device takes");
        }
        self.compare_all(Sentence::ReserveKeepsTheRest);
    }

    /// Threads that write, zero and read stripes of the same units.
    fn check_neighbours(&mut self) {
        let size = self.model.size();
        let unit = u64::from(self.device.limits().granularity).clamp(4096, 1 << 20);
        for (round, stripe) in [7_u64, 64, 511, 512, 4096].into_iter().enumerate() {
            let span = (unit * 3).min(size).min(stripe * 2000);
            let start = self.random.below(size - span + 1);
            // Stale bytes of an earlier round would pass for fresh ones.
            self.zero(start..start + span, MODES[round % 2]);
            let stripes: Vec<_> = pieces(start..start + span, stripe).zip(0_u64..).collect();
            let device = self.device;
            let fill = |number: u64, range: &Range<u64>| {
                let length = usize::try_from(range.end - range.start).expect("a stripe");
                Random::new(number ^ ((round as u64) << 32)).bytes(length)
            };
            let is_zeroed = |number: u64| number % 5 == 3;
            let work = |thread: u64| {
                let mut broken = None;
                for (range, number) in stripes.iter().filter(|(_, number)| number % THREADS == thread) {
                    let bytes = fill(*number, range);
                    let mut answer = device.write_at(&bytes, range.start);
                    if is_zeroed(*number) {
                        answer = answer.and(device.write_zeroes_at(range.clone(), MODES[round % 2]));
                    }
                    let found = device.read_vec(range.start, range.end - range.start);
                    let zeroes = vec![0; bytes.len()];
                    let should = if is_zeroed(*number) { &zeroes } else { &bytes };
                    if answer.is_err() || !found.as_ref().is_ok_and(|found| found == should) {
                        broken.get_or_insert_with(|| format!("{range:?} right after its write: {answer:?}"));
                    }
                }
                broken
            };
            let broken = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap_or(Some("panicked".to_owned()))).next()
            });
            self.verdict.check(Sentence::WritesDoNotDisturb, broken.is_none(), || broken.unwrap_or_default());
            for (range, number) in &stripes {
                if is_zeroed(*number) {
                    self.model.write_zeroes_at(range.clone(), ZeroMode::Unmap).expect("the model takes it");
                } else {
                    self.model.write_at(&fill(*number, range), range.start).expect("the model takes it");
                }
            }
            self.compare_around(&(start..start + span), Sentence::WritesDoNotDisturb);
        }
        self.check_holes();
    }

    /// Threads that write the same bytes at once.
    fn check_overlap(&mut self) {
        let length = self.model.size().min(100_000);
        let start = self.random.below(self.model.size() - length + 1);
        let device = self.device;
        let count = usize::try_from(length).expect("at most 100000");
        let at_once = Barrier::new(WRITERS.len());
        for _ in 0..25 {
            let succeeded = thread::scope(|scope| {
                let write = |byte| {
                    let bytes = vec![byte; count];
                    at_once.wait();
                    device.write_at(&bytes, start)
                };
                let writers = WRITERS.map(|byte| scope.spawn(move || write(byte)));
                writers.into_iter().all(|writer| writer.join().is_ok_and(|answer| answer.is_ok()))
            });
            let found = self.device.read_vec(start, length).unwrap_or_default();
            let of_one = found.len() == count && found.iter().all(|byte| WRITERS.contains(byte));
            self.verdict.check(Sentence::OverlapLeavesOne, of_one && succeeded, || {
                format!("{length} bytes at {start} are of no writer")
            });
            self.model.write_at(&found, start).expect("the model takes it");
            self.compare_around(&(start..start + found.len() as u64), Sentence::OverlapLeavesOne);
        }
    }
}
