//! A device for asynchronous programs, behind the feature `tokio`.
//!
//! ```text
//! AsyncDisk::new(device) ──► read_at(offset, length).await, write_at, write_zeroes_at, block_status, flush     any place, shared by clones
//!                        └─► reader() ──► AsyncRead + AsyncSeek
//! ```
//!
//! Disks are synchronous, and threads do their work ([`BlockRead`]); so each request goes to a thread of tokio's pool for blocking work. At most
//! [`AsyncDisk::with_requests`] of them are under way for one disk, and the rest waits without a thread: a thousand tasks do not take a thousand
//! threads.
//!
//! Everything is **cancel-safe**, in that nothing is lost and nothing is half seen: a future that is dropped leaves the disk and the cursor as if
//! the request had not been made, or, for a write that had begun, as if it had been finished. A cursor that was cancelled in the middle of a read
//! has not moved, and the bytes that come late are kept for the next read there.
//!
//! ```
//! # use std::sync::Arc;
//! use std::io::SeekFrom;
//! use tokio::io::{AsyncReadExt, AsyncSeekExt};
//! use transload::tokio::AsyncDisk;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("transload-doc-tokio-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("disk.img");
//! # std::fs::write(&path, vec![7; 1 << 20])?;
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let disk = AsyncDisk::open(&path).await?;
//! // Positioned, from any task.
//! let sector = disk.read_at(512, 512).await?;
//! assert_eq!(sector, vec![7; 512]);
//! // As a stream of bytes, for what takes an `AsyncRead`.
//! let mut reader = disk.reader();
//! reader.seek(SeekFrom::End(-4)).await?;
//! let mut tail = Vec::new();
//! reader.read_to_end(&mut tail).await?;
//! assert_eq!(tail, vec![7; 4]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```

mod cursor;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use ::tokio::sync::Semaphore;
use ::tokio::task::spawn_blocking;
use transload_block::{BlockRead, BlockReadExt, BlockWrite, Error, ErrorKind, Extent, Result, ZeroMode, check_range};
use transload_image::{Access, Format, OpenSettings, open_path};

pub use cursor::AsyncReader;

/// Requests of one disk under way at a time, where nothing else is said: enough to keep a disk and its decoders busy.
const REQUESTS: usize = 16;

/// A disk that asynchronous tasks share. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct AsyncDisk {
    reader: Arc<dyn BlockRead>,
    writer: Option<Arc<dyn BlockWrite>>,
    turns: Arc<Semaphore>,
}

impl AsyncDisk {
    /// A disk for reading.
    #[must_use]
    pub fn new(device: Arc<dyn BlockRead>) -> Self {
        Self { reader: device, writer: None, turns: Arc::new(Semaphore::new(REQUESTS)) }
    }

    /// A disk for reading and writing. Whoever made `device` also ends it, an image by its layer's `finish`.
    #[must_use]
    pub fn writable(device: Arc<dyn BlockWrite>) -> Self {
        let reader = Arc::clone(&device) as Arc<dyn BlockRead>;
        Self { writer: Some(device), ..Self::new(reader) }
    }

    /// Has at most so many requests under way at a time, one at least. Clones that exist already keep their own bound.
    #[must_use]
    pub fn with_requests(self, requests: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS))), ..self }
    }

    /// Opens the image at `path` for reading, with everything it hangs from, its format found out from its bytes.
    ///
    /// # Errors
    /// As [`crate::open`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(path, OpenSettings::default()).await
    }

    /// As [`open`](Self::open), declared to be of `format`: a raw disk that a stranger could write to is to be declared so.
    ///
    /// # Errors
    /// As [`open_path`].
    pub async fn open_as(path: impl Into<PathBuf>, format: &'static Format) -> Result<Self> {
        Self::open_with(path, OpenSettings { format: Some(format), ..OpenSettings::default() }).await
    }

    /// As [`open`](Self::open), for reading whatever `settings` say of access.
    ///
    /// # Errors
    /// As [`open_path`].
    pub async fn open_with(path: impl Into<PathBuf>, settings: OpenSettings) -> Result<Self> {
        let path = path.into();
        let settings = OpenSettings { access: Access::ReadOnly, ..settings };
        let opened = joined(spawn_blocking(move || open_path(&path, &settings)).await)?;
        Ok(Self::new(opened.device))
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// The device beneath.
    #[must_use]
    pub fn device(&self) -> &Arc<dyn BlockRead> {
        &self.reader
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writer.is_some()
    }

    /// Reads `length` bytes at `offset`: all of them or an error.
    ///
    /// # Errors
    /// As [`BlockRead::read_at`]; nothing is allocated for a range behind the end.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        check_range(offset, length as u64, self.size())?;
        let reader = Arc::clone(&self.reader);
        self.turn(move || reader.read_vec(offset, length as u64)).await
    }

    /// Reads as much as `buffer` is long into it, and hands it back: for a caller who reads often and allocates once.
    ///
    /// # Errors
    /// As [`BlockRead::read_at`]; the buffer is gone then.
    pub async fn read_into(&self, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(offset, buffer.len() as u64, self.size())?;
        let reader = Arc::clone(&self.reader);
        self.turn(move || reader.read_at(&mut buffer, offset).map(|()| buffer)).await
    }

    /// What stands at the start of `range`, as [`BlockRead::block_status`].
    ///
    /// # Errors
    /// As [`BlockRead::block_status`].
    pub async fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let reader = Arc::clone(&self.reader);
        self.turn(move || reader.block_status(range)).await
    }

    /// Writes `bytes` at `offset`: all of them or an error.
    ///
    /// # Errors
    /// As [`BlockWrite::write_at`].
    pub async fn write_at(&self, offset: u64, bytes: Vec<u8>) -> Result<()> {
        let writer = self.target()?;
        self.turn(move || writer.write_at(&bytes, offset)).await
    }

    /// Makes `range` read as zeroes, as [`BlockWrite::write_zeroes_at`].
    ///
    /// # Errors
    /// As [`BlockWrite::write_zeroes_at`].
    pub async fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let writer = self.target()?;
        self.turn(move || writer.write_zeroes_at(range, mode)).await
    }

    /// Makes everything survive a crash that was written by requests that have ended.
    ///
    /// # Errors
    /// As [`BlockWrite::flush`].
    pub async fn flush(&self) -> Result<()> {
        let Some(writer) = self.writer.clone() else { return Ok(()) };
        self.turn(move || writer.flush()).await
    }

    /// The disk as a stream of bytes that begins at its first one, with a place of its own.
    #[must_use]
    pub fn reader(&self) -> AsyncReader {
        AsyncReader::new(self.clone())
    }

    fn target(&self) -> Result<Arc<dyn BlockWrite>> {
        self.writer.clone().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the disk was opened for reading"))
    }

    /// Does `work` in a thread when it is its turn. Dropped before that, nothing happens; dropped later, the work goes on to its end.
    async fn turn<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| Error::new(ErrorKind::Cancelled, "the disk").with_source(error))?;
        let work = move || {
            // Given back when the work is done, not when nobody waits for it any more: what is under way stays bounded.
            let _turn = turn;
            work()
        };
        joined(spawn_blocking(work).await)
    }
}

/// The outcome of work in a thread; a fault there, or the end of the runtime, is an error like any other.
fn joined<T>(outcome: Result<Result<T>, ::tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| {
        let kind = if error.is_cancelled() { ErrorKind::Cancelled } else { ErrorKind::Io };
        Err(Error::new(kind, "a request to a disk").with_source(error))
    })
}
