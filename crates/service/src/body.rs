//! The body of a request as bytes that a thread reads.
//!
//! ```text
//! client ──► frames ──► pump (async: stalls, rate, length) ──► a few pieces ──► BodyReader (Read, on a thread)
//! ```
//!
//! The pump is what notices that a client sends too slowly, too much or not at all, and says so through the channel: the
//! thread is never left waiting. A channel that closes without a word means that the request was dropped, and the reader
//! fails; only the body's own end is an end.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use transload::block::{Error, ErrorKind};
use transload::convert::Cancel;

/// Pieces that may wait for the reader. Each is what the connection read at once.
const WAITING: usize = 4;

/// What a body is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// The most bytes.
    pub(crate) most: u64,
    /// How long nothing may come.
    pub(crate) stall: Duration,
    /// Bytes in a second, on the average of `stall`.
    pub(crate) least_rate: u64,
}

/// What comes through the channel.
#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
    Failed(Error),
}

/// The sending half, which follows the body.
#[derive(Debug)]
pub(crate) struct Pump {
    pieces: mpsc::Sender<Piece>,
    limits: BodyLimits,
    received: Arc<AtomicU64>,
    cancel: Cancel,
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Ended,
    Failed,
}

/// A pump and the reader that it feeds. What was received is added to `received`; `cancel` ends the body as an error.
pub(crate) fn channel(limits: BodyLimits, received: Arc<AtomicU64>, cancel: Cancel) -> (Pump, BodyReader) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let reader = BodyReader { pieces, piece: Bytes::new(), state: State::Open };
    (Pump { pieces: sender, limits, received, cancel }, reader)
}

impl Pump {
    /// Follows `body` to its end, or until nobody reads any more.
    pub(crate) async fn run<E: std::fmt::Display>(self, body: impl Stream<Item = Result<Bytes, E>>) {
        let last = match self.follow(body).await {
            Ok(()) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        // Nobody reads any more when the conversion has failed by itself.
        drop(self.pieces.send(last).await);
    }

    /// Waits until somebody asks to stop.
    async fn cancelled(&self) {
        /// How long that may go unnoticed while nothing comes.
        const LOOK: Duration = Duration::from_millis(200);
        while !self.cancel.is_cancelled() {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn follow<E: std::fmt::Display>(&self, body: impl Stream<Item = Result<Bytes, E>>) -> Result<(), Error> {
        let mut body = std::pin::pin!(body);
        let (mut total, mut pace) = (0_u64, Pace::new(self.limits));
        loop {
            let next = tokio::select! {
                next = timeout_at(pace.deadline, body.next()) => next,
                () = self.pieces.closed() => return Ok(()),
                () = self.cancelled() => return Err(gone()),
            };
            let Ok(next) = next else { return Err(pace.failure()) };
            let Some(next) = next else { return Ok(()) };
            let piece = next.map_err(|error| {
                Error::new(ErrorKind::Network, format!("the body broke off after {total} bytes: {error}"))
            })?;
            total = total.saturating_add(piece.len() as u64);
            self.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if total > self.limits.most {
                let text = format!("a body of more than {} bytes", self.limits.most);
                return Err(Error::new(ErrorKind::TooLarge, text));
            }
            pace.advance(piece.len() as u64)?;
            let waiting = Instant::now();
            if !piece.is_empty() && self.pieces.send(Piece::Bytes(piece)).await.is_err() {
                return Ok(());
            }
            // Time in which the engine kept the client waiting is not the client's.
            pace.forgive(waiting.elapsed());
        }
    }
}

/// Whether bytes come fast enough: each window has to bring its share.
#[derive(Debug)]
struct Pace {
    limits: BodyLimits,
    deadline: Instant,
    in_window: u64,
}

impl Pace {
    fn new(limits: BodyLimits) -> Self {
        Self { limits, deadline: Instant::now() + limits.stall, in_window: 0 }
    }

    /// What a window has to bring: a byte at least.
    fn share(&self) -> u64 {
        self.limits.least_rate.saturating_mul(self.limits.stall.as_secs()).max(1)
    }

    fn advance(&mut self, bytes: u64) -> Result<(), Error> {
        self.in_window = self.in_window.saturating_add(bytes);
        if self.in_window >= self.share() {
            self.in_window = 0;
            self.deadline = Instant::now() + self.limits.stall;
        } else if Instant::now() >= self.deadline {
            return Err(self.failure());
        }
        Ok(())
    }

    fn forgive(&mut self, time: Duration) {
        self.deadline += time;
    }

    fn failure(&self) -> Error {
        let (bytes, seconds) = (self.in_window, self.limits.stall.as_secs_f64());
        let text = format!("the body brought {bytes} bytes in {seconds} s, must bring {}", self.share());
        Error::new(ErrorKind::Network, text)
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.state {
                State::Ended => return Ok(0),
                State::Failed => return Err(io::Error::other(gone())),
                State::Open => {}
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.piece = piece,
                Some(Piece::End) => self.state = State::Ended,
                Some(Piece::Failed(error)) => {
                    self.state = State::Failed;
                    return Err(io::Error::other(error));
                }
                None => self.state = State::Failed,
            }
        }
        let count = buf.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buf[..count]);
        Ok(count)
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Cancelled, "the request was given up")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn limits() -> BodyLimits {
        BodyLimits { most: 100, stall: Duration::from_millis(200), least_rate: 0 }
    }

    async fn read(body: impl Stream<Item = Result<Bytes, String>> + Send + 'static) -> io::Result<Vec<u8>> {
        let (pump, mut reader) = channel(limits(), Arc::default(), Cancel::default());
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        pump.run(body).await;
        reading.await.unwrap()
    }

    fn own(error: io::Error) -> ErrorKind {
        Error::io("body", error).kind()
    }

    #[tokio::test]
    async fn all_of_a_body_arrives_in_order() {
        let pieces = [b"one".as_slice(), b"", b"two"].map(|piece| Ok(Bytes::from_static(piece)));
        assert_eq!(read(stream::iter(pieces)).await.unwrap(), b"onetwo");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_stalls_or_is_too_long_is_an_error() {
        let broken = stream::iter([Ok(Bytes::from_static(b"one")), Err("reset".to_owned())]);
        assert_eq!(own(read(broken).await.unwrap_err()), ErrorKind::Network);
        let stalled = stream::iter([Ok(Bytes::from_static(b"one"))]).chain(stream::pending());
        assert_eq!(own(read(stalled).await.unwrap_err()), ErrorKind::Network);
        let long = stream::iter([Ok(Bytes::from(vec![1; 101]))]);
        assert_eq!(own(read(long).await.unwrap_err()), ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_is_no_end() {
        let (pump, mut reader) = channel(limits(), Arc::default(), Cancel::default());
        drop(pump);
        let read = tokio::task::spawn_blocking(move || reader.read(&mut [0; 8])).await.unwrap();
        assert_eq!(own(read.unwrap_err()), ErrorKind::Cancelled);
    }
}
