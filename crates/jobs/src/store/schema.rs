//! The tables, and how an older database comes to have them.

use sqlx::Row;
use transload::block::{Error, ErrorKind, Result};

use super::{Dialect, Store, failed};

/// The steps from an empty database to today's, in order. A step that was released is never changed.
///
/// Names begin with `transload_`, as a PostgreSQL database may hold the tables of others. Moments are milliseconds since 1970;
/// what no statement looks into is JSON. Truth is 0 or 1: both databases have numbers.
const STEPS: &[&str] = &["
CREATE TABLE transload_jobs (
    seq              {identity},
    id               TEXT NOT NULL UNIQUE,
    kind             TEXT NOT NULL,
    state            TEXT NOT NULL,
    priority         BIGINT NOT NULL,
    request          TEXT NOT NULL,
    search           TEXT NOT NULL,
    streamed         BIGINT NOT NULL,
    progress         TEXT NOT NULL,
    warnings         TEXT NOT NULL,
    result           TEXT,
    error            TEXT,
    last_error       TEXT,
    attempts         BIGINT NOT NULL,
    max_attempts     BIGINT NOT NULL,
    token            BIGINT NOT NULL,
    worker           TEXT,
    lease_until      BIGINT,
    intent           TEXT,
    cancel_requested BIGINT NOT NULL,
    last_event       BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    not_before       BIGINT,
    started_at       BIGINT,
    finished_at      BIGINT,
    updated_at       BIGINT NOT NULL
);
CREATE INDEX transload_jobs_waiting ON transload_jobs (state, priority, seq);
CREATE INDEX transload_jobs_finished ON transload_jobs (finished_at);
CREATE TABLE transload_events (
    job  TEXT NOT NULL REFERENCES transload_jobs (id) ON DELETE CASCADE,
    id   BIGINT NOT NULL,
    at   BIGINT NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, id)
);
"];

/// Brings the database to today's step. Any number of processes may do so at once.
pub(super) async fn migrate(store: &Store) -> Result<()> {
    let mut transaction = store.begin().await?;
    if store.dialect == Dialect::Postgres {
        // Held until the transaction ends; the number only has to be the same everywhere.
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(8316866959935366244)");
        lock.execute(&mut *transaction).await.map_err(failed("migrate"))?;
    }
    let table = "CREATE TABLE IF NOT EXISTS transload_schema (version BIGINT NOT NULL)";
    sqlx::query(table).execute(&mut *transaction).await.map_err(failed("migrate"))?;
    let row = sqlx::query("SELECT version FROM transload_schema").fetch_optional(&mut *transaction).await;
    let row = row.map_err(failed("migrate"))?;
    let version = row.as_ref().map_or(Ok(0), |row| row.try_get::<i64, _>(0)).map_err(failed("migrate"))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if version > known || version < 0 {
        let text = format!("the database of jobs is of version {version}, and this program knows {known}");
        return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("use the version of Transload that made it"));
    }
    let identity = match store.dialect {
        Dialect::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Dialect::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    };
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        let text = sqlx::AssertSqlSafe(step.replace("{identity}", identity));
        sqlx::raw_sql(text).execute(&mut *transaction).await.map_err(failed("migrate"))?;
    }
    let note = match row {
        Some(_) => sqlx::query("UPDATE transload_schema SET version = $1"),
        None => sqlx::query("INSERT INTO transload_schema (version) VALUES ($1)"),
    };
    note.bind(known).execute(&mut *transaction).await.map_err(failed("migrate"))?;
    transaction.commit().await.map_err(failed("migrate"))
}
