//! Checking an image's metadata, and mending it.
//!
//! ```text
//! walk every structure ──► count references ──► compare with the stored counts ──► compare the COPIED flags
//!       │ repair                                  │ repair                           │ repair
//!       └ entries that contradict themselves      └ raise counts, or write all anew  └ set and clear ──► lower counts
//! ```
//!
//! Each step of a repair is flushed before the next, in an order that is safe to break off: counts that are too low are
//! raised first, since they are what lets a writer overwrite data; counts that are too high only waste space and come
//! last. Guest data is never touched. A mapping changes in its COPIED flag, and where it names a cluster at an impossible place
//! that no guest byte stands in: one that was set aside for what reads as zeroes. Where something is wrong that may
//! hide references (a table out of the file, an offset that is not aligned), counts are raised and never lowered.

use transload_block::{BlockRead, Error, ErrorKind, Result, Storage};

use super::holes::Holes;
use super::layout::{entry, incompatible};
use super::open::ParsedHeader;
use super::refcounts::write_anew;
use super::references::References;
use super::walk::{L2Reference, Walk, read_numbers, walk};
use crate::{CheckReport, CheckRequest, Finding, FindingKind};

/// Where the incompatible features stand in the header.
const HEADER_INCOMPATIBLE: u64 = 72;

/// Checks an image, and mends it if asked; the row's `check`.
#[expect(clippy::needless_pass_by_value, reason = "the row of the format gives its requests away")]
pub(crate) fn check(request: CheckRequest<'_>) -> Result<CheckReport> {
    let named = |error: Error| error.context(request.source.display_name());
    let storage = if request.repair { Some(request.source.storage()?) } else { None };
    let header = ParsedHeader::read(&**request.source.bytes()).map_err(named)?;
    check_file(&**request.source.bytes(), storage.map(|storage| &**storage), &header).map_err(named)
}

/// Makes the counts and flags of an image right that was not closed, and clears its dirty bit.
///
/// # Errors
/// `Corrupt` when more is wrong than that; what the storage answers.
pub(crate) fn rebuild_refcounts(storage: &dyn Storage, header: &ParsedHeader) -> Result<()> {
    let report = check_file(storage, Some(storage), header)?;
    match report.findings.iter().find(|finding| !finding.fixed) {
        None => Ok(()),
        Some(finding) => Err(Error::new(ErrorKind::Corrupt, finding.message.clone())),
    }
}

/// Counts the references to all clusters but those of the refcount structures, for writing these anew.
///
/// # Errors
/// `Corrupt` when something is wrong that may hide references.
pub(crate) fn walk_for_counts(file: &dyn BlockRead, header: &ParsedHeader) -> Result<References> {
    let mut report = CheckReport::default();
    let mut walked = walk(file, header, &mut report, false)?;
    if let Some(finding) = report.findings.first() {
        return Err(Error::new(ErrorKind::Corrupt, finding.message.clone()));
    }
    walked.forget_refcount_structures(header)?;
    Ok(walked.references)
}

/// Checks `file`; `storage` is the same file, when it is to be mended.
fn check_file(file: &dyn BlockRead, storage: Option<&dyn Storage>, header: &ParsedHeader) -> Result<CheckReport> {
    let mut report =
        CheckReport { total_units: header.size.div_ceil(header.geometry.cluster_size()), ..CheckReport::default() };
    let walked = walk(file, header, &mut report, storage.is_some())?;
    if let Some(storage) = storage.filter(|_| !walked.mends.is_empty()) {
        for mend in &walked.mends {
            storage.write_at(&mend.descriptor.to_be_bytes(), mend.place)?;
        }
        storage.flush()?;
    }
    let mut checker = Checker { file, storage, header, report, walked, holes: Holes::default() };
    checker.compare()?;
    let mut report = checker.report;
    if let Some(storage) = storage {
        let flags = incompatible::DIRTY | incompatible::CORRUPT;
        if report.is_clean() && header.incompatible & flags != 0 {
            storage.write_at(&(header.incompatible & !flags).to_be_bytes(), HEADER_INCOMPATIBLE)?;
        }
        storage.flush()?;
    }
    report.findings.shrink_to_fit();
    Ok(report)
}

struct Checker<'a> {
    file: &'a dyn BlockRead,
    storage: Option<&'a dyn Storage>,
    header: &'a ParsedHeader,
    report: CheckReport,
    walked: Walk,
    holes: Holes,
}

