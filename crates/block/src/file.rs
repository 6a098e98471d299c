//! A file of the operating system as a disk.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Error, ErrorKind, Extent, HostExtent, HostExtents,
    HostLocation, Result, Storage, ZeroMode, check_range,
};

/// A regular file or block device as a disk.
#[derive(Debug)]
pub struct FileBlock {
    file: File,
    path: PathBuf,
    size: AtomicU64,
    writable: bool,
}

impl FileBlock {
    /// Opens the file at `path`, which must exist.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        let file = File::options().read(true).write(writable).open(path);
        let file = file.map_err(|error| Error::io(path.display().to_string(), error))?;
        Self::from_file(file, path, writable)
    }

    /// Takes over an open file. `path` is for messages.
    ///
    /// # Errors
    /// What the operating system answers to a question for its length.
    pub fn from_file(file: File, path: &Path, writable: bool) -> Result<Self> {
        let size = file.metadata().map_err(|error| Error::io(path.display().to_string(), error))?.len();
        Ok(Self { file, path: path.to_owned(), size: AtomicU64::new(size), writable })
    }

    fn fail(&self, what: &str, error: std::io::Error) -> Error {
        Error::io(format!("{}: {what}", self.path.display()), error)
    }
}

impl BlockRead for FileBlock {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: 1, preferred: 1 << 20, granularity: 4096 }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        self.file.read_exact_at(buf, offset).map_err(|error| self.fail("read", error))
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = range.end.checked_sub(range.start).filter(|length| *length > 0);
        let length = length.ok_or_else(|| Error::new(ErrorKind::OutOfRange, "empty range"))?;
        check_range(range.start, length, self.size())?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none().with_host_extents(self)
    }
}

impl HostExtents for FileBlock {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let length = range.end - range.start;
        Ok(HostExtent {
            length,
            location: Some(HostLocation { file: &self.file, path: &self.path, offset: range.start }),
        })
    }
}

impl BlockWrite for FileBlock {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        if !self.writable {
            return Err(Error::new(ErrorKind::ReadOnly, self.path.display().to_string()));
        }
        check_range(offset, buf.len() as u64, self.size())?;
        self.file.write_all_at(buf, offset).map_err(|error| self.fail("write", error))
    }

    fn write_zeroes_at(&self, range: Range<u64>, _mode: ZeroMode) -> Result<()> {
        let zeroes = vec![0; 1 << 16];
        let mut at = range.start;
        while at < range.end {
            let step = (range.end - at).min(1 << 16);
            self.write_at(&zeroes[..usize::try_from(step).unwrap_or(0)], at)?;
            at += step;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.fail("flush", error))
    }
}

impl Storage for FileBlock {
    fn set_size(&self, size: u64) -> Result<()> {
        self.file.set_len(size).map_err(|error| self.fail("resize", error))?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        check_range(range.start, range.end.saturating_sub(range.start), self.size()).map(drop)
    }
}
