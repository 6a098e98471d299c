//! What streamed requests may take together: conversions at a time with their memory, and room for what is spooled.
//!
//! A request asks for its turn before its body is read. Whoever waits costs a connection and nothing else: the client's bytes
//! stay in the kernel, and with them the client.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use transload::block::{Error, ErrorKind, Result};

use crate::config::Limits;
use crate::problem::{Answer, Problem};

/// The turns and the room.
#[derive(Debug)]
pub(crate) struct Budget {
    turns: Arc<Semaphore>,
    count: usize,
    memory: u64,
    queue_time: Duration,
    waiting: AtomicUsize,
    spool: Arc<SpoolRoom>,
}

/// The right to convert, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    /// Bytes of memory for the conversion.
    pub(crate) memory: u64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        /// Below this the engine has no room for the units of every format.
        const LEAST_MEMORY: u64 = 8 << 20;
        let count = limits.conversions.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            turns: Arc::new(Semaphore::new(count)),
            count,
            memory: (limits.memory / count as u64).max(LEAST_MEMORY),
            queue_time: limits.queue_time,
            waiting: AtomicUsize::new(0),
            spool: Arc::new(SpoolRoom { used: AtomicU64::new(0), most: limits.spool }),
        }
    }

    /// Waits for a turn, in the order of asking.
    pub(crate) async fn turn(&self) -> Answer<Turn> {
        /// After how many seconds a client that was turned away may come back.
        const RETRY_SECONDS: u64 = 30;
        let waiting = Counted::new(&self.waiting);
        let permit = tokio::time::timeout(self.queue_time, Arc::clone(&self.turns).acquire_owned()).await;
        drop(waiting);
        match permit {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit, memory: self.memory }),
            _ => Err(Problem::busy("as many conversions as may run at a time are under way", RETRY_SECONDS)),
        }
    }

    /// Conversions under way, and requests that wait for their turn.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.count - self.turns.available_permits().min(self.count), self.waiting.load(Ordering::Relaxed))
    }

    /// The room for spooled bytes.
    pub(crate) fn spool(&self) -> &Arc<SpoolRoom> {
        &self.spool
    }
}

/// Counts itself while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for bytes in temporary files, shared by all requests.
#[derive(Debug)]
pub(crate) struct SpoolRoom {
    used: AtomicU64,
    most: u64,
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    room: Arc<SpoolRoom>,
    bytes: u64,
}

impl SpoolRoom {
    /// Nothing yet, to grow.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved { room: Arc::clone(self), bytes: 0 }
    }

    /// The bytes that are taken.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// Takes more room.
    ///
    /// # Errors
    /// `NoSpace` when there is not as much.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        let most = self.room.most;
        let taken = self.room.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= most)
        });
        taken.map_err(|used| {
            let text = format!("{bytes} bytes to store for the time of a conversion: {used} of {most} are taken");
            Error::new(ErrorKind::NoSpace, text).with_remedy("ask for a higher --spool-limit of the service")
        })?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes on their way into a spool file, which take room there.
#[derive(Debug)]
pub(crate) struct Spooled<'a, R> {
    pub(crate) input: R,
    pub(crate) room: &'a mut Reserved,
}

impl<R: Read> Read for Spooled<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buf)?;
        self.room.grow(count as u64).map_err(io::Error::other)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let budget = Budget::new(&Limits { spool: 100, ..Limits::default() });
        let mut one = budget.spool().reserve();
        one.grow(60).unwrap();
        assert_eq!(budget.spool().reserve().grow(50).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(budget.spool().used(), 60);
        drop(one);
        budget.spool().reserve().grow(100).unwrap();
        assert_eq!(budget.spool().used(), 0);
    }

    #[tokio::test]
    async fn turns_are_counted_and_waiting_ends() {
        let limits = Limits { conversions: 1, queue_time: Duration::from_millis(20), ..Limits::default() };
        let budget = Budget::new(&limits);
        let turn = budget.turn().await.unwrap();
        assert_eq!(budget.load(), (1, 0));
        assert_eq!(budget.turn().await.unwrap_err().kind(), "busy");
        drop(turn);
        assert_eq!(budget.load(), (0, 0));
        drop(budget.turn().await.unwrap());
    }
}
