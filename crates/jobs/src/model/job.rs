//! A job as it stands in the store, and lists of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind};
use utoipa::ToSchema;

use super::{JobError, JobProgress, JobRequest, JobResult, Timestamp};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// A disk image is written in another format.
    Convert,
    /// A machine and its disks are packed into an OVA.
    Export,
    /// An OVA is unpacked for a hypervisor.
    Import,
    /// An OVA is judged.
    Validate,
    /// The digest of a disk is computed.
    Digest,
    /// The metadata of a disk image is checked.
    Check,
    /// The files of a disk are put into an archive.
    Archive,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Convert, Self::Export, Self::Import, Self::Validate, Self::Digest, Self::Check, Self::Archive];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Export => "export",
            Self::Import => "import",
            Self::Validate => "validate",
            Self::Digest => "digest",
            Self::Check => "check",
            Self::Archive => "archive",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| unknown("kind of job", text))
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for a worker.
    Queued,
    /// A worker is at it.
    Running,
    /// It was done, and `result` says what came of it.
    Done,
    /// It was not done, and `error` says why. Nothing is left of it.
    Failed,
    /// Somebody asked it to stop. Nothing is left of it.
    Cancelled,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens to the job by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| unknown("state of a job", text))
    }
}

fn unknown(what: &str, text: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{text:?} is no {what}"))
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its name: a UUID of version 7, which ascends with the time.
    pub id: String,
    /// What is to be done.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// What was asked for.
    pub request: JobRequest,
    /// Whether it was carried by one HTTP request, which ended with it: it cannot be tried again.
    pub streamed: bool,
    /// How much of it is done.
    pub progress: JobProgress,
    /// What the user should know though it is no error.
    pub warnings: Vec<String>,
    /// What came of it, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Why it failed, once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Why its last attempt failed: kept while it is tried again, and afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<JobError>,
    /// How often a worker has begun with it, since it was submitted or asked to be tried again.
    pub attempts: u32,
    /// After how many attempts it fails for good.
    pub max_attempts: u32,
    /// Jobs with a higher one are begun before others.
    pub priority: i32,
    /// The process that is at it, or was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Whether it was asked to stop.
    pub cancel_requested: bool,
    /// The number of its latest event.
    pub last_event: i64,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Before which moment it is not begun, after an attempt that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// When the latest attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it came to its final state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
}

/// Which jobs to list, and how many at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; in any when empty.
    pub states: Vec<JobState>,
    /// Of one of these kinds; of any when empty.
    pub kinds: Vec<JobKind>,
    /// With this text in their source or target, or with this text as their name; letters of either case are the same.
    pub text: Option<String>,
    /// At most so many, from 1 to [`JobFilter::MAX_LIMIT`]; [`JobFilter::DEFAULT_LIMIT`] when `None`.
    pub limit: Option<u32>,
    /// Behind the last job of the page whose `next` this is.
    pub after: Option<String>,
    /// The oldest job first instead of the newest.
    pub oldest_first: bool,
}

impl JobFilter {
    /// Jobs of a page when nothing is said.
    pub const DEFAULT_LIMIT: u32 = 50;
    /// The most jobs of a page.
    pub const MAX_LIMIT: u32 = 500;
}

/// Some of the jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobPage {
    /// The jobs, the newest first unless asked otherwise.
    pub jobs: Vec<Job>,
    /// What to ask for the following page with; nothing when this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
