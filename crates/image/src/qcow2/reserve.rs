//! Allocating ahead, in a fixed order, so that later writes change no table.
//!
//! A reservation links its clusters at once: what stands in them is unspecified until the caller has written it, and only
//! the ends that the caller does not write are made sound here. Writes inside it then go straight to the file, side by
//! side.

use std::ops::Range;

use transload_block::{Reserve, Result, check_range};

use super::device::{Place, Qcow2};
use super::write::{Before, Claim};
use super::writing::Writing;

impl Reserve for Qcow2 {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        let length = range.end.saturating_sub(range.start);
        check_range(range.start, length, self.disk_size())?;
        let writing = self.begin()?;
        let mut at = range.start;
        while at < range.end {
            at += self.reserve_some(writing, at, range.end - at)?;
        }
        Ok(())
    }
}

impl Qcow2 {
    /// Allocates the front of the `length` bytes at `guest`, and answers how many of them are now allocated.
    fn reserve_some(&self, writing: &Writing, guest: u64, length: u64) -> Result<u64> {
        let geometry = self.rules.geometry;
        let first = guest - guest % geometry.cluster_size();
        let end = guest + length;
        let mut state = writing.lock_unclaimed(&(first..end.next_multiple_of(geometry.cluster_size())));
        let run = self.resolve(guest, length)?;
        if let Place::Data { owned: true, .. } = run.place {
            return Ok(run.length);
        }
        let Some(claim) = self.claim(writing, &mut state, guest, length)? else { return Ok(0) };
        let reserved = guest..end.min(claim.guest.end);
        let readied = match claim.before {
            // Nothing but the ends, which the caller does not write, has to be made sound.
            Before::Nothing | Before::Own(_) => self.fill_around(writing, &claim, &reserved),
            Before::Foreign => self.write_into(writing, &claim, &[], guest),
        };
        if let Err(error) = readied {
            self.abandon(writing, &mut state, &claim)?;
            return Err(error);
        }
        self.link(writing, &mut state, &claim, reserved.clone())?;
        self.relieve(writing, &mut state)?;
        Ok(reserved.end - reserved.start)
    }

    /// Makes zeroes of what is in the units of `reserved` and not in it.
    fn fill_around(&self, writing: &Writing, claim: &Claim, reserved: &Range<u64>) -> Result<()> {
        let unit = self.rules.geometry.subcluster_size();
        let size = self.disk_size();
        if !self.unit_holds_data(claim, reserved.start)? {
            self.fill(writing, claim, reserved.start - reserved.start % unit..reserved.start)?;
        }
        if reserved.end < size && !self.unit_holds_data(claim, reserved.end - 1)? {
            self.fill(writing, claim, reserved.end..reserved.end.next_multiple_of(unit))?;
        }
        Ok(())
    }
}
