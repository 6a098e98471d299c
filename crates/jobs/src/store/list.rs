//! Submitting jobs, finding one, and listing them page by page.

use sqlx::Row;
use transload::block::{Error, ErrorKind, Result};

use super::row::{COLUMNS, number, shown, to_json};
use super::{Store, failed};
use crate::model::{EventKind, Job, JobFilter, JobKind, JobPage, JobRequest, JobState, Location};

impl Store {
    /// Puts a job into the queue.
    ///
    /// # Errors
    /// `InvalidInput` for a request that makes no sense; `TooLarge` when too many jobs wait; what the database answers.
    pub async fn submit(&self, request: &JobRequest) -> Result<Job> {
        request.validate()?;
        let mut transaction = self.begin().await?;
        let waiting = sqlx::query("SELECT COUNT(*) AS waiting FROM transload_jobs WHERE state = 'queued'");
        let waiting = waiting.fetch_one(&mut *transaction).await.map_err(failed("count jobs"))?;
        if number(&waiting, "waiting")? >= i64::from(self.settings.max_queued) {
            let text = format!("{} jobs wait already, as many as may", self.settings.max_queued);
            return Err(Error::new(ErrorKind::TooLarge, text).with_remedy("submit it again when some of them are done"));
        }
        let attempts = request.run().max_attempts.unwrap_or(self.settings.max_attempts);
        let insert = format!(
            "INSERT INTO transload_jobs (id, kind, state, priority, request, search, streamed, progress, warnings, attempts, \
             max_attempts, token, cancel_requested, last_event, created_at, updated_at) VALUES ($1, $2, 'queued', $3, $4, $5, 0, \
             '{{}}', '[]', 0, $6, 0, 0, 1, {{now}}, {{now}}) RETURNING {COLUMNS}"
        );
        let insert = sqlx::query(self.sql(&insert))
            .bind(new_id())
            .bind(request.kind().as_str().to_owned())
            .bind(i64::from(request.run().priority.unwrap_or(0)))
            .bind(to_json(request)?)
            .bind(search_text(request))
            .bind(i64::from(attempts.max(1)));
        let row = insert.fetch_one(&mut *transaction).await.map_err(failed("submit a job"))?;
        let submitted = shown(&row)?;
        let event = EventKind::State { state: JobState::Queued, attempt: 0, result: None, error: None };
        self.add_event(&mut transaction, &submitted.id, 1, &event).await?;
        transaction.commit().await.map_err(failed("submit a job"))?;
        self.signals.work.notify_one();
        Ok(submitted)
    }

    /// The job with this id.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn get(&self, id: &str) -> Result<Option<Job>> {
        let select = format!("SELECT {COLUMNS} FROM transload_jobs WHERE id = $1");
        let row = sqlx::query(self.sql(&select)).bind(id.to_owned()).fetch_optional(&self.pool).await;
        row.map_err(failed("read a job"))?.as_ref().map(shown).transpose()
    }

    /// Some of the jobs. Pages hang together while jobs come and go: each begins behind the last job of the one before.
    ///
    /// # Errors
    /// `InvalidInput` for a limit or a continuation that makes no sense; what the database answers.
    pub async fn list(&self, filter: &JobFilter) -> Result<JobPage> {
        let limit = filter.limit.unwrap_or(JobFilter::DEFAULT_LIMIT);
        if !(1..=JobFilter::MAX_LIMIT).contains(&limit) {
            let text = format!("limit: {limit} is not 1 to {}", JobFilter::MAX_LIMIT);
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let after = filter.after.as_deref().map(|after| {
            let sequence = after.parse::<i64>().ok().filter(|sequence| *sequence > 0);
            sequence.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "after: is not the `next` of a page"))
        });
        let after = after.transpose()?;
        let mut conditions = vec!["1 = 1".to_owned()];
        for (column, words) in [
            ("state", filter.states.iter().map(|state| state.as_str()).collect::<Vec<_>>()),
            ("kind", filter.kinds.iter().map(|kind| kind.as_str()).collect()),
        ] {
            if !words.is_empty() {
                // These are words of ours, whatever was asked for.
                conditions.push(format!("{column} IN ('{}')", words.join("', '")));
            }
        }
        let (order, beyond) = if filter.oldest_first { ("ASC", ">") } else { ("DESC", "<") };
        conditions.push(format!("($1 = 0 OR seq {beyond} $1)"));
        conditions.push("($2 = '' OR search LIKE $2 ESCAPE '!')".to_owned());
        let conditions = conditions.join(" AND ");
        let select =
            format!("SELECT {COLUMNS} FROM transload_jobs WHERE {conditions} ORDER BY seq {order} LIMIT {}", limit + 1);
        let query = sqlx::query(self.sql(&select)).bind(after.unwrap_or(0)).bind(pattern(filter.text.as_deref()));
        let rows = query.fetch_all(&self.pool).await.map_err(failed("list jobs"))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        let page = &rows[..rows.len().min(limit)];
        let last = page.last().filter(|_| more).map(|row| number(row, "seq")).transpose()?;
        let jobs = page.iter().map(shown).collect::<Result<_>>()?;
        Ok(JobPage { jobs, next: last.map(|sequence| sequence.to_string()) })
    }

    /// How many jobs there are of each kind in each state.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn counts(&self) -> Result<Vec<(JobKind, JobState, u64)>> {
        let select =
            "SELECT kind, state, COUNT(*) AS jobs FROM transload_jobs GROUP BY kind, state ORDER BY kind, state";
        let rows = sqlx::query(select).fetch_all(&self.pool).await.map_err(failed("count jobs"))?;
        let count = |row: &sqlx::any::AnyRow| {
            let word = |column: &str| row.try_get::<String, _>(column).map_err(failed("count jobs"));
            Ok((word("kind")?.parse()?, word("state")?.parse()?, u64::try_from(number(row, "jobs")?).unwrap_or(0)))
        };
        rows.iter().map(count).collect()
    }
}

/// A new job's id. The first part of it is the time, so that ids of one process ascend.
pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// What the list's text filter looks into.
pub(super) fn search_text(request: &JobRequest) -> String {
    let name = request.run().name.as_deref().unwrap_or_default();
    let target = request.target().map(Location::shown).unwrap_or_default();
    // A zero byte cannot be in a text of PostgreSQL; requests have none.
    format!("{name}\n{}\n{target}", request.source().shown()).to_lowercase()
}

/// The pattern for `LIKE` that finds `text` anywhere.
fn pattern(text: Option<&str>) -> String {
    let text = text.unwrap_or_default().replace('\0', "").to_lowercase();
    if text.is_empty() {
        return text;
    }
    let escaped = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}