impl Checker<'_> {
    fn compare(&mut self) -> Result<()> {
        let anew = self.must_be_written_anew();
        // What may hide references forbids to treat clusters as free, which a fresh set of counts would.
        let can_write_anew = anew && self.storage.is_some() && !self.walked.incomplete;
        let lowered = self.compare_counts(anew, can_write_anew)?;
        if can_write_anew {
            self.write_anew()?;
        }
        if let Some(storage) = self.storage {
            storage.flush()?;
        }
        let repaired = self.storage.is_some() && (!anew || can_write_anew);
        for table in self.walked.l2_tables.clone() {
            if table.active {
                self.check_l2_flags(table, repaired)?;
            }
        }
        self.check_l1_flags(repaired)?;
        if let Some(storage) = self.storage {
            storage.flush()?;
            if !anew {
                self.lower(storage, lowered)?;
            }
        }
        Ok(())
    }

    /// Whether a cluster that is in use has no place for its count.
    fn must_be_written_anew(&self) -> bool {
        let per_block = self.header.geometry.refcount_block_entries();
        let stretches = self.walked.references.stretches(per_block);
        self.walked.unusable_blocks > 0 || stretches.values().any(|cluster| !self.walked.stored.has_block(*cluster))
    }

    /// Compares the stored counts with the references, raises those that are too low, and answers the stretches in which
    /// some are too high.
    fn compare_counts(&mut self, anew: bool, can_write_anew: bool) -> Result<Vec<u64>> {
        let geometry = self.header.geometry;
        let per_block = geometry.refcount_block_entries();
        let file_clusters = geometry.round_up(self.file.size()) / geometry.cluster_size();
        let mut stretches = self.walked.references.stretches(per_block);
        for (at, offset) in self.walked.stored.table().iter().enumerate().filter(|(_, offset)| **offset != 0) {
            if !self.holes.cover(self.file, *offset, geometry.cluster_size())? {
                stretches.entry(at as u64).or_insert(0);
            }
        }
        let lowers = self.storage.is_some() && !self.walked.incomplete;
        let mut too_high = Vec::new();
        let mut last_in_use = 0;
        for stretch in stretches.into_keys() {
            let mut raised = Vec::new();
            let mut high = false;
            for cluster in stretch * per_block..((stretch + 1) * per_block).min(file_clusters) {
                let (stored, counted) =
                    (self.walked.stored.get(self.file, cluster)?, self.walked.references.count(cluster));
                if counted > 0 || (stored > 0 && !lowers) {
                    last_in_use = cluster;
                }
                if stored == counted {
                    continue;
                }
                let fits = counted <= geometry.refcount_max();
                let mended = match (self.storage, anew) {
                    (None, _) => false,
                    (Some(_), true) => can_write_anew && fits,
                    (Some(_), false) => fits && (counted > stored || lowers),
                };
                self.report.add(count_finding(cluster * geometry.cluster_size(), stored, counted, mended));
                high |= stored > counted;
                if mended && !anew && counted > stored {
                    raised.push((cluster, counted));
                }
            }
            if let Some(storage) = self.storage {
                self.walked.stored.set_all(storage, &raised)?;
            }
            if high {
                too_high.push(stretch);
            }
        }
        self.report.image_end_offset = (last_in_use + 1) * geometry.cluster_size();
        Ok(too_high)
    }

    fn lower(&mut self, storage: &dyn Storage, stretches: Vec<u64>) -> Result<()> {
        if self.walked.incomplete {
            return Ok(());
        }
        let geometry = self.header.geometry;
        let per_block = geometry.refcount_block_entries();
        let file_clusters = geometry.round_up(self.file.size()) / geometry.cluster_size();
        for stretch in stretches {
            let mut lowered = Vec::new();
            for cluster in stretch * per_block..((stretch + 1) * per_block).min(file_clusters) {
                let counted = self.walked.references.count(cluster);
                if self.walked.stored.get(self.file, cluster)? > counted {
                    lowered.push((cluster, counted));
                }
            }
            self.walked.stored.set_all(storage, &lowered)?;
        }
        Ok(())
    }

    fn write_anew(&mut self) -> Result<()> {
        let Some(storage) = self.storage else { return Ok(()) };
        self.walked.forget_refcount_structures(self.header)?;
        write_anew(storage, self.header, &self.walked.references)?;
        // What was wrong with the old blocks went with them.
        self.report.corruptions_fixed += self.walked.unusable_blocks;
        for finding in
            self.report.findings.iter_mut().filter(|finding| finding.message.starts_with("refcount table entry"))
        {
            finding.fixed = true;
        }
        self.report.image_end_offset = storage.size();
        Ok(())
    }

    /// The count of the cluster at `offset` that its flag must agree with: the one that stands when all is done.
    fn final_count(&mut self, offset: u64, repaired: bool) -> Result<u64> {
        let cluster = offset >> self.header.geometry.cluster_bits;
        let counted = self.walked.references.count(cluster);
        if repaired && !self.walked.incomplete {
            return Ok(counted);
        }
        let stored = self.walked.stored.get(self.file, cluster)?;
        Ok(if repaired { stored.max(counted) } else { stored })
    }

    fn check_l2_flags(&mut self, table: L2Reference, repaired: bool) -> Result<()> {
        let geometry = self.header.geometry;
        let words = geometry.l2_entry_size() / 8;
        for (place, descriptor) in read_numbers(self.file, &mut self.holes, table.offset, geometry.cluster_size() / 8)?
        {
            let host = descriptor & entry::OFFSET;
            if place % words != 0
                || descriptor & entry::COMPRESSED != 0
                || !host.is_multiple_of(geometry.cluster_size())
            {
                continue;
            }
            if host == 0 && !self.header.has_data_file() {
                continue;
            }
            // Clusters of an external data file are nobody else's.
            let count = if self.header.has_data_file() { 1 } else { self.final_count(host, repaired)? };
            let no_data = self.header.has_data_file() && host == 0 && descriptor & entry::COPIED == 0;
            if !no_data {
                let what = format!("L2 table at {:#x}, entry {}", table.offset, place / words);
                self.check_flag(&what, table.offset + place * 8, descriptor, count, repaired)?;
            }
        }
        Ok(())
    }

    fn check_l1_flags(&mut self, repaired: bool) -> Result<()> {
        let l1 = self.header.l1;
        let cluster_size = self.header.geometry.cluster_size();
        for (place, descriptor) in read_numbers(self.file, &mut self.holes, l1.offset, l1.entries)? {
            let offset = descriptor & entry::OFFSET;
            if offset != 0 && offset.is_multiple_of(cluster_size) {
                let count = self.final_count(offset, repaired)?;
                self.check_flag(
                    &format!("L1 table, entry {place}"),
                    l1.offset + place * 8,
                    descriptor,
                    count,
                    repaired,
                )?;
            }
        }
        Ok(())
    }

    /// Checks that the COPIED flag of the entry at byte `place` says whether its cluster's count is exactly one.
    fn check_flag(&mut self, what: &str, place: u64, descriptor: u64, count: u64, repaired: bool) -> Result<()> {
        let copied = descriptor & entry::COPIED != 0;
        if copied == (count == 1) {
            return Ok(());
        }
        let fixed = repaired && self.storage.is_some();
        if let Some(storage) = self.storage.filter(|_| fixed) {
            storage.write_at(&(descriptor ^ entry::COPIED).to_be_bytes(), place)?;
        }
        let state = if copied { "is set" } else { "is not set" };
        let message = format!("{what}: the COPIED flag of {descriptor:#018x} {state} and the count is {count}");
        self.report.add(Finding { kind: FindingKind::Corruption, message, fixed });
        Ok(())
    }
}

fn count_finding(offset: u64, stored: u64, counted: u64, fixed: bool) -> Finding {
    let kind = if stored > counted { FindingKind::Leak } else { FindingKind::Corruption };
    let message = format!("cluster at {offset:#x}: the refcount is {stored}, there are {counted} references");
    Finding { kind, message, fixed }
}

/// A property of any bytes: checking them answers or fails, and mending what was found leaves nothing that a second
/// mending would find and could mend.
#[doc(hidden)]
pub fn fuzz_check(bytes: &[u8]) {
    use std::sync::Arc;

    use transload_block::Memory;

    use crate::{ReferenceGate, Source};

    let gate = ReferenceGate::Deny;
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes.to_vec()));
    let run = |repair| check(CheckRequest { source: Source::writable(Arc::clone(&storage)), gate: &gate, repair });
    let Ok(found) = run(false) else { return };
    assert!(found.corruptions_fixed == 0 && found.leaks_fixed == 0, "a check without repair mends nothing");
    let Ok(mended) = run(true) else { return };
    let Ok(again) = run(true) else { return };
    if mended.is_clean() {
        assert!(again.findings.is_empty(), "mended, and still: {:?}", again.findings.first());
    }
}
