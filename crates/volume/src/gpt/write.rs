//! Writing a GUID partition table: both copies, each whole before the other one is touched.

use transload_block::{BlockWrite, Result, ZeroMode};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use super::Gpt;
use super::layout::{Header, SIGNATURE, header_crc};
use crate::mbr::{Record, protective};
use crate::table::read_sector;

impl Gpt {
    /// Writes the backup, then the primary copy, then the record that guards them, and clears headers that are left where
    /// none belongs any more.
    pub(crate) fn write(&self, device: &dyn BlockWrite) -> Result<()> {
        let unit = u64::from(self.sector_size);
        let last = device.size() / unit - 1;
        self.write_copy(device, last, 1, last - self.array_sectors())?;
        device.flush()?;
        self.write_copy(device, 1, last, 2)?;
        self.write_guard(device, last + 1)?;
        device.flush()?;
        for lba in self.former.iter().filter(|lba| **lba != 1 && **lba != last) {
            self.clear_header(device, *lba)?;
        }
        device.flush()
    }

    /// Writes the copy whose header stands at `own`, and its entries at `entries`.
    fn write_copy(&self, device: &dyn BlockWrite, own: u64, other: u64, entries: u64) -> Result<()> {
        let unit = u64::from(self.sector_size);
        let mut header = Header {
            own_lba: U64::new(own),
            other_lba: U64::new(other),
            entries_lba: U64::new(entries),
            entries_crc: U32::new(crc32fast::hash(&self.array)),
            ..self.header
        };
        let mut sector = vec![0; self.sector_size as usize];
        let size = header.as_bytes().len();
        // A longer header is read and written back as one of the bytes that we know.
        header.header_size = U32::new(super::layout::HEADER_SIZE);
        sector[..size].copy_from_slice(header.as_bytes());
        header.header_crc = U32::new(header_crc(&sector, size));
        sector[..size].copy_from_slice(header.as_bytes());
        let mut array = self.array.clone();
        array.resize(array.len().next_multiple_of(self.sector_size as usize), 0);
        device.write_at(&array, entries * unit)?;
        device.write_at(&sector, own * unit)
    }

    fn write_guard(&self, device: &dyn BlockWrite, sectors: u64) -> Result<()> {
        let mut record = Record::new_zeroed();
        device.read_at(record.as_mut_bytes(), 0)?;
        protective(&mut record, sectors);
        device.write_at(record.as_bytes(), 0)
    }

    /// Clears what is a header of this table at `lba`, unless a partition has the place by now.
    fn clear_header(&self, device: &dyn BlockWrite, lba: u64) -> Result<()> {
        let unit = u64::from(self.sector_size);
        let is_taken = self.partitions().iter().any(|partition| partition.range.contains(&lba.saturating_mul(unit)));
        let sector = read_sector(device, self.sector_size, lba)?;
        let is_ours = |sector: &[u8]| {
            let guid = &sector[56..72];
            sector.starts_with(&SIGNATURE) && guid == self.header.disk_guid
        };
        match sector {
            Some(sector) if !is_taken && is_ours(&sector) => {
                device.write_zeroes_at(lba * unit..(lba + 1) * unit, ZeroMode::KeepAllocated)
            }
            _ => Ok(()),
        }
    }
}

/// Clears every header of a GPT there is on the disk, at its start and at its end.
pub(crate) fn wipe(device: &dyn BlockWrite) -> Result<()> {
    for size in [512_u32, 4096] {
        let unit = u64::from(size);
        let last = (device.size() / unit).checked_sub(1);
        for lba in [Some(1), last].into_iter().flatten() {
            if read_sector(device, size, lba)?.is_some_and(|sector| sector.starts_with(&SIGNATURE)) {
                device.write_zeroes_at(lba * unit..(lba + 1) * unit, ZeroMode::KeepAllocated)?;
            }
        }
    }
    Ok(())
}
