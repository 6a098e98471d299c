//! The payload of a member as it goes by: hashed, whoever reads it.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::bufread::MultiGzDecoder;
use transload_appliance::ova::{Forward, ManifestAlgorithm, ManifestHasher, Walk};
use transload_block::{BlockRead, Error};

use crate::export::into_io;

/// Digests by the functions that may be asked for.
#[derive(Clone, Debug)]
pub(super) struct Hashers(Arc<Mutex<Vec<(ManifestAlgorithm, ManifestHasher)>>>);

impl Hashers {
    /// For a file whose digest will be asked for by one of `algorithms`.
    pub(super) fn new(algorithms: &[ManifestAlgorithm]) -> Self {
        let hashers = algorithms.iter().map(|algorithm| (*algorithm, algorithm.hasher()));
        Self(Arc::new(Mutex::new(hashers.collect())))
    }

    pub(super) fn update(&self, bytes: &[u8]) {
        for (_, hasher) in lock(&self.0).iter_mut() {
            hasher.update(bytes);
        }
    }

    pub(super) fn finish(&self) -> Vec<(ManifestAlgorithm, Vec<u8>)> {
        lock(&self.0).drain(..).map(|(algorithm, hasher)| (algorithm, hasher.finish())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads, and hashes what was read.
pub(super) struct Hashed<R> {
    inner: R,
    hashers: Hashers,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R, hashers: Hashers) -> Self {
        Self { inner, hashers }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hashers.update(&buf[..count]);
        Ok(count)
    }
}

/// The current member of a walk, which several readers take turns with.
#[derive(Debug)]
pub(super) struct WalkReader<S>(pub(super) Arc<Mutex<Walk<S>>>);

impl<S: Forward> Read for WalkReader<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read(buf).map_err(into_io)
    }
}

/// A device from front to back.
#[derive(Debug)]
pub(super) struct DeviceReader {
    device: Arc<dyn BlockRead>,
    at: u64,
}

impl DeviceReader {
    pub(super) fn new(device: Arc<dyn BlockRead>) -> Self {
        Self { device, at: 0 }
    }
}

impl Read for DeviceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.device.size() - self.at).unwrap_or(usize::MAX);
        let count = left.min(buf.len());
        self.device.read_at(&mut buf[..count], self.at).map_err(into_io)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// What was compressed as a whole, as it was: no more of it than a disk of `capacity` can have, whatever it unfolds to.
pub(super) fn gunzip(input: Box<dyn Read + Send>, capacity: Option<u64>) -> impl Read + Send {
    /// A disk of a size that nobody says.
    const MOST: u64 = 64 << 40;
    /// Headers and tables around the data.
    const OVERHEAD: u64 = 64 << 20;
    let most = capacity.unwrap_or(MOST);
    Gunzip(MultiGzDecoder::new(BufReader::with_capacity(1 << 20, input)).take(most + most / 16 + OVERHEAD))
}

struct Gunzip<R>(R);

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|error| match error.kind() {
            // What is no gzip, or is broken, ends there for whoever reads it.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                io::Error::new(io::ErrorKind::UnexpectedEof, error)
            }
            _ => error,
        })
    }
}

/// The error of this workspace that the standard library's traits carried, as what it was.
pub(super) fn from_io(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io("archive: read", error),
    }
}
