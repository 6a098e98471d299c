//! What a thread writes as the body of an answer.
//!
//! The answer begins with the first piece: a conversion that fails before it is answered with a status of its own. One that
//! fails later breaks the connection off, so that no client takes what it has for whole.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use transload::block::{Error, ErrorKind};
use transload::convert::Cancel;

/// Bytes in a piece, and pieces that may wait for the client.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// What comes out of the engine.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes of the image.
    Bytes(Bytes),
    /// It is whole.
    End,
    /// It never will be.
    Failed(Error),
}

/// The writing half, for the engine.
#[derive(Debug)]
pub(crate) struct Outflow {
    pieces: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
    stall: Duration,
    runtime: Handle,
}

/// The writer, the channel to say in the end how it went, and the pieces.
pub(crate) fn channel(stall: Duration) -> (Outflow, mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let flow = Outflow { pieces: sender.clone(), buffer: Vec::new(), stall, runtime: Handle::current() };
    (flow, sender, receiver)
}

impl Outflow {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Piece::Bytes(Bytes::from(std::mem::take(&mut self.buffer)));
        self.runtime.block_on(send(&self.pieces, piece, self.stall)).map_err(io::Error::other)
    }
}

/// Hands a piece on, unless the client reads nothing for `stall`.
pub(crate) async fn send(pieces: &mpsc::Sender<Piece>, piece: Piece, stall: Duration) -> Result<(), Error> {
    match pieces.send_timeout(piece, stall).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
            let text = format!("the client read nothing for {} s", stall.as_secs_f64());
            Err(Error::new(ErrorKind::Network, text))
        }
        Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Error::new(ErrorKind::Cancelled, "the client went away")),
    }
}

impl Write for Outflow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.reserve_exact(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Stops a job when it is dropped, or when its time is over: held by whoever waits for the job on behalf of a client.
#[derive(Debug)]
pub(crate) struct StopWhenDropped {
    cancel: Cancel,
    timer: JoinHandle<()>,
}

impl StopWhenDropped {
    /// Lets the job of `cancel` go on for `time` at most.
    pub(crate) fn new(cancel: &Cancel, time: Duration) -> Self {
        let late = cancel.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            late.cancel();
        });
        Self { cancel: cancel.clone(), timer }
    }
}

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.timer.abort();
        self.cancel.cancel();
    }
}

/// The pieces behind `first`, as the body of an answer. `stop` stops the job when the client goes away; `failed` is told why a
/// body broke off.
pub(crate) fn body(
    first: Bytes,
    pieces: mpsc::Receiver<Piece>,
    stop: StopWhenDropped,
    failed: impl Fn(&Error) + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let state = Some((Some(first), pieces, stop, failed));
    futures_util::stream::unfold(state, async move |state| {
        let (first, mut pieces, stop, failed) = state?;
        if let Some(first) = first {
            return Some((Ok(first), Some((None, pieces, stop, failed))));
        }
        match pieces.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some((None, pieces, stop, failed)))),
            Some(Piece::End) => None,
            Some(Piece::Failed(error)) => {
                failed(&error);
                Some((Err(error), None))
            }
            None => {
                let error = Error::new(ErrorKind::Io, "the conversion ended without a word");
                failed(&error);
                Some((Err(error), None))
            }
        }
    })
}
