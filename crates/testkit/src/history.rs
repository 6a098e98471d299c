//! What a disk may hold after a crash, and random work that makes such a history.
//!
//! ```text
//! work(device, storage) ──► History ──► for crash in storage.crashes(…): open what is left, history.check(crash, bytes)
//! ```

use std::ops::Range;

use transload_block::{BlockWrite, Result, ZeroMode};

use crate::crash::{Crash, CrashStorage};
use crate::random::Random;

/// What was done to a disk in memory of a storage that will crash: a byte is what it was when last flushed, or what was
/// written since.
#[derive(Debug)]
pub struct History {
    now: Vec<u8>,
    /// The disk after a flush, and how many events of the storage came before its end.
    flushed: Vec<(usize, Vec<u8>)>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    /// The storage's events before it began.
    before: usize,
    range: Range<usize>,
    byte: u8,
}

impl History {
    /// Begins with a disk that is durable.
    #[must_use]
    pub fn new(disk: Vec<u8>) -> Self {
        Self { flushed: vec![(0, disk.clone())], now: disk, changes: Vec::new() }
    }

    /// The disk as it is without a crash.
    #[must_use]
    pub fn now(&self) -> &[u8] {
        &self.now
    }

    /// Notes that all of `range` is about to become `byte`, after `events` of the storage.
    pub fn change(&mut self, events: usize, range: Range<u64>, byte: u8) {
        let range = index(range.start)..index(range.end);
        self.now[range.clone()].fill(byte);
        self.changes.push(Change { before: events, range, byte });
    }

    /// Notes that a flush has ended, after `events` of the storage.
    pub fn flush(&mut self, events: usize) {
        self.flushed.push((events, self.now.clone()));
    }

    /// Whether a crash may have left `found` of the disk.
    ///
    /// # Panics
    /// When a byte is neither what it was when last flushed nor what was written since.
    pub fn check(&self, crash: &Crash, found: &[u8], what: &str) {
        let (flushed, sure) =
            self.flushed.iter().rev().find(|(events, _)| *events <= crash.events).expect("the first came before all");
        assert_eq!(found.len(), sure.len(), "{what}: the size of the disk");
        let mut unsure = vec![false; sure.len()];
        for change in self.changes.iter().filter(|change| change.before >= *flushed && change.before < crash.events) {
            for at in change.range.clone() {
                unsure[at] |= found[at] == change.byte;
            }
        }
        let wrong = (0..found.len()).find(|at| found[*at] != sure[*at] && !unsure[*at]);
        assert!(
            wrong.is_none(),
            "{what}, {} events, {}: byte {wrong:?} is neither old nor new",
            crash.events,
            crash.survived
        );
    }
}

/// Writes, zeroes and flushes `device` at random places `steps` times, closes it now and then by `finish`, and in the end.
/// Every byte of one write is the same and none is what another write left.
///
/// # Errors
/// What the device answers.
pub fn work(
    device: &dyn BlockWrite,
    finish: &dyn Fn() -> Result<()>,
    storage: &CrashStorage,
    history: &mut History,
    random: &mut Random,
    steps: usize,
) -> Result<()> {
    let unit = u64::from(device.limits().granularity).max(512);
    for step in 0..steps {
        // Single bytes, parts of a unit, several units.
        let most = [1, unit / 3 + 1, unit * 3, device.size() / 4 + 1][index(random.below(4))];
        let range = random.range(device.size(), most);
        let events = storage.events();
        match random.below(10) {
            0..=4 => {
                let byte = u8::try_from(step % 255 + 1).expect("below 256");
                history.change(events, range.clone(), byte);
                device.write_at(&vec![byte; index(range.end - range.start)], range.start)?;
            }
            5 | 6 => {
                history.change(events, range.clone(), 0);
                let mode = if random.below(2) == 0 { ZeroMode::Unmap } else { ZeroMode::KeepAllocated };
                device.write_zeroes_at(range, mode)?;
            }
            7 | 8 => {
                device.flush()?;
                history.flush(storage.events());
            }
            _ => {
                finish()?;
                history.flush(storage.events());
            }
        }
    }
    finish()?;
    history.flush(storage.events());
    Ok(())
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("a place in a test's disk")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use transload_block::{BlockRead, Memory};

    use super::*;

    #[test]
    fn a_plain_file_keeps_what_was_flushed_and_a_forgotten_flush_is_caught() {
        for honest in [true, false] {
            let storage = CrashStorage::new(Memory::new(100_000));
            let mut history = History::new(vec![0; 100_000]);
            let finish = || if honest { storage.flush() } else { Ok(()) };
            work(&storage, &finish, &storage, &mut history, &mut Random::new(3), 60).unwrap();
            let all = storage.crashes(1, 200).all(|crash| {
                let mut found = vec![0; 100_000];
                crash.file.read_at(&mut found, 0).unwrap();
                catch_unwind(AssertUnwindSafe(|| history.check(&crash, &found, "file"))).is_ok()
            });
            assert_eq!(all, honest);
        }
    }
}
