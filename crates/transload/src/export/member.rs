//! Where the bytes of a packed file go, and what is learnt from them on the way.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use transload_appliance::ova::{ManifestAlgorithm, ManifestHasher};
use transload_block::{Error, ErrorKind, Storage};

/// How many bytes a file has and what their digest is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberDigest {
    pub(crate) size: u64,
    pub(crate) digest: Option<Vec<u8>>,
}

/// What is shared between a writer, which the engine takes away, and whoever wants to know.
#[derive(Debug, Default)]
struct Count {
    size: u64,
    hasher: Option<ManifestHasher>,
}

/// The outcome of a [`Hashing`] writer.
#[derive(Clone, Debug)]
pub(crate) struct Outcome(Arc<Mutex<Count>>);

impl Outcome {
    /// What was written so far.
    pub(crate) fn take(&self) -> MemberDigest {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MemberDigest { size: count.size, digest: count.hasher.take().map(ManifestHasher::finish) }
    }
}

/// A writer that counts and hashes.
#[derive(Debug)]
pub(crate) struct Hashing<W> {
    inner: W,
    count: Arc<Mutex<Count>>,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W, algorithm: Option<ManifestAlgorithm>) -> (Self, Outcome) {
        let count = Count { size: 0, hasher: algorithm.map(ManifestAlgorithm::hasher) };
        let count = Arc::new(Mutex::new(count));
        (Self { inner, count: Arc::clone(&count) }, Outcome(count))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.size += bytes.len() as u64;
        if let Some(hasher) = &mut count.hasher {
            hasher.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes into a file from a place on, making it longer as it goes.
#[derive(Debug)]
pub(crate) struct StorageAt {
    storage: Arc<dyn Storage>,
    at: u64,
}

impl StorageAt {
    pub(crate) fn new(storage: Arc<dyn Storage>, at: u64) -> Self {
        Self { storage, at }
    }
}

impl Write for StorageAt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_growing(&*self.storage, bytes, self.at).map_err(into_io)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `bytes` at `at`, making the file longer in generous steps.
pub(crate) fn write_growing(storage: &dyn Storage, bytes: &[u8], at: u64) -> transload_block::Result<()> {
    const GROWTH: u64 = 64 << 20;
    let end = at + bytes.len() as u64;
    if storage.size() < end {
        // A generous step may exceed a limit that the file itself will not.
        storage.set_size(end + GROWTH).or_else(|_| storage.set_size(end))?;
    }
    storage.write_at(bytes, at)
}

/// An error as the standard library's traits carry it, with what the engine tells kinds by.
pub(crate) fn into_io(error: Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::NoSpace => io::ErrorKind::StorageFull,
        ErrorKind::TooLarge => io::ErrorKind::FileTooLarge,
        ErrorKind::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        // What is read breaks off.
        ErrorKind::Corrupt => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// A pipe that several writers use one after the other.
#[derive(Clone)]
pub(crate) struct SharedPipe(Arc<Mutex<Box<dyn Write + Send>>>);

impl SharedPipe {
    pub(crate) fn new(pipe: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(pipe)))
    }
}

impl Write for SharedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
