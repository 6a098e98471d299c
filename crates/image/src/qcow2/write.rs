//! Writing: in place where that disturbs nobody, else into clusters that are allocated for it.
//!
//! ```text
//! write_at ─► place resolved, owned? ── yes ─► one write to the file                       no lock but a shared one
//!                  │ no
//!                  ▼
//!        state: claim guest clusters, allocate host clusters ─► write data and fill ─► state: link, give up the claim
//! ```
//!
//! A claim keeps everybody else from allocating for the same guest clusters; they wait for it. The data is written
//! outside the lock and before the L2 entry changes. The order in which tables then reach the file, and why that
//! survives a crash, is in `flush.rs`.
//!
//! Copy-on-write goes only as far as this layer: data that a snapshot shares and compressed clusters are copied, a hole
//! is filled with zeroes. A cluster cannot be half a hole (with extended L2 entries: a subcluster), so a write to a part
//! of a hole makes the rest of that unit zeroes. Who has a layer below writes whole units of `limits().granularity`, as
//! `Chain` does.

use std::ops::Range;
use std::sync::PoisonError;

use transload_block::{BlockWrite, Result, ZeroMode, check_range};

use super::device::{Place, Qcow2};
use super::error::Qcow2Error;
use super::layout::entry;
use super::map::{self, BITMAP_ALL_ALLOCATED, HostCluster, L2Entry, Mapping};
use super::tables::index;
use super::writing::{State, Writing};
use crate::ImageWrite;

/// Fill and data up to this many bytes go to the file in one piece.
const JOINED_MAX: u64 = 64 << 10;

/// What stood at a guest cluster before it was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before {
    /// No host cluster: what is not written reads as zeroes.
    Nothing,
    /// A host cluster of its own, of which not everything holds guest data.
    Own(HostCluster),
    /// A host cluster, plain or compressed, that must be left as it is.
    Foreign,
}

/// Guest clusters that were claimed and the host clusters that are to hold them.
#[derive(Debug)]
pub(super) struct Claim {
    /// Whole guest clusters.
    pub guest: Range<u64>,
    /// Where they will stand in the data's file.
    host: u64,
    pub before: Before,
    /// The entry of the first cluster.
    entry: L2Entry,
}

impl BlockWrite for Qcow2 {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.disk_size())?;
        let writing = self.begin()?;
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let written = match self.write_in_place(writing, rest, at)? {
                0 => self.write_claimed(writing, rest, at)?,
                written => written,
            };
            rest = &rest[written..];
            at += written as u64;
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.write_zeroes(range, mode)
    }

    fn flush(&self) -> Result<()> {
        let writing = self.writing()?;
        self.write_tables(writing, &mut writing.lock())
    }
}

impl ImageWrite for Qcow2 {
    fn finish(&self) -> Result<()> {
        self.close()
    }
}

impl Qcow2 {
    /// Writes the front of `rest` where it stands already, and answers how much of it; 0 when it stands nowhere where it
    /// may be written.
    fn write_in_place(&self, writing: &Writing, rest: &[u8], guest: u64) -> Result<usize> {
        let _using = self.using_places();
        let run = self.resolve(guest, rest.len() as u64)?;
        let Place::Data { host, owned: true } = run.place else { return Ok(0) };
        self.check_data_place(writing, host, run.length, guest)?;
        let length = index(run.length);
        writing.data().write_at(&rest[..length], host)?;
        Ok(length)
    }

    /// Checks that guest data at `host` stands inside the file and not on what the header refers to.
    pub(super) fn check_data_place(
        &self,
        writing: &Writing,
        host: u64,
        length: u64,
        guest: u64,
    ) -> Result<(), Qcow2Error> {
        let file_size = writing.data().size();
        if host.checked_add(length).is_none_or(|end| end > file_size) {
            return Err(Qcow2Error::DataOutside { guest, host, file_size });
        }
        if writing.data_file.is_some() {
            return Ok(());
        }
        let (header, cluster_size) = (&self.header, self.rules.geometry.cluster_size());
        let meets = |offset: u64, bytes: u64| host < offset + bytes && offset < host + length;
        let structure = if meets(0, cluster_size) {
            "header"
        } else if meets(header.l1.offset, header.l1.entries * 8) {
            "L1 table"
        } else {
            return Ok(());
        };
        Err(Qcow2Error::DataOverMetadata { host, structure })
    }

