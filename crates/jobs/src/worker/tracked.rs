//! Jobs that an HTTP request carries: they run where the request is served, and stand in the list as others do.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use transload::block::{Error, ErrorKind, Result};
use transload::convert::Cancel;

use super::Shared;
use super::attempt::{end, publish};
use super::keeper::{Fate, Held};
use crate::meter::Meter;
use crate::model::{JobError, JobRequest, JobResult};
use crate::publish::Staging;
use crate::store::Outcome;
use crate::tasks::{Made, Produced};

/// A job that is carried by an HTTP request. Dropped without an end, it has failed: the client went away.
pub struct Tracked {
    shared: Arc<Shared>,
    held: Arc<Held>,
    ended: bool,
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Tracked {
    pub(super) async fn begin(shared: Arc<Shared>, request: &JobRequest) -> Result<Self> {
        let claim = shared.store.begin_streamed(request, &shared.name, shared.settings.lease).await?;
        let held = shared.keeper.hold(&claim, shared.rate.clone());
        Ok(Self { shared, held, ended: false })
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.held.id
    }

    /// Whom the engine tells how far it is.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.held.meter
    }

    /// What stops the engine when the job is cancelled, or the process has to end.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.held.cancel
    }

    /// A place for what is written until it is whole, beside `target`, which a [`Root`](crate::root::Root) has resolved. If the
    /// process is killed, whoever takes care of its jobs removes it.
    ///
    /// # Errors
    /// As [`Staging::create`].
    pub fn stage(&self, target: &Path, force: bool) -> Result<Staging> {
        Staging::create(target, &self.held.id, self.held.token, force)
    }

    /// Publishes what was staged, and ends the job as done.
    ///
    /// # Errors
    /// `Cancelled` when somebody wanted it to stop, or it was given up meanwhile; `Denied` when the name was taken. Nothing is
    /// published then, and the job has ended.
    pub async fn publish(
        mut self,
        staging: Staging,
        force: bool,
        result: JobResult,
        warnings: Vec<String>,
    ) -> Result<JobResult> {
        self.ended = true;
        let produced = Produced { result, warnings, made: Made::Staged(staging), force };
        let ended = publish(&self.shared, &self.held, produced).await;
        if let Some((outcome, warnings)) = &ended {
            end(&self.shared, &self.held, outcome, warnings).await;
        }
        match ended {
            Some((Outcome::Done(result), _)) => Ok(*result),
            Some((Outcome::Failed(error), _)) => Err(Error::new(ErrorKind::Denied, error.message)),
            _ => Err(Error::new(ErrorKind::Cancelled, "the job was cancelled")),
        }
    }

    /// Ends the job as done, where nothing is published.
    pub async fn done(mut self, result: JobResult, warnings: Vec<String>) {
        self.ended = true;
        end(&self.shared, &self.held, &Outcome::Done(Box::new(result)), &warnings).await;
    }

    /// Ends the job as failed, or as cancelled if that is why.
    pub async fn fail(mut self, error: &Error) {
        self.ended = true;
        end(&self.shared, &self.held, &self.failure(error), &[]).await;
    }

    fn failure(&self, error: &Error) -> Outcome {
        match self.held.fate() {
            Fate::Cancelled => Outcome::Cancelled,
            _ => Outcome::Failed(Box::new(JobError::from(error))),
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let (shared, held) = (Arc::clone(&self.shared), Arc::clone(&self.held));
        if self.ended {
            shared.keeper.release(&held);
            return;
        }
        held.cancel.cancel();
        let outcome = self.failure(&Error::new(ErrorKind::Network, "the client went away before it was done"));
        // Without a runtime the process is ending, and the lease runs out by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                end(&shared, &held, &outcome, &[]).await;
                shared.keeper.release(&held);
            });
        } else {
            shared.keeper.release(&held);
        }
    }
}
