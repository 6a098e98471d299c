//! What a mount shows: folders that are made here, with disks and filesystems in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result, Slice};
use transload_filesystem as filesystem;
use transload_volume::{ReadSettings, Role, Usage, Volume, VolumeName, Volumes};

use crate::Disk;
use crate::slot::Files;

/// The folders, disks and filesystems of a mount.
#[derive(Debug)]
pub struct Tree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) files: Vec<Files>,
}

/// A node that is made here. The root is the first; a node's place in the list never changes.
#[derive(Debug)]
pub(crate) enum Node {
    Folder(BTreeMap<Vec<u8>, Child>),
    Disk(Disk),
}

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    /// A node, by its place in the list.
    Node(usize),
    /// The root of a filesystem, by its place in that list.
    Files(usize),
}

/// Something of a disk that is not shown, and why.
#[derive(Clone, Debug)]
pub struct Note {
    /// The volume's name, as in an address.
    pub volume: String,
    /// Why.
    pub error: Arc<Error>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Node::Folder(BTreeMap::new())], files: Vec::new() }
    }

    /// The tree of one disk: `disk.raw`, `partitions/N.raw` and `fs/N/…`, logical volumes by group and name below the same
    /// folders, and `fs/whole/…` for a disk without a partition table. `others` may hold physical volumes of its groups.
    ///
    /// The notes say which volumes or files are not shown: a partition that reaches behind the disk, a filesystem that is damaged.
    ///
    /// # Errors
    /// What the disk answers. A partition table that cannot be read is a note.
    pub fn of_disk(disk: &Disk, others: &[Arc<dyn BlockRead>], settings: ReadSettings) -> Result<(Self, Vec<Note>)> {
        let (reader, changes) = (Arc::clone(disk.reader()), disk.changes());
        let writer = disk.writer().cloned();
        let mut tree = Self::new();
        let mut notes = Vec::new();
        tree.disk(&["disk.raw"], disk.clone())?;
        tree.folder(&["partitions"])?;
        tree.folder(&["fs"])?;
        let volumes = match Volumes::scan(&reader, others, settings) {
            Ok(volumes) => volumes,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                notes.push(Note { volume: VolumeName::Whole.to_string(), error: Arc::new(error) });
                return Ok((tree, notes));
            }
            Err(error) => return Err(error),
        };
        for volume in volumes.iter() {
            if volume.partition.as_ref().is_some_and(|partition| partition.role == Role::Extended) {
                continue;
            }
            let shown = tree.volume(disk, writer.as_ref(), volume).and_then(|()| match holds_files(volume)? {
                true => {
                    let files = Files::on_device(volume.device()?, changes.clone())?;
                    tree.filesystem(&path_of("fs", &volume.name, ""), files)
                }
                false => Ok(()),
            });
            if let Err(error) = shown {
                notes.push(Note { volume: volume.name.to_string(), error: Arc::new(error) });
            }
        }
        Ok((tree, notes))
    }

    /// Shows the bytes of `volume` as a file.
    fn volume(
        &mut self,
        disk: &Disk,
        writer: Option<&Arc<dyn transload_block::BlockWrite>>,
        volume: &Volume,
    ) -> Result<()> {
        if volume.name == VolumeName::Whole {
            return Ok(());
        }
        let device = volume.device()?;
        let shown = match (writer, &volume.partition) {
            (Some(writer), Some(partition)) => {
                disk.part(Arc::new(Slice::writable(Arc::clone(writer), partition.range.clone())?))
            }
            // Logical volumes are only read.
            _ => Disk::read_only(device),
        };
        self.disk(&path_of("partitions", &volume.name, ".raw"), shown)
    }

    /// Adds a folder, and those on the way to it.
    ///
    /// # Errors
    /// `InvalidInput` when a name on the way is taken by something else, or is no name of a file.
    pub fn folder<N: AsRef<[u8]>>(&mut self, path: &[N]) -> Result<()> {
        self.descend(path).map(drop)
    }

    /// Adds a disk as a file, and the folders on the way to it.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn disk<N: AsRef<[u8]>>(&mut self, path: &[N], disk: Disk) -> Result<()> {
        self.insert(path, |this| {
            this.nodes.push(Node::Disk(disk));
            Child::Node(this.nodes.len() - 1)
        })
    }

    /// Adds a filesystem as a folder, and the folders on the way to it.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn filesystem<N: AsRef<[u8]>>(&mut self, path: &[N], files: Files) -> Result<()> {
        self.insert(path, |this| {
            this.files.push(files);
            Child::Files(this.files.len() - 1)
        })
    }

    /// Whether a disk of it can be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node, Node::Disk(disk) if disk.writer().is_some()))
    }

    fn insert<N: AsRef<[u8]>>(&mut self, path: &[N], make: impl FnOnce(&mut Self) -> Child) -> Result<()> {
        let Some((name, folders)) = path.split_last() else { return Err(taken(b"/")) };
        let name = check_name(name.as_ref())?.to_vec();
        let folder = self.descend(folders)?;
        if self.folder_at(folder).is_some_and(|names| names.contains_key(&name)) {
            return Err(taken(&name));
        }
        let child = make(self);
        if let Some(Node::Folder(names)) = self.nodes.get_mut(folder) {
            names.insert(name, child);
        }
        Ok(())
    }

    /// The folder at `path`, made where it is missing.
    fn descend<N: AsRef<[u8]>>(&mut self, path: &[N]) -> Result<usize> {
        let mut here = 0;
        for name in path {
            let name = check_name(name.as_ref())?;
            let child = self.folder_at(here).and_then(|names| names.get(name).copied());
            here = match child {
                Some(Child::Node(node)) if self.folder_at(node).is_some() => node,
                Some(_) => return Err(taken(name)),
                None => {
                    let node = self.nodes.len();
                    self.nodes.push(Node::Folder(BTreeMap::new()));
                    if let Some(Node::Folder(names)) = self.nodes.get_mut(here) {
                        names.insert(name.to_vec(), Child::Node(node));
                    }
                    node
                }
            };
        }
        Ok(here)
    }

    fn folder_at(&self, node: usize) -> Option<&BTreeMap<Vec<u8>, Child>> {
        match self.nodes.get(node) {
            Some(Node::Folder(names)) => Some(names),
            _ => None,
        }
    }
}

