//! What workers do to jobs: take one, say that they are still at it, end it.

use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};
use transload::block::Result;

use super::list::{new_id, search_text};
use super::row::{COLUMNS, job, json, number, text, to_json};
use super::{Store, failed};
use crate::model::{EventKind, Job, JobError, JobErrorKind, JobProgress, JobRequest, JobResult, JobState};

/// A job that a worker has taken.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job as it stands now.
    pub job: Job,
    /// What everything that is written about it has to name. Higher than that of any worker before.
    pub token: i64,
    /// What is to be done with it.
    pub duty: Duty,
    /// What the worker before was about to publish, if it came that far.
    pub intent: Option<serde_json::Value>,
}

/// What the worker has to do with a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Duty {
    /// The job itself, after what is left of earlier attempts was removed.
    Run,
    /// Only remove what earlier attempts have left and end the job so: it has been tried often enough, or is to stop.
    Settle(Outcome),
}

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done(Box<JobResult>),
    /// It failed for good.
    Failed(Box<JobError>),
    /// It was asked to stop.
    Cancelled,
    /// It is to be tried again, by whomever.
    Again {
        /// Why; nothing when the worker itself has to stop.
        error: Option<Box<JobError>>,
        /// How long to wait.
        delay: Duration,
        /// Whether the attempt counts.
        counts: bool,
    },
}

impl Outcome {
    /// The state that a job comes to with it, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::Again { .. } => "queued",
        }
    }
}

/// That a worker is still at a job.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The job's id.
    pub id: String,
    /// The claim's token.
    pub token: i64,
    /// How far it is, where that has changed.
    pub progress: Option<JobProgress>,
}

/// What a worker hears about a job that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Go on.
    Alive,
    /// Somebody wants it to stop.
    CancelRequested,
    /// It belongs to somebody else, or is no more: nothing that is made of it may be published.
    Lost,
}

