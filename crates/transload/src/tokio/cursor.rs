//! A disk as a stream of bytes with a place in it.

use std::fmt;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use transload_block::{Error, Result};

use super::AsyncDisk;

/// Bytes that are read from the disk at a time: small reads are served from what the last one brought.
const CHUNK: usize = 256 << 10;

/// A request for bytes that is under way.
type Pending = Pin<Box<dyn Future<Output = Result<Vec<u8>>> + Send>>;

/// A disk as `AsyncRead + AsyncSeek`. Made by [`AsyncDisk::reader`]; any number of them may read one disk.
///
/// It reads 256 KiB at a time. A read that is cancelled moves nothing: the request under way is taken up by the next one.
pub struct AsyncReader {
    disk: AsyncDisk,
    /// Where the next read begins.
    place: u64,
    /// Bytes of the disk, and where they begin.
    held: (u64, Vec<u8>),
    /// What is under way, and where its bytes begin.
    pending: Option<(u64, Pending)>,
}

impl fmt::Debug for AsyncReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncReader").field("disk", &self.disk).field("place", &self.place).finish_non_exhaustive()
    }
}

impl AsyncReader {
    pub(super) fn new(disk: AsyncDisk) -> Self {
        Self { disk, place: 0, held: (0, Vec::new()), pending: None }
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &AsyncDisk {
        &self.disk
    }

    /// What is held from the present place on.
    fn ready(&self) -> &[u8] {
        let (start, bytes) = &self.held;
        let skipped = self.place.checked_sub(*start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| bytes.get(skipped..)).unwrap_or_default()
    }
}

impl AsyncRead for AsyncReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if buf.remaining() == 0 || this.place >= this.disk.size() {
                return Poll::Ready(Ok(()));
            }
            let ready = this.ready();
            if !ready.is_empty() {
                let count = ready.len().min(buf.remaining());
                buf.put_slice(&ready[..count]);
                this.place += count as u64;
                return Poll::Ready(Ok(()));
            }
            let place = this.place;
            // What was asked for elsewhere, before a seek, is of no use.
            let (start, pending) = match &mut this.pending {
                Some((start, pending)) if *start == place => (*start, pending),
                other => {
                    let length = usize::try_from(this.disk.size() - place).map_or(CHUNK, |left| left.min(CHUNK));
                    let disk = this.disk.clone();
                    let request = async move { disk.read_at(place, length).await };
                    let (start, pending) = other.insert((place, Box::pin(request)));
                    (*start, pending)
                }
            };
            let outcome = ready!(pending.as_mut().poll(context));
            this.pending = None;
            this.held = (start, outcome.map_err(into_io)?);
        }
    }
}

impl AsyncSeek for AsyncReader {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let (base, by) = match position {
            SeekFrom::Start(place) => (place, 0),
            SeekFrom::End(by) => (self.disk.size(), by),
            SeekFrom::Current(by) => (self.place, by),
        };
        let place = base.checked_add_signed(by);
        self.place =
            place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a seek before the first byte"))?;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.place))
    }
}

/// The error as the standard library's, with its own inside.
fn into_io(error: Error) -> io::Error {
    io::Error::other(error)
}
