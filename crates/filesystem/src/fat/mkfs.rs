//! Making FAT12, FAT16 and FAT32.

use transload_block::{BlockWrite, Error, ErrorKind, Result, ZeroMode};

use crate::fields::invalid;
use crate::make::{FatBits, MakeSettings};

const SECTOR: u64 = 512;
const ROOT_ENTRIES: u16 = 512;
/// The most clusters of FAT12 and of FAT16.
const MOST_12: u64 = 4084;
const MOST_16: u64 = 65_524;
const MOST_32: u64 = 0x0FFF_FFF5;

/// What the layout follows from, in sectors.
#[derive(Debug)]
struct Plan {
    bits: FatBits,
    sectors: u64,
    reserved: u64,
    per_cluster: u64,
    table: u64,
    clusters: u64,
}

impl Plan {
    fn new(size: u64, asked: Option<FatBits>) -> Result<Self> {
        let sectors = (size / SECTOR).min(u32::MAX.into());
        let bits = asked.unwrap_or(match size {
            0..0x40_0000 => FatBits::Twelve,
            0x40_0000..0x2000_0000 => FatBits::Sixteen,
            _ => FatBits::ThirtyTwo,
        });
        let (least, most, reserved, first) = match bits {
            FatBits::Twelve => (1, MOST_12, 1, 1),
            FatBits::Sixteen => (MOST_12 + 1, MOST_16, 1, 4),
            FatBits::ThirtyTwo => (MOST_16 + 1, MOST_32, 32, preferred(size)),
        };
        // From the size that is usual on; smaller where that leaves too few clusters, larger where it leaves too many.
        let all = (0..8).map(|log| 1 << log);
        let (below, above): (Vec<u64>, Vec<u64>) = all.partition(|count| *count < first);
        for per_cluster in above.into_iter().chain(below.into_iter().rev()) {
            let plan = Self::with(bits, sectors, reserved, per_cluster);
            if (least..=most).contains(&plan.clusters) {
                return Ok(plan);
            }
        }
        let name = match bits {
            FatBits::Twelve => "FAT12",
            FatBits::Sixteen => "FAT16",
            FatBits::ThirtyTwo => "FAT32",
        };
        let text = format!("{name} needs {least} to {most} clusters, which a disk of {size} bytes does not give");
        Err(Error::new(ErrorKind::TooLarge, text))
    }

    fn with(bits: FatBits, sectors: u64, reserved: u64, per_cluster: u64) -> Self {
        let mut plan = Self { bits, sectors, reserved, per_cluster, table: 1, clusters: 0 };
        loop {
            let data = sectors.saturating_sub(reserved + 2 * plan.table + plan.root_sectors());
            plan.clusters = data / per_cluster;
            let bytes = match bits {
                FatBits::Twelve => ((plan.clusters + 2) * 3).div_ceil(2),
                FatBits::Sixteen => (plan.clusters + 2) * 2,
                FatBits::ThirtyTwo => (plan.clusters + 2) * 4,
            };
            // A longer table leaves fewer clusters: it grows until it is long enough, and no further.
            if bytes.div_ceil(SECTOR) <= plan.table {
                return plan;
            }
            plan.table = bytes.div_ceil(SECTOR).min(plan.table + (bytes.div_ceil(SECTOR) - plan.table).div_ceil(2));
        }
    }

    fn root_sectors(&self) -> u64 {
        if self.bits == FatBits::ThirtyTwo { 0 } else { u64::from(ROOT_ENTRIES) * 32 / SECTOR }
    }

    fn data(&self) -> u64 {
        self.reserved + 2 * self.table + self.root_sectors()
    }

    fn boot_sector(&self, settings: &MakeSettings, label: &[u8; 11]) -> [u8; 512] {
        let is_32 = self.bits == FatBits::ThirtyTwo;
        let mut raw = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        let word = |value: u64| u16::try_from(value).unwrap_or(0).to_le_bytes();
        let long = |value: u64| u32::try_from(value).unwrap_or(0).to_le_bytes();
        // Whoever boots from it is told by the firmware that there is nothing to boot.
        let code = if is_32 { 0x5A } else { 0x3E };
        put(0, &[0xEB, code - 2, 0x90]);
        put(code.into(), &[0xCD, 0x18, 0xEB, 0xFE]);
        put(3, b"MSWIN4.1");
        put(0x0B, &word(SECTOR));
        put(0x0D, &[u8::try_from(self.per_cluster).unwrap_or(0)]);
        put(0x0E, &word(self.reserved));
        put(0x10, &[2]);
        put(0x11, &word(if is_32 { 0 } else { ROOT_ENTRIES.into() }));
        let short = !is_32 && self.sectors <= u16::MAX.into();
        put(0x13, &word(if short { self.sectors } else { 0 }));
        put(0x15, &[0xF8]);
        put(0x16, &word(if is_32 { 0 } else { self.table }));
        put(0x18, &word(63));
        put(0x1A, &word(255));
        put(0x1C, &settings.hidden_sectors.to_le_bytes());
        put(0x20, &long(if short { 0 } else { self.sectors }));
        let name: &[u8; 8] = match self.bits {
            FatBits::Twelve => b"FAT12   ",
            FatBits::Sixteen => b"FAT16   ",
            FatBits::ThirtyTwo => b"FAT32   ",
        };
        let base = if is_32 { 0x40 } else { 0x24 };
        if is_32 {
            put(0x24, &long(self.table));
            put(0x2C, &long(2));
            put(0x30, &word(1));
            put(0x32, &word(6));
        }
        put(base, &[0x80, 0, 0x29]);
        put(base + 3, &settings.uuid[..4]);
        put(base + 7, label);
        put(base + 18, name);
        put(510, &[0x55, 0xAA]);
        raw
    }

