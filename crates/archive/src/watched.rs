//! A filesystem whose files are read under somebody's eyes: every byte is counted, and reading stops when it is to.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use transload_block::{BlockLimits, BlockRead, Capabilities, Extent, Result};
use transload_filesystem::{Entry, FileId, FileKind, FileSystem, FileSystemExt, Info, Metadata, Stream, Xattr};

use crate::create::Watch;

/// Bytes of the regular files below a folder.
///
/// # Errors
/// What the walk answers first.
pub fn total(files: &dyn FileSystem, dir: FileId) -> Result<u64> {
    let mut total = 0_u64;
    for visit in files.walk(dir) {
        let metadata = visit?.metadata;
        if metadata.kind == FileKind::Regular {
            total = total.saturating_add(metadata.size);
        }
    }
    Ok(total)
}

/// A filesystem that tells a [`Watch`] what is read of it.
#[derive(Clone)]
pub struct Watched {
    files: Arc<dyn FileSystem>,
    watch: Arc<dyn Watch + Send>,
}

impl Watched {
    /// Has `watch` look on while `files` are read.
    #[must_use]
    pub fn new(files: Arc<dyn FileSystem>, watch: Arc<dyn Watch + Send>) -> Self {
        Self { files, watch }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

impl FileSystem for Watched {
    fn info(&self) -> &Info {
        self.files.info()
    }

    fn root(&self) -> FileId {
        self.files.root()
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        self.watch.check()?;
        self.files.stat(id)
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        self.files.read_dir(dir, each)
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        self.files.lookup(dir, name)
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let file = self.files.open(id)?;
        Ok(Arc::new(WatchedFile { file, watch: Arc::clone(&self.watch) }))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        self.files.read_link(id)
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        self.files.xattrs(id)
    }

    fn streams(&self, id: FileId) -> Result<Vec<Stream>> {
        self.files.streams(id)
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        self.files.open_stream(id, name)
    }
}

struct WatchedFile {
    file: Arc<dyn BlockRead>,
    watch: Arc<dyn Watch + Send>,
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl BlockRead for WatchedFile {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn limits(&self) -> BlockLimits {
        self.file.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.watch.check()?;
        self.file.read_at(buf, offset)?;
        self.watch.read(buf.len() as u64);
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let extent = self.file.block_status(range)?;
        if extent.status.reads_zero() {
            self.watch.read(extent.length);
        }
        Ok(extent)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
