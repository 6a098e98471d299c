//! What happens to a job, one after the other.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JobError, JobProgress, JobResult, JobState, Timestamp};

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its number: those of one job ascend, with gaps. A client that comes back names the last one it has seen.
    pub id: i64,
    /// The job's id.
    pub job: String,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EventKind {
    /// The job came to another state.
    State {
        /// The state.
        state: JobState,
        /// Which attempt it is.
        attempt: u32,
        /// What came of it, when it is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Box<JobResult>>,
        /// Why, when it failed, or goes back into the queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Box<JobError>>,
    },
    /// It is so far. Only the latest of these is kept.
    Progress {
        /// How far.
        progress: JobProgress,
    },
    /// Something the user should know.
    Warning {
        /// What.
        message: String,
    },
    /// Somebody asked it to stop.
    CancelRequested,
}

impl EventKind {
    /// The name of the event in a stream of server-sent events.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::State { .. } => "state",
            Self::Progress { .. } => "progress",
            Self::Warning { .. } => "warning",
            Self::CancelRequested => "cancelRequested",
        }
    }
}
