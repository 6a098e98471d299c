//! Changing the mapping tables in memory: an L2 table of one's own to change, new entries, what old ones leave free.
//!
//! All of this happens under the writing state. Nothing here reaches the file but new L2 tables, which nothing in the file
//! refers to yet; `flush.rs` does the rest, in its order.

use std::sync::Arc;

use transload_block::{Result, ZeroMode};

use super::device::Qcow2;
use super::error::Qcow2Error;
use super::layout::entry;
use super::map::{self, L2Entry};
use super::tables::{Slice, index, read_padded};
use super::writing::{State, Writing};

impl Qcow2 {
    /// The slice that maps `guest`, marked as changed, in an L2 table that only this disk uses: allocated or copied when
    /// it is not there or shared.
    pub(super) fn slice_to_change(&self, writing: &Writing, state: &mut State, guest: u64) -> Result<Arc<Slice>> {
        let at = guest / self.rules.geometry.l2_coverage();
        let table = match self.l2_table(at)? {
            Some((table, true)) => table,
            other => self.new_l2_table(writing, state, at, other.map(|(table, _)| table))?,
        };
        let place = table + self.slot(guest).0;
        if let Some(slice) = state.dirty_slices.get(&place) {
            return Ok(Arc::clone(slice));
        }
        let cluster_size = self.rules.geometry.cluster_size();
        let cluster = table / cluster_size;
        if let Some(structure) = state.refcounts.structure_in(&(cluster..cluster + 1)) {
            return Err(Qcow2Error::DataOverMetadata { host: table, structure }.into());
        }
        let slice = self.slices.get_dirty(&*self.file, place)?;
        state.dirty_slices.insert(place, Arc::clone(&slice));
        Ok(slice)
    }

    /// Allocates an L2 table for L1 entry `at`: empty, or a copy of the shared one at `shared`.
    fn new_l2_table(&self, writing: &Writing, state: &mut State, at: u64, shared: Option<u64>) -> Result<u64> {
        let cluster_size = self.rules.geometry.cluster_size();
        let cluster = state.refcounts.allocate(&*writing.storage, 1)?.start;
        let table = cluster * cluster_size;
        self.slices.forget(table, cluster_size);
        if let Some(shared) = shared {
            let mut bytes = vec![0; index(cluster_size)];
            read_padded(&*self.file, &mut bytes, shared)?;
            self.disown_entries(&mut bytes);
            writing.storage.write_at(&bytes, table)?;
            state.free(shared / cluster_size..shared / cluster_size + 1, false);
        } else if self.slices.slice_bytes() == cluster_size {
            let slice = self.slices.insert_zeroed(table);
            state.dirty_slices.insert(table, slice);
        } else {
            writing.storage.write_zeroes_at(table..table + cluster_size, ZeroMode::KeepAllocated)?;
        }
        self.l1.set(&*self.file, at, table | entry::COPIED)?;
        state.dirty_l1.insert(at);
        Ok(table)
    }

    /// Takes the mark of sole use from the entries of a table that was shared: what they refer to is shared too.
    fn disown_entries(&self, table: &mut [u8]) {
        if self.rules.data_file {
            return;
        }
        let entry_size = index(self.rules.geometry.l2_entry_size());
        for descriptor in table.chunks_exact_mut(entry_size) {
            descriptor[0] &= 0x7f;
        }
    }

    pub(super) fn set_entry(&self, entries: &mut [u64], at: u64, entry: L2Entry) {
        if self.rules.geometry.extended_l2 {
            entries[index(at * 2)] = entry.descriptor;
            entries[index(at * 2) + 1] = entry.bitmap;
        } else {
            entries[index(at)] = entry.descriptor;
        }
    }

    /// Frees the host clusters of an entry that is no longer in its table.
    pub(super) fn free_entry(&self, state: &mut State, old: L2Entry, unmap: bool) -> Result<(), Qcow2Error> {
        let cluster_size = self.rules.geometry.cluster_size();
        if self.rules.data_file {
            return Ok(());
        }
        if old.descriptor & entry::COMPRESSED != 0 {
            // Neighbours may share the first and the last cluster: each has its own use of them.
            let range = map::compressed_range(self.rules.geometry, old.descriptor);
            let (first, last) = (range.offset / cluster_size, (range.offset + range.length - 1) / cluster_size);
            state.free(first..last + 1, false);
        } else if old.descriptor & entry::OFFSET != 0 {
            let cluster = (old.descriptor & entry::OFFSET) / cluster_size;
            state.free(cluster..cluster + 1, unmap);
        }
        Ok(())
    }
}