impl Store {
    /// Takes the job that is next: one that waits, or one whose worker has not been heard of for longer than its lease.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn claim(&self, worker: &str, lease: Duration) -> Result<Option<Claim>> {
        let mut transaction = self.begin().await?;
        let select = format!(
            "SELECT {COLUMNS} FROM transload_jobs WHERE (state = 'queued' AND (not_before IS NULL OR not_before <= {{now}})) \
             OR (state = 'running' AND lease_until < {{now}}) ORDER BY priority DESC, seq LIMIT 1 {{skip_locked}}"
        );
        let row =
            sqlx::query(self.sql(&select)).fetch_optional(&mut *transaction).await.map_err(failed("claim a job"))?;
        let Some(row) = row else {
            transaction.rollback().await.map_err(failed("claim a job"))?;
            return Ok(None);
        };
        let claim = self.take(&mut transaction, &row, worker, lease).await?;
        transaction.commit().await.map_err(failed("claim a job"))?;
        self.tell_events();
        Ok(Some(claim))
    }

    async fn take(
        &self,
        transaction: &mut Transaction<'static, Any>,
        row: &AnyRow,
        worker: &str,
        lease: Duration,
    ) -> Result<Claim> {
        let found = job(row)?;
        let lost = (found.state == JobState::Running).then(|| JobError {
            attempt: found.attempts,
            at: Some(found.updated_at),
            ..JobError::new(
                JobErrorKind::WorkerLost,
                format!("worker {} was not heard of any more", found.worker.as_deref().unwrap_or("?")),
            )
        });
        let duty = match &lost {
            Some(_) if found.cancel_requested => Duty::Settle(Outcome::Cancelled),
            Some(error) if found.streamed || found.attempts >= found.max_attempts => {
                Duty::Settle(Outcome::Failed(Box::new(error.clone())))
            }
            _ => Duty::Run,
        };
        let update = format!(
            "UPDATE transload_jobs SET state = 'running', worker = $2, token = token + 1, lease_until = {{now}} + $3, \
             attempts = attempts + $4, last_error = COALESCE($5, last_error), progress = '{{}}', warnings = '[]', \
             not_before = NULL, started_at = {{now}}, updated_at = {{now}}, last_event = last_event + 1 \
             WHERE id = $1 RETURNING {COLUMNS}"
        );
        let update = sqlx::query(self.sql(&update))
            .bind(found.id.clone())
            .bind(worker.to_owned())
            .bind(millis(lease))
            .bind(i64::from(duty == Duty::Run))
            .bind(lost.as_ref().map(to_json).transpose()?);
        let row = update.fetch_one(&mut **transaction).await.map_err(failed("claim a job"))?;
        let taken = job(&row)?;
        let event = EventKind::State {
            state: JobState::Running,
            attempt: taken.attempts,
            result: None,
            error: lost.map(Box::new),
        };
        self.add_event(transaction, &taken.id, taken.last_event, &event).await?;
        Ok(Claim { token: number(&row, "token")?, intent: json(&row, "intent")?, duty, job: taken })
    }

    /// Records a job that an HTTP request carries, as one that runs. It is never given to another worker to be done: if this
    /// process ends, it has failed.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn begin_streamed(&self, request: &JobRequest, worker: &str, lease: Duration) -> Result<Claim> {
        let mut transaction = self.begin().await?;
        let insert = format!(
            "INSERT INTO transload_jobs (id, kind, state, priority, request, search, streamed, progress, warnings, attempts, \
             max_attempts, token, worker, lease_until, cancel_requested, last_event, created_at, started_at, updated_at) \
             VALUES ($1, $2, 'running', 0, $3, $4, 1, '{{}}', '[]', 1, 1, 1, $5, {{now}} + $6, 0, 1, {{now}}, {{now}}, {{now}}) \
             RETURNING {COLUMNS}"
        );
        let insert = sqlx::query(self.sql(&insert))
            .bind(new_id())
            .bind(request.kind().as_str().to_owned())
            .bind(to_json(request)?)
            .bind(search_text(request))
            .bind(worker.to_owned())
            .bind(millis(lease));
        let row = insert.fetch_one(&mut *transaction).await.map_err(failed("record a job"))?;
        let begun = job(&row)?;
        let event = EventKind::State { state: JobState::Running, attempt: 1, result: None, error: None };
        self.add_event(&mut transaction, &begun.id, 1, &event).await?;
        transaction.commit().await.map_err(failed("record a job"))?;
        Ok(Claim { token: number(&row, "token")?, intent: None, duty: Duty::Run, job: begun })
    }

    /// Says that a worker is still at its jobs, and how far; answers for each what it has to know, in the same order.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn heartbeat(&self, beats: &[Beat], lease: Duration) -> Result<Vec<Pulse>> {
        let mut transaction = self.begin().await?;
        let mut pulses = Vec::with_capacity(beats.len());
        for beat in beats {
            let progress = beat.progress.as_ref().map(to_json).transpose()?;
            let update = "UPDATE transload_jobs SET lease_until = {now} + $3, progress = COALESCE($4, progress), \
                 last_event = last_event + $5, updated_at = {now} WHERE id = $1 AND token = $2 AND state = 'running' \
                 RETURNING cancel_requested, last_event";
            let update = sqlx::query(self.sql(update))
                .bind(beat.id.clone())
                .bind(beat.token)
                .bind(millis(lease))
                .bind(progress)
                .bind(i64::from(beat.progress.is_some()));
            let row = update.fetch_optional(&mut *transaction).await.map_err(failed("send a heartbeat"))?;
            let Some(row) = row else {
                pulses.push(Pulse::Lost);
                continue;
            };
            if let Some(progress) = &beat.progress {
                let event = EventKind::Progress { progress: progress.clone() };
                self.add_event(&mut transaction, &beat.id, number(&row, "last_event")?, &event).await?;
            }
            let cancelled = number(&row, "cancel_requested")? != 0;
            pulses.push(if cancelled { Pulse::CancelRequested } else { Pulse::Alive });
        }
        transaction.commit().await.map_err(failed("send a heartbeat"))?;
        self.tell_events();
        Ok(pulses)
    }

    /// Records what is about to be published. From then on the job ends as done: whoever takes it over finishes the
    /// publication instead of beginning anew.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn intend(&self, id: &str, token: i64, intent: &serde_json::Value, lease: Duration) -> Result<Pulse> {
        let update = "UPDATE transload_jobs SET intent = $3, lease_until = {now} + $4, updated_at = {now} \
             WHERE id = $1 AND token = $2 AND state = 'running' AND cancel_requested = 0";
        let update = sqlx::query(self.sql(update)).bind(id.to_owned()).bind(token).bind(to_json(intent)?);
        let update = update.bind(millis(lease)).execute(&self.pool).await.map_err(failed("record a publication"))?;
        if update.rows_affected() > 0 {
            return Ok(Pulse::Alive);
        }
        let select = "SELECT id FROM transload_jobs WHERE id = $1 AND token = $2 AND state = 'running'";
        let row = sqlx::query(select).bind(id.to_owned()).bind(token).fetch_optional(&self.pool).await;
        let still_ours = row.map_err(failed("record a publication"))?.is_some();
        Ok(if still_ours { Pulse::CancelRequested } else { Pulse::Lost })
    }

    /// Forgets what was to be published, as it cannot be. Only the one who has the job can.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn drop_intent(&self, id: &str, token: i64) -> Result<()> {
        let update = "UPDATE transload_jobs SET intent = NULL WHERE id = $1 AND token = $2 AND state = 'running'";
        let update = sqlx::query(update).bind(id.to_owned()).bind(token);
        update.execute(&self.pool).await.map(drop).map_err(failed("record a publication"))
    }

    /// Ends an attempt. `false` when the job belongs to somebody else by now, and nothing was changed.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn finish(&self, id: &str, token: i64, outcome: &Outcome, warnings: &[String]) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let select = format!(
            "SELECT {COLUMNS} FROM transload_jobs WHERE id = $1 AND token = $2 AND state = 'running' {{for_update}}"
        );
        let row =
            sqlx::query(self.sql(&select)).bind(id.to_owned()).bind(token).fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(failed("end a job"))? else {
            transaction.rollback().await.map_err(failed("end a job"))?;
            return Ok(false);
        };
        let running = job(&row)?;
        let ending = Ending::new(&running, outcome);
        let update = "UPDATE transload_jobs SET state = $3, result = $4, error = $5, last_error = COALESCE($6, last_error), \
             warnings = $7, attempts = attempts - $8, not_before = CASE WHEN $9 < 0 THEN NULL ELSE {now} + $9 END, \
             finished_at = CASE WHEN $9 < 0 THEN {now} ELSE NULL END, worker = CASE WHEN $9 < 0 THEN worker ELSE NULL END, \
             intent = NULL, lease_until = NULL, updated_at = {now} WHERE id = $1 AND token = $2";
        let update = sqlx::query(self.sql(update))
            .bind(id.to_owned())
            .bind(token)
            .bind(ending.state.as_str().to_owned())
            .bind(ending.result.as_ref().map(to_json).transpose()?)
            .bind(ending.error.as_ref().filter(|_| ending.state == JobState::Failed).map(to_json).transpose()?)
            .bind(ending.error.as_ref().map(to_json).transpose()?)
            .bind(to_json(&warnings)?)
            .bind(i64::from(ending.refund))
            .bind(ending.delay);
        update.execute(&mut *transaction).await.map_err(failed("end a job"))?;
        for message in warnings {
            self.next_event(&mut transaction, id, &EventKind::Warning { message: message.clone() }).await?;
        }
        let event = EventKind::State {
            state: ending.state,
            attempt: running.attempts,
            result: ending.result.map(Box::new),
            error: ending.error.map(Box::new),
        };
        self.next_event(&mut transaction, id, &event).await?;
        transaction.commit().await.map_err(failed("end a job"))?;
        self.tell_events();
        self.signals.work.notify_one();
        Ok(true)
    }

    /// The workers that jobs are running under.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn active_workers(&self) -> Result<Vec<String>> {
        let select = "SELECT DISTINCT worker FROM transload_jobs WHERE state = 'running' AND worker IS NOT NULL";
        let rows = sqlx::query(select).fetch_all(&self.pool).await.map_err(failed("list workers"))?;
        rows.iter().map(|row| text(row, "worker")).collect()
    }

    /// Ends the leases of a worker that is known to be dead, so that nobody has to wait for them to run out.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn expire_worker(&self, worker: &str) -> Result<u64> {
        let update = "UPDATE transload_jobs SET lease_until = 0 WHERE state = 'running' AND worker = $1";
        let update = sqlx::query(update).bind(worker.to_owned()).execute(&self.pool).await;
        let expired = update.map_err(failed("end leases"))?.rows_affected();
        self.signals.work.notify_one();
        Ok(expired)
    }
}

