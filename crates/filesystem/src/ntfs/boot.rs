//! The boot sector of NTFS, checked.

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};

use crate::fields::Fields;

/// Where things are.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    pub(super) cluster_size: u64,
    /// Bytes of a record of the master file table.
    pub(super) record_size: usize,
    /// The cluster in which that table begins.
    pub(super) table: u64,
    pub(super) serial: u64,
    pub(super) size: u64,
}

impl Boot {
    pub(super) fn read(device: &dyn BlockRead) -> Result<Self> {
        let bytes = device.read_vec(0, device.size().min(512))?;
        let fields = Fields::new(&bytes, "NTFS boot sector");
        if fields.bytes(3, 8)? != b"NTFS    " {
            return Err(Error::new(ErrorKind::NotThisFormat, "NTFS: no boot sector"));
        }
        let sector = u64::from(fields.le16(0x0B)?);
        if !sector.is_power_of_two() || !(256..=4096).contains(&sector) {
            return Err(fields.corrupt(format!("sectors of {sector} bytes")));
        }
        // From 0x80 on it is the negative logarithm of the number of sectors.
        let per_cluster = match fields.u8(0x0D)? {
            count @ 1..=0x80 if count.is_power_of_two() => u64::from(count),
            log @ 0xF4..=0xFF => 1 << (0x100 - u64::from(log)),
            other => return Err(fields.corrupt(format!("clusters of {other} sectors"))),
        };
        let cluster_size = sector * per_cluster;
        let record_size = match fields.u8(0x40)? {
            log @ 0xE1..=0xFF => 1_u64 << (0x100 - u64::from(log)),
            count => u64::from(count) * cluster_size,
        };
        let allowed = record_size.is_power_of_two() && (512..=64 << 10).contains(&record_size);
        if cluster_size > 2 << 20 || !allowed {
            return Err(fields.corrupt(format!("clusters of {cluster_size} bytes and records of {record_size}")));
        }
        Ok(Self {
            cluster_size,
            record_size: usize::try_from(record_size).unwrap_or_default(),
            table: fields.le64(0x30)?,
            serial: fields.le64(0x48)?,
            size: fields.le64(0x28)?.saturating_mul(sector),
        })
    }
}
