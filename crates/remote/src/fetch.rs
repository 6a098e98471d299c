//! Bytes of a range, whatever it takes: tries again, goes on where the connection broke off.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use transload_block::{Error, ErrorKind, Result};

use crate::{Limits, Origin};

/// What can deliver ranges of one source.
pub(crate) trait Fetch: Send + Sync + Debug {
    /// What the source says of itself.
    fn origin(&self) -> &Origin;

    /// Asks once for `range`, which is not empty and lies inside the source. The answer's bytes begin at its start, and are
    /// of the source that was opened: if it has changed, that is an error.
    fn fetch(&self, range: Range<u64>) -> BoxFuture<'_, Attempt<BoxStream<'static, Attempt<Bytes>>>>;
}

/// The outcome of one try.
pub(crate) type Attempt<T> = std::result::Result<T, Failure>;

/// Why a try failed, and whether another makes sense.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether it may be gone the next time.
    pub(crate) again: bool,
    /// How long the server asks to be left alone.
    pub(crate) after: Option<Duration>,
}

impl Failure {
    /// One that stays.
    pub(crate) fn lasting(error: Error) -> Self {
        Self { error, again: false, after: None }
    }

    /// One that may pass.
    pub(crate) fn passing(error: Error) -> Self {
        Self { error, again: true, after: None }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// How often something failed, and how long to wait before the next try.
#[derive(Debug)]
pub(crate) struct Patience {
    limits: Limits,
    failures: u32,
}

impl Patience {
    /// The longest wait that nobody asked for.
    const LONGEST: Duration = Duration::from_secs(30);
    /// The longest that a server may ask for.
    const LONGEST_ASKED: Duration = Duration::from_secs(120);

    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, failures: 0 }
    }

    /// Something worked: the next failure is the first again.
    pub(crate) fn restore(&mut self) {
        self.failures = 0;
    }

    /// Waits after a failure, or gives up with it.
    pub(crate) async fn bear(&mut self, failure: Failure) -> Result<()> {
        self.failures += 1;
        if !failure.again {
            return Err(failure.error);
        }
        if self.failures >= self.limits.attempts.max(1) {
            let tries = self.failures;
            return Err(if tries > 1 { failure.error.context(format!("tried {tries} times")) } else { failure.error });
        }
        let doubled = self.limits.backoff.saturating_mul(1 << (self.failures - 1).min(16)).min(Self::LONGEST);
        // Many readers of one server should not all come back at once: between half of it and all.
        let share = u32::try_from(RandomState::new().hash_one(self.failures) % 512).unwrap_or(0) + 512;
        let wait = failure.after.map_or(doubled * share / 1024, |asked| asked.min(Self::LONGEST_ASKED));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Hands all bytes of `range` to `take`, in order. What arrived before a failure is not asked for again.
pub(crate) async fn deliver(
    fetch: &dyn Fetch,
    range: Range<u64>,
    limits: &Limits,
    mut take: impl FnMut(Bytes) + Send,
) -> Result<()> {
    let mut patience = Patience::new(limits);
    let mut at = range.start;
    while at < range.end {
        let before = at;
        let failure = match fetch.fetch(at..range.end).await {
            Err(failure) => failure,
            Ok(mut body) => loop {
                match tokio::time::timeout(limits.idle, body.next()).await {
                    Ok(Some(Ok(bytes))) => {
                        let length = bytes.len() as u64;
                        if length > range.end - at {
                            let text = format!("more than the {} bytes that were asked for", range.end - before);
                            return Err(network(fetch.origin(), &text));
                        }
                        at += length;
                        take(bytes);
                        if at == range.end {
                            return Ok(());
                        }
                    }
                    Ok(Some(Err(failure))) => break failure,
                    Ok(None) => {
                        let text = format!("the answer broke off {} bytes early", range.end - at);
                        break Failure::passing(network(fetch.origin(), &text));
                    }
                    Err(_) => {
                        let text = format!("nothing arrived for {} s", limits.idle.as_secs_f32());
                        break Failure::passing(network(fetch.origin(), &text));
                    }
                }
            },
        };
        if at > before {
            patience.restore();
        }
        patience.bear(failure).await?;
    }
    Ok(())
}

/// A failure of the network at `origin`.
pub(crate) fn network(origin: &Origin, text: &str) -> Error {
    Error::new(ErrorKind::Network, format!("{origin}: {text}"))
}
