//! Index files: which blob is where in which pack.

use serde::{Deserialize, Serialize};

use super::id::Id;
use super::pack::{BlobKind, PackedBlob};

/// An index file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct IndexDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) supersedes: Option<Vec<Id>>,
    pub(crate) packs: Vec<IndexedPack>,
}

/// The blobs of a pack.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IndexedPack {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<IndexedBlob>,
}

/// A blob of a pack.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IndexedBlob {
    pub(crate) id: Id,
    #[serde(rename = "type")]
    pub(crate) kind: BlobKind,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uncompressed_length: Option<u32>,
}

impl From<&PackedBlob> for IndexedBlob {
    fn from(blob: &PackedBlob) -> Self {
        let PackedBlob { id, kind, offset, stored, unpacked } = *blob;
        Self { id, kind, offset, length: stored, uncompressed_length: unpacked }
    }
}

impl From<&IndexedBlob> for PackedBlob {
    fn from(blob: &IndexedBlob) -> Self {
        let IndexedBlob { id, kind, offset, length, uncompressed_length } = *blob;
        Self { id, kind, offset, stored: length, unpacked: uncompressed_length.filter(|length| *length > 0) }
    }
}
