//! The files of a volume as trees.

use std::collections::HashMap;
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::{FileId, FileKind, FileSystem, FileSystemExt, Kind, Metadata};

use super::files::{Chunk, Reader};
use super::folders::{Entry, Folders};
use super::packer::Packing;
use super::{CreateSettings, Report};
use crate::format::id::Id;
use crate::format::node::{Node, Tree};
use crate::format::pack::BlobKind;
use crate::profile::Treatment;
use crate::repository::Repository;

/// Folders inside each other, as many as a walk enters.
const DEEPEST: usize = 2048;
/// Warnings that are kept; what else there is, is counted.
const MOST_WARNINGS: usize = 1000;

/// What the walk through a volume works with.
pub(crate) struct Walker<'a, 'b> {
    pub(crate) repository: &'a Repository,
    pub(crate) settings: &'a CreateSettings,
    pub(crate) reader: &'a mut Reader<'b>,
    pub(crate) folders: &'a mut Folders<'b>,
    pub(crate) report: &'a mut Report,
    pub(crate) filesystem: &'a dyn FileSystem,
    /// For messages: the disk and the volume.
    pub(crate) place: String,
    /// What tells the files with several names of this volume from those of others.
    pub(crate) device: u64,
    /// Chunks of files with several names.
    pub(crate) linked: HashMap<FileId, Vec<Chunk>>,
}

/// A folder as an earlier snapshot has it.
struct Before {
    tree: Arc<Tree>,
    places: HashMap<String, usize>,
}

impl Before {
    fn new(tree: Arc<Tree>) -> Self {
        let places = tree.nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect();
        Self { tree, places }
    }

    fn find(&self, quoted: &str) -> Option<&Node> {
        self.tree.nodes.get(*self.places.get(quoted)?)
    }
}

/// A folder that is being gone through.
struct Level {
    id: FileId,
    node: Node,
    path: Vec<u8>,
    parent: Option<Before>,
    /// Still to come, the next last.
    rest: Vec<transload_filesystem::Entry>,
    entries: Vec<Entry>,
}

impl Walker<'_, '_> {
    /// Goes through the whole volume. Answers the node of its root, which is called `name`. `parent` is the tree of the
    /// same volume in an earlier snapshot.
    pub(crate) fn walk(&mut self, name: &[u8], parent: Option<Arc<Tree>>) -> Result<Entry> {
        let root = self.filesystem.root();
        let metadata = self.filesystem.stat(root).map_err(|error| error.context(&self.place))?;
        let node = self.node(root, name, &metadata, b"/")?;
        let mut levels = vec![self.level(root, node, Vec::new(), parent)?];
        loop {
            let Some(level) = levels.last_mut() else {
                return Err(Error::new(ErrorKind::InvalidInput, "a volume without a root"));
            };
            let Some(entry) = level.rest.pop() else {
                let Some(Level { node, entries, .. }) = levels.pop() else { continue };
                let folder = Entry::Folder(node, self.folders.finish(entries)?);
                match levels.last_mut() {
                    Some(above) => above.entries.push(folder),
                    None => return Ok(folder),
                }
                continue;
            };
            let mut path = level.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            let is_circle = levels.iter().any(|level| level.id == entry.id);
            if is_circle || levels.len() >= DEEPEST {
                self.warn(&path, &Error::new(ErrorKind::Corrupt, "a folder that is in itself"));
                continue;
            }
            let parent = levels.last().and_then(|level| level.parent.as_ref());
            match self.entry(&entry, &path, parent) {
                Ok(Some(Visited::Entry(entry))) => {
                    if let Some(level) = levels.last_mut() {
                        level.entries.push(entry);
                    }
                }
                Ok(Some(Visited::Folder(node, below))) => match self.level(entry.id, node, path.clone(), below) {
                    Ok(level) => levels.push(level),
                    Err(error) => self.skip(&path, error)?,
                },
                Ok(None) => {}
                Err(error) => self.skip(&path, error)?,
            }
        }
    }

