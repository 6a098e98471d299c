//! The leases of a process: one heartbeat for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use transload::convert::Cancel;

use crate::meter::{Meter, Pace, Rate};
use crate::model::JobProgress;
use crate::store::{Beat, Claim, Pulse, Store};

/// Why a job is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    /// It is not.
    Goes = 0,
    /// Somebody asked for it.
    Cancelled = 1,
    /// This process has to end.
    Shutdown = 2,
    /// It belongs to somebody else.
    Lost = 3,
}

/// A job at hand.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) token: i64,
    pub(super) meter: Arc<Meter>,
    pub(super) cancel: Cancel,
    fate: AtomicU8,
    report: Mutex<Report>,
}

/// What was last said of it.
#[derive(Debug)]
struct Report {
    pace: Pace,
    sent: Option<JobProgress>,
    /// When the store last answered that the job is ours.
    confirmed: Instant,
}

impl Held {
    pub(super) fn fate(&self) -> Fate {
        match self.fate.load(Ordering::Acquire) {
            0 => Fate::Goes,
            1 => Fate::Cancelled,
            2 => Fate::Shutdown,
            _ => Fate::Lost,
        }
    }

    /// Has it stop. A graver reason takes the place of a lighter one.
    pub(super) fn doom(&self, fate: Fate) {
        self.fate.fetch_max(fate as u8, Ordering::AcqRel);
        self.cancel.cancel();
    }
}

/// The jobs at hand.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Store,
    lease: Duration,
    held: Mutex<HashMap<(String, i64), Arc<Held>>>,
    empty: Notify,
}

impl Keeper {
    pub(super) fn new(store: Store, lease: Duration) -> Self {
        Self { store, lease, held: Mutex::default(), empty: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, i64), Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Keeps the lease of a job from now on.
    pub(super) fn hold(&self, claim: &Claim, rate: Option<Arc<Rate>>) -> Arc<Held> {
        let cancel = Cancel::default();
        let held = Arc::new(Held {
            id: claim.job.id.clone(),
            token: claim.token,
            meter: Arc::new(Meter::new(cancel.clone(), rate)),
            cancel,
            fate: AtomicU8::new(0),
            report: Mutex::new(Report { pace: Pace::default(), sent: None, confirmed: Instant::now() }),
        });
        self.lock().insert((held.id.clone(), held.token), Arc::clone(&held));
        held
    }

    /// Keeps it no longer.
    pub(super) fn release(&self, held: &Held) {
        let mut all = self.lock();
        all.remove(&(held.id.clone(), held.token));
        if all.is_empty() {
            self.empty.notify_waiters();
        }
    }

    /// Waits until no job is at hand.
    pub(super) async fn idle(&self) {
        loop {
            let empty = self.empty.notified();
            if self.len() == 0 {
                return;
            }
            // A look every now and then does for a wake-up that came between the two lines above.
            drop(tokio::time::timeout(Duration::from_millis(100), empty).await);
        }
    }

    /// Has all jobs stop, since the process does.
    pub(super) fn stop_all(&self) {
        self.lock().values().for_each(|held| held.doom(Fate::Shutdown));
    }

    /// Says of all jobs that this process is at them, and hears which are to stop.
    pub(super) async fn beat(&self) {
        let all: Vec<Arc<Held>> = self.lock().values().cloned().collect();
        if all.is_empty() {
            return;
        }
        let beats: Vec<Beat> = all.iter().map(|held| held.beat()).collect();
        let asked = Instant::now();
        match tokio::time::timeout(self.lease, self.store.heartbeat(&beats, self.lease)).await {
            Ok(Ok(pulses)) => {
                for ((held, beat), pulse) in all.iter().zip(&beats).zip(pulses) {
                    held.note(beat, pulse, asked);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a heartbeat failed");
                all.iter().for_each(|held| held.give_up(self.lease));
            }
            Err(_) => {
                tracing::warn!("a heartbeat was not answered");
                all.iter().for_each(|held| held.give_up(self.lease));
            }
        }
    }
}

impl Held {
    /// What is to be said of it now: that it lives, and how far it is where that has changed.
    pub(super) fn beat(&self) -> Beat {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = self.meter.read();
        report.pace.take(&mut progress, Instant::now());
        let moved = report.sent.as_ref() != Some(&progress);
        Beat { id: self.id.clone(), token: self.token, progress: moved.then_some(progress) }
    }

    fn note(&self, beat: &Beat, pulse: Pulse, asked: Instant) {
        match pulse {
            Pulse::Alive => {}
            Pulse::CancelRequested => self.doom(Fate::Cancelled),
            Pulse::Lost => self.doom(Fate::Lost),
        }
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.confirmed = asked;
        if beat.progress.is_some() {
            report.sent.clone_from(&beat.progress);
        }
    }

    /// A job that could not be confirmed for longer than its lease belongs to somebody else by now.
    fn give_up(&self, lease: Duration) {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if report.confirmed.elapsed() > lease {
            self.doom(Fate::Lost);
        }
    }
}
