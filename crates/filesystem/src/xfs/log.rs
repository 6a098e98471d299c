//! Whether the log holds changes that were not played back.
//!
//! The log is a ring of sectors that each begin with the number of the round in which they were written. Its head is where the
//! rounds change; a filesystem that was unmounted has a record before the head that says so, and nothing else.

use transload_block::Result;

use super::Xfs;
use crate::fields::Fields;

const SECTOR: u64 = 512;
const RECORD: u32 = 0xFEED_BABE;
/// The longest record, in sectors: 256 KiB and its headers.
const LONGEST: u64 = 520;

impl Xfs {
    /// Whether the last thing in the log is that the filesystem was unmounted. An external log is not looked at.
    pub(super) fn is_log_clean(&self) -> Result<bool> {
        let superblock = &self.superblock;
        if superblock.log_start == 0 {
            return Ok(true);
        }
        let start = superblock.block_offset(superblock.log_start)?;
        let sectors = u64::from(superblock.log_blocks) * u64::from(superblock.block_size) / SECTOR;
        if sectors == 0 {
            return Ok(true);
        }
        let sector = |number: u64| self.cache.read_vec(start + number % sectors * SECTOR, 512);
        let head = self.log_head(sectors, &sector)?;
        for back in 1..=LONGEST.min(sectors) {
            let at = (head + sectors - back) % sectors;
            let bytes = sector(at)?;
            let fields = Fields::new(&bytes, "XFS log record");
            if fields.be32(0)? != RECORD {
                continue;
            }
            // The record has to end where the head is, and to consist of one operation: that of unmounting.
            let (length, operations) = (u64::from(fields.be32(12)?).div_ceil(SECTOR), fields.be32(40)?);
            let headers = u64::from(fields.be32(320)?).div_ceil(32 << 10).max(1);
            let headers = if fields.be32(8)? & 2 != 0 { headers } else { 1 };
            if operations != 1 || (at + headers + length) % sectors != head {
                return Ok(false);
            }
            let operation = sector(at + headers)?;
            const UNMOUNT: u8 = 0x20;
            return Ok(operation[9] & UNMOUNT != 0);
        }
        // A log in which nothing was ever written.
        Ok(sector(0)?.iter().all(|byte| *byte == 0))
    }

    /// The first sector that was not written in the latest round.
    fn log_head(&self, sectors: u64, sector: &dyn Fn(u64) -> Result<Vec<u8>>) -> Result<u64> {
        let round = |number: u64| -> Result<u32> {
            let bytes = sector(number)?;
            let fields = Fields::new(&bytes, "XFS log");
            // The header of a record has its mark first.
            if fields.be32(0)? == RECORD { fields.be32(4) } else { fields.be32(0) }
        };
        let (first, last) = (round(0)?, round(sectors - 1)?);
        if first == last {
            return Ok(0);
        }
        // Rounds are larger before the head and smaller behind it.
        let (mut low, mut high) = (0, sectors - 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if round(middle)? == first { low = middle } else { high = middle }
        }
        Ok(high)
    }
}
