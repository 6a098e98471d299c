//! What a mount answers, in terms of the tree; how the kernel asks is the business of `serve`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fuser::{Errno, FileAttr, FileType};
use transload_block::{BlockRead, BlockStatus, Error, ErrorKind};
use transload_filesystem::{FileId, FileSystem, Xattr};

use crate::attributes::{self, Maker};
use crate::errno::Refusal;
use crate::handles::{Handle, Handles, Name};
use crate::numbers::{Numbers, Place};
use crate::session::Event;
use crate::tree::{Child, Node, Tree};
use crate::{Disk, Files};

type Answer<T> = Result<T, Refusal>;
/// Who is told of errors.
pub(crate) type Log = Box<dyn Fn(Event) + Send + Sync>;

/// Names of a folder at most: what a list of them may take of the memory.
const MOST_NAMES: usize = 4 << 20;

/// Sizes for `statfs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) block: u32,
    pub(crate) blocks: u64,
}

/// Where `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seek {
    Data,
    Hole,
}

/// Everything that a mount knows.
pub(crate) struct Answers {
    tree: Tree,
    numbers: Numbers,
    handles: Handles,
    maker: Maker,
    log: Log,
    /// Errors told of so far.
    told: AtomicU64,
    /// Held for reading by whoever writes to a disk; `true` when no more may.
    closed: RwLock<bool>,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("tree", &self.tree).finish_non_exhaustive()
    }
}

impl Answers {
    pub(crate) fn new(tree: Tree, log: Log) -> Self {
        let numbers = Numbers::new(tree.files.len());
        let handles = Handles::default();
        let (told, closed) = (AtomicU64::new(0), RwLock::new(false));
        Self { tree, numbers, handles, maker: Maker::new(), log, told, closed }
    }

