//! The sentences of `BlockRead`.

use std::ops::Range;
use std::thread;

use transload_block::{BlockRead, BlockReadExt, BlockStatus, ErrorKind, Extent};

use super::{Sentence, Verdict, capability, difference, soiled};
use crate::disks::pieces;
use crate::misbehaving::Misbehaving;
use crate::random::Random;

/// Longest buffer that the suite compares at a time.
const STEP: u64 = 1 << 20;
/// Questions and reads at random places.
const ROUNDS: u64 = 200;
/// More extents than this, one after the other, are a device that answers a byte at a time; the rest is sampled.
const LONGEST_WALK: usize = 20_000;

/// Checks a device that has nothing below it against `expected`, a trusted device of the same bytes: every sentence of
/// `BlockRead` and of the abilities it offers.
pub fn read(device: &dyn BlockRead, expected: &dyn BlockRead) -> Verdict {
    check(device, expected, true)
}

/// As [`read`], for one layer of an image: what holes read as is as good as what `expected` has there.
pub fn layer(device: &dyn BlockRead, expected: &dyn BlockRead) -> Verdict {
    check(device, expected, false)
}

fn check(device: &dyn BlockRead, expected: &dyn BlockRead, alone: bool) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.check(Sentence::SizeIsConstant, device.size() == expected.size(), || {
        format!("size {} where {} was expected", device.size(), expected.size())
    });
    if !verdict.is_sound() {
        return verdict;
    }
    let limits = device.limits();
    check_limits(device, &mut verdict);
    let extents = walk(device, &mut verdict);
    check_truth(device, expected, &extents, alone, &mut verdict);
    check_questions(device, &extents, &mut verdict);
    check_reads(device, expected, 1, &mut verdict);
    check_edges(device, expected, &mut verdict);
    capability::check(device, &mut verdict);
    let threads = thread::scope(|scope| {
        let reader = |seed| {
            let mut verdict = Verdict::default();
            check_reads(device, expected, seed, &mut verdict);
            check_questions(device, &extents, &mut verdict);
            verdict
        };
        let threads: Vec<_> = (2..6).map(|seed| scope.spawn(move || reader(seed))).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for found in threads {
        let (holds, detail) = match found {
            Ok(found) => (found.is_sound(), found.to_string()),
            Err(_) => (false, "a thread panicked".to_owned()),
        };
        verdict.check(Sentence::ReadsRunAtOnce, holds, || detail);
    }
    verdict.check(Sentence::SizeIsConstant, device.size() == expected.size(), || "the size moved".to_owned());
    verdict.check(Sentence::LimitsAreSane, device.limits() == limits, || "the limits changed".to_owned());
    verdict
}

/// Checks that asking for the status of all of `device`, which stands on `below`, reads at most `metadata` bytes.
pub fn status_costs(device: &dyn BlockRead, below: &Misbehaving, metadata: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let before = below.counts().bytes_read;
    walk(device, &mut verdict);
    let read = below.counts().bytes_read - before;
    verdict.check(Sentence::StatusIsCheap, read <= metadata, || {
        format!("status of the device read {read} bytes where {metadata} are metadata")
    });
    verdict
}

fn check_limits(device: &dyn BlockRead, verdict: &mut Verdict) {
    let limits = device.limits();
    let powers = [limits.alignment, limits.preferred, limits.granularity].into_iter().all(u32::is_power_of_two);
    let multiple = limits.alignment > 0 && limits.preferred.is_multiple_of(limits.alignment);
    verdict.check(Sentence::LimitsAreSane, powers && multiple, || format!("{limits:?}"));
}

/// Asks once and checks the shape of the answer.
pub(super) fn ask(device: &dyn BlockRead, range: Range<u64>, verdict: &mut Verdict) -> Option<Extent> {
    match device.block_status(range.clone()) {
        Ok(extent) => {
            let inside = extent.offset == range.start
                && extent.length > 0
                && extent.offset.checked_add(extent.length).is_some_and(|end| end <= range.end);
            let holds = verdict.check(Sentence::ExtentIsInside, inside, || format!("{extent:?} for {range:?}"));
            holds.then_some(extent)
        }
        Err(error) => {
            verdict.check(Sentence::StatusIsTrue, false, || format!("status of {range:?}: {error}"));
            None
        }
    }
}

/// The extents from the front to the back, equal neighbours merged.
pub(super) fn walk(device: &dyn BlockRead, verdict: &mut Verdict) -> Vec<Extent> {
    let size = device.size();
    let granularity = u64::from(device.limits().granularity.max(1));
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = 0;
    let mut asked = 0;
    while at < size && asked < LONGEST_WALK {
        let Some(extent) = ask(device, at..size, verdict) else { break };
        asked += 1;
        match extents.last_mut() {
            Some(last) if last.status == extent.status => last.length += extent.length,
            Some(_) if !at.is_multiple_of(granularity) => {
                verdict.check(Sentence::StatusChangesAtGranularity, false, || {
                    format!("status changes at {at}, no multiple of {granularity}")
                });
                extents.push(extent);
            }
            _ => extents.push(extent),
        }
        at = extent.end();
    }
    extents
}

/// Compares what was said of each extent with what is there.
fn check_truth(
    device: &dyn BlockRead,
    expected: &dyn BlockRead,
    extents: &[Extent],
    alone: bool,
    verdict: &mut Verdict,
) {
    for extent in extents {
        let reads_zero = extent.status.reads_zero();
        let compare = alone || extent.status != BlockStatus::Hole;
        for piece in looked_at(extent, expected) {
            let length = piece.end - piece.start;
            let mut bytes = soiled(length, piece.start);
            if let Err(error) = device.read_at(&mut bytes, piece.start) {
                verdict.check(Sentence::ReadFillsTheBuffer, false, || format!("read of {piece:?}: {error}"));
                continue;
            }
            if reads_zero {
                let zero = transload_block::is_all_zero(&bytes);
                verdict.check(Sentence::ZeroReadsZero, zero, || format!("{extent:?} is not zero in {piece:?}"));
            }
            if compare {
                let should = expected.read_vec(piece.start, length).expect("the expected device can be read");
                let sentence = if reads_zero { Sentence::StatusIsTrue } else { Sentence::ReadFillsTheBuffer };
                verdict.check(sentence, bytes == should, || difference(&bytes, &should, piece.start));
            }
        }
    }
}

/// What of an extent is compared: all of it, unless it is terabytes of zeroes in both devices.
fn looked_at(extent: &Extent, expected: &dyn BlockRead) -> Vec<Range<u64>> {
    let mut looked_at = Vec::new();
    let mut at = extent.offset;
    while at < extent.end() {
        let known = expected.block_status(at..extent.end()).expect("the expected device knows its status");
        let range = known.range();
        if known.status.reads_zero() && known.length > 64 * STEP {
            let middle = range.start + known.length / 2;
            looked_at.extend([range.start..range.start + STEP, middle..middle + STEP, range.end - STEP..range.end]);
        } else {
            looked_at.extend(pieces(range, STEP));
        }
        at = known.end();
    }
    looked_at
}

/// Asks inside extents, where a question from their front does not tell.
fn check_questions(device: &dyn BlockRead, extents: &[Extent], verdict: &mut Verdict) {
    let mut random = Random::new(extents.len() as u64);
    let walked = extents.last().map_or(0, Extent::end);
    for _ in 0..ROUNDS {
        let range = random.range(walked, walked);
        if range.is_empty() {
            continue;
        }
        let Some(answer) = ask(device, range.clone(), verdict) else { continue };
        let first = extents.partition_point(|extent| extent.end() <= answer.offset);
        let covered = extents[first..].iter().take_while(|extent| extent.offset < answer.end());
        for extent in covered {
            // Unsure at one time and sure at another is allowed; a hole is a hole each time or never.
            let agrees = (extent.status == BlockStatus::Hole) == (answer.status == BlockStatus::Hole);
            verdict.check(Sentence::StatusIsTrue, agrees, || {
                format!("{answer:?} for {range:?}, but {extent:?} when asked from the front")
            });
        }
    }
}

fn check_reads(device: &dyn BlockRead, expected: &dyn BlockRead, seed: u64, verdict: &mut Verdict) {
    let mut random = Random::new(seed);
    let size = device.size();
    for round in 0..ROUNDS {
        let longest = if round.is_multiple_of(16) { STEP } else { 9000 };
        let range = random.range(size, longest);
        let length = range.end - range.start;
        let mut bytes = soiled(length, range.start);
        let answer = device.read_at(&mut bytes, range.start);
        let should = expected.read_vec(range.start, length).expect("the expected device can be read");
        let sentence = if length == 0 { Sentence::EmptySucceeds } else { Sentence::ReadFillsTheBuffer };
        verdict.check(sentence, answer.is_ok() && bytes == should, || match &answer {
            Ok(()) => format!("read of {range:?}: {}", difference(&bytes, &should, range.start)),
            Err(error) => format!("read of {range:?}: {error}"),
        });
    }
}

/// What stands at, around and behind the end.
fn check_edges(device: &dyn BlockRead, expected: &dyn BlockRead, verdict: &mut Verdict) {
    let size = device.size();
    for offset in [0, size / 2, size.saturating_sub(1), size] {
        let answer = device.read_at(&mut [], offset);
        verdict.check(Sentence::EmptySucceeds, answer.is_ok(), || format!("empty read at {offset}: {answer:?}"));
    }
    if size > 0 {
        let mut last = soiled(1, size);
        let should = expected.read_vec(size - 1, 1).expect("the expected device can be read");
        let answer = device.read_at(&mut last, size - 1);
        verdict
            .check(Sentence::ReadFillsTheBuffer, answer.is_ok() && last == should, || format!("last byte: {answer:?}"));
    }
    for (offset, length) in outside(size) {
        let answer = device.read_at(&mut vec![0; length], offset);
        let kind = answer.as_ref().err().map(transload_block::Error::kind);
        verdict.check(Sentence::ReadOutOfRange, kind == Some(ErrorKind::OutOfRange), || {
            format!("{length} bytes at {offset} of {size}: {answer:?}")
        });
    }
    let reversed = Range { start: size / 2 + 1, end: size / 2 };
    for range in [0..0, size..size, reversed, 0..size + 1, size..size + 1, size + 1..size + 2, 0..u64::MAX, 5..u64::MAX]
    {
        let answer = device.block_status(range.clone());
        let kind = answer.as_ref().err().map(transload_block::Error::kind);
        verdict.check(Sentence::StatusOutOfRange, kind == Some(ErrorKind::OutOfRange), || {
            format!("status of {range:?} of {size}: {answer:?}")
        });
    }
}

/// Offsets and lengths of requests that reach behind the end, with and without overflow.
pub(super) fn outside(size: u64) -> Vec<(u64, usize)> {
    vec![
        (size, 1),
        (size.saturating_sub(1), 2),
        (size.saturating_sub(4096), 8192),
        (size + 1, 1),
        (size.next_multiple_of(4096) + 4096, 512),
        (u64::MAX, 1),
        (u64::MAX - 511, 512),
        (u64::MAX - 100, 4096),
        (1 << 63, 16),
    ]
}
