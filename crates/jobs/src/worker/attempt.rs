//! One attempt at one job, from its claim to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use transload::block::{Error, Result};

use super::Shared;
use super::keeper::{Fate, Held};
use crate::model::{JobError, JobErrorKind, JobResult, OutputFile};
use crate::publish::{Plan, Staging, sweep};
use crate::root::Root;
use crate::store::{Beat, Claim, Duty, Outcome, Pulse};
use crate::tasks::{self, Context, Made, Produced, target_path};

/// How an attempt ended, and its warnings; `None` when the job is no longer ours to end.
type Ended = Option<(Outcome, Vec<String>)>;

/// Does what the claim's duty is, and tells the store how it ended.
pub(super) async fn attempt(shared: Arc<Shared>, claim: Claim, held: Arc<Held>, slot: OwnedSemaphorePermit) {
    let id = claim.job.id.clone();
    tracing::info!(job = id, kind = %claim.job.kind, attempt = claim.job.attempts, "a job begins");
    let ended = work(&shared, &claim, &held).await;
    match &ended {
        Some((outcome, warnings)) => end(&shared, &held, outcome, warnings).await,
        None => tracing::warn!(job = id, "the job belongs to another worker now; what was made of it is thrown away"),
    }
    shared.keeper.release(&held);
    drop(slot);
}

async fn work(shared: &Arc<Shared>, claim: &Claim, held: &Arc<Held>) -> Ended {
    if let Some(ended) = clear(shared, claim, held).await {
        return ended;
    }
    if let Duty::Settle(outcome) = &claim.duty {
        return Some((outcome.clone(), claim.job.warnings.clone()));
    }
    let context = Context {
        job: held.id.clone(),
        token: held.token,
        root: shared.settings.root.clone(),
        uploads: shared.settings.uploads.clone(),
        network: shared.settings.network.clone(),
        password: shared.settings.archive_password.clone(),
        meter: Arc::clone(&held.meter),
        cancel: held.cancel.clone(),
        threads: shared.threads(),
        memory: shared.memory(),
    };
    let request = claim.job.request.clone();
    let produced = tokio::task::spawn_blocking(move || tasks::run(&context, &request)).await;
    match produced {
        Ok(Ok(produced)) => publish(shared, held, produced).await,
        Ok(Err(error)) => failure(shared, claim, held, &error),
        Err(error) => {
            let text = format!("a fault in Transload: {error}");
            let error = JobError::new(JobErrorKind::Internal, text);
            Some((Outcome::Failed(Box::new(error)), Vec::new()))
        }
    }
}

/// Finishes what an earlier worker was about to publish, and removes what earlier ones have left. `Some` when the job has
/// ended with that.
async fn clear(shared: &Arc<Shared>, claim: &Claim, held: &Arc<Held>) -> Option<Ended> {
    let intended = claim.intent.clone().and_then(|intent| serde_json::from_value::<Plan>(intent).ok());
    if let Some(plan) = intended {
        let copy = plan.clone();
        let published = blocking(move || copy.carry_out()).await;
        match published {
            Ok(()) => {
                tracing::info!(job = held.id, "what an earlier worker was about to publish is published");
                clear_away(shared, claim, held).await;
                return Some(Some((Outcome::Done(Box::new(plan.result)), plan.warnings)));
            }
            Err(error) => tracing::info!(job = held.id, %error, "what was to be published is not there any more"),
        }
        if let Err(error) = shared.store.drop_intent(&held.id, held.token).await {
            return Some(failure(shared, claim, held, &error));
        }
    }
    if let Err(error) = swept(shared, claim, held).await
        && claim.duty == Duty::Run
    {
        // Without that, an earlier worker that wakes up could still publish.
        return Some(failure(shared, claim, held, &error));
    }
    None
}

async fn clear_away(shared: &Arc<Shared>, claim: &Claim, held: &Arc<Held>) {
    if let Err(error) = swept(shared, claim, held).await {
        tracing::warn!(job = held.id, %error, "what an earlier worker has left could not be removed");
    }
}

async fn swept(shared: &Arc<Shared>, claim: &Claim, held: &Arc<Held>) -> Result<()> {
    // A target that leads nowhere has nothing beside it.
    let Ok(Some(target)) = target_path(&shared.settings.root, claim.job.request.target()) else { return Ok(()) };
    let (id, token) = (held.id.clone(), held.token);
    blocking(move || sweep(&target, &id, token)).await
}

/// What a failure means for the job: whether it is one, and whether another attempt may help.
fn failure(shared: &Shared, claim: &Claim, held: &Held, error: &Error) -> Ended {
    /// The longest wait before another attempt.
    const LONGEST: Duration = Duration::from_secs(600);
    let outcome = match held.fate() {
        Fate::Lost => return None,
        Fate::Cancelled => Outcome::Cancelled,
        Fate::Shutdown => Outcome::Again { error: None, delay: Duration::ZERO, counts: false },
        Fate::Goes => {
            let error = JobError::from(error);
            if error.is_transient() {
                let doublings = claim.job.attempts.saturating_sub(1).min(20);
                let delay = shared.settings.backoff.saturating_mul(1 << doublings).min(LONGEST);
                Outcome::Again { error: Some(Box::new(error)), delay, counts: true }
            } else {
                Outcome::Failed(Box::new(error))
            }
        }
    };
    Some((outcome, Vec::new()))
}