    /// The sector that counts free clusters. The root folder has the first one.
    fn information(&self) -> [u8; 512] {
        let mut raw = [0; 512];
        let free = u32::try_from(self.clusters - 1).unwrap_or(0);
        for (at, value) in [(0, 0x4161_5252), (484, 0x6141_7272), (488, free), (492, 2), (508, 0xAA55_0000)] {
            raw[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        raw
    }
}

/// The sectors of a cluster that Windows chooses for FAT32.
const fn preferred(size: u64) -> u64 {
    match size {
        0..0x1040_0000 => 1,
        0x1040_0000..0x2_0000_0000 => 8,
        0x2_0000_0000..0x4_0000_0000 => 16,
        0x4_0000_0000..0x8_0000_0000 => 32,
        _ => 64,
    }
}

/// Makes an empty filesystem that fills `device`.
pub(crate) fn make(device: &dyn BlockWrite, bits: Option<FatBits>, settings: &MakeSettings) -> Result<()> {
    let label = label(&settings.label)?;
    let plan = Plan::new(device.size(), bits)?;
    let end = (plan.data() + plan.per_cluster) * SECTOR;
    device.write_zeroes_at(0..end.max(128 << 10).min(device.size()), ZeroMode::Unmap)?;
    let boot = plan.boot_sector(settings, &label);
    device.write_at(&boot, 0)?;
    let head: &[u8] = match plan.bits {
        FatBits::Twelve => &[0xF8, 0xFF, 0xFF],
        FatBits::Sixteen => &[0xF8, 0xFF, 0xFF, 0xFF],
        FatBits::ThirtyTwo => &[0xF8, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x0F],
    };
    if plan.bits == FatBits::ThirtyTwo {
        let information = plan.information();
        for (at, sector) in [(1, &information), (6, &boot), (7, &information)] {
            device.write_at(sector, at * SECTOR)?;
        }
    }
    for table in 0..2 {
        device.write_at(head, (plan.reserved + table * plan.table) * SECTOR)?;
    }
    if !settings.label.is_empty() {
        let root = if plan.bits == FatBits::ThirtyTwo { plan.data() } else { plan.reserved + 2 * plan.table };
        let (date, clock, _) = super::write::dos_time(settings.now);
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(&label);
        entry[11] = super::dir::attribute::VOLUME;
        entry[22..24].copy_from_slice(&clock.to_le_bytes());
        entry[24..26].copy_from_slice(&date.to_le_bytes());
        device.write_at(&entry, root * SECTOR)?;
    }
    device.flush()
}

/// A label in the form of the disk.
fn label(text: &str) -> Result<[u8; 11]> {
    if text.is_empty() {
        return Ok(*b"NO NAME    ");
    }
    let upper = text.to_uppercase();
    let sound = upper.is_ascii() && upper.bytes().all(|byte| byte >= b' ' && !br#""*+,./:;<=>?[\]|"#.contains(&byte));
    if !sound || upper.len() > 11 {
        return Err(invalid(format!(
            "\"{text}\" cannot be the label of a FAT filesystem: eleven letters, digits, blanks"
        )));
    }
    let mut label = [b' '; 11];
    label[..upper.len()].copy_from_slice(upper.as_bytes());
    Ok(label)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use transload_block::{BlockRead, Memory};

    use super::*;
    use crate::contract::{FileSystem, Timestamp};

    #[test]
    fn every_size_gives_a_filesystem_that_reads_as_what_it_is() {
        let settings =
            MakeSettings { label: "esp".into(), uuid: [1; 16], now: Timestamp::default(), hidden_sectors: 2048 };
        for (size, bits, version) in [
            (64 << 10, None, "FAT12"),
            (1_474_560, None, "FAT12"),
            (4 << 20, None, "FAT16"),
            (64 << 20, None, "FAT16"),
            (1 << 30, None, "FAT32"),
            (36 << 20, Some(FatBits::ThirtyTwo), "FAT32"),
            (512 << 20, Some(FatBits::Sixteen), "FAT16"),
        ] {
            let disk = Memory::new(size);
            make(&disk, bits, &settings).unwrap();
            let disk: Arc<dyn BlockRead> = Arc::new(disk);
            let filesystem: Arc<dyn FileSystem> = crate::open(disk).unwrap();
            let info = filesystem.info();
            assert_eq!((info.version.as_str(), info.label.as_str()), (version, "ESP"), "{size}");
        }
        assert_eq!(Plan::new(1 << 20, Some(FatBits::ThirtyTwo)).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
