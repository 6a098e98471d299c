//! What people do to jobs: stop them, try them again, forget them.

use std::time::Duration;

use transload::block::{Error, ErrorKind, Result};

use super::row::{COLUMNS, number, shown};
use super::{Store, failed};
use crate::model::{EventKind, Job, JobState, Timestamp};

impl Store {
    /// Asks a job to stop. One that waits is cancelled at once; one that runs stops soon, in whichever process it does; one that
    /// has ended stays as it is. `None` when there is no such job.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn cancel(&self, id: &str) -> Result<Option<Job>> {
        let mut transaction = self.begin().await?;
        let update = format!(
            "UPDATE transload_jobs SET cancel_requested = 1, last_event = last_event + 1, updated_at = {{now}}, \
             finished_at = CASE WHEN state = 'queued' THEN {{now}} ELSE finished_at END, \
             not_before = CASE WHEN state = 'queued' THEN NULL ELSE not_before END, \
             state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END \
             WHERE id = $1 AND cancel_requested = 0 AND state IN ('queued', 'running') RETURNING {COLUMNS}"
        );
        let row = sqlx::query(self.sql(&update)).bind(id.to_owned()).fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(failed("cancel a job"))? else {
            transaction.rollback().await.map_err(failed("cancel a job"))?;
            return self.get(id).await;
        };
        let stopped = shown(&row)?;
        let event = match stopped.state {
            JobState::Cancelled => {
                EventKind::State { state: JobState::Cancelled, attempt: stopped.attempts, result: None, error: None }
            }
            _ => EventKind::CancelRequested,
        };
        self.add_event(&mut transaction, id, stopped.last_event, &event).await?;
        transaction.commit().await.map_err(failed("cancel a job"))?;
        self.tell_events();
        self.signals.cancel.notify_one();
        Ok(Some(stopped))
    }

    /// Puts a job that failed or was cancelled back into the queue, with all its attempts; why it failed stays in
    /// `last_error`. `None` when there is no such job.
    ///
    /// # Errors
    /// `InvalidInput` when it has not failed, or came with an HTTP request that has ended; what the database answers.
    pub async fn retry(&self, id: &str) -> Result<Option<Job>> {
        let mut transaction = self.begin().await?;
        let update = format!(
            "UPDATE transload_jobs SET state = 'queued', last_error = COALESCE(error, last_error), error = NULL, attempts = 0, \
             cancel_requested = 0, progress = '{{}}', warnings = '[]', not_before = NULL, finished_at = NULL, worker = NULL, \
             last_event = last_event + 1, updated_at = {{now}} \
             WHERE id = $1 AND streamed = 0 AND state IN ('failed', 'cancelled') RETURNING {COLUMNS}"
        );
        let row = sqlx::query(self.sql(&update)).bind(id.to_owned()).fetch_optional(&mut *transaction).await;
        let Some(row) = row.map_err(failed("retry a job"))? else {
            transaction.rollback().await.map_err(failed("retry a job"))?;
            let Some(job) = self.get(id).await? else { return Ok(None) };
            let reason = if job.streamed {
                "came with a request that has ended".to_owned()
            } else {
                format!("is {}", job.state)
            };
            let text = format!("job {id}: {reason}; only one that failed or was cancelled can be tried again");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        };
        let queued = shown(&row)?;
        let event = EventKind::State { state: JobState::Queued, attempt: 0, result: None, error: None };
        self.add_event(&mut transaction, id, queued.last_event, &event).await?;
        transaction.commit().await.map_err(failed("retry a job"))?;
        self.tell_events();
        self.signals.work.notify_one();
        Ok(Some(queued))
    }

    /// Forgets a job that has ended, with its events; what it made stays. `false` when there is no such job.
    ///
    /// # Errors
    /// `InvalidInput` when it has not ended; what the database answers.
    pub async fn forget(&self, id: &str) -> Result<bool> {
        let delete = "DELETE FROM transload_jobs WHERE id = $1 AND state IN ('done', 'failed', 'cancelled')";
        let deleted =
            sqlx::query(delete).bind(id.to_owned()).execute(&self.pool).await.map_err(failed("forget a job"))?;
        if deleted.rows_affected() > 0 {
            return Ok(true);
        }
        match self.get(id).await? {
            None => Ok(false),
            Some(job) => Err(Error::new(ErrorKind::InvalidInput, format!("job {id}: is {}", job.state))),
        }
    }

    /// Forgets all jobs that ended longer ago than `age`; answers how many.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn forget_older(&self, age: Duration) -> Result<u64> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2);
        let delete =
            "DELETE FROM transload_jobs WHERE state IN ('done', 'failed', 'cancelled') AND finished_at < {now} - $1";
        let deleted = sqlx::query(self.sql(delete)).bind(age).execute(&self.pool).await;
        Ok(deleted.map_err(failed("forget jobs"))?.rows_affected())
    }

    /// The database's clock.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn now(&self) -> Result<Timestamp> {
        let row = sqlx::query(self.sql("SELECT {now} AS moment")).fetch_one(&self.pool).await;
        Ok(Timestamp(number(&row.map_err(failed("read the clock"))?, "moment")?))
    }
}
