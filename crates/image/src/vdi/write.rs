//! Writing a VDI at random places.

use std::ops::Range;

use transload_block::{BlockWrite, Error, ErrorKind, Reserve, Result, ZeroMode, check_range, check_span};

use super::device::{State, Vdi};
use crate::ImageWrite;
use crate::place::{Place, Run};

impl BlockWrite for Vdi {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.shape.size)?;
        let storage = self.writable()?;
        let (mut at, mut rest) = (offset, buf);
        while at < end {
            let run = {
                let mut state = self.state();
                self.begin(&mut state, || [&offset.to_le_bytes(), blake3::hash(buf).as_bytes().as_slice()].concat())?;
                self.allocate(&mut state, at..end)?;
                self.run_locked(&mut state, at..end)?
            };
            let Place::File(place) = run.place else {
                return Err(Error::new(ErrorKind::Io, "VDI: an allocated block has no place"));
            };
            let (piece, behind) = rest.split_at(usize::try_from(run.length).unwrap_or(rest.len()));
            storage.write_at(piece, place)?;
            at += run.length;
            rest = behind;
        }
        Ok(())
    }

    /// A block that has a place keeps it, and the bytes there are zeroed, by a hole in the file where that is allowed.
    /// One without a place is marked as zeroes.
    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        check_span(&range, self.shape.size)?;
        let storage = self.writable()?;
        let mut at = range.start;
        while at < range.end {
            let run = {
                let mut state = self.state();
                self.begin(&mut state, || format!("zero {}..{}", range.start, range.end).into_bytes())?;
                let mut run = self.run_locked(&mut state, at..range.end)?;
                if run.place == Place::Nowhere {
                    run = self.cover(&mut state, at..at + run.length)?;
                }
                run
            };
            if let Place::File(place) = run.place {
                storage.write_zeroes_at(place..place + run.length, mode)?;
            }
            at += run.length;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let Some(storage) = &self.storage else { return Ok(()) };
        self.write_back(&mut self.state())?;
        storage.flush()
    }
}

impl Vdi {
    /// Hides what may be below at the start of `range`, whose blocks have no places.
    fn cover(&self, state: &mut State, range: Range<u64>) -> Result<Run> {
        let block = self.shape.block;
        if !self.shape.has_parent {
            // The rest of the first and the last block reads as zeroes whatever they are marked as.
            self.mark_zero(state, range.clone())?;
            return Ok(Run { length: range.end - range.start, place: Place::Zero });
        }
        let whole = range.start.next_multiple_of(block);
        let end = if range.end == self.shape.size { range.end } else { range.end / block * block };
        if whole == range.start && whole < end {
            self.mark_zero(state, range.start..end)?;
            return Ok(Run { length: end - range.start, place: Place::Zero });
        }
        // A part of a block cannot be marked when a parent shows in the rest; the place it is given reads as zeroes already.
        let end = if whole > range.start { whole.min(range.end) } else { range.end };
        self.allocate(state, range.start..end)?;
        Ok(Run { length: end - range.start, place: Place::Zero })
    }
}

impl Reserve for Vdi {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        if check_span(&range, self.shape.size)? == 0 {
            return Ok(());
        }
        let mut state = self.state();
        self.begin(&mut state, || format!("reserve {}..{}", range.start, range.end).into_bytes())?;
        self.allocate(&mut state, range)
    }
}

impl ImageWrite for Vdi {
    fn finish(&self) -> Result<()> {
        self.close()
    }
}
