//! What two snapshots have in common: entry by entry, and chunk by chunk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::{FileSystemExt, Follow};

use crate::format::id::Id;
use crate::format::node::{Node, Tree};
use crate::format::pack::BlobKind;
use crate::format::snapshot::Snapshot;
use crate::reach::Reached;
use crate::repository::Repository;
use crate::view::View;
use crate::zeroes;

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Its bytes or its kind differ.
    Contents,
    /// Its owner, mode, times or attributes differ.
    Metadata,
}

/// An entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path from the root.
    pub path: Vec<u8>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// How it differs.
    pub difference: Difference,
}

/// A part of a snapshot: a file, a folder, a disk, or all of it.
#[derive(Debug)]
pub struct Part {
    repository: Arc<Repository>,
    root: Root,
}

#[derive(Debug)]
enum Root {
    Tree(Id),
    File(Box<Node>),
}

impl Part {
    /// What stands at `path` in a snapshot.
    ///
    /// # Errors
    /// `InvalidInput` when there is nothing, or no file with bytes and no folder.
    pub fn find(repository: &Arc<Repository>, snapshot: &Snapshot, path: &[u8]) -> Result<Self> {
        let view = View::new(Arc::clone(repository), snapshot)?;
        let found = view.resolve(path, Follow::AllButLast)?;
        let root = match view.subtree(found.id) {
            Some(tree) => Root::Tree(tree),
            None => match view.node(found.id)?.filter(|node| node.kind == "file") {
                Some(node) => Root::File(Box::new(node)),
                None => {
                    let text = format!("{}: no file and no folder", path.escape_ascii());
                    return Err(Error::new(ErrorKind::InvalidInput, text));
                }
            },
        };
        Ok(Self { repository: Arc::clone(repository), root })
    }

    /// Its chunks, each once, with their lengths. Holes do not count: all files with holes would be alike.
    fn chunks(&self) -> Result<HashMap<Id, u64>> {
        let mut reached = Reached::default();
        match &self.root {
            Root::Tree(tree) => reached.add(&self.repository, *tree)?,
            Root::File(node) => reached.data.extend(node.content.iter().flatten()),
        }
        let index = self.repository.index();
        let length = |id: Id| {
            let length = index.length(BlobKind::Data, &id).map(u64::from);
            let missing = || Error::new(ErrorKind::Corrupt, format!("chunk {}: it is in no pack", id.short()));
            length.map(|length| (id, length)).ok_or_else(missing)
        };
        let chunks: HashMap<Id, u64> = reached.data.into_iter().map(length).collect::<Result<_>>()?;
        Ok(chunks.into_iter().filter(|(id, length)| !zeroes::is_hole(id, *length)).collect())
    }
}

/// How much two parts have in common, in bytes of different chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Similarity {
    /// Bytes of the first.
    pub first: u64,
    /// Bytes of the second.
    pub second: u64,
    /// Bytes of the chunks that both have.
    pub common: u64,
    /// How many chunks that are.
    pub common_chunks: u64,
}

/// Says how much two parts have in common.
///
/// # Errors
/// What reading folders answers.
pub fn similarity(one: &Part, other: &Part) -> Result<Similarity> {
    let (first, second) = (one.chunks()?, other.chunks()?);
    let mut found = Similarity { first: first.values().sum(), second: second.values().sum(), ..Similarity::default() };
    for (_, length) in first.iter().filter(|(id, _)| second.contains_key(id)) {
        found.common += length;
        found.common_chunks += 1;
    }
    Ok(found)
}

/// Hands every difference between two parts to `each`, in the order of the names. Folders that are the same are not entered.
///
/// # Errors
/// What reading folders answers, and what `each` does.
pub fn difference(one: &Part, other: &Part, each: &mut dyn FnMut(Change) -> Result<()>) -> Result<()> {
    let (Root::Tree(first), Root::Tree(second)) = (&one.root, &other.root) else {
        return Err(Error::new(ErrorKind::InvalidInput, "folders are compared, and one of these is a file"));
    };
    let mut pending = vec![(Vec::new(), Some(*first), Some(*second))];
    while let Some((path, left, right)) = pending.pop() {
        if left == right {
            continue;
        }
        let read = |part: &Part, id: Option<Id>| match id {
            Some(id) => part.repository.tree(&id),
            None => Ok(Arc::new(Tree::default())),
        };
        let (left, right) = (read(one, left)?, read(other, right)?);
        let mut names: BTreeMap<Vec<u8>, (Option<&Node>, Option<&Node>)> = BTreeMap::new();
        for node in &left.nodes {
            names.entry(node.name()?).or_default().0 = Some(node);
        }
        for node in &right.nodes {
            names.entry(node.name()?).or_default().1 = Some(node);
        }
        let mut below = Vec::new();
        for (name, (a, b)) in names {
            let path = [path.as_slice(), b"/", &name].concat();
            let change =
                |difference, node: &Node| Change { path: path.clone(), is_folder: node.kind == "dir", difference };
            match (a, b) {
                (Some(a), None) => each(change(Difference::Removed, a))?,
                (None, Some(b)) => each(change(Difference::Added, b))?,
                (Some(a), Some(b)) if holds(a) != holds(b) => each(change(Difference::Contents, b))?,
                (Some(a), Some(b)) if metadata(a) != metadata(b) => each(change(Difference::Metadata, b))?,
                _ => {}
            }
            let subtree = |node: Option<&Node>| node.and_then(|node| node.subtree);
            if subtree(a) != subtree(b) {
                below.push((path, subtree(a), subtree(b)));
            }
        }
        below.reverse();
        pending.append(&mut below);
    }
    Ok(())
}

/// What an entry holds besides other entries.
fn holds(node: &Node) -> impl PartialEq + use<'_> {
    (&node.kind, node.content.as_deref().unwrap_or_default(), &node.linktarget, &node.linktarget_raw, node.device)
}

/// What is said of an entry and survives being copied: not its number, not when it was read.
fn metadata(node: &Node) -> impl PartialEq + use<'_> {
    (node.mode, node.uid, node.gid, node.mtime, &node.extended_attributes)
}
