//! The ordered shape: workers read and encode, the calling thread appends in order.
//!
//! ```text
//! Feed::next ─► fill ─► per unit: zero? skip : adopt or encode ─► window ─► append in the order of tickets ─► hash
//!  one by one   ╰─────────────── at once ──────────────────────╯            ╰─────────── one thread ───────╯
//! ```
//!
//! A task is several consecutive units, so that threads meet seldom. The window is the pool of slots: a worker that
//! is far ahead waits for a slot, and the buffers go round without being allocated again.

use std::ops::Range;
use std::thread;

use crossbeam_channel::Receiver;
use transload_block::{BlockEncoder, BlockSink, Form, Result, is_all_zero};

use crate::ProgressDelta;
use crate::feed::{Buffers, Feed, Task};
use crate::hash::{Digests, PlainSlot, Reorder, hash_tasks};
use crate::job::{Job, Pool};
use crate::random::Crew;

/// The buffers of one task.
#[derive(Debug, Default)]
struct Slot {
    buffers: Buffers,
    /// What is to be appended, ascending.
    made: Vec<Made>,
}

impl PlainSlot for Slot {
    fn plain(&self) -> &[u8] {
        &self.buffers.plain
    }
}

/// A unit as the sink wants it.
#[derive(Debug)]
enum Made {
    /// These bytes of the plain buffer.
    Plain(Range<usize>),
    /// These bytes, for the unit that starts at this place of the plain buffer.
    Encoded(usize, Vec<u8>),
}

/// Copies everything `feed` has into `sink`, hashing on the way if `digests` is given, and returns the sink, unfinished.
pub(crate) fn copy(
    job: &Job<'_>,
    feed: &Feed,
    mut sink: Box<dyn BlockSink>,
    crew: Crew,
    digests: Option<&mut Digests>,
) -> Result<Box<dyn BlockSink>> {
    let pool = Pool::new((0..crew.window).map(|_| Slot::default()).collect());
    let encoder = sink.encoder();
    let (to_append, encoded) = crossbeam_channel::unbounded();
    let (to_hash, appended) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        let to_hash = digests.map(|digests| {
            let (pool, appended) = (&pool, appended);
            scope.spawn(move || job.guard(|| hash_tasks(job, &appended, pool, digests)));
            to_hash
        });
        for _ in 0..crew.threads {
            let (pool, to_append, encoder) = (&pool, to_append.clone(), encoder.as_ref());
            scope.spawn(move || {
                job.guard(|| {
                    loop {
                        let mut slot = job.acquire(pool)?;
                        let Some(mut task) = feed.next(job, &mut slot.buffers)? else {
                            pool.release(slot);
                            return Ok(());
                        };
                        feed.fill(&mut task, Some(encoder.unit_size()), &mut slot.buffers)?;
                        slot.encode(encoder, &task)?;
                        // Nobody listens only when appending failed, and then the job has stopped.
                        drop(to_append.send((task, slot)));
                    }
                });
            });
        }
        drop(to_append);
        job.guard(|| {
            append(job, &encoded, sink.as_mut(), |task, slot| match &to_hash {
                Some(to_hash) => drop(to_hash.send((task, slot))),
                None => pool.release(slot),
            })
        });
        drop(encoded);
    });
    job.outcome()?;
    Ok(sink)
}

/// Appends tasks in order until all workers are done, and hands each on to `next`.
fn append(
    job: &Job<'_>,
    encoded: &Receiver<(Task, Slot)>,
    sink: &mut dyn BlockSink,
    mut next: impl FnMut(Task, Slot),
) -> Result<()> {
    let mut order = Reorder::new();
    for (task, slot) in encoded {
        order.put(task.ticket, (task, slot));
        while let Some((task, mut slot)) = order.take() {
            job.check()?;
            job.advance(slot.append(sink, &task)?);
            next(task, slot);
        }
    }
    Ok(())
}

impl Slot {
    /// Encodes the units of a task that are not zero.
    fn encode(&mut self, encoder: &dyn BlockEncoder, task: &Task) -> Result<()> {
        let unit = usize::try_from(encoder.unit_size()).unwrap_or(usize::MAX);
        let length = task.length();
        let padded = length.next_multiple_of(unit);
        if self.buffers.plain.len() < padded {
            self.buffers.plain.resize(padded, 0);
        }
        self.buffers.plain[length..padded].fill(0);
        let mut given = 0;
        for at in (0..padded).step_by(unit) {
            let offset = task.range.start + at as u64;
            let there = self.buffers.given.get(given).is_some_and(|given| given.offset == offset);
            let given_here = given;
            given += usize::from(there);
            if is_all_zero(&self.buffers.plain[at..at + unit]) {
                continue;
            }
            let mut stored = self.buffers.take();
            let plain = &self.buffers.plain[at..at + unit];
            let adopted = match self.buffers.given.get(given_here).filter(|_| there) {
                Some(given) => encoder.adopt(given.codec, &given.bytes, plain, &mut stored)?,
                None => false,
            };
            if adopted || encoder.encode(plain, &mut stored)? == Form::Encoded {
                self.made.push(Made::Encoded(at, stored));
            } else {
                self.made.push(Made::Plain(at..at + unit));
                self.buffers.spare.push(stored);
            }
        }
        Ok(())
    }

    /// Appends what was encoded, and takes the buffers back.
    fn append(&mut self, sink: &mut dyn BlockSink, task: &Task) -> Result<ProgressDelta> {
        let covered = task.range.end - task.range.start;
        let unit = sink.encoder().unit_size();
        let copied = covered.min(unit.saturating_mul(self.made.len() as u64));
        let mut written = 0;
        for made in self.made.drain(..) {
            match made {
                Made::Plain(place) => {
                    written += (place.end - place.start) as u64;
                    sink.append(task.range.start + place.start as u64, Form::Plain, &self.buffers.plain[place])?;
                }
                Made::Encoded(at, stored) => {
                    written += stored.len() as u64;
                    sink.append(task.range.start + at as u64, Form::Encoded, &stored)?;
                    self.buffers.spare.push(stored);
                }
            }
        }
        Ok(ProgressDelta { copied, skipped: task.range.end - task.gap.start - copied, written })
    }
}
