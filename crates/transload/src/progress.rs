//! Watching a conversion, an export or an import from outside, and stopping it.
//!
//! The engine tells whoever implements [`Progress`] of every piece that it has moved, from any of its threads. Two ways to
//! hear less often and more comfortably are here: [`callback`] calls a closure, and [`events`] is an iterator for a thread of its
//! own. Either is given to `Settings::progress`, to [`ExportSettings`](crate::export::ExportSettings) or to
//! [`ImportSettings`](crate::import::ImportSettings).
//!
//! # Progress by a callback
//!
//! ```
//! # fn main() -> transload::block::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("transload-doc-callback-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).unwrap();
//! # let (source, target) = (folder.join("disk.img"), folder.join("disk.qcow2"));
//! # std::fs::write(&source, vec![7; 4 << 20]).unwrap();
//! use std::time::Duration;
//! use transload::convert::Settings;
//! use transload::image::Format;
//!
//! let mut settings = Settings::new(Format::by_name("qcow2").expect("a format of the table"));
//! settings.progress = Some(transload::progress::callback(Duration::from_millis(100), |so_far| {
//!     eprintln!("{} of {} bytes", so_far.done(), so_far.total);
//! }));
//! transload::convert_file(&source, &target, &settings)?;
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # Cancellation
//!
//! A [`Cancel`](crate::convert::Cancel) is a switch that any thread may turn, a signal handler's included. The job ends with
//! `Cancelled` at its next segment, and nothing is left of its target.
//!
//! ```
//! # let folder = std::env::temp_dir().join(format!("transload-doc-cancel-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).unwrap();
//! # let (source, target) = (folder.join("disk.img"), folder.join("disk.qcow2"));
//! # std::fs::write(&source, vec![7; 4 << 20]).unwrap();
//! use std::time::Duration;
//! use transload::block::ErrorKind;
//! use transload::convert::{Cancel, Settings};
//! use transload::image::Format;
//!
//! let cancel = Cancel::default();
//! let switch = cancel.clone();
//! let mut settings = Settings::new(Format::by_name("qcow2").expect("a format of the table"));
//! settings.cancel = cancel;
//! // Somebody loses patience with the first bytes.
//! settings.progress = Some(transload::progress::callback(Duration::ZERO, move |_| switch.cancel()));
//! let error = transload::convert_file(&source, &target, &settings).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Cancelled);
//! assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "the source alone is there");
//! # std::fs::remove_dir_all(folder).unwrap();
//! ```
//!
//! # A stream of events
//!
//! The stream ends when the job has: when the settings that hold its other end are dropped.
//!
//! ```
//! # let folder = std::env::temp_dir().join(format!("transload-doc-events-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).unwrap();
//! # let (source, target) = (folder.join("disk.img"), folder.join("disk.qcow2"));
//! # std::fs::write(&source, vec![7; 4 << 20]).unwrap();
//! use std::time::Duration;
//! use transload::convert::Settings;
//! use transload::image::Format;
//! use transload::progress::Event;
//!
//! let (reporter, events) = transload::progress::events(Duration::from_millis(100));
//! let job = std::thread::spawn(move || {
//!     let mut settings = Settings::new(Format::by_name("qcow2").expect("a format of the table"));
//!     settings.progress = Some(reporter);
//!     transload::convert_file(&source, &target, &settings)
//! });
//! let mut last = None;
//! for event in events {
//!     match event {
//!         Event::Begin { total } => eprintln!("{total} bytes to go through"),
//!         Event::Disk { place, of, name, .. } => eprintln!("disk {place} of {of}: {name}"),
//!         Event::Progress(so_far) => last = Some(so_far),
//!     }
//! }
//! let report = job.join().expect("no fault").expect("a conversion");
//! assert_eq!(last.expect("at least one").done(), report.virtual_size);
//! # std::fs::remove_dir_all(folder).unwrap();
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transload_convert::{Progress, ProgressDelta};

use crate::export::MachineProgress;

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Guest bytes to go through.
    pub total: u64,
    /// Of these, those that were read and written.
    pub copied: u64,
    /// And those that were found to be zero or not allocated, and skipped.
    pub skipped: u64,
    /// Bytes written to the target.
    pub written: u64,
}

impl SoFar {
    /// Guest bytes that are done, one way or the other.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.copied.saturating_add(self.skipped)
    }

    /// Everything is counted anew: the bytes to go through are known, or the result is read back.
    fn begin(&mut self, total: u64) {
        *self = Self { total, ..Self::default() };
    }

    fn advance(&mut self, delta: ProgressDelta) {
        self.copied = self.copied.saturating_add(delta.copied);
        self.skipped = self.skipped.saturating_add(delta.skipped);
        self.written = self.written.saturating_add(delta.written);
    }
}

/// Calls `call` with how far the job is: when that is first known, then at most once in `interval`, and when it is dropped.
///
/// It is called by the engine's threads, one at a time, and holds them up as long as it takes.
pub fn callback<F: Fn(SoFar) + Send + Sync + 'static>(interval: Duration, call: F) -> Arc<Callback<F>> {
    Arc::new(Callback { interval, call, state: Mutex::default() })
}

/// A closure that is told how far a job is: see [`callback`].
pub struct Callback<F: Fn(SoFar) + Send + Sync> {
    interval: Duration,
    call: F,
    state: Mutex<Called>,
}

#[derive(Debug, Default)]
struct Called {
    so_far: SoFar,
    last: Option<(Instant, SoFar)>,
}

