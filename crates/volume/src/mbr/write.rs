//! Writing a master boot record and its chain.

use transload_block::{BlockWrite, Error, ErrorKind, Result};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromZeros, IntoBytes};

use super::{Entry, Logical, MAGIC, Mbr, PROTECTIVE, Record, is_extended};
use crate::table::read_sector;

/// Where the entries begin: what is before them is boot code, which stays.
const ENTRIES: usize = 446;

impl Mbr {
    /// Writes the table: the chain from its end, so that no link leads to what is not there yet, then the first sector.
    pub(crate) fn write(&self, device: &dyn BlockWrite) -> Result<()> {
        self.check_editable()?;
        let records = self.chain();
        for (at, record) in records.iter().rev() {
            let start = at * u64::from(self.sector_size);
            let mut sector = read_sector(device, self.sector_size, *at)?.ok_or_else(|| {
                Error::new(ErrorKind::OutOfRange, format!("the extended boot record at sector {at} is behind the disk"))
            })?;
            if sector[510..512] != MAGIC.to_le_bytes() {
                sector.fill(0);
            }
            sector[ENTRIES..512].copy_from_slice(&record.as_bytes()[ENTRIES..]);
            device.write_at(&sector, start)?;
        }
        if !records.is_empty() {
            device.flush()?;
        }
        device.write_at(self.record.as_bytes(), 0)?;
        device.flush()
    }

    /// The extended boot records, in order, with their sectors. The first one stands at the start of the extended partition,
    /// with or without a partition of its own.
    fn chain(&self) -> Vec<(u64, Record)> {
        let Some(extended) = self.record.entries.iter().find(|entry| is_extended(entry.kind)) else {
            return Vec::new();
        };
        let base = u64::from(extended.start.get());
        let mut links: Vec<(u64, Option<&Logical>)> =
            self.logicals.iter().map(|logical| (logical.record, Some(logical))).collect();
        if links.first().is_none_or(|(record, _)| *record != base) {
            links.insert(0, (base, None));
        }
        let next = links.iter().skip(1).map(Some).chain([None]);
        let records = links.iter().zip(next).map(|((at, logical), next)| {
            let mut record = empty();
            if let Some(logical) = logical {
                record.entries[0] = relative(logical, *at);
            }
            if let Some((next, Some(logical))) = next {
                // A link covers its record and its partition.
                let sectors = low_bits(logical.start + u64::from(logical.sectors) - next);
                record.entries[1] = Entry::new(0, 0x05, low_bits(next - base), sectors, *next);
            }
            (*at, record)
        });
        records.collect()
    }
}

/// The first entry of the record at sector `at`.
fn relative(logical: &Logical, at: u64) -> Entry {
    let status = if logical.active { 0x80 } else { 0 };
    Entry::new(status, logical.kind, low_bits(logical.start - at), logical.sectors, logical.start)
}

/// A distance inside an extended partition, which has at most 32 bits of sectors.
fn low_bits(sectors: u64) -> u32 {
    u32::try_from(sectors).expect("an editor keeps logical partitions inside the extended one")
}

/// A record with nothing in it.
pub(super) fn empty() -> Record {
    Record { magic: U16::new(MAGIC), ..Record::new_zeroed() }
}

/// Makes `record` the one that guards a GPT on a disk of `sectors`: its boot code stays, and so do the other entries of a
/// hybrid one.
pub(crate) fn protective(record: &mut Record, sectors: u64) {
    let covered = u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX);
    // UEFI 2.10, table 5.4: sector 1 in cylinders, and the last one that they can name.
    let guard = Entry {
        status: 0,
        first_chs: [0, 2, 0],
        kind: PROTECTIVE,
        last_chs: [0xff, 0xff, 0xff],
        start: U32::new(1),
        sectors: U32::new(covered),
    };
    record.magic = U16::new(MAGIC);
    match record.entries.iter_mut().find(|entry| entry.kind == PROTECTIVE) {
        // In a hybrid table it may guard the GPT alone, up to the first partition that is there twice.
        Some(entry) if entry.start.get() == 1 && entry.sectors.get() < 64 => {}
        Some(entry) => *entry = guard,
        None => record.entries = [guard, Entry::default(), Entry::default(), Entry::default()],
    }
}
