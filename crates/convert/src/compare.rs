//! Compares the guest's bytes of two disks.
//!
//! ```text
//! one cursor: status of both ─► both zero: skipped, however long ─► else a segment ─► workers read and compare
//! ```
//!
//! The answer does not depend on timing: the first difference is the lowest one, since segments are handed out in order
//! and those in front of a difference are always compared to their end.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde::Serialize;
use transload_block::{BlockRead, BlockStatus, Result, is_all_zero};

use crate::feed::status;
use crate::job::{Job, lock};
use crate::{Cancel, Progress, ProgressDelta};

/// What two disks have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// Whether they count as the same.
    pub identical: bool,
    /// The first guest byte in which they differ: in content, in being allocated (strictly), or by one having ended.
    pub first_difference: Option<u64>,
    /// Whether one is longer than the other. Unless strict, they are the same all the same if the rest is zero.
    pub size_differs: bool,
    /// What differs first.
    pub difference: Option<Difference>,
}

/// In what two disks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// In their bytes.
    Content,
    /// In their sizes; only told apart when strict.
    Size,
    /// In what is allocated; only told apart when strict.
    Allocation,
}

/// How to compare or digest.
#[derive(Clone, Debug, Default)]
pub struct ScanSettings {
    /// Worker threads; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Whom to tell how far it is.
    pub progress: Option<std::sync::Arc<dyn Progress>>,
    /// Who may ask it to stop.
    pub cancel: Cancel,
}

impl ScanSettings {
    pub(crate) fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, usize::from)
    }

    pub(crate) fn job(&self) -> Job<'_> {
        Job::new(&self.cancel, self.progress.as_deref())
    }
}

/// Compares two disks as `qemu-img compare` does: what a longer one has more must be zero. When `strict`, sizes must be
/// the same, and so must be what is allocated.
///
/// # Errors
/// `Cancelled`; what reading answers.
pub fn compare(a: &dyn BlockRead, b: &dyn BlockRead, strict: bool, settings: &ScanSettings) -> Result<Comparison> {
    let size_differs = a.size() != b.size();
    let different = |offset, difference| Comparison {
        identical: false,
        first_difference: Some(offset),
        size_differs,
        difference: Some(difference),
    };
    let same = a.size().min(b.size());
    if strict && size_differs {
        return Ok(different(same, Difference::Size));
    }
    if let Some(progress) = &settings.progress {
        progress.begin(a.size().max(b.size()));
    }
    if strict && let Some(offset) = first_allocation_difference(a, b, settings)? {
        // A difference in content in front of it is the first one.
        let content = first_difference(a, b, offset, settings)?;
        return Ok(content.map_or_else(
            || different(offset, Difference::Allocation),
            |offset| different(offset, Difference::Content),
        ));
    }
    let found = first_difference(a, b, a.size().max(b.size()), settings)?;
    Ok(match found {
        Some(offset) => different(offset, Difference::Content),
        None => Comparison { identical: true, first_difference: None, size_differs, difference: None },
    })
}

/// The first byte that is allocated in one disk and not in the other.
fn first_allocation_difference(a: &dyn BlockRead, b: &dyn BlockRead, settings: &ScanSettings) -> Result<Option<u64>> {
    let mut offset = 0;
    while offset < a.size() {
        settings.cancel.check()?;
        let (one, other) = (status(a, offset..a.size())?, status(b, offset..b.size())?);
        if (one.status == BlockStatus::Hole) != (other.status == BlockStatus::Hole) {
            return Ok(Some(offset));
        }
        offset = one.end().min(other.end());
    }
    Ok(None)
}

/// The first byte in front of `end` that differs, where a disk that has ended counts as zeroes.
pub(crate) fn first_difference(
    a: &dyn BlockRead,
    b: &dyn BlockRead,
    end: u64,
    settings: &ScanSettings,
) -> Result<Option<u64>> {
    let job = settings.job();
    let scan = Scan { a, b, end, cursor: Mutex::new(0), first: AtomicU64::new(u64::MAX) };
    thread::scope(|scope| {
        for _ in 0..settings.threads() {
            scope.spawn(|| job.guard(|| scan.work(&job)));
        }
    });
    job.outcome()?;
    Ok(Some(scan.first.into_inner()).filter(|offset| *offset != u64::MAX))
}

struct Scan<'a> {
    a: &'a dyn BlockRead,
    b: &'a dyn BlockRead,
    end: u64,
    cursor: Mutex<u64>,
    /// The lowest difference found so far.
    first: AtomicU64,
}

/// Which of two disks have to be read in a segment.
struct Segment {
    range: Range<u64>,
    a: bool,
    b: bool,
}

impl Scan<'_> {
    fn work(&self, job: &Job<'_>) -> Result<()> {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        while let Some(segment) = self.next(job)? {
            let length = usize::try_from(segment.range.end - segment.range.start).unwrap_or(usize::MAX);
            let start = segment.range.start;
            if segment.a {
                left.resize(length, 0);
                self.a.read_at(&mut left, start)?;
            }
            if segment.b {
                right.resize(length, 0);
                self.b.read_at(&mut right, start)?;
            }
            let place = match (segment.a, segment.b) {
                (true, true) => first_unequal(&left, &right),
                (true, false) => first_nonzero(&left),
                (false, _) => first_nonzero(&right),
            };
            if let Some(place) = place {
                self.first.fetch_min(start + place as u64, Ordering::AcqRel);
            }
            job.advance(ProgressDelta { copied: length as u64, ..ProgressDelta::default() });
        }
        Ok(())
    }

    /// The next segment in which a difference can be, in front of those that are known.
    fn next(&self, job: &Job<'_>) -> Result<Option<Segment>> {
        const SPAN: u64 = 1 << 20;
        let mut cursor = lock(&self.cursor);
        loop {
            job.check()?;
            let from = *cursor;
            if from >= self.end.min(self.first.load(Ordering::Acquire)) {
                return Ok(None);
            }
            let (a_zero, a_end) = zeroes(self.a, from, self.end)?;
            let (b_zero, b_end) = zeroes(self.b, from, self.end)?;
            let end = a_end.min(b_end);
            if a_zero && b_zero {
                *cursor = end;
                job.advance(ProgressDelta { skipped: end - from, ..ProgressDelta::default() });
                continue;
            }
            let end = end.min(from.saturating_add(SPAN));
            *cursor = end;
            return Ok(Some(Segment { range: from..end, a: !a_zero, b: !b_zero }));
        }
    }
}

/// Whether `device` surely reads as zeroes from `from`, and up to where that answer holds.
fn zeroes(device: &dyn BlockRead, from: u64, end: u64) -> Result<(bool, u64)> {
    let size = device.size();
    if from >= size {
        return Ok((true, end));
    }
    let extent = status(device, from..size.min(end))?;
    Ok((extent.status.reads_zero(), extent.end()))
}

fn first_unequal(a: &[u8], b: &[u8]) -> Option<usize> {
    /// Slices this long are compared as a whole.
    const STEP: usize = 4096;
    let block = a.chunks(STEP).zip(b.chunks(STEP)).position(|(a, b)| a != b)?;
    let from = block * STEP;
    a[from..].iter().zip(&b[from..]).position(|(a, b)| a != b).map(|place| from + place)
}

fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    if is_all_zero(bytes) { None } else { bytes.iter().position(|byte| *byte != 0) }
}

#[cfg(test)]
mod tests;