impl<F: Fn(SoFar) + Send + Sync> fmt::Debug for Callback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<F: Fn(SoFar) + Send + Sync> Callback<F> {
    fn tell(&self, change: impl FnOnce(&mut SoFar)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.so_far);
        if state.last.is_none_or(|(when, _)| when.elapsed() >= self.interval) {
            state.last = Some((Instant::now(), state.so_far));
            (self.call)(state.so_far);
        }
    }
}

impl<F: Fn(SoFar) + Send + Sync> Progress for Callback<F> {
    fn begin(&self, total: u64) {
        self.tell(|so_far| so_far.begin(total));
    }

    fn advance(&self, delta: ProgressDelta) {
        self.tell(|so_far| so_far.advance(delta));
    }
}

impl<F: Fn(SoFar) + Send + Sync> MachineProgress for Callback<F> {
    fn disk(&self, _place: usize, _of: usize, _name: &str, _size: u64) {}
}

impl<F: Fn(SoFar) + Send + Sync> Drop for Callback<F> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|(_, told)| told != state.so_far) {
            (self.call)(state.so_far);
        }
    }
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest bytes to go through are known. Comes once more, and everything is counted from zero, when the result is
    /// read back.
    Begin {
        /// How many.
        total: u64,
    },
    /// The next disk of a machine begins.
    Disk {
        /// Its place, from 1.
        place: usize,
        /// Of so many.
        of: usize,
        /// Its name.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// It is so far.
    Progress(SoFar),
}

/// A reporter for a job and the stream of what it reports, in which progress comes at most once in `interval`.
///
/// Nobody has to read: progress that was not read is replaced by later progress, and the stream stays as short as a job has
/// disks.
#[must_use]
pub fn events(interval: Duration) -> (Arc<Reporter>, Events) {
    let shared = Arc::new(Shared::default());
    (Arc::new(Reporter { shared: Arc::clone(&shared) }), Events { shared, interval, last: None })
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    so_far: SoFar,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a stream of events that a job is given: see [`events`].
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
}

impl Progress for Reporter {
    fn begin(&self, total: u64) {
        let mut queue = self.shared.lock();
        queue.so_far.begin(total);
        queue.events.push_back(Event::Begin { total });
        self.shared.changed.notify_one();
    }

    fn advance(&self, delta: ProgressDelta) {
        let mut queue = self.shared.lock();
        queue.so_far.advance(delta);
        let so_far = queue.so_far;
        if let Some(Event::Progress(last)) = queue.events.back_mut() {
            *last = so_far;
        } else {
            queue.events.push_back(Event::Progress(so_far));
            self.shared.changed.notify_one();
        }
    }
}

impl MachineProgress for Reporter {
    fn disk(&self, place: usize, of: usize, name: &str, size: u64) {
        self.shared.lock().events.push_back(Event::Disk { place, of, name: name.to_owned(), size });
        self.shared.changed.notify_one();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

/// What a job reports, in order. [`next`](Iterator::next) waits; it ends when the [`Reporter`] is dropped.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    interval: Duration,
    /// When progress was last handed out.
    last: Option<Instant>,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut queue = self.shared.lock();
        loop {
            let early = self.last.and_then(|last| self.interval.checked_sub(last.elapsed()));
            let only_progress = matches!(queue.events.front(), Some(Event::Progress(_))) && queue.events.len() == 1;
            match early {
                Some(rest) if only_progress && !queue.closed => {
                    let waited = self.shared.changed.wait_timeout(queue, rest);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                _ => {
                    if let Some(event) = queue.events.pop_front() {
                        if matches!(event, Event::Progress(_)) {
                            self.last = Some(Instant::now());
                        }
                        return Some(event);
                    }
                    if queue.closed {
                        return None;
                    }
                    queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    fn copied(copied: u64) -> ProgressDelta {
        ProgressDelta { copied, ..ProgressDelta::default() }
    }

    #[test]
    fn a_callback_hears_the_first_and_the_last_and_not_everything_between() {
        let (calls, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counted, seen) = (Arc::clone(&calls), Arc::clone(&last));
        let progress = callback(Duration::from_secs(3600), move |so_far| {
            counted.fetch_add(1, Ordering::Relaxed);
            seen.store(so_far.done(), Ordering::Relaxed);
        });
        progress.begin(1000);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|_| progress.advance(copied(1))));
            }
        });
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop(progress);
        assert_eq!((calls.load(Ordering::Relaxed), last.load(Ordering::Relaxed)), (2, 1000));
    }

    #[test]
    fn events_keep_their_order_and_progress_is_drawn_together() {
        let (reporter, events) = events(Duration::ZERO);
        reporter.begin(30);
        reporter.disk(1, 2, "a", 10);
        (0..10).for_each(|_| reporter.advance(copied(1)));
        reporter.disk(2, 2, "b", 20);
        (0..20).for_each(|_| reporter.advance(copied(1)));
        drop(reporter);
        let so_far = |copied| Event::Progress(SoFar { total: 30, copied, ..SoFar::default() });
        let disk = |place, name: &str, size| Event::Disk { place, of: 2, name: name.to_owned(), size };
        let expected = [Event::Begin { total: 30 }, disk(1, "a", 10), so_far(10), disk(2, "b", 20), so_far(30)];
        assert_eq!(events.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_reader_is_not_woken_more_often_than_it_asked_for() {
        let (reporter, events) = events(Duration::from_millis(50));
        let reader = thread::spawn(move || events.collect::<Vec<_>>());
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(300) {
            reporter.advance(copied(1));
        }
        drop(reporter);
        let seen = reader.join().unwrap();
        assert!((1..=9).contains(&seen.len()), "{}", seen.len());
    }
}
