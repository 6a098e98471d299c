//! The threads that hash, compress and encrypt, and the bound on what waits for them.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use transload_block::{Error, Result};

use super::Watch;
use super::packer::{Packer, Packing, Press};
use crate::format::id::Id;
use crate::format::pack::BlobKind;

/// Where the name of a chunk will stand; `None` when there will be none, since something failed.
pub(crate) type Slot = Arc<OnceLock<Option<Id>>>;

/// A blob to be stored.
pub(crate) struct Job {
    pub(crate) kind: BlobKind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) packing: Packing,
    /// Its name where it is known already.
    pub(crate) id: Option<Id>,
    pub(crate) slot: Slot,
}

/// What the threads share with whoever feeds them.
pub(crate) struct Workshop<'a> {
    pub(crate) packer: &'a Packer<'a>,
    watch: &'a dyn Watch,
    sender: Sender<Job>,
    receiver: Receiver<Job>,
    budget: Budget,
    failure: Mutex<Option<Error>>,
}

impl<'a> Workshop<'a> {
    /// `bytes` bounds what waits.
    pub(crate) fn new(packer: &'a Packer<'a>, watch: &'a dyn Watch, bytes: usize) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(4096);
        let budget = Budget { most: bytes, used: Mutex::new(0), freed: Condvar::new() };
        Self { packer, watch, sender, receiver, budget, failure: Mutex::new(None) }
    }

    /// Runs `feed` with as many threads beside it as are asked for, and returns when all jobs are done.
    pub(crate) fn run<T>(&self, threads: usize, feed: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let done = std::thread::scope(|scope| {
            let closing = Closing { workshop: self, threads };
            for _ in 0..threads {
                scope.spawn(|| self.work());
            }
            let done = feed(self);
            drop(closing);
            done
        });
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => done,
        }
    }

    /// Hands over a job; waits while too much is under way.
    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        self.check()?;
        self.budget.take(job.bytes.len());
        // The receiver lives as long as this does.
        self.sender.send(job).map_err(|_| stopped())
    }

    /// Fails when a thread has failed, or somebody wants it to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Err(stopped());
        }
        self.watch.check()
    }

    fn work(&self) {
        let mut press = Press::new();
        while let Ok(job) = self.receiver.recv() {
            // An empty tree is never stored: it is how the feeder says that nothing more comes.
            if job.bytes.is_empty() && job.kind == BlobKind::Tree {
                return;
            }
            let length = job.bytes.len();
            let id = match &mut press {
                Ok(press) if self.check().is_ok() => self.store(&job, press),
                Ok(_) => Err(stopped()),
                Err(error) => Err(Error::new(error.kind(), error.to_string())),
            };
            self.budget.free(length);
            let id = id.map_err(|error| {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            });
            // Nobody else sets it.
            let _ = job.slot.set(id.ok());
        }
    }

    fn store(&self, job: &Job, press: &mut Press) -> Result<Id> {
        let id = job.id.unwrap_or_else(|| Id::of(&job.bytes));
        let before = self.packer.added().0;
        if self.packer.store(job.kind, id, &job.bytes, job.packing, press)? {
            self.watch.written(self.packer.added().0.saturating_sub(before));
        }
        Ok(id)
    }
}

fn stopped() -> Error {
    Error::new(transload_block::ErrorKind::Cancelled, "stopped")
}

/// Sends the threads home, also when the feeder panics.
struct Closing<'a, 'b> {
    workshop: &'a Workshop<'b>,
    threads: usize,
}

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..self.threads {
            let end = Job {
                kind: BlobKind::Tree,
                bytes: Vec::new(),
                packing: Packing::Plain,
                id: None,
                slot: Slot::default(),
            };
            // The receiver lives as long as the workshop.
            drop(self.workshop.sender.send(end));
        }
    }
}

/// Bytes that may be under way.
struct Budget {
    most: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    fn take(&self, bytes: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // What is larger than all there is goes alone.
        while *used > 0 && *used + bytes > self.most {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
    }

    fn free(&self, bytes: usize) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.freed.notify_all();
    }
}
