//! `/v1/uploads`: files that are kept by an id until a job takes them.
//!
//! ```text
//! UPLOADS/ID           the bytes, under their name when they are whole
//! UPLOADS/ID.json      what is known of them
//! ```
//!
//! The folder is below the root under a name that no request can say, so that workers on other machines that share the root find
//! them. An upload that nobody has fetched for as long as the service keeps them is removed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, DigestKind, DigestWriter, FileDigests};
use transload_jobs::model::is_upload_id;
use utoipa::{IntoParams, ToSchema};

use super::upload::{content_length, refuse_large};
use crate::api::{Digest, FailureDocument};
use crate::body::{self, BodyLimits};
use crate::outflow::StopWhenDropped;
use crate::problem::{Answer, Problem};
use crate::state::{App, Shared};

/// A file that is kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Upload {
    /// What a job names it by: `{"upload": "ID"}`.
    id: String,
    /// What the client calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its length in bytes.
    size: u64,
    /// The digest of its bytes.
    digest: Digest,
    /// Seconds since 1970 when it was whole.
    created: u64,
    /// Seconds since 1970 when it is removed.
    expires: u64,
}

/// The files that are kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadList {
    /// The newest first.
    uploads: Vec<Upload>,
}

/// What an upload is called.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeepQuery {
    /// A name for people.
    #[param(max_length = 200)]
    name: Option<String>,
}

/// Keep a file for a job
///
/// The body is stored as it is, and has an id when it is whole. Any number of jobs may read it.
#[utoipa::path(
    post,
    path = "/v1/uploads",
    tag = "uploads",
    params(KeepQuery),
    request_body(content = [u8], content_type = "application/octet-stream", description = "The file."),
    responses(
        (status = 201, description = "It is kept.", body = Upload),
        (status = 400, description = "The request makes no sense, or the body is empty.", body = FailureDocument),
        (status = 413, description = "It is too large.", body = FailureDocument),
        (status = 503, description = "As many bodies as may be taken at a time are under way.", body = FailureDocument),
        (status = 507, description = "There is no room.", body = FailureDocument),
    )
)]
pub(crate) async fn keep(
    State(app): State<Shared>,
    Query(query): Query<KeepQuery>,
    request: Request,
) -> Answer<(StatusCode, Json<Upload>)> {
    if query.name.as_ref().is_some_and(|name| name.len() > 200 || name.chars().any(char::is_control)) {
        return Err(Problem::invalid("name: must be at most 200 bytes, without control characters"));
    }
    refuse_large(&app, content_length(request.headers())?)?;
    let turn = app.budget.turn().await?;
    let limits = &app.config.limits;
    let cancel = Cancel::default();
    let _stop = StopWhenDropped(cancel.clone());
    let received = Arc::new(AtomicU64::new(0));
    let body_limits = BodyLimits { most: limits.upload, stall: limits.stall_time, least_rate: limits.least_rate };
    let (pump, reader) = body::channel(body_limits, Arc::clone(&received), cancel.clone());
    let work = {
        let (app, cancel) = (Arc::clone(&app), cancel.clone());
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            store(&app, query.name, reader, &cancel)
        })
    };
    let done = tokio::time::timeout(limits.request_time, async {
        pump.run(request.into_body().into_data_stream()).await;
        work.await
    });
    let done = done.await;
    app.metrics.received_bytes.inc_by(received.load(Ordering::Relaxed));
    match done {
        Ok(Ok(upload)) => Ok((StatusCode::CREATED, Json(upload.map_err(|error| app.problem(error))?))),
        Ok(Err(fault)) => Err(app.fault(&fault)),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "cancelled", "the upload took too long")),
    }
}

/// A file that is removed again unless it is kept.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Whoever sweeps finds it otherwise.
            let _ = fs::remove_file(path);
        }
    }
}

fn store(app: &App, name: Option<String>, mut body: impl Read, cancel: &Cancel) -> Result<Upload> {
    let folder = app.uploads.path();
    let id = new_id()?;
    let (place, partial) = (folder.join(&id), folder.join(format!(".{id}.partial")));
    let fail = |error: io::Error| Error::io(format!("upload {id}"), error);
    let file = File::options().write(true).create_new(true).mode(0o600).open(&partial).map_err(fail)?;
    let mut unfinished = Unfinished(Some(partial.clone()));
    let sync = file.try_clone().map_err(fail)?;
    let (mut writer, digest) = DigestWriter::new(file, FileDigests::new(&[DigestKind::Sha256]))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        cancel.check()?;
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => writer.write_all(&buffer[..count]).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("the body", error)),
        }
    }
    drop(writer);
    let (size, digest) = digest.finish()?;
    if size == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "the body is empty"));
    }
    let hex = digest.finish().into_iter().next().map(|(_, hex)| hex).unwrap_or_default();
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expires = created.saturating_add(app.config.limits.upload_time.as_secs());
    let digest = Digest { algorithm: "sha256".to_owned(), hex };
    let upload = Upload { id: id.clone(), name, size, digest, created, expires };
    sync.sync_all().map_err(fail)?;
    let facts = serde_json::to_vec(&upload).map_err(|error| fail(io::Error::other(error)))?;
    fs::write(facts_of(folder, &id), facts).map_err(fail)?;
    fs::rename(&partial, &place).map_err(|error| {
        // Facts without bytes are of nothing.
        let _ = fs::remove_file(facts_of(folder, &id));
        fail(error)
    })?;
    unfinished.0 = None;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
    Ok(upload)
}

