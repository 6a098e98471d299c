//! A remote source that is read once, from front to back.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use futures_util::StreamExt;
use reqwest::Response;
use tokio::sync::mpsc::{Receiver, channel};
use transload_block::{Error, Result};

use crate::cache::Cache;
use crate::fetch::network;
use crate::http::{is_html, page};
use crate::runtime::{runtime, wait};
use crate::{Fetcher, Limits, Origin, Stop};

/// A remote source that is read once, from front to back: the body of an answer, or ranges one after the other.
///
/// An end that comes too early is an error, and so is a source that changes meanwhile.
pub struct RemoteStream {
    origin: Origin,
    stop: Stop,
    kind: Kind,
}

enum Kind {
    /// Ranges in parallel, which go on where a connection breaks off.
    Ranges { cache: Arc<Cache>, at: u64, size: u64 },
    /// One answer, which cannot go on.
    Body { pieces: Option<Receiver<Result<Vec<u8>>>>, piece: Vec<u8>, used: usize, read: u64 },
}

impl fmt::Debug for RemoteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStream").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Bytes that are handed from the request to the reader at once.
const PIECE: usize = 1 << 20;

impl RemoteStream {
    pub(crate) fn of_ranges(fetch: Fetcher, size: u64, limits: &Limits, stop: &Stop) -> Self {
        let origin = fetch.origin().clone();
        let cache = Arc::new(Cache::new(fetch, size, limits, stop.clone()));
        Self { origin, stop: stop.clone(), kind: Kind::Ranges { cache, at: 0, size } }
    }

    pub(crate) fn of_body(origin: Origin, response: Response, stop: &Stop) -> Result<Self> {
        /// Pieces ahead of the reader.
        const AHEAD: usize = 8;
        let (sender, pieces) = channel(AHEAD);
        let told = origin.clone();
        runtime()?.spawn(async move {
            let mut body = response.bytes_stream();
            let mut piece = Vec::with_capacity(PIECE);
            while let Some(bytes) = body.next().await {
                match bytes {
                    Ok(bytes) => piece.extend_from_slice(&bytes),
                    Err(error) => {
                        let error = error.without_url();
                        let text = "the answer broke off, and the server knows no ranges to go on with";
                        let error = network(&told, text).with_source(error);
                        // Nobody listens when the reader was dropped; then nobody wants to know.
                        drop(sender.send(Err(error)).await);
                        return;
                    }
                }
                if piece.len() >= PIECE
                    && sender.send(Ok(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)))).await.is_err()
                {
                    return;
                }
            }
            drop(sender.send(Ok(piece)).await);
        });
        let kind = Kind::Body { pieces: Some(pieces), piece: Vec::new(), used: 0, read: 0 };
        Ok(Self { origin, stop: stop.clone(), kind })
    }

    /// What it says of itself.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.stop.check()?;
        match &mut self.kind {
            Kind::Ranges { cache, at, size } => {
                let length = usize::try_from(*size - *at).unwrap_or(usize::MAX).min(buf.len()).min(PIECE);
                cache.read(&mut buf[..length], *at)?;
                *at += length as u64;
                Ok(length)
            }
            Kind::Body { pieces, piece, used, read } => {
                while *used == piece.len() {
                    let Some(mut waiting) = pieces.take() else { return Ok(0) };
                    let received = wait(async move { Ok((waiting.recv().await, waiting)) }, &self.stop);
                    let (received, waiting) = received?;
                    let Some(next) = received else {
                        return short(&self.origin, *read).map_or(Ok(0), Err);
                    };
                    let next = next?;
                    if *read == 0 && is_html(&next) {
                        return Err(page(&self.origin, "HTML"));
                    }
                    *read += next.len() as u64;
                    (*piece, *used, *pieces) = (next, 0, Some(waiting));
                }
                let length = buf.len().min(piece.len() - *used);
                buf[..length].copy_from_slice(&piece[*used..*used + length]);
                *used += length;
                Ok(length)
            }
        }
    }
}

/// The error for a source that ended after `read` bytes, if that is too early or too late.
fn short(origin: &Origin, read: u64) -> Option<Error> {
    let size = origin.size.filter(|size| *size != read)?;
    Some(network(origin, &format!("{size} bytes were promised, {read} came")))
}

impl Read for RemoteStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.next(buf).map_err(io::Error::other)
    }
}
