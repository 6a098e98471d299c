//! Folders that wait for the names of what is in them, and become trees in the order in which they were finished.

use std::collections::VecDeque;

use transload_block::{Error, ErrorKind, Result};

use super::files::Chunk;
use super::packer::Packing;
use super::workers::{Job, Slot, Workshop};
use crate::format::id::Id;
use crate::format::node::{Node, Tree};
use crate::format::pack::BlobKind;

/// How hard trees are compressed: they are small, many times read, and text.
const LEVEL: i32 = 9;

/// An entry of a folder, whose contents may still be under way.
pub(crate) enum Entry {
    /// Nothing is to come.
    Whole(Node),
    File(Node, Vec<Chunk>),
    Folder(Node, Slot),
}

/// Folders that are finished but for names.
pub(crate) struct Folders<'a> {
    workshop: &'a Workshop<'a>,
    waiting: VecDeque<(Vec<Entry>, Slot)>,
}

impl<'a> Folders<'a> {
    pub(crate) fn new(workshop: &'a Workshop<'a>) -> Self {
        Self { workshop, waiting: VecDeque::new() }
    }

    /// Takes a folder over. What is in it was handed over before. Answers where its name will stand.
    pub(crate) fn finish(&mut self, entries: Vec<Entry>) -> Result<Slot> {
        let slot = Slot::default();
        self.waiting.push_back((entries, Slot::clone(&slot)));
        while self.waiting.front().is_some_and(|(entries, _)| entries.iter().all(Entry::is_ready)) {
            self.seal_first()?;
        }
        Ok(slot)
    }

    /// Waits for all folders.
    pub(crate) fn wait(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.seal_first()?;
        }
        Ok(())
    }

    fn seal_first(&mut self) -> Result<()> {
        let Some((entries, slot)) = self.waiting.pop_front() else { return Ok(()) };
        let nodes = entries.into_iter().map(Entry::into_node).collect::<Option<Vec<_>>>();
        let nodes = nodes.ok_or_else(|| Error::new(ErrorKind::Cancelled, "stopped"))?;
        let bytes = Tree { nodes }.to_bytes()?;
        let id = Id::of(&bytes);
        // Known at once: the folder above need not wait for the threads.
        let _ = slot.set(Some(id));
        let (kind, packing, slot) = (BlobKind::Tree, Packing::Zstd(LEVEL), Slot::default());
        self.workshop.submit(Job { kind, bytes, packing, id: Some(id), slot })
    }
}

impl Entry {
    fn is_ready(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::File(_, chunks) => chunks.iter().all(|chunk| chunk.get().is_some()),
            Self::Folder(_, slot) => slot.get().is_some(),
        }
    }

    fn into_node(self) -> Option<Node> {
        match self {
            Self::Whole(node) => Some(node),
            Self::File(mut node, chunks) => {
                node.content = Some(chunks.iter().map(Chunk::wait).collect::<Option<Vec<_>>>()?);
                Some(node)
            }
            Self::Folder(mut node, slot) => {
                node.subtree = Some((*slot.wait())?);
                Some(node)
            }
        }
    }
}
