//! An object that is written from front to back, in parts, while it is made.
//!
//! ```text
//! write ─► a part is full ─► on its way, some at once ─► … ─► finish: the last part, complete ─► it has its name
//!                                                        └──► dropped: the parts are thrown away
//! ```
//!
//! Until the store is told that it is complete, nothing is to be seen under the name; what was there before stays.

use std::fmt;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
};
use tokio::task::JoinSet;
use transload_block::{Error, ErrorKind, Result};

use crate::object::{Place, exists};
use crate::runtime::{PATIENCE, runtime, wait};
use crate::{Limits, Origin, Stop};

/// How to write a target.
#[derive(Clone, Debug, Default)]
pub struct UploadSettings {
    /// Whether something that is there may be replaced.
    pub force: bool,
    /// About how long it will be, where that is known: parts are made large enough for that.
    pub expected: Option<u64>,
}

/// What is written to an address. Dropped without [`finish`](Self::finish), it leaves nothing.
pub struct Upload {
    shared: Arc<Mutex<Option<ObjectUpload>>>,
    origin: Origin,
    stop: Stop,
}

/// The writing end of an [`Upload`], for whoever takes a [`Write`] by value. `flush` does nothing: only the whole counts.
pub struct UploadWriter {
    shared: Arc<Mutex<Option<ObjectUpload>>>,
    stop: Stop,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl fmt::Debug for UploadWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadWriter").finish_non_exhaustive()
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::InvalidInput, "the upload is over")
}

fn take(shared: &Mutex<Option<ObjectUpload>>) -> Option<ObjectUpload> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Upload {
    pub(crate) fn new(inner: ObjectUpload, stop: Stop) -> Self {
        let origin = inner.place.origin.clone();
        Self { shared: Arc::new(Mutex::new(Some(inner))), origin, stop }
    }

    /// Where it will be.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The writing end.
    #[must_use]
    pub fn writer(&self) -> UploadWriter {
        UploadWriter { shared: Arc::clone(&self.shared), stop: self.stop.clone() }
    }

    /// Sends what is left, and has the object appear under its name. Answers how long it is.
    ///
    /// # Errors
    /// `Denied` when something is there by now that may not be replaced; `Network`; `Cancelled`. Nothing has appeared then.
    pub fn finish(self) -> Result<u64> {
        let Some(mut inner) = take(&self.shared) else { return Err(ended()) };
        // Once all parts are there, a wish to stop comes too late to be sure of what it would leave.
        if let Err(error) = self.stop.check() {
            abandon(Some(inner));
            return Err(error);
        }
        wait(
            async move {
                let outcome = inner.complete().await;
                if outcome.is_err() {
                    inner.abort().await;
                }
                outcome
            },
            &Stop::default(),
        )
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        abandon(take(&self.shared));
    }
}

/// How long a store has to throw away what was sent.
const FAREWELL: Duration = Duration::from_secs(10);

/// Throws away what was sent, and waits until that is done: a program may end right behind it.
fn abandon(inner: Option<ObjectUpload>) {
    let Some(mut inner) = inner else { return };
    let aborted = async move {
        // A store that does not answer is not waited for.
        drop(tokio::time::timeout(FAREWELL, inner.abort()).await);
        Ok(())
    };
    // There is nobody to tell. What a store keeps of a broken upload, its own rules for such parts remove.
    drop(wait(aborted, &Stop::default()));
}