/// Gives what was made its name, unless the job is somebody else's or is to stop.
pub(super) async fn publish(shared: &Arc<Shared>, held: &Arc<Held>, produced: Produced) -> Ended {
    let Produced { result, warnings, made, force } = produced;
    let published = match made {
        Made::Nothing => Ok(Some(result)),
        Made::Staged(staging) => staged(shared, held, staging, force, result, warnings.clone()).await,
        Made::Uploaded(upload) => {
            // Nothing can be renamed back at an address: the last look is as near to its end as can be.
            let beat = Beat { id: held.id.clone(), token: held.token, progress: None };
            match shared.store.heartbeat(&[beat], shared.settings.lease).await.map(|pulses| pulses.first().copied()) {
                Ok(Some(Pulse::Alive)) => blocking(move || upload.finish()).await.map(|written| {
                    let files = result.output.iter();
                    let files =
                        files.map(|name| OutputFile { name: name.clone(), size_bytes: Some(written) }).collect();
                    Some(JobResult { files, written_bytes: written, ..result })
                }),
                Ok(pulse) => {
                    held.doom(if pulse == Some(Pulse::CancelRequested) { Fate::Cancelled } else { Fate::Lost });
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        }
    };
    match (published, held.fate()) {
        (Ok(Some(result)), _) => Some((Outcome::Done(Box::new(result)), warnings)),
        (Ok(None), Fate::Cancelled) => Some((Outcome::Cancelled, warnings)),
        (Ok(None), _) | (Err(_), Fate::Lost) => None,
        (Err(error), _) => Some((Outcome::Failed(Box::new(JobError::from(&error))), warnings)),
    }
}

/// Publishes files: the intent first, then the renames. `None` when that may not be.
async fn staged(
    shared: &Arc<Shared>,
    held: &Arc<Held>,
    staging: Staging,
    force: bool,
    result: JobResult,
    warnings: Vec<String>,
) -> Result<Option<JobResult>> {
    let root = shared.settings.root.clone();
    let (plan, staging) = blocking(move || {
        let mut plan = staging.plan(force, result, warnings)?;
        plan.result.files = files(&plan, &root)?;
        Ok((plan, staging))
    })
    .await?;
    let intent = serde_json::to_value(&plan).map_err(|error| {
        Error::new(transload::block::ErrorKind::InvalidInput, "the publication is no JSON").with_source(error)
    })?;
    match shared.store.intend(&held.id, held.token, &intent, shared.settings.lease).await {
        Ok(Pulse::Alive) => {}
        Ok(Pulse::CancelRequested) => {
            held.doom(Fate::Cancelled);
            return Ok(None);
        }
        Ok(Pulse::Lost) => {
            held.doom(Fate::Lost);
            return Ok(None);
        }
        Err(error) => {
            // Whether it was written is not known. Whoever takes the job over sees.
            tracing::warn!(job = held.id, %error, "the intent to publish could not be recorded");
            held.doom(Fate::Lost);
            return Err(error);
        }
    }
    let copy = plan.clone();
    let renamed = blocking(move || copy.carry_out()).await;
    // Only now may the folder go: it was renamed out of, or has to go with what is in it.
    drop(staging);
    if renamed.is_err() {
        shared.store.drop_intent(&held.id, held.token).await?;
    }
    renamed.map(|()| Some(plan.result))
}

/// The files of a publication, by their names under the root.
fn files(plan: &Plan, root: &Root) -> Result<Vec<OutputFile>> {
    plan.files()?
        .into_iter()
        .map(|(path, size)| Ok(OutputFile { name: root.name_of(&path)?, size_bytes: Some(size) }))
        .collect()
}

/// Tells the store how the job ended, until it has heard it or the job is lost.
pub(super) async fn end(shared: &Shared, held: &Held, outcome: &Outcome, warnings: &[String]) {
    const AGAIN: Duration = Duration::from_millis(200);
    let begun = Instant::now();
    // How far it was in the end; how it ended is told even if that is not heard.
    if let Err(error) = shared.store.heartbeat(&[held.beat()], shared.settings.lease).await {
        tracing::warn!(job = held.id, %error, "the last progress could not be recorded");
    }
    loop {
        match shared.store.finish(&held.id, held.token, outcome, warnings).await {
            Ok(true) => {
                tracing::info!(job = held.id, outcome = outcome.name(), "a job ends");
                return;
            }
            Ok(false) => {
                tracing::warn!(job = held.id, "the job belongs to another worker now");
                return;
            }
            Err(error) if begun.elapsed() > shared.settings.lease * 2 => {
                tracing::error!(job = held.id, %error, "how the job ended could not be recorded; another worker will see");
                return;
            }
            Err(error) => {
                tracing::warn!(job = held.id, %error, "how the job ended could not be recorded yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Calls what may block on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| {
        Err(Error::new(transload::block::ErrorKind::Io, "a fault in Transload").with_source(error))
    })
}
