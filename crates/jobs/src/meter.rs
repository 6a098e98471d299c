//! Counts how far a job is, and slows it down where it may not be as fast as it can.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use transload::convert::{Cancel, Progress, ProgressDelta};
use transload::export::MachineProgress;

use crate::model::JobProgress;

/// Bytes per second that all jobs of a process may move together.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When the bytes that were granted so far will have passed.
    free_at: Mutex<Instant>,
}

impl Rate {
    /// Allows so many bytes in a second; at least one.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` more may pass, unless somebody wants the job to stop.
    fn take(&self, bytes: u64, cancel: &Cancel) {
        /// How long a wish to stop may wait.
        const NAP: Duration = Duration::from_millis(50);
        /// The longest that a single call is held up: bounds what a rate of a few bytes does to a MiB.
        const LONGEST: Duration = Duration::from_secs(3600);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(LONGEST);
        let begin = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*free_at).max(Instant::now());
            *free_at = begin + cost;
            begin
        };
        while !cancel.is_cancelled() {
            let left = begin.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(NAP));
        }
    }
}

/// How far a job is: posted by the engine's threads, read by whoever reports it.
#[derive(Debug)]
pub struct Meter {
    total: AtomicU64,
    known: AtomicBool,
    done: AtomicU64,
    written: AtomicU64,
    step: Mutex<Option<String>>,
    rate: Option<Arc<Rate>>,
    cancel: Cancel,
}

impl Meter {
    /// A meter at zero, for a job that `cancel` stops.
    #[must_use]
    pub fn new(cancel: Cancel, rate: Option<Arc<Rate>>) -> Self {
        Self {
            total: AtomicU64::new(0),
            known: AtomicBool::new(false),
            done: AtomicU64::new(0),
            written: AtomicU64::new(0),
            step: Mutex::default(),
            rate,
            cancel,
        }
    }

    /// Says what is being done.
    pub fn step(&self, text: impl Into<String>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
    }

    /// How far it is, without rate and time.
    #[must_use]
    pub fn read(&self) -> JobProgress {
        let total = self.known.load(Ordering::Acquire).then(|| self.total.load(Ordering::Relaxed));
        let done = self.done.load(Ordering::Relaxed);
        JobProgress {
            step: self.step.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            done_bytes: total.map_or(done, |total| done.min(total)),
            total_bytes: total,
            written_bytes: self.written.load(Ordering::Relaxed),
            bytes_per_second: None,
            eta_seconds: None,
        }
    }
}

impl Progress for Meter {
    fn begin(&self, total: u64) {
        // The second time is when the result is read back, and counts anew.
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        if self.known.swap(true, Ordering::Release) {
            self.step("verify");
        }
    }

    fn advance(&self, delta: ProgressDelta) {
        self.done.fetch_add(delta.copied.saturating_add(delta.skipped), Ordering::Relaxed);
        self.written.fetch_add(delta.written, Ordering::Relaxed);
        if let Some(rate) = self.rate.as_ref().filter(|_| delta.copied > 0) {
            rate.take(delta.copied, &self.cancel);
        }
    }
}

impl MachineProgress for Meter {
    fn disk(&self, place: usize, of: usize, name: &str, _size: u64) {
        self.step(format!("disk {place} of {of}: {name}"));
    }
}

/// Makes a rate and a remaining time of what a [`Meter`] says every now and then.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<(Instant, u64)>,
    /// Bytes per second; recent ones count more.
    rate: Option<f64>,
}

impl Pace {
    /// Takes a reading in, and fills in what follows from it.
    pub fn take(&mut self, progress: &mut JobProgress, now: Instant) {
        /// After so many seconds an old rate counts for a third.
        const MEMORY: f64 = 8.0;
        if let Some((then, done)) = self.last {
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            if progress.done_bytes < done {
                self.rate = None;
            } else if seconds > 0.0 {
                #[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
                let latest = (progress.done_bytes - done) as f64 / seconds;
                let weight = (-seconds / MEMORY).exp();
                self.rate = Some(self.rate.map_or(latest, |rate| rate * weight + latest * (1.0 - weight)));
            }
        }
        self.last = Some((now, progress.done_bytes));
        let Some(rate) = self.rate else { return };
        progress.bytes_per_second = Some(whole(rate));
        if let Some(total) = progress.total_bytes.filter(|_| rate >= 1.0) {
            #[expect(clippy::cast_precision_loss, reason = "an estimate needs few digits")]
            let left = total.saturating_sub(progress.done_bytes) as f64;
            progress.eta_seconds = Some(whole((left / rate).ceil()));
        }
    }
}

/// The nearest whole number; what is none is 0.
fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast to an integer saturates")]
    let whole = value.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_remaining_time_follow_from_readings() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |seconds: u64, done| {
            (
                JobProgress { done_bytes: done, total_bytes: Some(1000), ..JobProgress::default() },
                start + Duration::from_secs(seconds),
            )
        };
        let (mut progress, now) = at(0, 0);
        pace.take(&mut progress, now);
        assert_eq!((progress.bytes_per_second, progress.eta_seconds), (None, None));
        let (mut progress, now) = at(2, 200);
        pace.take(&mut progress, now);
        assert_eq!((progress.bytes_per_second, progress.eta_seconds), (Some(100), Some(8)));
        // It stands still: the rate falls, and the time grows.
        let (mut progress, now) = at(6, 200);
        pace.take(&mut progress, now);
        assert!(progress.bytes_per_second < Some(70) && progress.eta_seconds > Some(11), "{progress:?}");
        // It begins anew.
        let (mut progress, now) = at(7, 0);
        pace.take(&mut progress, now);
        assert_eq!(progress.bytes_per_second, None);
    }

    #[test]
    fn a_rate_is_kept_by_all_threads_together() {
        let rate = Arc::new(Rate::new(10 << 20));
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let meter = Meter::new(Cancel::default(), Some(Arc::clone(&rate)));
                    for _ in 0..5 {
                        meter.advance(ProgressDelta { copied: 256 << 10, ..ProgressDelta::default() });
                    }
                });
            }
        });
        // 5 MiB at 10 MiB/s; the last piece is let through when those before it have passed.
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(400), "{elapsed:?}");
    }

    #[test]
    fn a_wish_to_stop_does_not_wait_for_the_rate() {
        let cancel = Cancel::default();
        let meter = Meter::new(cancel.clone(), Some(Arc::new(Rate::new(1))));
        meter.advance(ProgressDelta { copied: 1 << 20, ..ProgressDelta::default() });
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| meter.advance(ProgressDelta { copied: 1, ..ProgressDelta::default() }));
            thread::sleep(Duration::from_millis(20));
            cancel.cancel();
        });
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
