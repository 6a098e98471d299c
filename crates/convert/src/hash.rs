//! Digests of the guest's bytes, taken in order by one thread while the workers go on.
//!
//! A digest is of the whole virtual disk, holes included, as if it were one raw file. Neither function can skip zeroes:
//! the time is linear in the virtual size, however little of it is allocated.

use std::collections::VecDeque;

use crossbeam_channel::Receiver;
use sha2::{Digest, Sha256};
use transload_block::Result;

use crate::feed::Task;
use crate::job::{Job, Pool};
use crate::{DigestKind, GuestDigest};

/// The digests of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digests {
    sha256: Option<Sha256>,
    blake3: Option<Box<blake3::Hasher>>,
}

/// Zeroes to hash holes from.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

impl Digests {
    /// Digests of the given kinds; a kind named twice is computed once.
    pub(crate) fn new(kinds: &[DigestKind]) -> Self {
        Self {
            sha256: kinds.contains(&DigestKind::Sha256).then(Sha256::new),
            blake3: kinds.contains(&DigestKind::Blake3).then(|| Box::new(blake3::Hasher::new())),
        }
    }

    /// Adds the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(bytes);
        }
    }

    /// Adds `length` zeroes.
    pub(crate) fn update_zeroes(&mut self, mut length: u64, job: &Job<'_>) -> Result<()> {
        while length > 0 {
            job.check()?;
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROES.len());
            self.update(&ZEROES[..step]);
            length -= step as u64;
        }
        Ok(())
    }

    /// The digest of `kind`, `None` if it was not asked for.
    pub(crate) fn finish(&self, kind: DigestKind) -> Option<GuestDigest> {
        let hex = match kind {
            DigestKind::Sha256 => self.sha256.as_ref().map(|sha256| hex(&sha256.clone().finalize())),
            DigestKind::Blake3 => self.blake3.as_ref().map(|blake3| hex(blake3.finalize().as_bytes())),
        };
        hex.map(|hex| GuestDigest { algorithm: kind, hex })
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Puts what arrives in any order back into the order of tickets.
///
/// No more items wait than there are slots, so that the places for them are soon made and used again and again.
#[derive(Debug)]
pub(crate) struct Reorder<T> {
    next: u64,
    /// The items from `next` on, as far as they are there.
    waiting: VecDeque<Option<T>>,
}

impl<T> Reorder<T> {
    pub(crate) fn new() -> Self {
        Self { next: 0, waiting: VecDeque::new() }
    }

    /// Takes an item in.
    pub(crate) fn put(&mut self, ticket: u64, item: T) {
        let place = ticket.checked_sub(self.next).and_then(|place| usize::try_from(place).ok());
        let place = place.expect("tickets are taken once, and at most as many as there are slots are under way");
        if self.waiting.len() <= place {
            self.waiting.resize_with(place + 1, || None);
        }
        self.waiting[place] = Some(item);
    }

    /// The next item in the order, if it is there.
    pub(crate) fn take(&mut self) -> Option<T> {
        if matches!(self.waiting.front(), None | Some(None)) {
            return None;
        }
        self.next += 1;
        self.waiting.pop_front().flatten()
    }
}

/// A slot that has the plain bytes of its task in it.
pub(crate) trait PlainSlot {
    /// At least the bytes of the task's range.
    fn plain(&self) -> &[u8];
}

/// Hashes tasks as they come, until all senders are gone, and gives their slots back.
pub(crate) fn hash_tasks<S: PlainSlot>(
    job: &Job<'_>,
    tasks: &Receiver<(Task, S)>,
    pool: &Pool<S>,
    digests: &mut Digests,
) -> Result<()> {
    let mut order = Reorder::new();
    for (task, slot) in tasks {
        order.put(task.ticket, (task, slot));
        while let Some((task, slot)) = order.take() {
            digests.update_zeroes(task.gap.end - task.gap.start, job)?;
            digests.update(&slot.plain()[..task.length()]);
            pool.release(slot);
        }
    }
    Ok(())
}
