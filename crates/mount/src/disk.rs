//! A disk as a file.

use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transload_block::{BlockRead, BlockWrite, ZeroMode};

use crate::errno::Refusal;

/// How often the bytes of a disk have changed: what was read of its files before is not to be trusted after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<AtomicU64>);

impl Changes {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn seen(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A disk that is shown as a file.
#[derive(Clone)]
pub struct Disk {
    reader: Arc<dyn BlockRead>,
    writer: Option<Arc<dyn BlockWrite>>,
    changes: Changes,
    /// A file of the host with exactly the bytes of the disk.
    file: Option<Arc<File>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("reader", &self.reader)
            .field("writable", &self.writer.is_some())
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Shows `device` for reading.
    #[must_use]
    pub fn read_only(device: Arc<dyn BlockRead>) -> Self {
        Self { reader: device, writer: None, changes: Changes::default(), file: None }
    }

    /// Shows `device` for reading and writing.
    #[must_use]
    pub fn writable(device: Arc<dyn BlockWrite>) -> Self {
        let reader = Arc::clone(&device) as Arc<dyn BlockRead>;
        Self { reader, writer: Some(device), changes: Changes::default(), file: None }
    }

    /// Has the kernel read the bytes straight from `file` where it can; `file` holds those of the disk and no others. For a
    /// disk that is written nothing changes.
    #[must_use]
    pub fn with_file(self, file: File) -> Self {
        let same = self.writer.is_none() && file.metadata().is_ok_and(|metadata| metadata.len() == self.reader.size());
        Self { file: same.then(|| Arc::new(file)), ..self }
    }

    /// A part of this disk: its changes are changes of the whole.
    pub(crate) fn part(&self, device: Arc<dyn BlockWrite>) -> Self {
        Self { changes: self.changes.clone(), ..Self::writable(device) }
    }

    pub(crate) fn reader(&self) -> &Arc<dyn BlockRead> {
        &self.reader
    }

    pub(crate) fn writer(&self) -> Option<&Arc<dyn BlockWrite>> {
        self.writer.as_ref()
    }

    pub(crate) fn changes(&self) -> Option<Changes> {
        self.writer.as_ref().map(|_| self.changes.clone())
    }

    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_deref()
    }

    fn target(&self) -> Result<&dyn BlockWrite, Refusal> {
        self.writer.as_deref().ok_or(Refusal::READ_ONLY)
    }

    /// Writes what of `data` is inside the disk; answers how much that was.
    pub(crate) fn write(&self, data: &[u8], offset: u64) -> Result<u32, Refusal> {
        let target = self.target()?;
        let room = usize::try_from(target.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        if room == 0 && !data.is_empty() {
            return Err(Refusal::NO_SPACE);
        }
        let data = &data[..data.len().min(room)];
        // Before and after: who reads files meanwhile trusts neither what it has nor what it reads now.
        self.changes.count();
        let written = target.write_at(data, offset);
        self.changes.count();
        written?;
        u32::try_from(data.len()).map_err(|_| Refusal::INVALID)
    }

    /// What `fallocate` asks for: holes and zeroes. A disk does not grow, and its space is its own.
    pub(crate) fn allocate(&self, offset: u64, length: u64, mode: i32) -> Result<(), Refusal> {
        const KEEP_SIZE: i32 = 1;
        const PUNCH_HOLE: i32 = 2;
        const ZERO_RANGE: i32 = 16;
        let target = self.target()?;
        let zeroes = match mode & !KEEP_SIZE {
            PUNCH_HOLE => ZeroMode::Unmap,
            ZERO_RANGE => ZeroMode::KeepAllocated,
            _ => return Err(Refusal::UNSUPPORTED),
        };
        let end = offset.checked_add(length).ok_or(Refusal::INVALID)?.min(target.size());
        if offset >= end {
            return if mode & KEEP_SIZE == 0 { Err(Refusal::NO_SPACE) } else { Ok(()) };
        }
        self.changes.count();
        let zeroed = target.write_zeroes_at(offset..end, zeroes);
        self.changes.count();
        Ok(zeroed?)
    }

    /// Makes what was written survive a crash.
    pub(crate) fn flush(&self) -> Result<(), Refusal> {
        match &self.writer {
            Some(writer) => Ok(writer.flush()?),
            None => Ok(()),
        }
    }
}
