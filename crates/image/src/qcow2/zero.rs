//! Making ranges zero: by flags where the version has them, by writing where it has not.
//!
//! Version 3 marks whole clusters (with extended L2 entries: whole subclusters) as zero. Version 2 has no such mark: data
//! is overwritten in place through the file's own ability to punch holes, and a hole that something would show through
//! gets a cluster of zeroes. A place never becomes a hole again, in either version, since the layer below would show.

use std::ops::Range;
use std::sync::PoisonError;

use transload_block::{BlockWrite, Result, ZeroMode, check_range};

use super::device::{Place, Qcow2};
use super::layout::{SUBCLUSTERS, entry};
use super::map::{self, BITMAP_ALL_ALLOCATED, BITMAP_ALL_ZERO, L2Entry};
use super::tables::index;
use super::writing::{State, Writing};

impl Qcow2 {
    pub(super) fn write_zeroes(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        let length = range.end.saturating_sub(range.start);
        let end = check_range(range.start, length, self.disk_size())?;
        let writing = self.begin()?;
        let unit = self.rules.geometry.subcluster_size();
        let mut at = range.start;
        while at < end {
            // What lies behind the end of the disk does not keep its last unit from being whole.
            let whole_end = if end == self.disk_size() { end } else { end - end % unit };
            at = if self.rules.zero_flag && at.is_multiple_of(unit) && at < whole_end {
                self.mark_zero(writing, at..whole_end, mode)?
            } else {
                let next = if self.rules.zero_flag { (at - at % unit).saturating_add(unit).min(end) } else { end };
                self.overwrite(writing, at..next, mode)?
            };
        }
        Ok(())
    }

    /// Whether a hole that was made zero may stay one: without a mark it would cost a cluster, and nothing hangs below.
    fn hole_will_do(&self) -> bool {
        !self.rules.zero_flag && self.header.backing_file.is_none()
    }

    /// Makes the front of `range` zero without marks, or, in version 3, where `range` is a part of one unit; answers
    /// where it stopped.
    fn overwrite(&self, writing: &Writing, range: Range<u64>, mode: ZeroMode) -> Result<u64> {
        let unit = self.rules.geometry.subcluster_size();
        let using = self.using_places();
        let run = self.resolve(range.start, range.end - range.start)?;
        let end = range.start + run.length;
        if let Place::Data { host, owned: true } = run.place {
            self.check_data_place(writing, host, run.length, range.start)?;
            writing.data().write_zeroes_at(host..host + run.length, mode)?;
            return Ok(end);
        }
        drop(using);
        match run.place {
            Place::Zero => {}
            Place::Hole if self.hole_will_do() => {}
            Place::Hole if self.rules.zero_flag => {
                // The rest of the unit reads as zeroes in this layer, and a unit cannot be half a hole.
                let start = range.start - range.start % unit;
                self.mark_zero(writing, start..start + unit, mode)?;
            }
            _ => {
                let cluster = self.rules.geometry.cluster_size();
                let end = end.min((range.start - range.start % cluster).saturating_add(cluster));
                self.write_at(&vec![0; index(end - range.start)], range.start)?;
                return Ok(end);
            }
        }
        Ok(end)
    }

    /// Marks the whole units at the front of `range` as zero, as far as one slice maps them; answers where it stopped.
    fn mark_zero(&self, writing: &Writing, range: Range<u64>, mode: ZeroMode) -> Result<u64> {
        let geometry = self.rules.geometry;
        let run = self.resolve(range.start, range.end - range.start)?;
        let raw = self.header.data_file_raw();
        if !raw && run.place == Place::Zero && mode == ZeroMode::KeepAllocated {
            return Ok(range.start + run.length);
        }
        let per_slice = self.slices.slice_bytes() / geometry.l2_entry_size();
        let first = range.start - range.start % geometry.cluster_size();
        let (_, slot) = self.slot(first);
        let slice_end = first.saturating_add((per_slice - slot) * geometry.cluster_size());
        let range = range.start..range.end.min(slice_end);
        let claimed = first..range.end.checked_next_multiple_of(geometry.cluster_size()).unwrap_or(u64::MAX);
        let mut state = writing.lock_unclaimed(&claimed);
        if let Some(data_file) = &writing.data_file
            && (raw || mode == ZeroMode::Unmap)
        {
            data_file.write_zeroes_at(range.start..range.end.min(data_file.size()), mode)?;
        }
        let slice = self.slice_to_change(writing, &mut state, first)?;
        let mut at = range.start;
        let mut decode = None;
        {
            let mut entries = slice.entries.write().unwrap_or_else(PoisonError::into_inner);
            while at < range.end {
                let start = at - at % geometry.cluster_size();
                let end = range.end.min(start.saturating_add(geometry.cluster_size()));
                let slot = slot + (start - first) / geometry.cluster_size();
                let old = self.entry_of(&entries, slot);
                map::mapping(&self.rules, old, 0, start)?;
                // The disk's end stands for the cluster's.
                let inside_end = if end == self.disk_size() { geometry.cluster_size() } else { end - start };
                let Some(new) = self.zeroed(&mut state, old, at - start..inside_end, mode)? else {
                    decode = Some(end);
                    break;
                };
                self.set_entry(&mut entries, slot, new);
                at = end;
            }
        }
        self.relieve(writing, &mut state)?;
        drop(state);
        if let Some(end) = decode {
            self.write_at(&vec![0; index(end - at)], at)?;
            at = end;
        }
        Ok(at)
    }

    /// The entry that makes the whole units `inside` a cluster zero, having freed what the old one no longer needs. `None`
    /// for a part of a compressed cluster, which has to be decoded.
    fn zeroed(&self, state: &mut State, old: L2Entry, inside: Range<u64>, mode: ZeroMode) -> Result<Option<L2Entry>> {
        let geometry = self.rules.geometry;
        let compressed = old.descriptor & entry::COMPRESSED != 0;
        let unit = geometry.subcluster_size();
        let (first, end) = (inside.start / unit, inside.end / unit);
        let marked = if geometry.extended_l2 {
            let count = u32::try_from(end - first).expect("at most 32");
            map::subcluster_mask(u32::try_from(first).expect("at most 32"), count)
        } else {
            BITMAP_ALL_ALLOCATED
        };
        let whole = marked == BITMAP_ALL_ALLOCATED;
        if compressed && !whole {
            return Ok(None);
        }
        let owned = !compressed && old.descriptor & entry::COPIED != 0;
        let bitmap = if compressed { 0 } else { old.bitmap };
        let bitmap = (bitmap & !marked) | marked << SUBCLUSTERS;
        let keep = owned && mode == ZeroMode::KeepAllocated || !whole;
        let kept = if keep { old.descriptor & (entry::OFFSET | entry::COPIED) } else { 0 };
        if !keep {
            self.free_entry(state, old, mode == ZeroMode::Unmap)?;
        }
        Ok(Some(if geometry.extended_l2 {
            L2Entry { descriptor: kept, bitmap: if whole { BITMAP_ALL_ZERO } else { bitmap } }
        } else {
            L2Entry { descriptor: kept | entry::ZERO, bitmap: 0 }
        }))
    }
}
