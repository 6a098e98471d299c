//! `POST /upload`: a body becomes an image below the root, in one pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use transload::image::Format;
use transload_jobs::model::{ConvertJob, JobRequest, Location};
use utoipa::IntoParams;

use super::convert::{Inward, Origin, Wish, carry, source_format, target_format};
use crate::api::{Compress, Converted, DigestChoice, FailureDocument, Prealloc};
use crate::body::{self, BodyLimits};
use crate::problem::{Answer, Problem};
use crate::state::Shared;

/// What an upload is asked to become.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// The format of the body. Found out from its bytes when not given; what is given is never doubted.
    #[param(example = "vmdk")]
    src: Option<String>,
    /// The format of the new image; by the ending of `name` when not given.
    #[param(example = "qcow2")]
    dst: Option<String>,
    /// Whether room is set aside for all of it.
    #[serde(default)]
    #[param(inline, required = false)]
    prealloc: Prealloc,
    /// The new image, as a path below the root; the name of the file in a form, or one that is made up, when not given. Folders
    /// that are missing are made.
    #[param(example = "disks/web.qcow2")]
    name: Option<String>,
    /// Compress the new image.
    #[param(inline)]
    compress: Option<Compress>,
    /// How hard to compress: `fast`, `balanced`, `max`, or a number from 1 to 12.
    level: Option<String>,
    /// Options of the new image's format, `KEY=VALUE` separated by commas; `GET /v1/formats` lists them.
    #[param(example = "subformat=streamOptimized")]
    options: Option<String>,
    /// The digest of the disk's bytes to compute on the way.
    #[serde(default)]
    #[param(inline, required = false)]
    digest: DigestChoice,
    /// Replace an image of this name.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
    /// The bytes of the file, where HTTP does not say them: in a form or in chunks. A raw disk that becomes anything but raw is
    /// stored first without it.
    size: Option<u64>,
}

/// Convert an upload
///
/// The body, or the field `file` of a form, is converted while it arrives, and the new image appears under its name when it is whole
/// and on the disk. Formats that cannot be read from front to back are stored in a temporary file first, within a limit.
#[utoipa::path(
    post,
    path = "/upload",
    tag = "streaming",
    params(UploadQuery),
    request_body(
        description = "The image, as it is or as the field `file` of a form.",
        content(([u8] = "application/octet-stream"), (UploadForm = "multipart/form-data"))
    ),
    responses(
        (status = 201, description = "The image is there.", body = Converted),
        (status = 400, description = "The request makes no sense, or the format is ambiguous.", body = FailureDocument),
        (status = 403, description = "The name leads out of the root.", body = FailureDocument),
        (status = 409, description = "There is an image of this name.", body = FailureDocument),
        (status = 413, description = "The body or the disk is too large.", body = FailureDocument),
        (status = 422, description = "The body is corrupt, or of a kind that is not handled.", body = FailureDocument),
        (status = 503, description = "As many conversions as may run at a time are under way.", body = FailureDocument),
        (status = 507, description = "There is no room.", body = FailureDocument),
    )
)]
pub(crate) async fn upload(
    State(app): State<Shared>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Answer<(StatusCode, Json<Converted>)> {
    let headers = request.headers().clone();
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|kind| {
        kind.to_str().is_ok_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data"))
    });
    if !is_form {
        let length = content_length(&headers)?;
        refuse_large(&app, length)?;
        return receive(&app, query, None, length, request.into_body().into_data_stream()).await;
    }
    let rejected = |rejection: MultipartRejection| Problem::invalid(rejection.body_text());
    let mut form = Multipart::from_request(request, &()).await.map_err(rejected)?;
    let broken = |error: axum::extract::multipart::MultipartError| Problem::invalid(error.body_text());
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() == Some("file") {
            let file = field.file_name().map(plain_name);
            let length = query.size;
            return receive(&app, query, file.flatten(), length, field).await;
        }
    }
    Err(Problem::invalid("the form has no field `file`"))
}

/// What a form has.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes the form in the document")]
pub(crate) struct UploadForm {
    /// The image.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// The length that HTTP holds the body to.
pub(crate) fn content_length(headers: &HeaderMap) -> Answer<Option<u64>> {
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::invalid("the Content-Length is no number"))
}

