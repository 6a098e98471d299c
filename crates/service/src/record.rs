//! Streamed conversions in the list of jobs: each is recorded as a job that runs, and as what became of it.
//!
//! A request that ends without a word, as its client went away, is a job that failed. So is one whose process ended: its lease
//! runs out, and the next who looks at the queue says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tokio::task::JoinHandle;
use transload::block::Error;
use transload::convert::{Cancel, Progress, ProgressDelta};
use transload_jobs::model::{JobError, JobErrorKind, JobProgress, JobRequest, JobResult};
use transload_jobs::store::{Beat, Outcome, Pulse};

use crate::problem::Answer;
use crate::state::Shared;

/// How long a process may be silent before its conversions count as lost, and how often it speaks.
const LEASE: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_secs(2);

/// How far a conversion is.
#[derive(Debug)]
pub(crate) struct Meter {
    total: AtomicU64,
    done: AtomicU64,
    written: AtomicU64,
    begun: Instant,
    counted: IntCounter,
}

impl Meter {
    fn progress(&self) -> JobProgress {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = done.saturating_mul(1000) / milliseconds;
        JobProgress {
            step: None,
            done_bytes: done,
            total_bytes: (total > 0).then_some(total),
            written_bytes: self.written.load(Ordering::Relaxed),
            bytes_per_second: Some(rate),
            eta_seconds: total.saturating_sub(done).checked_div(rate).filter(|_| total > 0),
        }
    }
}

impl Progress for Meter {
    fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, delta: ProgressDelta) {
        let done = delta.copied.saturating_add(delta.skipped);
        self.done.fetch_add(done, Ordering::Relaxed);
        self.written.fetch_add(delta.written, Ordering::Relaxed);
        self.counted.inc_by(done);
    }
}

/// A streamed conversion as the list of jobs has it.
#[derive(Debug)]
pub(crate) struct Record {
    app: Shared,
    id: String,
    token: i64,
    pub(crate) meter: Arc<Meter>,
    beats: JoinHandle<()>,
    runtime: tokio::runtime::Handle,
    is_told: bool,
}

impl Record {
    /// Records a conversion that begins. Who cancels the job stops it by `cancel`.
    pub(crate) async fn begin(app: &Shared, request: &JobRequest, cancel: &Cancel) -> Answer<Self> {
        let claim = app.store.begin_streamed(request, &app.worker, LEASE).await.map_err(|error| app.problem(error))?;
        let meter = Arc::new(Meter {
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            written: AtomicU64::new(0),
            begun: Instant::now(),
            counted: app.metrics.disk_bytes.clone(),
        });
        let (id, token) = (claim.job.id, claim.token);
        let beats = tokio::spawn(beat(Arc::clone(app), id.clone(), token, Arc::clone(&meter), cancel.clone()));
        let runtime = tokio::runtime::Handle::current();
        Ok(Self { app: Arc::clone(app), id, token, meter, beats, runtime, is_told: false })
    }

    /// Says what became of it.
    pub(crate) async fn end(mut self, outcome: Result<(JobResult, Vec<String>), JobError>) {
        self.is_told = true;
        let (outcome, warnings) = match outcome {
            Ok((result, warnings)) => (Outcome::Done(Box::new(result)), warnings),
            Err(error) => (Outcome::Failed(Box::new(error)), Vec::new()),
        };
        tell(&self.app, &self.id, self.token, &outcome, &warnings).await;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.beats.abort();
        if self.is_told {
            return;
        }
        let (app, id, token) = (Arc::clone(&self.app), std::mem::take(&mut self.id), self.token);
        self.runtime.spawn(async move {
            let error = JobError::new(JobErrorKind::Network, "the client went away before the conversion was done");
            tell(&app, &id, token, &Outcome::Failed(Box::new(error)), &[]).await;
        });
    }
}

async fn tell(app: &Shared, id: &str, token: i64, outcome: &Outcome, warnings: &[String]) {
    if let Err(error) = app.store.finish(id, token, outcome, warnings).await {
        tracing::error!(job = id, %error, "what became of a conversion could not be recorded");
    }
}

/// Says every now and then that the conversion goes on, and hears whether it is to stop.
async fn beat(app: Shared, id: String, token: i64, meter: Arc<Meter>, cancel: Cancel) {
    loop {
        tokio::time::sleep(BEAT).await;
        let beat = Beat { id: id.clone(), token, progress: Some(meter.progress()) };
        match app.store.heartbeat(&[beat], LEASE).await.as_deref() {
            Ok([Pulse::Alive]) => {}
            Ok(_) => cancel.cancel(),
            Err(error) => tracing::warn!(job = id, %error, "a conversion's progress could not be recorded"),
        }
    }
}

/// An error as the list of jobs has it, without the names of the host's folders.
pub(crate) fn told(app: &Shared, error: &Error) -> JobError {
    let mut told = JobError::from(error);
    told.message = app.shown(&told.message);
    for cause in &mut told.causes {
        *cause = app.shown(cause);
    }
    told
}
