//! The device: a disk, or one of its snapshots, over an opened file.
//!
//! ```text
//! ParsedHeader ──► Qcow2::open (reading)             ──► resolve(guest) ──► Place ──► who reads or writes there
//!             └──► Qcow2::open_for_writing(source …) ──┘
//! ```
//!
//! This file answers where guest bytes stand ([`Qcow2::resolve`]); `read.rs` and `write.rs` move them.
//!
//! Locks, in the order in which they are taken: `Writing::state` (allocation and all changes of tables), `in_flight`
//! (shared by whoever uses a place it has resolved, exclusive for a moment before freed clusters are given out again),
//! then the tables' own. Nobody waits for `state` while holding `in_flight`. A reader, and a writer to clusters that are
//! allocated, takes `in_flight` shared and nothing else for long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use transload_block::{BlockRead, Result, Storage};

use super::check::rebuild_refcounts;
use super::error::Qcow2Error;
use super::layout::{SUBCLUSTERS, VERSION_3, entry};
use super::map::{self, CompressedRange, EntryRules, L2Entry, Mapping};
use super::open::{ParsedHeader, TableLocation};
use super::tables::{L1Table, SliceCache, index};
use super::writing::Writing;

/// How many L1 entries without a table are looked at in one go: 2^16 cover 32 TiB with clusters of 64 KiB.
const HOLE_SCAN: u64 = 1 << 16;

/// A qcow2 disk.
#[derive(Debug)]
pub(crate) struct Qcow2 {
    pub(super) header: ParsedHeader,
    pub(super) rules: EntryRules,
    /// Tells devices apart in the threads' caches of decoded clusters.
    pub(super) id: u64,
    size: u64,
    /// The image file.
    pub(super) file: Arc<dyn BlockRead>,
    /// Where guest data stands: the image file, or the external data file.
    pub(super) data: Arc<dyn BlockRead>,
    pub(super) l1: L1Table,
    pub(super) slices: SliceCache,
    pub(super) in_flight: RwLock<()>,
    pub(super) writing: Option<Writing>,
}

/// Where some guest bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere.
    Hole,
    /// They are zeroes.
    Zero,
    /// At this byte of the data's file. `owned`: may be written in place.
    Data { host: u64, owned: bool },
    /// In a compressed cluster.
    Compressed(CompressedRange),
}

/// A run of guest bytes and where they stand; behind each other when it is [`Place::Data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub place: Place,
    pub length: u64,
}

/// What a device is opened from, beside its header.
#[derive(Debug)]
pub(crate) struct Files {
    /// The image file.
    pub file: Arc<dyn BlockRead>,
    /// The external data file.
    pub data_file: Option<Arc<dyn BlockRead>>,
}

impl Qcow2 {
    /// A device for reading: the active disk, or with `snapshot` (an L1 table that has been checked, and a size) what it
    /// was then.
    pub(crate) fn open(
        header: ParsedHeader,
        files: Files,
        snapshot: Option<(TableLocation, u64)>,
        cache_bytes: usize,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let (l1, size) = snapshot.unwrap_or((header.l1, header.size));
        let rules = EntryRules {
            geometry: header.geometry,
            zero_flag: header.version >= VERSION_3,
            data_file: header.has_data_file(),
        };
        Self {
            rules,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            size,
            data: files.data_file.unwrap_or_else(|| Arc::clone(&files.file)),
            file: files.file,
            l1: L1Table::new(l1),
            slices: SliceCache::new(header.geometry, cache_bytes),
            in_flight: RwLock::new(()),
            writing: None,
            header,
        }
    }

    /// A device for reading and writing the active disk in `storage`, which holds a sound header, an L1 table for the
    /// disk's size, and refcounts: an existing image, or one that has just been created. `data_file` is there exactly
    /// when the header says so. The refcounts of an image that was not closed are made right first.
    ///
    /// # Errors
    /// Kind `Corrupt` when the image is marked as corrupt, when one that was not closed has more wrong with it than its
    /// refcounts, and when a rule of the header or the refcount table is broken;
    /// `Unsupported` when it is encrypted.
    pub(crate) fn open_for_writing(
        storage: Arc<dyn Storage>,
        data_file: Option<Arc<dyn Storage>>,
        cache_bytes: usize,
    ) -> Result<Self> {
        let mut header = ParsedHeader::read(&*storage)?;
        if header.corrupt() {
            return Err(Qcow2Error::MarkedCorrupt.into());
        }
        if let Some(name) = header.crypt.name() {
            return Err(Qcow2Error::Encrypted(name).into());
        }
        if header.dirty() {
            rebuild_refcounts(&*storage, &header)?;
            header = ParsedHeader::read(&*storage)?;
        }
        Self::writable(header, storage, data_file, cache_bytes)
    }

    /// The same, for an image that is sound but for its size in the file, which may be less than `header` says: its L1
    /// table maps what the header says.
    ///
    /// # Errors
    /// As [`open_for_writing`](Self::open_for_writing), but for what it finds in the header.
    pub(super) fn writable(
        header: ParsedHeader,
        storage: Arc<dyn Storage>,
        data_file: Option<Arc<dyn Storage>>,
        cache_bytes: usize,
    ) -> Result<Self> {
        if header.has_data_file() != data_file.is_some() {
            return Err(Qcow2Error::DataFileUnnamed.into());
        }
        let files = Files {
            file: Arc::clone(&storage) as Arc<dyn BlockRead>,
            data_file: data_file.clone().map(|file| file as Arc<dyn BlockRead>),
        };
        let writing = Writing::new(&header, storage, data_file, cache_bytes)?;
        let mut device = Self::open(header, files, None, cache_bytes / 4 * 3);
        device.writing = Some(writing);
        Ok(device)
    }