    /// Writes the front of `rest` into clusters allocated for it, and answers how much of it; 0 when somebody else has
    /// allocated them meanwhile.
    pub(super) fn write_claimed(&self, writing: &Writing, rest: &[u8], guest: u64) -> Result<usize> {
        let geometry = self.rules.geometry;
        let first = guest - guest % geometry.cluster_size();
        let mut state = writing.lock_unclaimed(&(first..first + geometry.cluster_size()));
        let Some(claim) = self.claim(writing, &mut state, guest, rest.len() as u64)? else { return Ok(0) };
        state.claims.push(claim.guest.clone());
        drop(state);
        let end = claim.guest.end.min(guest + rest.len() as u64);
        let data = &rest[..index(end - guest)];
        let written = self.write_into(writing, &claim, data, guest);
        let mut state = writing.lock();
        let linked = match written {
            Ok(()) => self.link(writing, &mut state, &claim, guest..end),
            Err(error) => {
                self.abandon(writing, &mut state, &claim)?;
                Err(error)
            }
        };
        writing.settle(&mut state, &claim.guest);
        linked?;
        self.relieve(writing, &mut state)?;
        Ok(data.len())
    }

    /// Decides where the guest bytes from `guest` on go, and allocates that. `None` when they stand already where they
    /// may be written.
    pub(super) fn claim(&self, writing: &Writing, state: &mut State, guest: u64, length: u64) -> Result<Option<Claim>> {
        let cluster_size = self.rules.geometry.cluster_size();
        let first = guest - guest % cluster_size;
        let slice = self.slice_to_change(writing, state, first)?;
        let (_, slot) = self.slot(first);
        let (entry, before, clusters) = {
            let entries = slice.entries.read().unwrap_or_else(PoisonError::into_inner);
            let entry = self.entry_of(&entries, slot);
            let before = self.before(entry, guest)?;
            let end = guest + length;
            let mut clusters = 1;
            // Only clusters without anything go together; the others are taken one by one.
            while let Some(Before::Nothing) = before
                && first + clusters * cluster_size < end
                && slot + clusters < self.slices.slice_bytes() / self.rules.geometry.l2_entry_size()
                && !state.claims.iter().any(|claim| claim.contains(&(first + clusters * cluster_size)))
                && matches!(
                    self.before(self.entry_of(&entries, slot + clusters), first + clusters * cluster_size)?,
                    Some(Before::Nothing)
                )
            {
                clusters += 1;
            }
            (entry, before, clusters)
        };
        let Some(before) = before else { return Ok(None) };
        let (host, clusters) = match before {
            Before::Own(host) => (host.offset, 1),
            _ if writing.data_file.is_some() => (first, clusters),
            _ => {
                let found = state.refcounts.allocate(&*writing.storage, clusters)?;
                (found.start * cluster_size, found.end - found.start)
            }
        };
        Ok(Some(Claim { guest: first..first + clusters * cluster_size, host, before, entry }))
    }

    /// What stands at the cluster of `guest`; `None` when its bytes can be written in place.
    fn before(&self, entry: L2Entry, guest: u64) -> Result<Option<Before>, Qcow2Error> {
        let geometry = self.rules.geometry;
        let inside = guest % geometry.cluster_size();
        let subcluster = u32::try_from(inside / geometry.subcluster_size()).expect("at most 32");
        Ok(match map::mapping(&self.rules, entry, subcluster, guest - inside)? {
            Mapping::Data(host) if host.owned => None,
            Mapping::Hole { host: None } | Mapping::Zero { host: None } => Some(Before::Nothing),
            Mapping::Hole { host: Some(host) } | Mapping::Zero { host: Some(host) } if host.owned => {
                Some(Before::Own(host))
            }
            _ => Some(Before::Foreign),
        })
    }

    /// Writes `data`, which stands at `guest`, into the claimed host clusters, with everything around it that the link
    /// will bring to light.
    pub(super) fn write_into(&self, writing: &Writing, claim: &Claim, data: &[u8], guest: u64) -> Result<()> {
        let geometry = self.rules.geometry;
        if let Before::Foreign = claim.before {
            let mut cluster = vec![0; index(geometry.cluster_size())];
            self.copy_cluster(&mut cluster, claim)?;
            let inside = index(guest - claim.guest.start);
            cluster[inside..inside + data.len()].copy_from_slice(data);
            return self.put(writing, claim, claim.guest.start, &cluster);
        }
        if let Before::Own(host) = claim.before {
            self.check_data_place(writing, host.offset, 1, guest)?;
        }
        let unit = geometry.subcluster_size();
        let end = guest + data.len() as u64;
        let (mut start, mut stop) = (guest - guest % unit, end.next_multiple_of(unit));
        // A unit that holds data already keeps what is around the new bytes.
        if self.unit_holds_data(claim, guest)? {
            start = guest;
        }
        if self.unit_holds_data(claim, end - 1)? {
            stop = end;
        }
        let (head, tail) = (guest - start, stop - end);
        if head + tail > 0 && head + tail + data.len() as u64 <= JOINED_MAX {
            let mut joined = vec![0; index(head)];
            joined.extend_from_slice(data);
            joined.resize(index(stop - start), 0);
            return self.put(writing, claim, start, &joined);
        }
        self.fill(writing, claim, start..guest)?;
        self.put(writing, claim, guest, data)?;
        self.fill(writing, claim, end..stop)
    }

