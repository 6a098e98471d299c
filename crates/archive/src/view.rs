//! The files of a snapshot as a filesystem: what everything that reads files can read an archive through.

use std::collections::HashMap;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Error, ErrorKind, Extent, Result, check_extent, check_range,
};
use transload_filesystem::{Entry, FileId, FileKind, FileSystem, Info, Kind, Metadata, Owner, Stream, Xattr};

use crate::format::id::Id;
use crate::format::node::Node;
use crate::format::pack::BlobKind;
use crate::format::snapshot::Snapshot;
use crate::repository::Repository;
use crate::zeroes;

const ROOT: FileId = FileId(0);

/// The files of a snapshot.
#[derive(Debug)]
pub(crate) struct View {
    repository: Arc<Repository>,
    info: Info,
    /// The time of the root, which has no node.
    time: Option<transload_filesystem::Timestamp>,
    places: Mutex<Places>,
}

/// Folders that were listed. A file is called by the number of its folder and its place in it: memory grows with the
/// folders that were looked into, not with the files.
#[derive(Debug, Default)]
struct Places {
    trees: Vec<Id>,
    numbers: HashMap<FileId, u32>,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), FileId>,
}

impl View {
    pub(crate) fn new(repository: Arc<Repository>, snapshot: &Snapshot) -> Result<Self> {
        repository
            .tree(&snapshot.tree)
            .map_err(|error| error.context(format_args!("snapshot {}", snapshot.id.short())))?;
        let info = Info {
            kind: Kind::Host,
            version: "archive".to_owned(),
            label: String::new(),
            uuid: None,
            block_size: 4096,
            size: 0,
            notes: Vec::new(),
        };
        let places = Places { trees: vec![snapshot.tree], numbers: HashMap::from([(ROOT, 0)]), linked: HashMap::new() };
        Ok(Self { repository, info, time: Some(snapshot.time.0), places: Mutex::new(places) })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tree of a folder.
    pub(crate) fn subtree(&self, dir: FileId) -> Option<Id> {
        self.place(dir).ok().map(|(_, tree)| tree)
    }

    /// The node of a file; `None` for the root.
    pub(crate) fn node(&self, id: FileId) -> Result<Option<Node>> {
        if id == ROOT {
            return Ok(None);
        }
        let wrong = || Error::new(ErrorKind::Corrupt, format!("archive: no file has the number {:#x}", id.0));
        let folder = usize::try_from(id.0 >> 32).ok().and_then(|place| self.places().trees.get(place).copied());
        let tree = self.repository.tree(&folder.ok_or_else(wrong)?)?;
        let index = (id.0 & 0xffff_ffff).checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| tree.nodes.get(index)).cloned().ok_or_else(wrong).map(Some)
    }

    /// The number of a folder in the list of those that were listed.
    fn place(&self, dir: FileId) -> Result<(u32, Id)> {
        let known = |places: &Places| {
            let number = *places.numbers.get(&dir)?;
            places.trees.get(usize::try_from(number).ok()?).map(|tree| (number, *tree))
        };
        if let Some(found) = known(&self.places()) {
            return Ok(found);
        }
        let node = self.node(dir)?;
        let subtree = node.as_ref().and_then(|node| node.subtree).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "archive: the entries of something that is no folder")
        })?;
        let mut places = self.places();
        if let Some(found) = known(&places) {
            return Ok(found);
        }
        let too_many = |_| Error::new(ErrorKind::TooLarge, "archive: more than 4 billion folders");
        let number = u32::try_from(places.trees.len()).map_err(too_many)?;
        places.trees.push(subtree);
        places.numbers.insert(dir, number);
        Ok((number, subtree))
    }

    fn number(&self, place: u32, index: usize, node: &Node) -> FileId {
        let id = FileId(u64::from(place) << 32 | (index as u64 + 1));
        if node.links > 1 && node.kind != "dir" && node.inode != 0 {
            return *self.places().linked.entry((node.device_id, node.inode)).or_insert(id);
        }
        id
    }
}