fn new_id() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::io("random bits", io::Error::other(error)))?;
    Ok(format!("{:032x}", u128::from_le_bytes(random)))
}

fn facts_of(folder: &FsPath, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// The upload with this id, if there is one.
fn find(app: &App, id: &str) -> Result<Option<Upload>> {
    if !is_upload_id(id) {
        return Ok(None);
    }
    let folder = app.uploads.path();
    if !folder.join(id).is_file() {
        return Ok(None);
    }
    match fs::read(facts_of(folder, id)) {
        Ok(facts) => serde_json::from_slice(&facts).map(Some).map_err(|error| {
            Error::new(ErrorKind::Corrupt, format!("upload {id}: what is known of it")).with_source(error)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("upload {id}"), error)),
    }
}

fn no_upload(id: &str) -> Problem {
    Problem::not_found(format!("there is no upload '{}'", id.escape_debug()))
}

/// List what is kept
#[utoipa::path(get, path = "/v1/uploads", tag = "uploads", responses((status = 200, description = "The uploads.", body = UploadList)))]
pub(crate) async fn list(State(app): State<Shared>) -> Answer<Json<UploadList>> {
    let uploads = app.look(|app| {
        let mut uploads = Vec::new();
        for id in ids(app.uploads.path())? {
            uploads.extend(find(app, &id)?);
        }
        uploads.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id)));
        Ok(uploads)
    });
    Ok(Json(UploadList { uploads: uploads.await? }))
}

fn ids(folder: &FsPath) -> Result<Vec<String>> {
    let fail = |error| Error::io("the uploads", error);
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().into_string();
        ids.extend(name.ok().filter(|name| is_upload_id(name)));
    }
    Ok(ids)
}

/// Tell of an upload
#[utoipa::path(
    get,
    path = "/v1/uploads/{id}",
    tag = "uploads",
    params(("id" = String, Path, description = "The upload's id.")),
    responses(
        (status = 200, description = "The upload.", body = Upload),
        (status = 404, description = "There is no such upload.", body = FailureDocument),
    )
)]
pub(crate) async fn get(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Upload>> {
    let wanted = id.clone();
    app.look(move |app| find(app, &wanted)).await?.map(Json).ok_or_else(|| no_upload(&id))
}

/// Remove an upload
///
/// A job that reads it at the moment goes on.
#[utoipa::path(
    delete,
    path = "/v1/uploads/{id}",
    tag = "uploads",
    params(("id" = String, Path, description = "The upload's id.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "There is no such upload.", body = FailureDocument),
    )
)]
pub(crate) async fn remove(State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let wanted = id.clone();
    let removed = app.look(move |app| {
        let there = find(app, &wanted)?.is_some();
        if there {
            discard(app.uploads.path(), &wanted).map_err(|error| Error::io(format!("upload {wanted}"), error))?;
        }
        Ok(there)
    });
    if removed.await? { Ok(StatusCode::NO_CONTENT) } else { Err(no_upload(&id)) }
}

fn discard(folder: &FsPath, id: &str) -> io::Result<()> {
    fs::remove_file(folder.join(id))?;
    match fs::remove_file(facts_of(folder, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes uploads whose time is over, and what broken ones left.
pub(crate) fn sweep(app: &App) -> Result<usize> {
    /// A body that is still coming is written to; what was not for so long is of a process that ended.
    const ABANDONED: Duration = Duration::from_secs(24 * 3600);
    let folder = app.uploads.path();
    let fail = |error| Error::io("the uploads", error);
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // What is gone by now need not be removed.
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_partial = name.starts_with('.') && name.ends_with(".partial");
        if is_upload_id(&name) && age > app.config.limits.upload_time {
            discard(folder, &name).map_err(fail)?;
            removed += 1;
        } else if is_partial && age > ABANDONED {
            fs::remove_file(entry.path()).map_err(fail)?;
            removed += 1;
        }
    }
    Ok(removed)
}
