//! The events of a job: written with every change of its row, read by whoever follows it.

use std::time::Duration;

use sqlx::{Any, Transaction};
use tokio::time::Instant;
use transload::block::Result;

use super::row::{json, number, text, to_json};
use super::{Store, failed};
use crate::model::{Event, EventKind, Timestamp};

impl Store {
    /// The events of a job behind the one with the number `after`, 0 for all, at most `limit`.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn events(&self, job: &str, after: i64, limit: u32) -> Result<Vec<Event>> {
        let select = "SELECT id, at, data FROM transload_events WHERE job = $1 AND id > $2 ORDER BY id LIMIT $3";
        let query = sqlx::query(select).bind(job.to_owned()).bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(failed("read events"))?;
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            // An event of a kind that this version does not know is passed over.
            let Ok(Some(kind)) = json::<EventKind>(&row, "data") else { continue };
            let at = Timestamp(number(&row, "at")?);
            events.push(Event { id: number(&row, "id")?, job: job.to_owned(), at, kind });
        }
        Ok(events)
    }

    /// As [`events`](Self::events), but waits until there is one, or `longest` is over.
    ///
    /// What happens in this process is seen at once, what happens in others within half a second.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn wait_for_events(&self, job: &str, after: i64, limit: u32, longest: Duration) -> Result<Vec<Event>> {
        const LOOK: Duration = Duration::from_millis(500);
        let end = Instant::now() + longest;
        loop {
            // Asked for before the look, so that nothing falls between the two.
            let signal = self.signals.event.notified();
            let events = self.events(job, after, limit).await?;
            let left = end.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() {
                return Ok(events);
            }
            drop(tokio::time::timeout(LOOK.min(left), signal).await);
        }
    }

    /// Writes an event with the number that the job's counter has in this transaction.
    pub(super) async fn add_event(
        &self,
        transaction: &mut Transaction<'static, Any>,
        job: &str,
        id: i64,
        kind: &EventKind,
    ) -> Result<()> {
        if matches!(kind, EventKind::Progress { .. }) {
            let delete = sqlx::query("DELETE FROM transload_events WHERE job = $1 AND type = 'progress'");
            delete.bind(job.to_owned()).execute(&mut **transaction).await.map_err(failed("write an event"))?;
        }
        let insert = "INSERT INTO transload_events (job, id, at, type, data) VALUES ($1, $2, {now}, $3, $4)";
        let insert = sqlx::query(self.sql(insert)).bind(job.to_owned()).bind(id).bind(kind.name().to_owned());
        insert.bind(to_json(kind)?).execute(&mut **transaction).await.map_err(failed("write an event")).map(drop)
    }

    /// Counts an event in the job's row and writes it.
    pub(super) async fn next_event(
        &self,
        transaction: &mut Transaction<'static, Any>,
        job: &str,
        kind: &EventKind,
    ) -> Result<()> {
        let count = "UPDATE transload_jobs SET last_event = last_event + 1 WHERE id = $1 RETURNING id, last_event";
        let row = sqlx::query(count).bind(job.to_owned()).fetch_one(&mut **transaction).await;
        let row = row.map_err(failed("count an event"))?;
        self.add_event(transaction, &text(&row, "id")?, number(&row, "last_event")?, kind).await
    }

    /// Wakes whoever in this process waits for events.
    pub(super) fn tell_events(&self) {
        self.signals.event.notify_waiters();
    }
}