/// What becomes of a job's row when an attempt ends.
struct Ending {
    state: JobState,
    result: Option<JobResult>,
    error: Option<JobError>,
    /// Whether the attempt is given back.
    refund: bool,
    /// Milliseconds until it may begin again; less than 0 where the job has ended.
    delay: i64,
}

impl Ending {
    fn new(job: &Job, outcome: &Outcome) -> Self {
        let ended = |state, result, error| Self { state, result, error, refund: false, delay: -1 };
        let told = |error: &JobError| {
            Some(JobError {
                attempt: job.attempts,
                at: Some(error.at.unwrap_or_else(crate::model::Timestamp::now)),
                ..error.clone()
            })
        };
        match outcome {
            Outcome::Done(result) => ended(JobState::Done, Some((**result).clone()), None),
            Outcome::Failed(error) => ended(JobState::Failed, None, told(error)),
            Outcome::Cancelled => ended(JobState::Cancelled, None, None),
            Outcome::Again { .. } if job.cancel_requested => ended(JobState::Cancelled, None, None),
            Outcome::Again { error: Some(error), counts: true, .. } if job.attempts >= job.max_attempts => {
                ended(JobState::Failed, None, told(error))
            }
            Outcome::Again { error, delay, counts } => Self {
                state: JobState::Queued,
                result: None,
                error: error.as_deref().and_then(told),
                refund: !counts,
                delay: millis(*delay),
            },
        }
    }
}

fn millis(duration: Duration) -> i64 {
    // A lease of a century is for ever, and can be added to a clock.
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(100 * 366 * 86_400_000)
}