/// Ends when somebody wishes to stop.
async fn stopped(stop: &Stop) -> Error {
    loop {
        if let Err(error) = stop.check() {
            return error;
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

impl Write for UploadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = shared.as_mut().ok_or_else(|| io::Error::other(ended()))?;
        let room = inner.part_bytes() - inner.buffer.len();
        let taken = bytes.len().min(room);
        inner.buffer.extend_from_slice(&bytes[..taken]);
        if taken == room {
            let Some(mut sending) = shared.take() else { return Err(io::Error::other(ended())) };
            let part = std::mem::take(&mut sending.buffer);
            let stop = self.stop.clone();
            // A wish to stop ends the sending here and not the waiting for it: what was sent has to be thrown away in order.
            let sent = async move {
                let outcome = match select(pin!(sending.send(part)), pin!(stopped(&stop))).await {
                    Either::Left((outcome, _)) => outcome,
                    Either::Right((error, _)) => Err(error),
                };
                Ok((sending, outcome))
            };
            let (sending, outcome) = wait(sent, &Stop::default()).map_err(io::Error::other)?;
            *shared = Some(sending);
            outcome.map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An upload, which may be sent from thread to thread and not be shared: the lock is never taken, it only says so.
type Exclusive = Mutex<Box<dyn MultipartUpload>>;

fn inside(upload: &mut Exclusive) -> &mut dyn MultipartUpload {
    &mut **upload.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// The parts of an object that are under way.
pub(crate) struct ObjectUpload {
    place: Place,
    settings: UploadSettings,
    limits: Limits,
    /// Begun with the first part: what fits into one needs none.
    upload: Option<Exclusive>,
    under_way: JoinSet<object_store::Result<()>>,
    buffer: Vec<u8>,
    parts: u64,
    length: u64,
}

impl ObjectUpload {
    /// What S3 wants of every part but the last.
    const LEAST_PART: usize = 5 << 20;
    /// The parts that an object of S3 and Google's may have.
    const MOST_PARTS: u64 = 10_000;
    /// Parts of one size, before they grow: so many, that those behind them reach 5 TiB, the largest object of S3.
    const SAME_SIZE: u64 = 1_000;

    pub(crate) async fn begin(place: Place, settings: UploadSettings, limits: &Limits) -> Result<Self> {
        let found = Self {
            place,
            settings,
            limits: *limits,
            upload: None,
            under_way: JoinSet::new(),
            buffer: Vec::new(),
            parts: 0,
            length: 0,
        };
        found.refuse_existing().await?;
        Ok(found)
    }

    async fn refuse_existing(&self) -> Result<()> {
        if !self.settings.force && self.place.head(&self.limits).await?.is_some() {
            return Err(exists(&self.place.origin));
        }
        Ok(())
    }

    /// Bytes of the part that is being filled. It depends on nothing but what was written, so that the same object has the same
    /// parts.
    fn part_bytes(&self) -> usize {
        let least = self.limits.part_bytes.max(Self::LEAST_PART);
        match self.settings.expected {
            // A tenth more than expected fits.
            Some(expected) => {
                let needed = expected / (Self::MOST_PARTS / 10 * 9) + 1;
                least.max(usize::try_from(needed.next_multiple_of(1 << 20)).unwrap_or(usize::MAX))
            }
            None => least << (self.parts / Self::SAME_SIZE).min(6),
        }
    }

    /// Sends a part, and waits until there is room for one more.
    async fn send(&mut self, part: Vec<u8>) -> Result<()> {
        /// Bytes of parts under way at once, which are all in memory. Parts that have to be larger go up one by one.
        const UNDER_WAY: usize = 32 << 20;
        let at_once = (UNDER_WAY / part.len().max(1)).clamp(1, self.limits.parallel.max(1));
        if self.upload.is_none() {
            let upload = self.place.store.put_multipart_opts(&self.place.path, PutMultipartOptions::default()).await;
            self.upload = Some(Mutex::new(upload.map_err(|error| self.error(&error))?));
        }
        let Some(upload) = self.upload.as_mut() else { return Err(ended()) };
        self.parts += 1;
        self.length += part.len() as u64;
        self.under_way.spawn(inside(upload).put_part(PutPayload::from(part)));
        while self.under_way.len() >= at_once {
            self.one_arrives().await?;
        }
        Ok(())
    }

    async fn one_arrives(&mut self) -> Result<()> {
        match self.under_way.join_next().await {
            Some(Ok(outcome)) => outcome.map_err(|error| self.error(&error)),
            Some(Err(error)) => {
                Err(Error::new(ErrorKind::Io, "a part's upload ended without an answer").with_source(error))
            }
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> Result<u64> {
        let last = std::mem::take(&mut self.buffer);
        if self.upload.is_none() {
            self.length = last.len() as u64;
            let mode = if self.settings.force { PutMode::Overwrite } else { PutMode::Create };
            let options = PutOptions { mode, ..PutOptions::default() };
            let put = self.place.store.put_opts(&self.place.path, PutPayload::from(last.clone()), options).await;
            return match put {
                Ok(_) => Ok(self.length),
                // A store that cannot make sure of it is asked, and told, one after the other.
                Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                    self.refuse_existing().await?;
                    let put = self.place.store.put(&self.place.path, PutPayload::from(last)).await;
                    put.map(|_| self.length).map_err(|error| self.error(&error))
                }
                Err(error) => Err(self.error(&error)),
            };
        }
        if !last.is_empty() {
            self.send(last).await?;
        }
        while !self.under_way.is_empty() {
            self.one_arrives().await?;
        }
        self.refuse_existing().await?;
        let Some(upload) = self.upload.as_mut() else { return Err(ended()) };
        let completed = inside(upload).complete().await;
        completed.map_err(|error| self.error(&error))?;
        // It is there now, and not to be thrown away.
        self.upload = None;
        Ok(self.length)
    }

    async fn abort(&mut self) {
        self.under_way.shutdown().await;
        if let Some(mut upload) = self.upload.take() {
            // See `abandon`.
            drop(inside(&mut upload).abort().await);
        }
    }

    fn error(&self, error: &object_store::Error) -> Error {
        self.place.failure(error).error
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        // A wait that was given up drops it here; whoever ends in order has taken the upload out before.
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), runtime()) else { return };
        runtime.spawn(async move { drop(inside(&mut upload).abort().await) });
    }
}