    /// Whether the unit of `guest`, in a cluster that is claimed, holds data that stays where it is.
    pub(super) fn unit_holds_data(&self, claim: &Claim, guest: u64) -> Result<bool, Qcow2Error> {
        match claim.before {
            Before::Own(_) => Ok(self.before(claim.entry, guest)?.is_none()),
            Before::Nothing | Before::Foreign => Ok(false),
        }
    }

    /// Reads what stands in a claimed cluster whose host cluster stays as it is.
    fn copy_cluster(&self, cluster: &mut [u8], claim: &Claim) -> Result<()> {
        let (geometry, start) = (self.rules.geometry, claim.guest.start);
        if claim.entry.descriptor & entry::COMPRESSED != 0 {
            return self.decode(cluster, map::compressed_range(geometry, claim.entry.descriptor), start);
        }
        let unit = index(geometry.subcluster_size());
        for (subcluster, part) in (0..).zip(cluster.chunks_mut(unit)) {
            if let Mapping::Data(host) = map::mapping(&self.rules, claim.entry, subcluster, start)? {
                let inside = u64::from(subcluster) * unit as u64;
                self.read_data(part, host.offset + inside, start + inside)?;
            }
        }
        Ok(())
    }

    /// Writes `bytes`, which stand at `guest`, into the claimed host clusters.
    fn put(&self, writing: &Writing, claim: &Claim, guest: u64, bytes: &[u8]) -> Result<()> {
        let host = claim.host + (guest - claim.guest.start);
        // A data file is as long as the disk and does not hold the rest of the last cluster.
        let room = writing.data().size().saturating_sub(host).min(bytes.len() as u64);
        writing.data().write_at(&bytes[..index(room)], host)
    }

    /// Makes `guest` zeroes in the claimed host clusters.
    pub(super) fn fill(&self, writing: &Writing, claim: &Claim, guest: Range<u64>) -> Result<()> {
        let host = |place: u64| (claim.host + (place - claim.guest.start)).min(writing.data().size());
        let range = host(guest.start)..host(guest.end);
        if range.is_empty() {
            return Ok(());
        }
        if range.end - range.start <= JOINED_MAX {
            return writing.data().write_at(&vec![0; index(range.end - range.start)], range.start);
        }
        writing.data().write_zeroes_at(range, ZeroMode::KeepAllocated)
    }

    /// Lets the L2 entries of a claim refer to its host clusters; of its units, `guest` has been written.
    pub(super) fn link(&self, writing: &Writing, state: &mut State, claim: &Claim, guest: Range<u64>) -> Result<()> {
        let geometry = self.rules.geometry;
        let cluster_size = geometry.cluster_size();
        let slice = self.slice_to_change(writing, state, claim.guest.start)?;
        let mut entries = slice.entries.write().unwrap_or_else(PoisonError::into_inner);
        let (_, slot) = self.slot(claim.guest.start);
        let clusters = (claim.guest.end - claim.guest.start) / cluster_size;
        for cluster in 0..clusters {
            let start = claim.guest.start + cluster * cluster_size;
            let touched = guest.start.max(start)..guest.end.min(start + cluster_size);
            let old = self.entry_of(&entries, slot + cluster);
            let descriptor = (claim.host + cluster * cluster_size) | entry::COPIED;
            let bitmap = self.bitmap_after(old, touched.start - start..touched.end - start);
            self.set_entry(&mut entries, slot + cluster, L2Entry { descriptor, bitmap });
        }
        drop(entries);
        if let Before::Foreign = claim.before {
            self.free_entry(state, claim.entry, true)?;
        }
        Ok(())
    }

    /// The bitmap of a cluster of which the bytes `inside` have been written.
    fn bitmap_after(&self, old: L2Entry, inside: Range<u64>) -> u64 {
        let geometry = self.rules.geometry;
        if !geometry.extended_l2 {
            return 0;
        }
        if old.descriptor & entry::COMPRESSED != 0 {
            return BITMAP_ALL_ALLOCATED;
        }
        let unit = geometry.subcluster_size();
        let first = u32::try_from(inside.start / unit).expect("at most 32");
        let end = u32::try_from(inside.end.div_ceil(unit)).expect("at most 32");
        let touched = map::subcluster_mask(first, end - first);
        (old.bitmap | touched) & !(touched << 32)
    }

    /// Gives back what was allocated for a claim that was not linked.
    pub(super) fn abandon(&self, writing: &Writing, state: &mut State, claim: &Claim) -> Result<()> {
        if writing.data_file.is_some() || matches!(claim.before, Before::Own(_)) {
            return Ok(());
        }
        let cluster_size = self.rules.geometry.cluster_size();
        let clusters = (claim.guest.end - claim.guest.start) / cluster_size;
        let first = claim.host / cluster_size;
        state.refcounts.release(&*writing.storage, first..first + clusters)
    }
}
