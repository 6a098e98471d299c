//! The documents of the API, as the OpenAPI document describes them. Their names are stable.

use serde::{Deserialize, Serialize};
use transload::convert::{DigestKind, Report};
use transload_jobs::model::{self, DigestName, JobResult};
use utoipa::ToSchema;

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// What kind of failure it is, to match on: `invalid-input`, `corrupt`, `unsupported`, `denied`, `not-found`, `conflict`,
    /// `busy`, `unauthorized`, `too-large`, `no-space`, `checksum`, `network`, `cancelled`, `io` and others.
    #[schema(example = "corrupt")]
    pub(crate) kind: String,
    /// A sentence for people.
    #[schema(example = "corrupt: disk.qcow2: header: cluster bits is 63, must be 9 to 21")]
    pub(crate) message: String,
    /// What caused it, from the outside in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// The answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FailureDocument {
    /// Why.
    pub(crate) error: Failure,
}

/// A hash function for the bytes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DigestChoice {
    /// SHA-256.
    #[default]
    Sha256,
    /// BLAKE3 with 32 bytes.
    Blake3,
    /// None, which is faster.
    None,
}

impl DigestChoice {
    /// The function, as the engine names it.
    pub(crate) fn kinds(self) -> Vec<DigestKind> {
        match self {
            Self::Sha256 => vec![DigestKind::Sha256],
            Self::Blake3 => vec![DigestKind::Blake3],
            Self::None => Vec::new(),
        }
    }
}

/// A digest of the bytes that a guest sees, holes as zeroes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Digest {
    /// The function: `sha256` or `blake3`.
    #[schema(example = "sha256")]
    pub(crate) algorithm: String,
    /// Lower-case hexadecimal digits.
    pub(crate) hex: String,
}

/// What a conversion in one pass did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Converted {
    /// The new image, as a path below the root.
    #[schema(example = "disks/web.qcow2")]
    pub(crate) output: String,
    /// Its format.
    #[schema(example = "qcow2")]
    pub(crate) format: String,
    /// The format of the source: the one that was named, or what its bytes said.
    #[schema(example = "vmdk")]
    pub(crate) source_format: String,
    /// Bytes written to the image.
    pub(crate) written_bytes: u64,
    /// The size of the disk in bytes.
    pub(crate) capacity_bytes: u64,
    /// Wall time in seconds.
    pub(crate) elapsed_seconds: f64,
    /// The digest of the bytes that a guest sees, unless none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    /// What one should know though it is no error.
    pub(crate) warnings: Vec<String>,
}

impl Converted {
    /// What the engine reports, for the image at `output`.
    pub(crate) fn new(output: String, format: &str, source_format: &str, report: Report) -> Self {
        let digest = report.digests.into_iter().next().map(|digest| Digest {
            algorithm: match digest.algorithm {
                DigestKind::Sha256 => "sha256".to_owned(),
                DigestKind::Blake3 => "blake3".to_owned(),
            },
            hex: digest.hex,
        });
        Self {
            output,
            format: format.to_owned(),
            source_format: source_format.to_owned(),
            written_bytes: report.written,
            capacity_bytes: report.virtual_size,
            elapsed_seconds: std::time::Duration::from_millis(report.elapsed_milliseconds).as_secs_f64(),
            digest,
            warnings: report.warnings,
        }
    }

    /// The same as the result of a job.
    pub(crate) fn as_result(&self) -> JobResult {
        let digest = self.digest.iter().map(|digest| model::Digest {
            algorithm: if digest.algorithm == "blake3" { DigestName::Blake3 } else { DigestName::Sha256 },
            hex: digest.hex.clone(),
        });
        JobResult {
            output: Some(self.output.clone()),
            format: Some(self.format.clone()),
            written_bytes: self.written_bytes,
            capacity_bytes: self.capacity_bytes,
            elapsed_seconds: self.elapsed_seconds,
            digests: digest.collect(),
            ..JobResult::default()
        }
    }
}

/// Whether room is set aside for the whole target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Prealloc {
    /// Holes stay holes.
    #[default]
    Off,
    /// Allocated without being written.
    Falloc,
    /// Written with zeroes.
    Full,
}

/// How a target is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compress {
    /// With what the format uses by itself.
    Auto,
    /// Deflate.
    Zlib,
    /// Zstandard.
    Zstd,
}
