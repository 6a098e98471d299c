//! What snapshots need: every chunk and folder that can be reached from their trees.

use std::collections::HashSet;

use transload_block::Result;

use crate::format::id::Id;
use crate::format::pack::BlobKind;
use crate::repository::Repository;

/// The blobs that are needed by some trees.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) data: HashSet<Id>,
    pub(crate) trees: HashSet<Id>,
}

impl Reached {
    /// Adds a tree and everything below it. One that was added before is not gone through again.
    ///
    /// # Errors
    /// What reading a tree answers.
    pub(crate) fn add(&mut self, repository: &Repository, tree: Id) -> Result<()> {
        let mut pending = vec![tree];
        while let Some(id) = pending.pop() {
            if !self.trees.insert(id) {
                continue;
            }
            for node in &repository.tree(&id)?.nodes {
                pending.extend(node.subtree);
                self.data.extend(node.content.iter().flatten());
            }
        }
        Ok(())
    }

    /// Whether a blob is among them.
    pub(crate) fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        match kind {
            BlobKind::Data => self.data.contains(id),
            BlobKind::Tree => self.trees.contains(id),
        }
    }
}
