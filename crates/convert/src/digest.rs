//! Digests of a disk, without converting it.

use std::sync::Arc;
use std::thread;

use transload_block::{BlockRead, Result};

use crate::compare::ScanSettings;
use crate::feed::{Buffers, Feed};
use crate::hash::{Digests, PlainSlot, hash_tasks};
use crate::job::Pool;
use crate::{DigestKind, GuestDigest, ProgressDelta};

/// A task's buffers.
#[derive(Debug, Default)]
struct Slot(Buffers);

impl PlainSlot for Slot {
    fn plain(&self) -> &[u8] {
        &self.0.plain
    }
}

/// Computes digests of the guest's bytes: of `size()` bytes, holes as zeroes. Workers read ahead while one thread
/// hashes. The time is linear in the virtual size, since neither function can skip zeroes.
///
/// # Errors
/// `Cancelled`; what reading answers.
pub fn digest(device: &Arc<dyn BlockRead>, kinds: &[DigestKind], settings: &ScanSettings) -> Result<Vec<GuestDigest>> {
    const SPAN: u64 = 1 << 20;
    /// Fewer readers than this would leave the hashing thread waiting, more only wait for it.
    const READERS: usize = 4;
    if let Some(progress) = &settings.progress {
        progress.begin(device.size());
    }
    let readers = settings.threads().min(READERS);
    let align = u64::from(device.limits().granularity).clamp(1, SPAN);
    let feed = Feed::device(Arc::clone(device), align, SPAN);
    let window = 2 * readers + 2;
    let pool = Pool::new((0..window).map(|_| Slot::default()).collect());
    let (sender, receiver) = crossbeam_channel::bounded(window);
    let job = settings.job();
    let mut digests = Digests::new(kinds);
    thread::scope(|scope| {
        for _ in 0..readers {
            let (job, feed, pool, sender) = (&job, &feed, &pool, sender.clone());
            scope.spawn(move || {
                job.guard(|| {
                    loop {
                        let mut slot = job.acquire(pool)?;
                        let Some(mut task) = feed.next(job, &mut slot.0)? else {
                            pool.release(slot);
                            return Ok(());
                        };
                        feed.fill(&mut task, None, &mut slot.0)?;
                        let skipped = task.gap.end - task.gap.start;
                        job.advance(ProgressDelta { copied: task.length() as u64, skipped, written: 0 });
                        // Nobody listens only when hashing failed, and then the job has stopped.
                        drop(sender.send((task, slot)));
                    }
                });
            });
        }
        drop(sender);
        job.guard(|| hash_tasks(&job, &receiver, &pool, &mut digests));
        drop(receiver);
    });
    job.outcome()?;
    Ok(kinds.iter().filter_map(|kind| digests.finish(*kind)).collect())
}