    /// Does `work` for the kernel. A fault of a filesystem is an error of this one call, and errors that the number does not
    /// explain are told of.
    pub(crate) fn guarded<T>(
        &self,
        what: &'static str,
        number: u64,
        work: impl FnOnce() -> Answer<T>,
    ) -> Result<T, Errno> {
        /// A broken disk has more errors than anybody reads.
        const MOST_TOLD: u64 = 100;
        let outcome = panic::catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the filesystem failed unexpectedly").into()));
        outcome.map_err(|refusal| {
            if let Some(error) = refusal.error
                && self.told.fetch_add(1, Ordering::Relaxed) < MOST_TOLD
            {
                let error = error.context(format_args!("{what}: {}", self.describe(number)));
                self.tell(Event::Failed { error: Arc::new(error) });
            }
            refusal.number
        })
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.log)(event);
    }

    /// What messages call a number.
    fn describe(&self, number: u64) -> String {
        match self.numbers.place(number) {
            Some(Place::File(filesystem, FileId(id))) => match self.filesystem_path(filesystem) {
                Some(path) => format!("{path}: file {id}"),
                None => format!("file {id}"),
            },
            Some(Place::Node(_)) | None => format!("node {number}"),
        }
    }

    /// The path of the filesystem with this place in the list.
    fn filesystem_path(&self, wanted: usize) -> Option<String> {
        let mut stack = vec![(0, String::new())];
        while let Some((node, path)) = stack.pop() {
            let Some(Node::Folder(names)) = self.tree.nodes.get(node) else { continue };
            for (name, child) in names {
                let path = format!("{path}/{}", String::from_utf8_lossy(name));
                match child {
                    Child::Files(found) if *found == wanted => return Some(path),
                    Child::Files(_) => {}
                    Child::Node(node) => stack.push((*node, path)),
                }
            }
        }
        None
    }

    pub(crate) fn place(&self, number: u64) -> Answer<Place> {
        self.numbers.place(number).ok_or(Refusal::of(Errno::ESTALE))
    }

    fn number(&self, place: Place) -> Answer<u64> {
        self.numbers.of(place).ok_or(Refusal::of(Errno::EOVERFLOW))
    }

    /// Whether what stands at `place` may change while it is mounted.
    pub(crate) fn may_change(&self, place: Place) -> bool {
        match place {
            Place::Node(node) => self.disk(node).is_ok_and(|disk| disk.writer().is_some()),
            Place::File(filesystem, _) => self.tree.files.get(filesystem).is_some_and(Files::may_change),
        }
    }

    fn filesystem(&self, index: usize) -> Answer<Arc<dyn FileSystem>> {
        let files = self.tree.files.get(index).ok_or(Refusal::of(Errno::ESTALE))?;
        Ok(files.filesystem()?)
    }

    pub(crate) fn disk(&self, node: usize) -> Answer<&Disk> {
        match self.tree.nodes.get(node) {
            Some(Node::Disk(disk)) => Ok(disk),
            Some(Node::Folder(_)) => Err(Refusal::of(Errno::EISDIR)),
            None => Err(Refusal::of(Errno::ESTALE)),
        }
    }

    fn names(&self, node: usize) -> Answer<&BTreeMap<Vec<u8>, Child>> {
        match self.tree.nodes.get(node) {
            Some(Node::Folder(names)) => Ok(names),
            _ => Err(Refusal::of(Errno::ENOTDIR)),
        }
    }

    fn place_of(&self, child: Child) -> Answer<Place> {
        match child {
            Child::Node(node) => Ok(Place::Node(node)),
            Child::Files(filesystem) => Ok(Place::File(filesystem, self.filesystem(filesystem)?.root())),
        }
    }

    /// The attributes of what stands at `place`.
    pub(crate) fn attributes(&self, place: Place) -> Answer<FileAttr> {
        let number = self.number(place)?;
        match place {
            Place::Node(node) => match self.tree.nodes.get(node) {
                Some(Node::Folder(_)) => Ok(self.maker.folder(number)),
                Some(Node::Disk(disk)) => Ok(self.maker.file(number, disk.reader().size(), disk.writer().is_some())),
                None => Err(Refusal::of(Errno::ESTALE)),
            },
            Place::File(filesystem, id) => {
                let filesystem = self.filesystem(filesystem)?;
                Ok(attributes::of_file(number, &filesystem.stat(id)?, filesystem.info().block_size))
            }
        }
    }

    /// What is called `name` in the folder at `place`.
    pub(crate) fn lookup(&self, place: Place, name: &[u8]) -> Answer<Place> {
        match place {
            Place::Node(node) => {
                let child = self.names(node)?.get(name).copied().ok_or(Refusal::MISSING)?;
                self.place_of(child)
            }
            Place::File(index, id) => {
                let found = self.filesystem(index)?.lookup(id, name)?.ok_or(Refusal::MISSING)?;
                Ok(Place::File(index, found))
            }
        }
    }

    pub(crate) fn read_link(&self, place: Place) -> Answer<Vec<u8>> {
        match place {
            Place::Node(_) => Err(Refusal::INVALID),
            Place::File(index, id) => Ok(self.filesystem(index)?.read_link(id)?),
        }
    }

    /// Opens a file; answers the handle.
    pub(crate) fn open(&self, place: Place, for_writing: bool) -> Answer<u64> {
        let handle = match place {
            Place::Node(node) => {
                let disk = self.disk(node)?;
                if for_writing && disk.writer().is_none() {
                    return Err(Refusal::READ_ONLY);
                }
                Handle::Disk(node)
            }
            Place::File(..) if for_writing => return Err(Refusal::READ_ONLY),
            Place::File(index, id) => self.open_file(index, id)?,
        };
        Ok(self.handles.add(handle))
    }

    fn open_file(&self, filesystem: usize, id: FileId) -> Answer<Handle> {
        let seen = self.tree.files.get(filesystem).map_or(0, Files::seen);
        let bytes = self.filesystem(filesystem)?.open(id)?;
        Ok(Handle::File { bytes, filesystem, id, seen })
    }

    /// Opens a folder: takes down what is in it.
    pub(crate) fn open_folder(&self, place: Place) -> Answer<u64> {
        let mut list = Vec::new();
        match place {
            Place::Node(node) => {
                for (name, child) in self.names(node)? {
                    // A filesystem that cannot be opened any more is not listed; looking it up says why.
                    let Ok(place) = self.place_of(*child) else { continue };
                    let kind = Some(match child {
                        Child::Node(node) if self.disk(*node).is_ok() => FileType::RegularFile,
                        _ => FileType::Directory,
                    });
                    list.push(Name { name: name.clone(), number: self.number(place)?, place, kind });
                }
            }
            Place::File(index, id) => self.list(index, id, &mut list)?,
        }
        Ok(self.handles.add(Handle::Folder(Arc::new(list))))
    }

    fn list(&self, index: usize, id: FileId, list: &mut Vec<Name>) -> Answer<()> {
        let filesystem = self.filesystem(index)?;
        let mut failed = None;
        filesystem.read_dir(id, &mut |entry| {
            let place = Place::File(index, entry.id);
            match self.number(place) {
                Ok(_) if list.len() >= MOST_NAMES => {
                    failed = Some(Refusal::of(Errno::EOVERFLOW));
                    ControlFlow::Break(())
                }
                Ok(number) => {
                    list.push(Name { name: entry.name, number, place, kind: entry.kind.map(attributes::kind) });
                    ControlFlow::Continue(())
                }
                Err(refusal) => {
                    failed = Some(refusal);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The entries of an open folder.
    pub(crate) fn entries(&self, handle: u64) -> Answer<Arc<Vec<Name>>> {
        match self.handles.get(handle) {
            Some(Handle::Folder(list)) => Ok(list),
            _ => Err(Refusal::of(Errno::EBADF)),
        }
    }

    /// The kind of what a name names, where the folder does not say.
    pub(crate) fn kind(&self, name: &Name) -> FileType {
        let known = name.kind.or_else(|| self.attributes(name.place).ok().map(|attributes| attributes.kind));
        known.unwrap_or(FileType::RegularFile)
    }

    /// Attributes that say no more than that there is something: for an entry whose own cannot be read.
    pub(crate) fn placeholder(&self, name: &Name) -> FileAttr {
        let kind = name.kind.unwrap_or(FileType::RegularFile);
        FileAttr { kind, perm: 0, ..self.maker.file(name.number, 0, false) }
    }

    pub(crate) fn close(&self, handle: u64) {
        self.handles.remove(handle);
    }

    /// The bytes behind a handle. Where the disk has changed since a file was opened, its blocks may be another's by now: it is
    /// opened again.
    fn bytes(&self, handle: u64) -> Answer<Arc<dyn BlockRead>> {
        match self.handles.get(handle) {
            Some(Handle::File { bytes, filesystem, seen, .. })
                if self.tree.files.get(filesystem).is_some_and(|files| files.seen() == seen) =>
            {
                Ok(bytes)
            }
            Some(Handle::File { filesystem, id, .. }) => {
                let again = self.open_file(filesystem, id)?;
                self.handles.replace(handle, again.clone());
                match again {
                    Handle::File { bytes, .. } => Ok(bytes),
                    _ => Err(Refusal::of(Errno::EBADF)),
                }
            }
            Some(Handle::Disk(node)) => Ok(Arc::clone(self.disk(node)?.reader())),
            _ => Err(Refusal::of(Errno::EBADF)),
        }
    }

    /// Reads from an open file into `buffer`; answers how much of it is inside the file.
    pub(crate) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Answer<usize> {
        let bytes = self.bytes(handle)?;
        let left = usize::try_from(bytes.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted > 0 {
            bytes.read_at(&mut buffer[..wanted], offset)?;
        }
        Ok(wanted)
    }

    /// Where the next data or hole begins, from `offset` on. The end of a file is a hole.
    pub(crate) fn seek(&self, handle: u64, offset: u64, wanted: Seek) -> Answer<u64> {
        /// Extents that are looked at for one question. What lies behind them is called data, which is never wrong.
        const MOST_EXTENTS: usize = 64 << 10;
        let bytes = self.bytes(handle)?;
        let (mut at, end) = (offset, bytes.size());
        if at >= end {
            return Err(Refusal::of(Errno::ENXIO));
        }
        for looked_at in 0.. {
            if at >= end {
                break;
            }
            if looked_at >= MOST_EXTENTS {
                return Ok(if wanted == Seek::Data { at } else { end });
            }
            let extent = bytes.block_status(at..end)?;
            if (extent.status == BlockStatus::Data) == (wanted == Seek::Data) {
                return Ok(at);
            }
            at = extent.end();
        }
        if wanted == Seek::Hole { Ok(end) } else { Err(Refusal::of(Errno::ENXIO)) }
    }

    /// Does something to the disk behind a handle that changes it, unless the mount is being ended.
    pub(crate) fn change<T>(&self, handle: u64, work: impl FnOnce(&Disk) -> Answer<T>) -> Answer<T> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(Refusal::of(Errno::ENOTCONN));
        }
        match self.handles.get(handle) {
            Some(Handle::Disk(node)) => work(self.disk(node)?),
            Some(_) => Err(Refusal::READ_ONLY),
            None => Err(Refusal::of(Errno::EBADF)),
        }
    }

    /// Lets nothing change any more, and waits for what is under way; then makes all of it survive a crash.
    pub(crate) fn finish(&self) -> transload_block::Result<()> {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        for node in &self.tree.nodes {
            if let Node::Disk(disk) = node
                && let Some(writer) = disk.writer()
            {
                writer.flush()?;
            }
        }
        Ok(())
    }

    pub(crate) fn xattrs(&self, place: Place) -> Answer<Vec<Xattr>> {
        match place {
            Place::Node(_) => Ok(Vec::new()),
            Place::File(index, id) => Ok(self.filesystem(index)?.xattrs(id)?),
        }
    }

    pub(crate) fn sizes(&self, place: Place) -> Answer<Sizes> {
        let (block, size) = match place {
            Place::File(index, _) => {
                let filesystem = self.filesystem(index)?;
                let info = filesystem.info();
                (info.block_size.clamp(512, 1 << 20), info.size)
            }
            Place::Node(_) => {
                let disks = self.tree.nodes.iter().filter_map(|node| match node {
                    Node::Disk(disk) => Some(disk.reader().size()),
                    Node::Folder(_) => None,
                });
                (4096, disks.max().unwrap_or(0))
            }
        };
        Ok(Sizes { block, blocks: size / u64::from(block) })
    }
}