    /// Goes on after what is wrong with one file; what is wrong with the archive or the machine is the end.
    fn skip(&mut self, path: &[u8], error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Corrupt
            | ErrorKind::Unsupported
            | ErrorKind::TooLarge
            | ErrorKind::InvalidInput
            | ErrorKind::OutOfRange => {
                self.warn(path, &error);
                Ok(())
            }
            _ => Err(error.context(format_args!("{}:/{}", self.place, path.escape_ascii()))),
        }
    }

    fn warn(&mut self, path: &[u8], error: &Error) {
        self.report.left_out += 1;
        if self.report.warnings.len() < MOST_WARNINGS {
            self.report.warnings.push(format!("{}:/{}: left out: {error}", self.place, path.escape_ascii()));
        }
    }

    fn level(&mut self, id: FileId, node: Node, path: Vec<u8>, parent: Option<Arc<Tree>>) -> Result<Level> {
        let mut rest = self.filesystem.entries(id)?;
        rest.reverse();
        self.report.folders += 1;
        let parent = parent.map(Before::new);
        Ok(Level { id, node, path, parent, rest, entries: Vec::new() })
    }

    /// A node with everything but what it holds.
    fn node(&mut self, id: FileId, name: &[u8], metadata: &Metadata, path: &[u8]) -> Result<Node> {
        let mut metadata = metadata.clone();
        if !self.settings.access_times {
            metadata.accessed = metadata.modified;
        }
        let mut node = Node::new(name, &metadata);
        node.inode = id.0;
        if metadata.links > 1 && metadata.kind != FileKind::Directory {
            node.device_id = self.device;
        }
        for lost in node.set_xattrs(&self.filesystem.xattrs(id)?) {
            let text = format!("{}:/{}: the attribute {}", self.place, path.escape_ascii(), lost.escape_ascii());
            self.report.warnings.push(format!("{text} is left out: its name is no text"));
        }
        if self.filesystem.info().kind == Kind::Ntfs {
            self.report.streams += self.filesystem.streams(id)?.len() as u64;
        }
        Ok(node)
    }

    fn entry(
        &mut self,
        entry: &transload_filesystem::Entry,
        path: &[u8],
        parent: Option<&Before>,
    ) -> Result<Option<Visited>> {
        let treatment = self.settings.profiles.treatment(path);
        if treatment == Treatment::Exclude {
            self.report.excluded += 1;
            return Ok(None);
        }
        let metadata = self.filesystem.stat(entry.id)?;
        let mut node = self.node(entry.id, &entry.name, &metadata, path)?;
        let before = parent.and_then(|parent| parent.find(&node.name));
        match metadata.kind {
            FileKind::Directory => {
                let below = before.and_then(|before| before.subtree).and_then(|id| self.repository.tree(&id).ok());
                return Ok(Some(Visited::Folder(node, below)));
            }
            FileKind::Symlink => node.set_target(&self.filesystem.read_link(entry.id)?),
            FileKind::Regular => {
                self.report.files += 1;
                self.report.bytes += metadata.size;
                let chunks = self.chunks(entry.id, &metadata, &node, before, treatment)?;
                return Ok(Some(Visited::Entry(Entry::File(node, chunks))));
            }
            _ => {}
        }
        self.report.others += 1;
        Ok(Some(Visited::Entry(Entry::Whole(node))))
    }

    /// The chunks of a file: those of its other name, those of the snapshot before where it has not changed since, or new
    /// ones.
    fn chunks(
        &mut self,
        id: FileId,
        metadata: &Metadata,
        node: &Node,
        before: Option<&Node>,
        treatment: Treatment,
    ) -> Result<Vec<Chunk>> {
        if let Some(chunks) = self.linked.get(&id) {
            self.reader.skip(metadata.size);
            return Ok(chunks.clone());
        }
        let unchanged = before.filter(|before| is_unchanged(before, node)).and_then(|before| before.content.as_ref());
        let known = |content: &&Vec<Id>| {
            let index = self.repository.index();
            content.iter().all(|id| index.contains(BlobKind::Data, id))
        };
        let chunks = match unchanged.filter(known) {
            Some(content) => {
                self.report.unchanged += 1;
                self.reader.skip(metadata.size);
                content.iter().map(|id| Chunk::Known(*id)).collect()
            }
            None => {
                let packing = match treatment {
                    Treatment::Zstd(level) => Packing::Zstd(level),
                    Treatment::Store | Treatment::Exclude => Packing::Plain,
                };
                let file = self.filesystem.open(id)?;
                if file.size() != metadata.size {
                    let text = format!("it has {} bytes, and its inode says {}", file.size(), metadata.size);
                    return Err(Error::new(ErrorKind::Corrupt, text));
                }
                self.reader.read(&*file, packing)?
            }
        };
        if metadata.links > 1 {
            self.linked.insert(id, chunks.clone());
        }
        Ok(chunks)
    }
}

enum Visited {
    Entry(Entry),
    Folder(Node, Option<Arc<Tree>>),
}

/// Whether a file has not changed: whoever writes to one changes the time of its metadata, which no program can set.
fn is_unchanged(before: &Node, now: &Node) -> bool {
    let key = |node: &Node| (node.size, node.mtime, node.ctime, node.inode);
    before.kind == "file" && now.ctime.is_some() && key(before) == key(now)
}
