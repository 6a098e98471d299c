//! `GET /v1/files`: what is below the root, and one file of it as it is.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind, Result};
use utoipa::{IntoParams, ToSchema};

use super::export::disposition;
use crate::api::FailureDocument;
use crate::outflow::{self, Piece};
use crate::problem::{Answer, Problem};
use crate::state::{App, Shared};

/// Which folder.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// The folder, as a path below the root; the root itself when not given.
    path: Option<String>,
    /// Names up to this one are left out: `next` of the page before.
    after: Option<String>,
    /// The most entries.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of a folder.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileList {
    /// The folder, as a path below the root; empty for the root.
    path: String,
    /// What is in it, in the order of names. Symbolic links, devices and what is being written are left out.
    entries: Vec<FileEntry>,
    /// What to give as `after` for the next page; nothing when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A file or folder.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileEntry {
    name: String,
    /// The path below the root.
    path: String,
    /// `file` or `directory`.
    kind: &'static str,
    /// The length of a file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// The bytes that it occupies.
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated: Option<u64>,
    /// Seconds since 1970 when it was changed.
    modified: u64,
}

/// List a folder
///
/// Names, sizes and times of what is in a folder below the root.
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "files",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of the folder.", body = FileList),
        (status = 400, description = "The request makes no sense.", body = FailureDocument),
        (status = 403, description = "The path leads out of the root.", body = FailureDocument),
        (status = 404, description = "There is no such folder.", body = FailureDocument),
    )
)]
pub(crate) async fn list(State(app): State<Shared>, Query(query): Query<ListQuery>) -> Answer<Json<FileList>> {
    let limit = query.limit.unwrap_or(200);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::invalid(format!("limit={limit}: must be 1 to 1000")));
    }
    app.look(move |app| page(app, &query, usize::try_from(limit).unwrap_or(200))).await.map(Json)
}

fn page(app: &App, query: &ListQuery, limit: usize) -> Result<FileList> {
    let path = query.path.as_deref().unwrap_or("").trim_matches('/').to_owned();
    let is_root = path.is_empty() || path == ".";
    let folder = if is_root { app.root.path().to_owned() } else { app.root.resolve_existing(&path)? };
    let path = if is_root { String::new() } else { app.root.name_of(&folder)? };
    let fail = |error: io::Error| Error::io(path.clone(), error);
    // The smallest names of any number of files: what is larger than the largest kept is never needed.
    let mut kept: std::collections::BTreeMap<String, fs::DirEntry> = std::collections::BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_behind = query.after.as_ref().is_none_or(|after| name > *after);
        if !is_behind || is_own(&name) {
            continue;
        }
        let kind = entry.file_type().map_err(fail)?;
        if kind.is_file() || kind.is_dir() {
            kept.insert(name, entry);
            if kept.len() > limit + 1 {
                kept.pop_last();
            }
        }
    }
    let more = kept.len() > limit;
    let mut entries = Vec::new();
    for (name, entry) in kept.into_iter().take(limit) {
        // A file that is gone by now is none.
        let Ok(metadata) = entry.metadata() else { continue };
        let is_file = metadata.is_file();
        entries.push(FileEntry {
            path: if path.is_empty() { name.clone() } else { format!("{path}/{name}") },
            name,
            kind: if is_file { "file" } else { "directory" },
            size: is_file.then_some(metadata.len()),
            allocated: is_file.then(|| metadata.blocks() * 512),
            modified: seconds(metadata.modified().unwrap_or(UNIX_EPOCH)),
        });
    }
    let next = if more { entries.last().map(|entry| entry.name.clone()) } else { None };
    Ok(FileList { path, entries, next })
}

