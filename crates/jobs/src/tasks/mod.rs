//! The jobs themselves: each is a few calls of the library, on a thread that may block.
//!
//! A task reads what its request names, inside the root, and writes into a [`Staging`](crate::publish::Staging) folder or an upload. It publishes
//! nothing: what it made is handed to the worker, who does so if the job is still its own.

mod archive;
mod disk;
mod machine;
mod source;
mod target;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use transload::block::{Error, ErrorKind, Result};
use transload::convert::Cancel;
use transload::remote::Options;

use crate::meter::Meter;
use crate::model::{JobRequest, JobResult};
use crate::root::Root;

pub use archive::Password;
pub(crate) use target::{Made, target_path};

/// What a task may use.
#[derive(Debug)]
pub(crate) struct Context {
    /// The job's id and the claim's token, which name the staging folder.
    pub(crate) job: String,
    pub(crate) token: i64,
    pub(crate) root: Root,
    /// The folder that uploads are in, each a file with its id as its name.
    pub(crate) uploads: Option<Root>,
    /// Which addresses may be reached, and as whom.
    pub(crate) network: Options,
    /// The password of archives.
    pub(crate) password: Option<Password>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) cancel: Cancel,
    pub(crate) threads: NonZeroUsize,
    pub(crate) memory: u64,
}

/// What a task made.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) result: JobResult,
    pub(crate) warnings: Vec<String>,
    pub(crate) made: Made,
    /// Whether what is there may be replaced.
    pub(crate) force: bool,
}

impl Context {
    /// Worker threads: as the request wants it, but never more than the job's share.
    fn threads(&self, asked: Option<NonZeroUsize>) -> NonZeroUsize {
        asked.map_or(self.threads, |asked| asked.min(self.threads))
    }

    /// The source's share of the memory: a quarter, as the engine reckons.
    fn cache_bytes(&self) -> usize {
        usize::try_from(self.memory / 4).unwrap_or(usize::MAX)
    }
}

/// Does what `request` asks for, but for publishing it.
pub(crate) fn run(context: &Context, request: &JobRequest) -> Result<Produced> {
    let started = Instant::now();
    let produced = match request {
        JobRequest::Convert(job) => disk::convert(context, job),
        JobRequest::Digest(job) => disk::digest(context, job),
        JobRequest::Check(job) => disk::check(context, job),
        JobRequest::Export(job) => machine::export(context, job),
        JobRequest::Import(job) => machine::import(context, job),
        JobRequest::Validate(job) => machine::validate(context, job),
        JobRequest::Archive(job) => archive::create(context, job),
    };
    // What fails because it was stopped was stopped, whatever the failure looks like.
    let mut produced = produced.map_err(|error| context.cancel.check().err().unwrap_or(error))?;
    context.cancel.check()?;
    produced.result.elapsed_seconds = started.elapsed().as_secs_f64();
    Ok(produced)
}

/// A report as the command of the same name prints it with `--json`, with more fields in front.
fn details(report: &impl Serialize, fields: &[(&str, Value)]) -> Result<Value> {
    let mut document = serde_json::to_value(report)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "the report is no JSON").with_source(error))?;
    if let Some(map) = document.as_object_mut() {
        map.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    } else {
        document = json!({ "report": document });
    }
    Ok(document)
}
