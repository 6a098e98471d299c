//! A lock on ranges of bytes.
//!
//! Holders that share a range, and holders of ranges that do not touch, run side by side. Each waits for those alone
//! that came before it and conflict with it, so nobody starves; and a holder asks for one range only, so nobody waits in a
//! circle. The number of ranges at a time is that of the threads: a list is the fastest way to look through them.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Locks ranges of bytes, for one or for many holders at a time.
#[derive(Debug, Default)]
pub struct RangeLock {
    queue: Mutex<Queue>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    /// Who holds or waits for a range, in the order of arrival.
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    range: Range<u64>,
    shared: bool,
}

impl Request {
    fn conflicts_with(&self, other: &Self) -> bool {
        !(self.shared && other.shared) && self.range.start < other.range.end && other.range.start < self.range.end
    }
}

impl RangeLock {
    /// A lock that nobody holds.
    #[must_use]
    pub const fn new() -> Self {
        Self { queue: Mutex::new(Queue { next_ticket: 0, requests: Vec::new() }), released: Condvar::new() }
    }

    /// Waits until nobody else holds any byte of `range`. A thread that asks while it holds a guard that conflicts waits
    /// for ever.
    pub fn lock(&self, range: Range<u64>) -> RangeGuard<'_> {
        self.wait(range, false)
    }

    /// Waits until nobody holds a byte of `range` alone. A thread that asks while it holds a guard may wait for ever.
    pub fn lock_shared(&self, range: Range<u64>) -> RangeGuard<'_> {
        self.wait(range, true)
    }

    fn wait(&self, range: Range<u64>, shared: bool) -> RangeGuard<'_> {
        let mut queue = self.queue();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.requests.push(Request { ticket, range, shared });
        while queue.must_wait(ticket) {
            queue = self.released.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        RangeGuard { lock: self, ticket }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn must_wait(&self, ticket: u64) -> bool {
        let Some(place) = self.requests.iter().position(|request| request.ticket == ticket) else { return false };
        let (earlier, rest) = self.requests.split_at(place);
        earlier.iter().any(|request| request.conflicts_with(&rest[0]))
    }
}

/// Holds a range of a [`RangeLock`] until it is dropped.
#[derive(Debug)]
#[must_use = "the range is released when the guard is dropped"]
pub struct RangeGuard<'a> {
    lock: &'a RangeLock,
    ticket: u64,
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        // Not swap_remove: the order of arrival is what keeps those who wait from starving.
        self.lock.queue().requests.retain(|request| request.ticket != self.ticket);
        self.lock.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_conflicts_wait() {
        let lock = RangeLock::new();
        let _first = lock.lock(0..10);
        let _beside = lock.lock(10..20);
        let _shared = lock.lock_shared(20..30);
        let _also = lock.lock_shared(25..40);
        thread::scope(|scope| {
            let (done, waits) = mpsc::channel();
            let lock = &lock;
            let waiter = scope.spawn(move || {
                let _guard = lock.lock(39..50);
                done.send(()).unwrap();
            });
            assert!(waits.recv_timeout(Duration::from_millis(50)).is_err());
            drop(_also);
            waiter.join().unwrap();
            waits.recv().unwrap();
        });
    }

    #[test]
    fn holders_alone_are_alone() {
        let lock = RangeLock::new();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (lock, inside) = (&lock, &inside);
                scope.spawn(move || {
                    for round in 0..500_u64 {
                        let _guard = lock.lock(round % 3..5 + thread);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    }
                });
            }
        });
    }
}
