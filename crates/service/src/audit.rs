//! Who asked for what, and how it ended: a line of JSON for each request, in a file of its own or in the log.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use transload::block::{Error, Result};

/// One request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry<'a> {
    /// The request's number, which its answer carries as `x-request-id`.
    pub(crate) request: &'a str,
    /// The name of the token; `-` where none is asked for or none was right.
    pub(crate) who: &'a str,
    /// The address it came from.
    pub(crate) peer: &'a str,
    pub(crate) method: &'a str,
    /// The path without the query, in which names of files and addresses stand.
    pub(crate) path: &'a str,
    /// The query, without what an address has before its host and behind its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<&'a str>,
    pub(crate) status: u16,
    /// The kind of the failure, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<&'a str>,
    /// Milliseconds until the answer began.
    pub(crate) milliseconds: u64,
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct Audit {
    file: Option<Mutex<File>>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970.
    time: f64,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
}

impl Audit {
    /// Appends to the file at `path`, or to the log.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let file = File::options().append(true).create(true).open(path);
            file.map(Mutex::new).map_err(|error| Error::io(path.display().to_string(), error))
        };
        Ok(Self { file: path.map(open).transpose()? })
    }

    /// Notes a request.
    pub(crate) fn note(&self, entry: &Entry<'_>) {
        let Some(file) = &self.file else {
            tracing::info!(
                target: "transload::audit",
                request = entry.request,
                who = entry.who,
                peer = entry.peer,
                method = entry.method,
                path = entry.path,
                query = entry.query,
                status = entry.status,
                failure = entry.failure,
                milliseconds = entry.milliseconds,
                "request"
            );
            return;
        };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let written = serde_json::to_vec(&Line { time, entry }).map_err(std::io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, request = entry.request, "the audit log could not be written");
        }
    }
}
