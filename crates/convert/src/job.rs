//! What the threads of one job share: the first error, the stop sign, the order of tickets, and the bound on memory.
//!
//! ```text
//! acquire a slot ──► take a ticket ──► read, encode ──► in_turn(ticket) ──► write ──► release the slot
//! ```
//!
//! A slot is taken before the ticket, so whoever holds the lowest ticket holds a slot too and can always go on: waiting
//! for a slot or for a turn cannot become a circle. Whoever waits wakes up when the job stops. No lock of this module is
//! held while another one is taken.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use transload_block::{Error, ErrorKind, Result};

use crate::{Cancel, Progress, ProgressDelta};

/// Locks `mutex` whatever happened to it: a panic is an error of the job, and the job ends by it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One running job.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    cancel: &'a Cancel,
    progress: Option<&'a dyn Progress>,
    failure: Mutex<Option<Error>>,
    stopped: AtomicBool,
    turn: Signal<u64>,
    copied: AtomicU64,
    skipped: AtomicU64,
}

impl<'a> Job<'a> {
    /// A job that nobody has stopped.
    pub(crate) fn new(cancel: &'a Cancel, progress: Option<&'a dyn Progress>) -> Self {
        Self {
            cancel,
            progress,
            failure: Mutex::new(None),
            stopped: AtomicBool::new(false),
            turn: Signal::new(0),
            copied: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// Records `error` if it is the first, and stops everybody.
    pub(crate) fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.stopped.store(true, Ordering::Release);
        self.turn.wake();
    }

    /// Whether somebody failed.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Goes on unless the job was stopped, by an error elsewhere or by its owner.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(stopped());
        }
        self.cancel.check()
    }

    /// Runs `body`, and turns an error or a panic of it into the failure of the job.
    pub(crate) fn guard(&self, body: impl FnOnce() -> Result<()>) {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(panic) => self.fail(from_panic(panic.as_ref())),
        }
    }

    /// What the job ended with: the first failure, or nothing.
    pub(crate) fn outcome(&self) -> Result<()> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    /// Waits until all tickets below `ticket` had their turn, runs `body`, and lets the next one go.
    pub(crate) fn in_turn<T>(&self, ticket: u64, body: impl FnOnce() -> Result<T>) -> Result<T> {
        self.turn.wait_until(|turn| *turn == ticket, || self.is_stopped())?;
        let answer = body()?;
        self.turn.set(ticket + 1);
        Ok(answer)
    }

    /// Counts what was done and tells it on.
    pub(crate) fn advance(&self, delta: ProgressDelta) {
        self.copied.fetch_add(delta.copied, Ordering::Relaxed);
        self.skipped.fetch_add(delta.skipped, Ordering::Relaxed);
        if let Some(progress) = self.progress {
            progress.advance(delta);
        }
    }

    /// Guest bytes copied and skipped so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.copied.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed))
    }

    /// Wakes those who wait for `pool` when the job stops.
    pub(crate) fn acquire<T>(&self, pool: &Pool<T>) -> Result<T> {
        // Whoever stops the job cannot know every pool, so the wait looks up now and then.
        pool.free.wait_take(|| self.is_stopped())
    }
}

/// What stands for "somebody else failed": never recorded, since the failure that stopped the job came first.
fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "stopped")
}

/// An error that says what a thread panicked with.
fn from_panic(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::new(ErrorKind::Io, format!("internal fault in a worker thread: {text}"))
        .with_remedy("report this with the command line and the image's `info`")
}

/// A value that threads wait for.
#[derive(Debug)]
struct Signal<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Signal<T> {
    fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    fn set(&self, value: T) {
        *lock(&self.value) = value;
        self.changed.notify_all();
    }

    fn wake(&self) {
        // Under the lock, so that nobody who has just looked and not yet gone to sleep misses it.
        let _guard = lock(&self.value);
        self.changed.notify_all();
    }

    fn wait_until(&self, wanted: impl Fn(&T) -> bool, stop: impl Fn() -> bool) -> Result<()> {
        let mut value = lock(&self.value);
        loop {
            if stop() {
                return Err(stopped());
            }
            if wanted(&value) {
                return Ok(());
            }
            value = self.changed.wait(value).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Signal<Vec<T>> {
    fn wait_take(&self, stop: impl Fn() -> bool) -> Result<T> {
        /// How long a thread may sleep on after the job has stopped.
        const LOOK_UP: std::time::Duration = std::time::Duration::from_millis(2);
        let mut free = lock(&self.value);
        loop {
            if stop() {
                return Err(stopped());
            }
            if let Some(slot) = free.pop() {
                return Ok(slot);
            }
            (free, _) = self.changed.wait_timeout(free, LOOK_UP).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A fixed number of slots with their buffers, which go round and round.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    free: Signal<Vec<T>>,
}

impl<T> Pool<T> {
    /// A pool of the given slots.
    pub(crate) fn new(slots: Vec<T>) -> Self {
        Self { free: Signal::new(slots) }
    }

    /// Gives a slot back.
    pub(crate) fn release(&self, slot: T) {
        lock(&self.free.value).push(slot);
        self.free.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_first_failure_wins_and_wakes_those_who_wait() {
        let cancel = Cancel::default();
        let job = Job::new(&cancel, None);
        let pool: Pool<u8> = Pool::new(Vec::new());
        thread::scope(|scope| {
            scope.spawn(|| job.guard(|| job.in_turn(7, || Ok(()))));
            scope.spawn(|| job.guard(|| job.acquire(&pool).map(drop)));
            scope.spawn(|| job.guard(|| Err(Error::new(ErrorKind::NoSpace, "full"))));
        });
        assert_eq!(job.outcome().unwrap_err().kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn a_panic_is_an_error_of_the_job() {
        let cancel = Cancel::default();
        let job = Job::new(&cancel, None);
        job.guard(|| panic!("broken"));
        let error = job.outcome().unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }

    #[test]
    fn turns_come_in_the_order_of_tickets() {
        let cancel = Cancel::default();
        let job = Job::new(&cancel, None);
        let seen = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for ticket in (0..16).rev() {
                let (job, seen) = (&job, &seen);
                scope.spawn(move || {
                    job.guard(|| {
                        job.in_turn(ticket, || {
                            lock(seen).push(ticket);
                            Ok(())
                        })
                    });
                });
            }
        });
        assert_eq!(*lock(&seen), (0..16).collect::<Vec<_>>());
    }
}
