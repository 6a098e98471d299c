//! Sending what was written to the disk while more is still coming.
//!
//! A system left alone keeps what is written in memory until much has gathered or somebody asks for it; whoever flushes at
//! the end, as every conversion does, then waits for all of it. Here the disk is set to work as soon as a window of the
//! file has been passed. Nothing is waited for, and nothing is promised: [`flush`](crate::BlockWrite::flush) is.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is sent at once, in bytes: enough for large requests to the disk, and a small part of any file worth the trouble.
const WINDOW: u64 = 32 << 20;

/// How far writing has come in a file.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    /// The window that the highest write ended in.
    reached: AtomicU64,
}

impl WriteBehind {
    /// Takes note of a write that ended at `end` and sends what it passed.
    pub(super) fn wrote(&self, file: &File, end: u64) {
        if let Some(range) = self.passed(end) {
            send(file, &range);
        }
    }

    /// What is to be sent once a write has ended at `end`: the windows that were passed, but for the last, which writers
    /// beside this one may still be filling.
    fn passed(&self, end: u64) -> Option<Range<u64>> {
        let window = end / WINDOW;
        if window <= self.reached.load(Ordering::Relaxed) {
            return None;
        }
        let before = self.reached.fetch_max(window, Ordering::Relaxed);
        let range = before.saturating_sub(1) * WINDOW..(window - 1) * WINDOW;
        (before < window && !range.is_empty()).then_some(range)
    }
}

/// Starts writing the range out. On Linux the advice that data is not needed starts it, and drops only what has been
/// written out already; memory file systems ignore it. Advice may be refused, which changes nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn send(file: &File, range: &Range<u64>) {
    use rustix::fs::{Advice, fadvise};
    let length = std::num::NonZeroU64::new(range.end - range.start);
    let _advice = fadvise(file, range.start, length, Advice::DontNeed);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn send(_file: &File, _range: &Range<u64>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_but_the_last_two_is_sent_once() {
        let behind = WriteBehind::default();
        let mut sent = Vec::new();
        let step = WINDOW / 4;
        for end in (1..=40).map(|number| number * step) {
            sent.extend(behind.passed(end));
        }
        let windows: Vec<_> = (0..9).map(|window| window * WINDOW..(window + 1) * WINDOW).collect();
        assert_eq!(sent, windows);
        assert_eq!(behind.passed(3 * WINDOW), None, "what lies before was sent already");
    }

    #[test]
    fn a_jump_sends_what_it_jumped_over() {
        let behind = WriteBehind::default();
        assert_eq!(behind.passed(WINDOW - 1), None);
        assert_eq!(behind.passed(1 << 42), Some(0..(1 << 42) - WINDOW));
    }
}
