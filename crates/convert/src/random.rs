//! The random shape: workers take tasks, read, test for zero and write in place.
//!
//! ```text
//! Feed::next ─► fill ─► runs that are not zero ─► in turn: zero the gap, reserve the runs ─► write the runs ─► hash
//!  one by one   ╰───── at once ─────╯                 one by one, in order                   ╰── at once ──╯
//! ```
//!
//! What decides the layout of the target (reserving, zeroing) happens in the order of the tickets; the bytes then go in
//! at once, at places that are already decided. A target that allocates when it is written and cannot reserve is written
//! in turn, which costs its parallel writes and keeps its layout.

use std::ops::Range;
use std::thread;

use transload_block::{BlockStatus, BlockWrite, Result, ZeroMode};

use crate::ProgressDelta;
use crate::feed::{Buffers, Feed, Task, status};
use crate::hash::{Digests, PlainSlot, hash_tasks};
use crate::job::{Job, Pool};
use crate::zero::nonzero_runs;

/// A writable target and what is known of it.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// Where to write.
    pub(crate) device: &'a dyn BlockWrite,
    /// What is tested for zero as a whole, in bytes: what the target allocates at once.
    pub(crate) granule: usize,
    /// Whether all of it reads as zeroes now, so that zeroes need not be written.
    pub(crate) fresh: bool,
    /// Whether something shows through its holes.
    pub(crate) backed: bool,
    /// What to do with space that turns out to be zero.
    pub(crate) zero_mode: ZeroMode,
}

/// The buffers of one task.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    buffers: Buffers,
    runs: Vec<Range<usize>>,
}

impl PlainSlot for Slot {
    fn plain(&self) -> &[u8] {
        &self.buffers.plain
    }
}

/// How the threads share the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    /// Workers, at least one.
    pub(crate) threads: usize,
    /// Tasks that may be under way at once, at least one.
    pub(crate) window: usize,
}

/// Copies everything `feed` has into `target`, hashing on the way if `digests` is given.
pub(crate) fn copy(
    job: &Job<'_>,
    feed: &Feed,
    target: &Target<'_>,
    crew: Crew,
    digests: Option<&mut Digests>,
) -> Result<()> {
    let pool = Pool::new((0..crew.window).map(|_| Slot::default()).collect());
    // A task has a slot: there are never more under way, and sending never waits.
    let (sender, receiver) = crossbeam_channel::bounded(crew.window);
    let hashing = digests.is_some();
    thread::scope(|scope| {
        if let Some(digests) = digests {
            let (pool, receiver) = (&pool, receiver);
            scope.spawn(move || job.guard(|| hash_tasks(job, &receiver, pool, digests)));
        }
        for _ in 0..crew.threads {
            let sender = hashing.then(|| sender.clone());
            let pool = &pool;
            scope.spawn(move || {
                job.guard(|| {
                    loop {
                        let mut slot = job.acquire(pool)?;
                        let Some(mut task) = feed.next(job, &mut slot.buffers)? else {
                            pool.release(slot);
                            return Ok(());
                        };
                        feed.fill(&mut task, None, &mut slot.buffers)?;
                        job.advance(target.put(job, &task, &mut slot)?);
                        match &sender {
                            // Nobody listens only when the hashing thread failed, and then the job has stopped.
                            Some(sender) => drop(sender.send((task, slot))),
                            None => pool.release(slot),
                        }
                    }
                });
            });
        }
        drop(sender);
    });
    job.outcome()
}

impl Target<'_> {
    /// Writes one task.
    fn put(&self, job: &Job<'_>, task: &Task, slot: &mut Slot) -> Result<ProgressDelta> {
        let bytes = &slot.buffers.plain[..task.length()];
        let runs = &mut slot.runs;
        nonzero_runs(bytes, self.granule, runs);
        let start = task.range.start;
        let place = |run: &Range<usize>| start + run.start as u64..start + run.end as u64;
        let write = |runs: &[Range<usize>]| -> Result<()> {
            runs.iter().try_for_each(|run| self.device.write_at(&bytes[run.clone()], place(run).start))
        };
        let reserve = self.device.capabilities().reserve;
        let allocates = reserve.is_some() || self.allocates_on_write();
        if allocates || !self.fresh {
            job.in_turn(task.ticket, || {
                self.zero(job, task.gap.clone())?;
                self.zero_between(job, task, runs)?;
                match reserve {
                    Some(reserve) => runs.iter().try_for_each(|run| reserve.reserve(place(run))),
                    None if allocates => write(runs),
                    None => Ok(()),
                }
            })?;
        }
        if reserve.is_some() || !allocates {
            write(runs)?;
        }
        let copied = runs.iter().map(|run| (run.end - run.start) as u64).sum();
        let skipped = task.range.end - task.gap.start - copied;
        Ok(ProgressDelta { copied, skipped, written: copied })
    }

    /// Whether the place of a byte in the target's file may depend on when it is written.
    fn allocates_on_write(&self) -> bool {
        /// A device that allocates in larger units than a page of memory has tables of its own.
        const PAGE: u32 = 4096;
        self.device.limits().granularity > PAGE
    }

    /// Zeroes what lies between the runs of a task.
    fn zero_between(&self, job: &Job<'_>, task: &Task, runs: &[Range<usize>]) -> Result<()> {
        let start = task.range.start;
        let mut from = 0;
        for run in runs {
            self.zero(job, start + from as u64..start + run.start as u64)?;
            from = run.end;
        }
        self.zero(job, start + from as u64..task.range.end)
    }

    /// Makes `range` read as zeroes where it does not already.
    fn zero(&self, job: &Job<'_>, range: Range<u64>) -> Result<()> {
        /// What a device that has to write zeroes gets at once, so that a job stops in time.
        const STEP: u64 = 256 << 20;
        let mut from = range.start;
        while !self.fresh && from < range.end {
            job.check()?;
            let extent = status(self.device, from..range.end)?;
            let zero = match extent.status {
                BlockStatus::Zero => true,
                BlockStatus::Hole => !self.backed,
                BlockStatus::Data => false,
            };
            let until = if zero { extent.end() } else { extent.end().min(from.saturating_add(STEP)) };
            if !zero {
                self.device.write_zeroes_at(from..until, self.zero_mode)?;
            }
            from = until;
        }
        Ok(())
    }
}
