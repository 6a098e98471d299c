//! A row of the table of jobs, and the job that it is.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;
use transload::block::{Error, ErrorKind, Result};

use super::failed;
use crate::model::{Job, Timestamp};

/// The columns that [`job`] reads, by name.
pub(super) const COLUMNS: &str = "seq, id, kind, state, priority, request, streamed, progress, warnings, result, error, last_error, \
     attempts, max_attempts, token, worker, lease_until, intent, cancel_requested, last_event, created_at, not_before, \
     started_at, finished_at, updated_at";

/// The job of a row with the columns [`COLUMNS`], for showing: no address in it has a password or a signature.
pub(super) fn shown(row: &AnyRow) -> Result<Job> {
    let job = job(row)?;
    Ok(Job { request: job.request.redacted(), ..job })
}

/// The job of a row with the columns [`COLUMNS`].
pub(super) fn job(row: &AnyRow) -> Result<Job> {
    Ok(Job {
        id: text(row, "id")?,
        kind: text(row, "kind")?.parse()?,
        state: text(row, "state")?.parse()?,
        request: json(row, "request")?.ok_or_else(|| missing("request"))?,
        streamed: number(row, "streamed")? != 0,
        progress: json(row, "progress")?.unwrap_or_default(),
        warnings: json(row, "warnings")?.unwrap_or_default(),
        result: json(row, "result")?,
        error: json(row, "error")?,
        last_error: json(row, "last_error")?,
        attempts: small(row, "attempts")?,
        max_attempts: small(row, "max_attempts")?,
        priority: i32::try_from(number(row, "priority")?).unwrap_or_default(),
        worker: row.try_get("worker").map_err(failed("read a job"))?,
        cancel_requested: number(row, "cancel_requested")? != 0,
        last_event: number(row, "last_event")?,
        created_at: Timestamp(number(row, "created_at")?),
        not_before: moment(row, "not_before")?,
        started_at: moment(row, "started_at")?,
        finished_at: moment(row, "finished_at")?,
        updated_at: Timestamp(number(row, "updated_at")?),
    })
}

pub(super) fn number(row: &AnyRow, column: &str) -> Result<i64> {
    row.try_get(column).map_err(failed("read a number"))
}

pub(super) fn text(row: &AnyRow, column: &str) -> Result<String> {
    row.try_get(column).map_err(failed("read a text"))
}

fn small(row: &AnyRow, column: &str) -> Result<u32> {
    Ok(u32::try_from(number(row, column)?).unwrap_or_default())
}

pub(super) fn moment(row: &AnyRow, column: &str) -> Result<Option<Timestamp>> {
    let value: Option<i64> = row.try_get(column).map_err(failed("read a moment"))?;
    Ok(value.map(Timestamp))
}

/// What a column holds as JSON.
pub(super) fn json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<Option<T>> {
    let value: Option<String> = row.try_get(column).map_err(failed("read JSON"))?;
    let Some(value) = value else { return Ok(None) };
    serde_json::from_str(&value).map(Some).map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("the database of jobs: column {column}")).with_source(error)
    })
}

/// JSON for a column.
pub(super) fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "what is to be stored is no JSON").with_source(error))
}

fn missing(column: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the database of jobs: column {column} is empty"))
}
