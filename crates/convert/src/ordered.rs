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
use transload_block::{BlockEncoder, BlockSink, Error, ErrorKind, Form, Result, is_all_zero};
use transload_image::codec;

use crate::ProgressDelta;
use crate::feed::{Buffers, Feed, Given, Task, Wanted};
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
/// Units that source and sink share are decoded for their proof, unless they are `trusted`.
pub(crate) fn copy(
    job: &Job<'_>,
    feed: &Feed,
    mut sink: Box<dyn BlockSink>,
    crew: Crew,
    trusted: bool,
    digests: Option<&mut Digests>,
) -> Result<Box<dyn BlockSink>> {
    // A digest is of the guest's bytes: every unit has to be decoded for it.
    let trusted = trusted && digests.is_none();
    let pool = Pool::new((0..crew.window).map(|_| Slot::default()).collect());
    let encoder = sink.encoder();
    // A task has a slot, so that neither ever holds more than there are slots, and sending never waits.
    let (to_append, encoded) = crossbeam_channel::bounded(crew.window);
    let (to_hash, appended) = crossbeam_channel::bounded(crew.window);
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
                        let wanted = Wanted { unit: encoder.unit_size(), trusted };
                        feed.fill(&mut task, Some(wanted), &mut slot.buffers)?;
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

/// Decodes a unit that nobody has looked at yet.
fn decode_whole(given: &Given, plain: &mut [u8]) -> Result<()> {
    let held = codec::decode(given.codec, &given.bytes, plain)
        .map_err(|error| error.context(format!("unit at offset {}", given.offset)))?;
    if held == plain.len() {
        return Ok(());
    }
    let text = format!("unit at offset {} holds {held} bytes, must be {}", given.offset, plain.len());
    Err(Error::new(ErrorKind::Corrupt, text))
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
            let given_here = there.then_some(given);
            given += usize::from(there);
            let mut stored = self.buffers.take();
            let given = given_here.and_then(|index| self.buffers.given.get(index));
            let plain = &mut self.buffers.plain[at..at + unit];
            let mut adopted = false;
            if let Some(given) = given.filter(|given| !given.decoded) {
                adopted = encoder.adopt(given.codec, &given.bytes, None, &mut stored)?;
                if !adopted {
                    decode_whole(given, plain)?;
                }
            }
            if !adopted && is_all_zero(plain) {
                self.buffers.spare.push(stored);
                continue;
            }
            if let Some(given) = given.filter(|given| given.decoded) {
                adopted = encoder.adopt(given.codec, &given.bytes, Some(plain), &mut stored)?;
            }
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
