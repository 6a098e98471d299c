//! What a job is: the words that the HTTP API, the store and the workers share.
//!
//! Everything here is data. Names in JSON are in camel case, and every type has its schema, so that the OpenAPI document is
//! made from these types and from nothing else.

mod daemon;
mod event;
mod job;
mod outcome;
mod request;
mod time;

pub use daemon::DaemonJob;
pub use event::{Event, EventKind};
pub use job::{Job, JobFilter, JobKind, JobPage, JobState};
pub use outcome::{Digest, JobError, JobErrorKind, JobProgress, JobResult, OutputFile};
pub use request::{
    ArchiveJob, CheckJob, Codec, ConvertJob, DigestJob, DigestName, ExportJob, Hypervisor, ImportJob, JobRequest,
    Location, ManifestName, NvramChoice, Prealloc, ReadOptions, References, RunOptions, ValidateJob, is_upload_id,
};
pub use time::Timestamp;
