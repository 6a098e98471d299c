//! A file of the operating system as a disk: a regular file, or a block device.
//!
//! ```text
//! FileBlock::open(path) ──► regular file or block device? ──► size by fstat or by seeking to the end
//!   block_status ──► cache of runs ──► SEEK_DATA, SEEK_HOLE
//!   write_zeroes_at ──► punch a hole ──► zero the range ──► write zeroes      the first that works, by mode
//! ```
//!
//! Holes of the file system are [`BlockStatus::Hole`] in a file opened for reading and [`BlockStatus::Zero`] in one opened
//! for writing. Nothing lies below a file, so both read the same; but a range that was written and then punched is a
//! hole again for the kernel, and an extent of an open device never goes back to `Hole`. With `Zero` for all of them
//! that sentence holds without a record of what was written.
//!
//! No file is ever given Windows' sparse attribute: Hyper-V refuses to attach a VHD or VHDX that has it (0xC03A001A), and
//! here is the one place that could set it. On that system a hole is written as zeroes.
//!
//! Calls need no lock among each other: all I/O is positioned. The cursor of the file is moved by questions for holes and
//! used by nothing. The cache of runs has a lock that no system call is made under.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::contract::{check_extent, check_span};
use crate::positioned::{read_full_at, write_full_at};
use crate::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Error, ErrorKind, Extent, HostExtent, HostExtents,
    HostLocation, Result, Storage, ZeroMode, check_range,
};

#[cfg_attr(unix, path = "file/unix.rs")]
#[cfg_attr(not(unix), path = "file/other.rs")]
mod host;
mod write_behind;

#[cfg(test)]
mod tests;

use write_behind::WriteBehind;

/// What the operating system tells of an open file.
struct HostFile {
    size: u64,
    is_device: bool,
    identity: (u64, u64),
    /// The unit of the file system or device, at most 4096 bytes for a file.
    block: u32,
}

/// A regular file or block device as a disk.
#[derive(Debug)]
pub struct FileBlock {
    file: File,
    path: PathBuf,
    size: AtomicU64,
    /// The size of a block device, which no `set_size` can exceed; `None` for a regular file.
    device_size: Option<u64>,
    identity: (u64, u64),
    block: u32,
    writable: bool,
    runs: Mutex<RecentRuns>,
    write_behind: WriteBehind,
    cannot_find_holes: AtomicBool,
    cannot_punch: AtomicBool,
    cannot_zero_range: AtomicBool,
}

impl FileBlock {
    /// Opens the regular file or block device at `path`, which must exist. Symbolic links are followed.
    ///
    /// A block device opened for writing must be in no other use, mounted for example, where the system can tell.
    ///
    /// # Errors
    /// `InvalidInput` for a directory, pipe, socket or character device, without waiting for its other end; what the
    /// operating system answers.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        let file = host::open(path, writable).map_err(|error| cannot_open(path, error))?;
        Self::from_file(file, path, writable)
    }

    /// Takes over an open file. `path` is for messages. `writable` promises that the file was opened for writing too.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: File, path: &Path, writable: bool) -> Result<Self> {
        let found = host::describe(&file, path).map_err(|error| cannot_open(path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            size: AtomicU64::new(found.size),
            device_size: found.is_device.then_some(found.size),
            identity: found.identity,
            block: found.block,
            writable,
            runs: Mutex::default(),
            write_behind: WriteBehind::default(),
            cannot_find_holes: AtomicBool::new(found.is_device),
            cannot_punch: AtomicBool::new(false),
            cannot_zero_range: AtomicBool::new(false),
        })
    }

    /// The name it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is, whatever its name: the device that holds it and its inode there. For a block device, its own
    /// device number and 0. Where the system has no such numbers they are made from the full path.
    #[must_use]
    pub const fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether it is a block device, whose size is fixed.
    #[must_use]
    pub const fn is_block_device(&self) -> bool {
        self.device_size.is_some()
    }

    fn fail(&self, operation: &str, length: u64, offset: u64, error: io::Error) -> Error {
        Error::io(format!("{}: {operation} of {length} bytes at offset {offset}", self.path.display()), error)
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(Error::new(ErrorKind::ReadOnly, format!("{}: opened for reading", self.path.display())))
    }

    fn runs(&self) -> MutexGuard<'_, RecentRuns> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run that holds `offset`; data of unknown length where the system does not tell.
    fn run_at(&self, offset: u64) -> Result<Run> {
        let unknown = Run { start: offset, end: u64::MAX, is_data: true };
        if self.cannot_find_holes.load(Ordering::Relaxed) {
            return Ok(unknown);
        }
        if let Some(run) = self.runs().find(offset) {
            return Ok(run);
        }
        match host::run_at(&self.file, offset) {
            Ok(Some((end, is_data))) => {
                let run = Run { start: offset, end, is_data };
                // Data may be said of anything, but what was a hole may have been written since.
                if is_data || !self.writable {
                    self.runs().add(run);
                }
                Ok(run)
            }
            Ok(None) => Ok(unknown),
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                self.cannot_find_holes.store(true, Ordering::Relaxed);
                Ok(unknown)
            }
            Err(error) => {
                Err(Error::io(format!("{}: search for holes at offset {offset}", self.path.display()), error))
            }
        }
    }

    /// Zeroes a range by the cheapest means that works. `range` is inside the size and not empty.
    fn zero(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let aligned = self.whole_blocks(&range);
        if aligned.is_empty() || !self.zero_in_kernel(&aligned, mode) {
            return self.write_zeroes(range);
        }
        self.write_zeroes(range.start..aligned.start)?;
        self.write_zeroes(aligned.end..range.end)
    }

    /// The part of `range` that the kernel can zero: whole sectors of a block device, all of it in a file.
    fn whole_blocks(&self, range: &Range<u64>) -> Range<u64> {
        if self.device_size.is_none() {
            return range.clone();
        }
        let block = u64::from(self.block);
        let start = range.start.next_multiple_of(block);
        start..(range.end - range.end % block).max(start)
    }

    /// Whether the kernel zeroed the range. What it cannot do at all is not asked again. Any failure is the caller's
    /// reason to write zeroes, which then fails for the same cause, or does not.
    fn zero_in_kernel(&self, range: &Range<u64>, mode: ZeroMode) -> bool {
        let length = range.end - range.start;
        let rung = |unsupported: &AtomicBool, call: fn(&File, u64, u64) -> io::Result<()>| {
            if unsupported.load(Ordering::Relaxed) {
                return false;
            }
            let answer = call(&self.file, range.start, length);
            if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Unsupported) {
                unsupported.store(true, Ordering::Relaxed);
            }
            answer.is_ok()
        };
        (mode == ZeroMode::Unmap && rung(&self.cannot_punch, host::punch))
            || rung(&self.cannot_zero_range, host::zero_range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        let mut at = range.start;
        while at < range.end {
            let step = usize::try_from(range.end - at).map_or(ZEROES.len(), |left| left.min(ZEROES.len()));
            write_full_at(&self.file, &ZEROES[..step], at)
                .map_err(|error| self.fail("write of zeroes", range.end - range.start, range.start, error))?;
            at += step as u64;
        }
        Ok(())
    }
}

