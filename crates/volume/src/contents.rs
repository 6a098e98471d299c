//! What a disk holds at the top: a partition table, or something that has the disk to itself.

use transload_block::{BlockRead, Error, ErrorKind, Result, is_all_zero};

use crate::gpt::{self, Guard, Read};
use crate::mbr::{self, Mbr, PROTECTIVE};
use crate::table::Table;
use crate::{Finding, Kind, Partition, Signature, foreign, signature};

/// What a disk holds.
#[derive(Clone, Debug)]
pub enum Contents {
    /// A partition table.
    Table(Table),
    /// No table: a filesystem or another thing with a signature that begins with the disk's first bytes, or nothing that
    /// is known.
    Whole(Option<Signature>),
}

/// How a disk is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadSettings {
    /// The size of the sectors that its table counts in, 512 or 4096 bytes: found out where it is not given, as far as a table
    /// tells.
    pub sector_size: Option<u32>,
}

impl Contents {
    /// Reads what `device` holds. The table that a guest would use is read: that of a GPT behind a guard, else an MBR, else
    /// a GPT whose guard is gone.
    ///
    /// # Errors
    /// `Corrupt` when both copies of a GPT are damaged; `Unsupported` for a table of another kind, which is named; what
    /// the device answers.
    pub fn read(device: &dyn BlockRead, settings: ReadSettings) -> Result<Self> {
        let ReadSettings { sector_size } = settings;
        let mut sector = vec![0; 512];
        if device.size() < sector.len() as u64 {
            return Ok(Self::Whole(None));
        }
        device.read_at(&mut sector, 0)?;
        let record = mbr::read(device, &sector, sector_size.unwrap_or(512))?;
        let entries: Vec<u8> = record.as_ref().map(Mbr::kinds).unwrap_or_default();
        if entries.contains(&PROTECTIVE) {
            return Self::behind_guard(device, sector_size, &entries);
        }
        let found = signature::probe(device)?;
        // The boot sector of a filesystem ends with 55 AA as well, and may even have a table in it that leads back to itself.
        let leads_back =
            record.as_ref().is_some_and(|record| record.partitions().iter().any(|entry| entry.range.start == 0));
        let is_boot_sector = found.as_ref().is_some_and(|found| found.is_boot_sector() || leads_back);
        if let Some(mut record) = record.filter(|_| !is_boot_sector && !entries.is_empty()) {
            if gpt::has_header(device)? {
                record.note(Finding::warning("there is the header of a GPT as well, which the MBR does not guard"));
            }
            for partition in record.partitions() {
                if let Some(text) = inner(&partition) {
                    record.note(Finding::warning(text));
                }
            }
            return Ok(Self::Table(Table::Mbr(record)));
        }
        let unguarded = if is_boot_sector { Read::Absent } else { gpt::read(device, sector_size, Guard::None)? };
        match unguarded {
            Read::Found(mut gpt) => {
                gpt.note(Finding::warning("the first sector has no entry that guards the GPT (a protective MBR)"));
                Ok(Self::Table(Table::Gpt(gpt)))
            }
            Read::Broken(error) if found.is_none() => Err(error),
            _ => Self::without_table(device, &sector, found),
        }
    }

    /// What stands behind a record that guards a GPT.
    fn behind_guard(device: &dyn BlockRead, sector_size: Option<u32>, entries: &[u8]) -> Result<Self> {
        match gpt::read(device, sector_size, Guard::Protective)? {
            Read::Found(mut gpt) => {
                let others = entries.len() - 1;
                if others > 0 {
                    let plural = if others == 1 { "y" } else { "ies" };
                    let text =
                        format!("the MBR is a hybrid with {others} entr{plural} of its own, which are not looked at");
                    gpt.note(Finding::warning(text));
                }
                for partition in gpt.partitions() {
                    if let Some(text) = inner(&partition) {
                        gpt.note(Finding::warning(text));
                    }
                }
                Ok(Self::Table(Table::Gpt(gpt)))
            }
            Read::Broken(error) => Err(error),
            Read::Absent => {
                Err(Error::new(ErrorKind::Corrupt, "the MBR guards a GPT, and neither copy of that is there"))
            }
        }
    }

    /// A disk without a table of ours: another maker's, an empty MBR, or a filesystem of the whole disk.
    fn without_table(device: &dyn BlockRead, sector: &[u8], found: Option<Signature>) -> Result<Self> {
        if found.is_none() {
            if let Some(name) = foreign::table(device)? {
                let text = format!("the disk has {name}, whose partitions are not read");
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            // Boot code and an empty table, or the bare magic.
            let record = if is_all_zero(&sector[446..510]) { mbr::read(device, sector, 512)? } else { None };
            if let Some(record) = record {
                return Ok(Self::Table(Table::Mbr(record)));
            }
        }
        Ok(Self::Whole(found))
    }
}

/// What there is to say of a partition that has others in it which are not read.
fn inner(partition: &Partition) -> Option<String> {
    let number = partition.number;
    match (partition.kind, partition.kind.short_name()?) {
        (Kind::Mbr(_), name @ ("freebsd" | "openbsd" | "netbsd")) => Some(format!(
            "partition {number} is a slice of {name} with a disklabel of its own, whose partitions are not read"
        )),
        (_, "ldm") => {
            Some(format!("partition {number} belongs to a dynamic disk of Windows, whose volumes are not read"))
        }
        _ => None,
    }
}
