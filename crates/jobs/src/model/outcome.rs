//! How far a job is, and what came of it.

use std::error::Error as _;

use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind};
use utoipa::ToSchema;

use super::{DigestName, Timestamp};

/// How much of a job is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobProgress {
    /// What is being done, such as the disk of a machine that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Bytes of the disks that are done, those skipped as zero included.
    pub done_bytes: u64,
    /// Bytes of the disks altogether, once they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Bytes written to the target.
    pub written_bytes: u64,
    /// Bytes done in a second, lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Seconds that the rest will take at this rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
}

/// A file that a job made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputFile {
    /// Its name under the root, or its address.
    pub name: String,
    /// Its length in bytes, where it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// A digest of the bytes that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// Which function.
    pub algorithm: DigestName,
    /// Hexadecimal, in lower case.
    pub hex: String,
}

/// What came of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// The name under the root, or the address, of what was made; nothing where nothing is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Every file that was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OutputFile>,
    /// The format of what was made, or of what was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Bytes that were written.
    #[serde(default)]
    pub written_bytes: u64,
    /// The size of the disk, or of all disks together.
    #[serde(default)]
    pub capacity_bytes: u64,
    /// Wall time.
    #[serde(default)]
    pub elapsed_seconds: f64,
    /// The digests that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<Digest>,
    /// What `check` and `validate` found: whether nothing is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<bool>,
    /// Everything that the command of the same name prints with `--json`.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobErrorKind {
    /// The operating system refused or failed an operation.
    Io,
    /// The bytes are not of the format they were declared as.
    NotThisFormat,
    /// A rule of the format is broken.
    Corrupt,
    /// A valid feature that is not handled.
    Unsupported,
    /// A request outside the disk.
    OutOfRange,
    /// The request contradicts itself or makes no sense.
    InvalidInput,
    /// A write to what was opened for reading.
    ReadOnly,
    /// A policy forbids it.
    Denied,
    /// A limit is exceeded.
    TooLarge,
    /// No room is left for the output.
    NoSpace,
    /// A digest or checksum is wrong.
    Checksum,
    /// A remote source or target failed.
    Network,
    /// Somebody asked it to stop.
    Cancelled,
    /// The process that was at it ended or was cut off, as often as the job may be tried.
    WorkerLost,
    /// A fault in Transload.
    Internal,
}

impl From<ErrorKind> for JobErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Io => Self::Io,
            ErrorKind::NotThisFormat => Self::NotThisFormat,
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::OutOfRange => Self::OutOfRange,
            ErrorKind::InvalidInput => Self::InvalidInput,
            ErrorKind::ReadOnly => Self::ReadOnly,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::TooLarge => Self::TooLarge,
            ErrorKind::NoSpace => Self::NoSpace,
            ErrorKind::Checksum => Self::Checksum,
            ErrorKind::Network => Self::Network,
            ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Internal,
        }
    }
}

/// Why a job, or an attempt at it, failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobError {
    /// What kind of failure it was.
    pub kind: JobErrorKind,
    /// Which file and structure, and what was wrong.
    pub message: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What it came from, the nearest cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// In which attempt.
    #[serde(default)]
    pub attempt: u32,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl JobError {
    /// Makes one of `kind`.
    pub fn new(kind: JobErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None, causes: Vec::new(), attempt: 0, at: None }
    }

    /// Whether another attempt may end otherwise: what fails on the way to a remote place may.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == JobErrorKind::Network
    }
}

impl From<&Error> for JobError {
    fn from(error: &Error) -> Self {
        /// A chain of causes is a few sentences; one that goes round in a circle is a mistake.
        const DEEPEST: usize = 16;
        let causes = std::iter::successors(error.source(), |cause: &&dyn std::error::Error| (**cause).source());
        Self {
            remedy: error.remedy().map(ToOwned::to_owned),
            causes: causes.take(DEEPEST).map(ToString::to_string).collect(),
            ..Self::new(error.kind().into(), error.to_string())
        }
    }
}