/// Whether a volume has files to show. What is a member of a group or encrypted may look like something else on top.
fn holds_files(volume: &Volume) -> Result<bool> {
    if volume.signature()?.is_some_and(|found| found.format.usage() != Usage::Filesystem) {
        return Ok(false);
    }
    Ok(filesystem::probe(volume.device()?.as_ref())?.is_some())
}

/// Where a volume stands below `top`.
fn path_of(top: &str, name: &VolumeName, ending: &str) -> Vec<String> {
    match name {
        VolumeName::Logical { group, volume } => vec![top.to_owned(), group.clone(), format!("{volume}{ending}")],
        other => vec![top.to_owned(), format!("{other}{ending}")],
    }
}

fn check_name(name: &[u8]) -> Result<&[u8]> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        let name = String::from_utf8_lossy(name);
        return Err(Error::new(ErrorKind::InvalidInput, format!("'{}' is no name of a file", name.escape_debug())));
    }
    Ok(name)
}

fn taken(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::new(ErrorKind::InvalidInput, format!("'{}' is the name of something else in the mount", name.escape_debug()))
}

#[cfg(test)]
mod tests {
    use transload_block::Memory;

    use super::*;

    #[test]
    fn names_are_taken_once() {
        let disk = || Disk::read_only(Arc::new(Memory::new(512)));
        let mut tree = Tree::new();
        tree.disk(&["a", "b.raw"], disk()).unwrap();
        tree.folder(&["a"]).unwrap();
        for path in [&["a"][..], &["a", "b.raw"], &["a", "b.raw", "c"], &["a", ".."], &["x/y"], &[""], &[]] {
            assert_eq!(tree.disk(path, disk()).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
        }
        assert!(!tree.is_writable());
    }
}