/// Refuses a body before it comes.
pub(crate) fn refuse_large(app: &Shared, length: Option<u64>) -> Answer<()> {
    let most = app.config.limits.upload;
    match length {
        Some(length) if length > most => {
            let text = format!("a body of {length} bytes, at most {most} are taken");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text))
        }
        _ => Ok(()),
    }
}

/// The last part of what a browser says a file is called; nothing when that is no name.
fn plain_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    (!last.is_empty() && last != "." && last != "..").then(|| last.to_owned())
}

/// A name for an image that nobody named.
fn made_up_name(format: &Format) -> Answer<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| Problem::busy("no random bits", 1))?;
    let ending = format.extensions.first().copied().unwrap_or(format.name);
    Ok(format!("upload-{:016x}.{ending}", u64::from_le_bytes(random)))
}

/// What the new image is called: as asked, or as the file that was sent with the target's ending.
fn output_name(query: &UploadQuery, file: Option<String>) -> Answer<(String, &'static Format)> {
    let asked = query.name.clone().filter(|name| !name.is_empty());
    let target = target_format(query.dst.as_deref(), asked.as_deref().or(file.as_deref()))?;
    let name = match (asked, file) {
        (Some(name), _) => name,
        (None, Some(file)) => {
            let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
            format!("{stem}.{}", target.extensions.first().copied().unwrap_or(target.name))
        }
        (None, None) => made_up_name(target)?,
    };
    Ok((name, target))
}

async fn receive<E: std::fmt::Display + Send>(
    app: &Shared,
    query: UploadQuery,
    file: Option<String>,
    length: Option<u64>,
    body: impl Stream<Item = Result<Bytes, E>> + Send,
) -> Answer<(StatusCode, Json<Converted>)> {
    let source = source_format(query.src.as_deref())?;
    let (name, target) = output_name(&query, file)?;
    let path = new_path(app, &name, query.force)?;
    let wish = Wish {
        prealloc: query.prealloc,
        compress: query.compress,
        level: query.level,
        options: query.options,
        digest: query.digest,
    };
    let length = query.size.or(length);
    let turn = app.budget.turn().await?;
    let request =
        JobRequest::Convert(ConvertJob::new(Location::Stream("body".to_owned()), Location::Path(name.clone())));
    let tracked = app.track(&request).await?;
    let inward = Inward { source, length, name, path, force: query.force, target, wish, turn };
    let limits = &app.config.limits;
    let received = Arc::new(AtomicU64::new(0));
    let body_limits = BodyLimits { most: limits.upload, stall: limits.stall_time, least_rate: limits.least_rate };
    let (pump, reader) = body::channel(body_limits, Arc::clone(&received), tracked.cancel().clone());
    let mut body = std::pin::pin!(body);
    let feed = pump.run(body.as_mut());
    let converted = carry(app, tracked, inward, Origin::Body(Box::new(reader)), feed).await;
    app.metrics.received_bytes.inc_by(received.load(Ordering::Relaxed));
    if converted.is_err() {
        drain(body).await;
    }
    let outcome = converted.as_ref().map_or_else(Problem::kind, |_| "done");
    app.metrics.conversions.with_label_values(&["/upload", outcome]).inc();
    Ok((StatusCode::CREATED, Json(converted?)))
}

/// Where a new image called `name` is to be.
pub(crate) fn new_path(app: &Shared, name: &str, force: bool) -> Answer<std::path::PathBuf> {
    let resolved = app.root.create_parents(name).and_then(|()| app.root.resolve_new(name));
    let path = resolved.map_err(|error| app.problem(error))?;
    if !force && path.symlink_metadata().is_ok() {
        return Err(Problem::conflict(format!("{name}: is there already")).with_remedy("replace it with force=true"));
    }
    Ok(path)
}

/// Takes what is left of a short body, so that a client that only listens once it has sent everything hears why it failed.
async fn drain<E>(mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin) {
    const MOST: usize = 32 << 20;
    const TIME: std::time::Duration = std::time::Duration::from_secs(2);
    let rest = async {
        let mut total = 0;
        while let Some(Ok(piece)) = stream.next().await {
            total += piece.len();
            if total > MOST {
                return;
            }
        }
    };
    // What did not come in time is not waited for.
    let _ = tokio::time::timeout(TIME, rest).await;
}