impl FileSystem for View {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        ROOT
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        match self.node(id)? {
            Some(node) => node.metadata(match node.kind()? {
                FileKind::Symlink => node.target()?.len() as u64,
                _ => node.size,
            }),
            None => Ok(Metadata {
                kind: FileKind::Directory,
                permissions: 0o755,
                owner: Owner::default(),
                size: 0,
                allocated: 0,
                links: 1,
                modified: self.time,
                accessed: None,
                changed: None,
                created: None,
                device: None,
            }),
        }
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        let (place, tree) = self.place(dir)?;
        for (index, node) in self.repository.tree(&tree)?.nodes.iter().enumerate() {
            let entry = Entry { name: node.name()?, id: self.number(place, index, node), kind: Some(node.kind()?) };
            if each(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        let (place, tree) = self.place(dir)?;
        let tree = self.repository.tree(&tree)?;
        let quoted = crate::format::quoting::quote(name);
        let found = tree.nodes.iter().enumerate().find(|(_, node)| {
            node.name == quoted || (node.name.contains('\\') && node.name().is_ok_and(|found| found == name))
        });
        Ok(found.map(|(index, node)| self.number(place, index, node)))
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let node = self.node(id)?.filter(|node| node.kind == "file");
        let node = node.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "archive: no regular file"))?;
        ArchivedFile::open(Arc::clone(&self.repository), &node)
            .map(|file| Arc::new(file) as Arc<dyn BlockRead>)
            .map_err(|error| error.context(&node.name))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        match self.node(id)? {
            Some(node) if node.kind == "symlink" => node.target(),
            _ => Err(Error::new(ErrorKind::InvalidInput, "archive: no symbolic link")),
        }
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        self.node(id)?.map_or_else(|| Ok(Vec::new()), |node| node.xattrs())
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, _id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(Error::new(ErrorKind::InvalidInput, format!("archive: no stream \"{}\"", name.escape_ascii())))
    }
}

/// The bytes of an archived file, read at any place through the chunks that were unpacked last.
struct ArchivedFile {
    repository: Arc<Repository>,
    /// Each chunk and where it ends.
    chunks: Vec<(Id, u64)>,
}

impl fmt::Debug for ArchivedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchivedFile").field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}

impl ArchivedFile {
    fn open(repository: Arc<Repository>, node: &Node) -> Result<Self> {
        let corrupt = |text: String| Error::new(ErrorKind::Corrupt, text);
        let mut chunks = Vec::with_capacity(node.content.as_ref().map_or(0, Vec::len));
        let mut end = 0_u64;
        let index = repository.index();
        for id in node.content.iter().flatten() {
            let length = index.length(BlobKind::Data, id);
            let length = length.ok_or_else(|| corrupt(format!("chunk {}: it is in no pack", id.short())))?;
            end = end.checked_add(length.into()).ok_or_else(|| corrupt("more than 2^64 bytes".to_owned()))?;
            // An empty chunk would be in nobody's way but that of the search below.
            if length > 0 {
                chunks.push((*id, end));
            }
        }
        drop(index);
        if end != node.size {
            return Err(corrupt(format!("its chunks have {end} bytes, and the file {}", node.size)));
        }
        Ok(Self { repository, chunks })
    }

    /// The chunk that holds a byte, and where it begins.
    fn chunk(&self, offset: u64) -> Option<(Id, Range<u64>)> {
        let index = self.chunks.partition_point(|(_, end)| *end <= offset);
        let (id, end) = *self.chunks.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.chunks[before].1);
        Some((id, start..end))
    }

    fn is_hole(&self, id: &Id, range: &Range<u64>) -> bool {
        zeroes::is_hole(id, range.end - range.start)
    }
}

impl BlockRead for ArchivedFile {
    fn size(&self) -> u64 {
        self.chunks.last().map_or(0, |(_, end)| *end)
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let Some((id, range)) = self.chunk(at) else { break };
            let count = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at_mut(count);
            if self.is_hole(&id, &range) {
                part.fill(0);
            } else {
                let bytes = self.repository.data(&id)?;
                let from = usize::try_from(at - range.start).unwrap_or(usize::MAX);
                let found = bytes.get(from..).and_then(|bytes| bytes.get(..count)).ok_or_else(|| {
                    let text =
                        format!("chunk {}: it has {} bytes, and the index says otherwise", id.short(), bytes.len());
                    Error::new(ErrorKind::Corrupt, text)
                })?;
                part.copy_from_slice(found);
            }
            (rest, at) = (behind, at + count as u64);
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size())?;
        let (offset, end) = (range.start, range.end);
        let Some((id, chunk)) = self.chunk(offset) else {
            return Ok(Extent { offset, length: end - offset, status: BlockStatus::Data });
        };
        let status = if self.is_hole(&id, &chunk) { BlockStatus::Hole } else { BlockStatus::Data };
        Ok(Extent { offset, length: chunk.end.min(end) - offset, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