/// Whether a name is of the service's own files, or of an image that is not whole yet.
fn is_own(name: &str) -> bool {
    name.starts_with(transload_jobs::root::RESERVED) || (name.starts_with('.') && name.ends_with(".partial"))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ContentQuery {
    /// The file, as a path below the root.
    pub(crate) path: String,
}

/// Download a file
///
/// The file as it is. One range can be asked for, to go on where a download broke off.
#[utoipa::path(
    get,
    path = "/v1/files/content",
    tag = "files",
    params(ContentQuery, ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"), ("if-range" = Option<String>, Header, description = "The `ETag` that the range is of.")),
    responses(
        (status = 200, description = "The file.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, description = "The range.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, description = "The request makes no sense.", body = FailureDocument),
        (status = 403, description = "The path leads out of the root.", body = FailureDocument),
        (status = 404, description = "There is no such file.", body = FailureDocument),
        (status = 416, description = "The range is not in the file.", body = FailureDocument),
    )
)]
pub(crate) async fn content(
    State(app): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Query(query): Query<ContentQuery>,
) -> Answer<Response> {
    let path = query.path.clone();
    let (file, metadata) = app
        .look(move |app| {
            let file = app.root.open_existing(&path)?;
            let metadata = file.metadata().map_err(|error| Error::io(path.clone(), error))?;
            if !metadata.is_file() {
                return Err(Error::new(ErrorKind::InvalidInput, format!("{path}: is no file")));
            }
            Ok((file, metadata))
        })
        .await?;
    let size = metadata.len();
    let etag = format!("\"{:x}-{:x}-{:x}.{:x}\"", metadata.ino(), size, metadata.mtime(), metadata.mtime_nsec());
    let same = headers.get(IF_RANGE).is_none_or(|given| given.as_bytes() == etag.as_bytes());
    let asked = headers.get(RANGE).filter(|_| same).and_then(|range| range.to_str().ok());
    let range = match asked.map(|range| parse_range(range, size)) {
        Some(Asked::Nowhere) => {
            let problem =
                Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "out-of-range", format!("the file has {size} bytes"));
            let mut response = problem.into_response();
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                response.headers_mut().insert(CONTENT_RANGE, value);
            }
            return Ok(response);
        }
        Some(Asked::Range(first, last)) => Some((first, last)),
        Some(Asked::Other) | None => None,
    };
    let (first, length) = range.map_or((0, size), |(first, last)| (first, last - first + 1));
    let body = if method == Method::HEAD { Body::empty() } else { send(&app, file, first, length) };
    let mut response = body.into_response();
    let name = query.path.rsplit('/').next().unwrap_or("file");
    let mut facts = vec![
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CONTENT_DISPOSITION, disposition(name)),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, etag),
    ];
    if let Some((first, last)) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        facts.push((CONTENT_RANGE, format!("bytes {first}-{last}/{size}")));
    }
    for (name, value) in facts {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// What a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Range(u64, u64),
    Nowhere,
    /// Several ranges, or none that is understood: the whole file is the answer, as RFC 9110 allows.
    Other,
}

fn parse_range(text: &str, size: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Other;
    };
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first.trim()), number(last.trim())) {
        (None, Some(0)) => Asked::Nowhere,
        (None, Some(_)) if !first.trim().is_empty() => Asked::Other,
        (None, Some(count)) if size > 0 => Asked::Range(size.saturating_sub(count), size - 1),
        (None, Some(_)) => Asked::Nowhere,
        (Some(first), None) if last.trim().is_empty() && first < size => Asked::Range(first, size - 1),
        (Some(first), Some(last)) if first <= last && first < size => Asked::Range(first, last.min(size - 1)),
        (Some(first), Some(last)) if first > last => Asked::Other,
        (Some(_), None) if !last.trim().is_empty() => Asked::Other,
        (Some(_), _) => Asked::Nowhere,
        (None, None) => Asked::Other,
    }
}

/// A part of a file as the body of an answer.
fn send(app: &Shared, mut file: File, first: u64, length: u64) -> Body {
    const PIECE: usize = 256 << 10;
    let stall = app.config.limits.stall_time;
    let (_, last, mut pieces) = outflow::channel(stall);
    let sent = app.metrics.sent_bytes.clone();
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Handle::current();
        let mut left = length;
        let mut failure = file.seek(SeekFrom::Start(first)).err();
        while left > 0 && failure.is_none() {
            let mut buffer = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
            match file.read(&mut buffer) {
                Ok(0) => failure = Some(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Ok(count) => {
                    buffer.truncate(count);
                    left -= count as u64;
                    sent.inc_by(count as u64);
                    if runtime.block_on(outflow::send(&last, Piece::Bytes(Bytes::from(buffer)), stall)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failure = Some(error),
            }
        }
        let end = failure.map_or(Piece::End, |error| Piece::Failed(Error::io("the file", error)));
        // Nobody listens when the client has gone.
        let _ = runtime.block_on(outflow::send(&last, end, stall));
    });
    let stream = futures_util::stream::poll_fn(move |context| {
        pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => None,
            Some(Piece::Failed(error)) => Some(Err(error)),
            None => Some(Err(Error::new(ErrorKind::Io, "the file was not read to its end"))),
        })
    });
    Body::from_stream(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        let table = [
            ("bytes=0-9", Asked::Range(0, 9)),
            ("bytes=90-", Asked::Range(90, 99)),
            ("bytes=-10", Asked::Range(90, 99)),
            ("bytes=-1000", Asked::Range(0, 99)),
            ("bytes=50-1000", Asked::Range(50, 99)),
            ("bytes=100-", Asked::Nowhere),
            ("bytes=-0", Asked::Nowhere),
            ("bytes=99999999999999999999-", Asked::Nowhere),
            ("bytes=9-0", Asked::Other),
            ("bytes=0-1,3-4", Asked::Other),
            ("bytes=x-", Asked::Other),
            ("lines=0-1", Asked::Other),
            ("bytes=-", Asked::Other),
        ];
        for (text, asked) in table {
            assert_eq!(parse_range(text, 100), asked, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Asked::Nowhere);
        assert_eq!(parse_range("bytes=-5", 0), Asked::Nowhere);
    }
}