    /// The size of what is read: the disk's, or the snapshot's.
    pub(super) const fn disk_size(&self) -> u64 {
        self.size
    }

    /// Holds off the reuse of freed clusters while a place that was resolved is in use.
    pub(super) fn using_places(&self) -> RwLockReadGuard<'_, ()> {
        self.in_flight.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The L2 table that L1 entry `at` refers to: its offset, and whether it may be changed in place.
    pub(super) fn l2_table(&self, at: u64) -> Result<Option<(u64, bool)>> {
        let entry = self.l1.get(&*self.file, at)?;
        if entry & entry::L1_RESERVED != 0 {
            return Err(Qcow2Error::L1Reserved { index: at, entry }.into());
        }
        let offset = entry & entry::OFFSET;
        if offset == 0 {
            return Ok(None);
        }
        if !offset.is_multiple_of(self.rules.geometry.cluster_size()) {
            return Err(Qcow2Error::L2TableUnaligned { index: at, offset }.into());
        }
        let file_size = self.file.size();
        if offset >= self.rules.geometry.round_up(file_size) {
            return Err(Qcow2Error::L2TableOutside { index: at, offset, file_size }.into());
        }
        Ok(Some((offset, entry & entry::COPIED != 0)))
    }

    /// Where in a table's slices the entry of guest offset `guest` stands: the slice's offset in the table, and the
    /// entry's number in the slice.
    pub(super) fn slot(&self, guest: u64) -> (u64, u64) {
        let geometry = self.rules.geometry;
        let at = guest / geometry.cluster_size() % geometry.l2_entries() * geometry.l2_entry_size();
        let slice_bytes = self.slices.slice_bytes();
        (at / slice_bytes * slice_bytes, at % slice_bytes / geometry.l2_entry_size())
    }

    /// Entry `at` of a slice.
    pub(super) fn entry_of(&self, entries: &[u64], at: u64) -> L2Entry {
        if self.rules.geometry.extended_l2 {
            let at = index(at * 2);
            L2Entry { descriptor: entries[at], bitmap: entries[at + 1] }
        } else {
            L2Entry { descriptor: entries[index(at)], bitmap: 0 }
        }
    }

    /// Says where the bytes at `guest` stand, and how many of the next `length` stand there too. The run may be shorter
    /// than it could be; it is at least one byte. `guest..guest + length` is inside the disk and not empty.
    pub(super) fn resolve(&self, guest: u64, length: u64) -> Result<Run> {
        let coverage = self.rules.geometry.l2_coverage();
        let at = guest / coverage;
        let Some((table, _)) = self.l2_table(at)? else {
            let last = (guest + length - 1) / coverage;
            let mut end = at + 1;
            while end <= last.min(at + HOLE_SCAN) && self.l2_table(end)?.is_none() {
                end += 1;
            }
            let end = end.saturating_mul(coverage);
            return Ok(Run { place: Place::Hole, length: length.min(end - guest) });
        };
        let (slice_offset, first) = self.slot(guest);
        let slice = self.slices.get(&*self.file, table + slice_offset)?;
        let entries = slice.entries.read().unwrap_or_else(PoisonError::into_inner);
        self.resolve_in(&entries, first, guest, length)
    }

    /// The same, in a slice whose entry `at` maps `guest`.
    fn resolve_in(&self, entries: &[u64], mut at: u64, guest: u64, length: u64) -> Result<Run> {
        let geometry = self.rules.geometry;
        let per_slice = self.slices.slice_bytes() / geometry.l2_entry_size();
        let end = guest + length;
        let mut run: Option<Run> = None;
        let mut here = guest;
        while here < end && at < per_slice {
            let piece = self.piece(self.entry_of(entries, at), here)?;
            match &mut run {
                None => run = Some(piece),
                Some(run) if continues(run, &piece) => run.length += piece.length,
                Some(_) => break,
            }
            here += piece.length;
            if here.is_multiple_of(geometry.cluster_size()) {
                at += 1;
            }
        }
        let run = run.expect("the range is not empty");
        Ok(Run { length: run.length.min(length), ..run })
    }

    /// What `entry` says of the bytes from `guest` on, to the end of its cluster at most.
    fn piece(&self, entry: L2Entry, guest: u64) -> Result<Run, Qcow2Error> {
        let geometry = self.rules.geometry;
        let inside = guest % geometry.cluster_size();
        let unit = geometry.subcluster_size();
        let subcluster = u32::try_from(inside / unit).expect("at most 32 subclusters");
        let place = match map::mapping(&self.rules, entry, subcluster, guest - inside)? {
            Mapping::Hole { .. } => Place::Hole,
            Mapping::Zero { .. } => Place::Zero,
            Mapping::Data(host) => Place::Data { host: host.offset + inside, owned: host.owned },
            Mapping::Compressed(range) => Place::Compressed(range),
        };
        let end = if geometry.extended_l2 && !matches!(place, Place::Compressed(_)) {
            let run = map::subcluster_run(entry.bitmap, subcluster);
            u64::from(subcluster + run).min(SUBCLUSTERS) * unit
        } else {
            geometry.cluster_size()
        };
        Ok(Run { place, length: end - inside })
    }
}

/// Whether `next` goes on where `run` ends.
fn continues(run: &Run, next: &Run) -> bool {
    match (run.place, next.place) {
        (Place::Hole, Place::Hole) | (Place::Zero, Place::Zero) => true,
        (Place::Data { host, owned }, Place::Data { host: next, owned: next_owned }) => {
            owned == next_owned && host.checked_add(run.length) == Some(next)
        }
        _ => false,
    }
}
