//! Reading a master boot record and its chain: the only file that sees their values unchecked.

use std::collections::BTreeSet;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::{Entry, Logical, MAGIC, MAX_LOGICAL, Mbr, Record, is_extended};
use crate::Finding;
use crate::table::read_sector;

fn record(sector: &[u8]) -> Option<Record> {
    Record::read_from_prefix(sector).ok().map(|(record, _)| record)
}

/// Reads the table that begins with `sector`, the first of `device`; `None` when it is none: without its magic, or with
/// entries whose status no partition has, as in the boot sector of a filesystem.
pub(crate) fn read(device: &dyn BlockRead, sector: &[u8], sector_size: u32) -> Result<Option<Mbr>> {
    let Some(record) = record(sector).filter(|record| record.magic.get() == MAGIC) else { return Ok(None) };
    if record.entries.iter().any(|entry| !matches!(entry.status, 0 | 0x80)) {
        return Ok(None);
    }
    let mut chain = Chain { device, sector_size, logicals: Vec::new(), findings: Vec::new() };
    let mut is_whole = true;
    for (number, entry) in
        (1_u32..).zip(&record.entries).filter(|(_, entry)| is_extended(entry.kind) && !entry.is_unused())
    {
        is_whole &= chain.follow(number, entry)?;
    }
    let Chain { logicals, findings, .. } = chain;
    // Records of several partitions and several extended partitions are read, but nothing makes them, and neither do we.
    is_whole &= logicals.windows(2).all(|pair| pair[0].record != pair[1].record);
    is_whole &= record.entries.iter().filter(|entry| is_extended(entry.kind) && !entry.is_unused()).count() <= 1;
    let mut mbr = Mbr { sector_size, record: Box::new(record), logicals, findings, is_whole };
    mbr.check(device.size());
    Ok(Some(mbr))
}

/// The walk along the chains.
struct Chain<'a> {
    device: &'a dyn BlockRead,
    sector_size: u32,
    logicals: Vec<Logical>,
    findings: Vec<Finding>,
}

impl Chain<'_> {
    /// Follows the chain in the extended partition `extended`, and tells whether it was sound to its end.
    fn follow(&mut self, number: u32, extended: &Entry) -> Result<bool> {
        let base = u64::from(extended.start.get());
        let end = base + u64::from(extended.sectors.get());
        let mut seen = BTreeSet::new();
        let mut at = base;
        loop {
            if !seen.insert(at) {
                return Ok(self.broken(format!("the chain of extended partition {number} comes back to sector {at}")));
            }
            if seen.len() > MAX_LOGICAL || self.logicals.len() > MAX_LOGICAL {
                return Ok(
                    self.broken(format!("the chain of extended partition {number} has more than {MAX_LOGICAL} links"))
                );
            }
            let sector = read_sector(self.device, self.sector_size, at)?;
            let Some(record) = sector.as_deref().and_then(record) else {
                return Ok(self.broken(format!("the extended boot record at sector {at} stands behind the disk's end")));
            };
            if record.magic.get() != MAGIC {
                // An extended partition that nothing was ever put into has no record.
                if at == base && sector.is_some_and(|sector| transload_block::is_all_zero(&sector)) {
                    return Ok(true);
                }
                return Ok(self.broken(format!("the extended boot record at sector {at} does not end with 55 AA")));
            }
            self.collect(&record, at, base..end);
            let Some(link) = record.entries.iter().find(|entry| is_extended(entry.kind) && !entry.is_unused()) else {
                return Ok(true);
            };
            let next = base + u64::from(link.start.get());
            if next >= end {
                let text = format!(
                    "the extended boot record at sector {at} links to sector {next}, behind the extended partition's end at {end}"
                );
                return Ok(self.broken(text));
            }
            at = next;
        }
    }

    /// Takes the partitions of the record at sector `at`. Linux looks at all four entries, and takes the last two, which
    /// nothing writes, only where they lie inside.
    fn collect(&mut self, record: &Record, at: u64, extended: std::ops::Range<u64>) {
        for (slot, entry) in record.entries.iter().enumerate() {
            if entry.is_unused() || is_extended(entry.kind) {
                continue;
            }
            let start = at + u64::from(entry.start.get());
            let end = start + u64::from(entry.sectors.get());
            let is_inside = start > at && end <= extended.end;
            if !is_inside && slot >= 2 {
                continue;
            }
            let number = self.logicals.len() + 5;
            if !is_inside {
                self.findings.push(Finding::damage(format!(
                    "logical partition {number} occupies the sectors {start} to {end}, outside those of its extended \
                     partition, {at} to {}",
                    extended.end
                )));
            }
            let (sectors, kind, active) = (entry.sectors.get(), entry.kind, entry.status & 0x80 != 0);
            self.logicals.push(Logical { record: at, start, sectors, kind, active });
        }
    }

    fn broken(&mut self, text: String) -> bool {
        self.findings.push(Finding::damage(text));
        false
    }
}