fn cannot_open(path: &Path, error: io::Error) -> Error {
    let name = path.display();
    match error.kind() {
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => Error::new(
            ErrorKind::InvalidInput,
            format!("{name}: {error}, where a regular file or block device is needed"),
        ),
        io::ErrorKind::ResourceBusy => {
            Error::io(format!("{name}: the device is in use"), error).with_remedy("unmount it, or stop what uses it")
        }
        _ => Error::io(format!("{name}: cannot be opened"), error),
    }
}

impl BlockRead for FileBlock {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: self.block, preferred: self.block.max(1 << 20), granularity: self.block }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        read_full_at(&self.file, buf, offset).map_err(|error| self.fail("read", buf.len() as u64, offset, error))
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size())?;
        let run = self.run_at(range.start)?;
        let status = match (run.is_data, self.writable) {
            (true, _) => BlockStatus::Data,
            (false, true) => BlockStatus::Zero,
            (false, false) => BlockStatus::Hole,
        };
        Ok(Extent { offset: range.start, length: run.end.min(range.end) - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none().with_host_extents(self)
    }
}

impl HostExtents for FileBlock {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        let length = check_extent(&range, self.size())?;
        let location = HostLocation { file: &self.file, path: &self.path, offset: range.start };
        Ok(HostExtent { length, location: Some(location) })
    }
}

impl BlockWrite for FileBlock {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check_writable()?;
        check_range(offset, buf.len() as u64, self.size())?;
        let length = buf.len() as u64;
        write_full_at(&self.file, buf, offset).map_err(|error| self.fail("write", length, offset, error))?;
        if std::env::var_os("TL_NOWB").is_none() {
            self.write_behind.wrote(&self.file, offset + length);
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.check_writable()?;
        if check_span(&range, self.size())? == 0 {
            return Ok(());
        }
        let answer = self.zero(range, mode);
        self.runs().clear();
        answer
    }

    fn flush(&self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.file.sync_data().map_err(|error| Error::io(format!("{}: flush", self.path.display()), error))
    }
}

impl Storage for FileBlock {
    /// On a block device, moves the end within the device; what comes in again is zeroed.
    fn set_size(&self, size: u64) -> Result<()> {
        self.check_writable()?;
        let name = self.path.display();
        if let Some(limit) = self.device_size {
            if size > limit {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{name}: a block device of {limit} bytes cannot become {size} bytes long"),
                ));
            }
            let old = self.size();
            if size > old {
                self.zero(old..size, ZeroMode::Unmap)?;
            }
        } else if i64::try_from(size).is_err() {
            return Err(Error::new(ErrorKind::TooLarge, format!("{name}: no file can be {size} bytes long")));
        } else {
            let answer = self.file.set_len(size);
            answer.map_err(|error| Error::io(format!("{name}: change of size to {size} bytes"), error))?;
        }
        self.runs().clear();
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.check_writable()?;
        let length = check_span(&range, self.size())?;
        if length == 0 {
            return Ok(());
        }
        // A block device may be thin: nobody says whether its sectors have room behind them.
        let answer = if self.is_block_device() {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            host::allocate(&self.file, range.start, length)
        };
        answer.map_err(|error| {
            if error.kind() == io::ErrorKind::Unsupported {
                let name = self.path.display();
                return Error::new(ErrorKind::Unsupported, format!("{name}: the system cannot set room aside for it"));
            }
            self.fail("allocation", length, range.start, error)
        })
    }
}

/// A stretch of a file that is all data or all hole.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
    is_data: bool,
}

/// The runs that were asked for last. A file system finds the end of a run by walking its extents or pages, which is not
/// to be done anew for each piece of a long run.
#[derive(Debug, Default)]
struct RecentRuns {
    runs: [Option<Run>; Self::COUNT],
    next: usize,
}

impl RecentRuns {
    /// Enough for a few threads, each in its own run.
    const COUNT: usize = 8;

    fn find(&self, offset: u64) -> Option<Run> {
        self.runs.iter().flatten().find(|run| (run.start..run.end).contains(&offset)).copied()
    }

    fn add(&mut self, run: Run) {
        self.runs[self.next] = Some(run);
        self.next = (self.next + 1) % Self::COUNT;
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
