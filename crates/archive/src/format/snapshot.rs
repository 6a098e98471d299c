//! Snapshots: one state of one or several disks.

use serde::{Deserialize, Serialize};

use super::id::Id;
use super::time::Time;

/// The tag that snapshots made here have; others of the same repository may be of any files.
pub(crate) const TAG: &str = "transload";

/// A snapshot as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotDocument {
    pub(crate) time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Id>,
    pub(crate) tree: Id,
    #[serde(default)]
    pub(crate) paths: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) program_version: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A snapshot: what it is called, when it was made, of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: Id,
    /// When it was made.
    pub time: Time,
    /// The tree of its files.
    pub tree: Id,
    /// What it was made of: names of disks, as absolute paths.
    pub paths: Vec<String>,
    /// The machine that it was made on, or that it is of.
    pub hostname: String,
    /// Words that it was given.
    pub tags: Vec<String>,
    /// The program that made it.
    pub program: String,
    /// The snapshot that it was compared with while it was made.
    pub parent: Option<Id>,
}

impl Snapshot {
    pub(crate) fn new(id: Id, document: SnapshotDocument) -> Self {
        Self {
            id,
            time: document.time,
            tree: document.tree,
            paths: document.paths.unwrap_or_default(),
            hostname: document.hostname,
            tags: document.tags.unwrap_or_default(),
            program: document.program_version,
            parent: document.parent,
        }
    }

    /// Whether it is of disks and was made here.
    #[must_use]
    pub fn is_of_disks(&self) -> bool {
        self.tags.iter().any(|tag| tag == TAG)
    }
}
