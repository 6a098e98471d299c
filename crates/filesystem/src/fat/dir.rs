//! Folders: entries of 32 bytes in the clusters of a chain, or in the fixed place that the root folder of FAT12 and FAT16 has.

use std::ops::ControlFlow;

use transload_block::Result;

use super::name::{self, ENTRY, LongName};
use super::{Fat, ROOT};
use crate::contract::{FileId, FileKind, Metadata, Owner, Timestamp};
use crate::fields::{Fields, corrupt, invalid};

/// The most bytes of a folder: 65536 entries.
pub(super) const LONGEST: u64 = 65_536 * ENTRY as u64;

pub(super) mod attribute {
    pub(crate) const READ_ONLY: u8 = 0x01;
    pub(crate) const VOLUME: u8 = 0x08;
    pub(crate) const FOLDER: u8 = 0x10;
    pub(crate) const ARCHIVE: u8 = 0x20;
    pub(crate) const LONG_NAME: u8 = 0x0F;
}

/// A file's entry as it stands in its folder.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: Vec<u8>,
    pub(super) raw: [u8; ENTRY],
    /// Where the entry stands on the device: the number of the file.
    pub(super) at: u64,
    /// Entries that belong to it, its own and those of the long name before it.
    pub(super) entries: usize,
    /// How many entries of the folder stand before those.
    pub(super) first: usize,
}

impl Slot {
    pub(super) const fn is_folder(&self) -> bool {
        self.raw[11] & attribute::FOLDER != 0
    }
}

/// The first cluster that an entry names; 0 for none.
pub(super) fn first_cluster(raw: &[u8; ENTRY], wide: bool) -> u32 {
    let high = if wide { u32::from(u16::from_le_bytes([raw[20], raw[21]])) << 16 } else { 0 };
    high | u32::from(u16::from_le_bytes([raw[26], raw[27]]))
}

pub(super) fn file_size(raw: &[u8; ENTRY]) -> u32 {
    u32::from_le_bytes([raw[28], raw[29], raw[30], raw[31]])
}

impl Fat {
    /// The pieces of a folder: place on the device and length.
    pub(super) fn folder_pieces(&self, dir: FileId) -> Result<Vec<(u64, u64)>> {
        let (place, length) = self.volume.fixed_root;
        let cluster = match self.folder_cluster(dir)? {
            Some(cluster) => cluster,
            None => return Ok(vec![(place, length.into())]),
        };
        let cluster_size = u64::from(self.volume.cluster_size);
        let chain = self.chain(cluster, LONGEST.div_ceil(cluster_size) + 1)?;
        if !chain.ended {
            return Err(corrupt(format!("FAT: the folder at cluster {cluster} is longer than {LONGEST} bytes")));
        }
        Ok(chain.runs.places().collect())
    }

    /// The first cluster of a folder; `None` for the root of FAT12 and FAT16.
    pub(super) fn folder_cluster(&self, dir: FileId) -> Result<Option<u32>> {
        if dir == ROOT {
            let cluster = self.volume.root_cluster;
            return Ok((cluster != 0).then_some(cluster));
        }
        let raw = self.raw_entry(dir)?;
        if raw[11] & attribute::FOLDER == 0 {
            return Err(invalid(format!("FAT: the entry at {} is no folder", dir.0)));
        }
        match first_cluster(&raw, self.is_wide()) {
            0 => Err(corrupt(format!("FAT: the folder at {} has no cluster", dir.0))),
            cluster => Ok(Some(cluster)),
        }
    }

    pub(super) fn raw_entry(&self, id: FileId) -> Result<[u8; ENTRY]> {
        let mut raw = [0; ENTRY];
        if !id.0.is_multiple_of(ENTRY as u64) || id.0 < self.volume.tables.first().copied().unwrap_or(0) {
            return Err(corrupt(format!("FAT: there is no entry at {}", id.0)));
        }
        self.cache.read(&mut raw, id.0)?;
        if matches!(raw[0], 0 | 0xE5) || raw[11] & attribute::LONG_NAME == attribute::LONG_NAME {
            return Err(corrupt(format!("FAT: the entry at {} is free", id.0)));
        }
        Ok(raw)
    }

    /// Hands out all files and folders of a folder, without `.` and `..`; labels of the volume are passed over.
    pub(super) fn slots(&self, dir: FileId, each: &mut dyn FnMut(Slot) -> ControlFlow<()>) -> Result<()> {
        let (mut long, mut long_entries, mut index) = (LongName::default(), 0, 0_usize);
        for (place, length) in self.folder_pieces(dir)? {
            let bytes = self.cache.read_vec(place, usize::try_from(length).unwrap_or(0))?;
            let (entries, _) = bytes.as_chunks::<ENTRY>();
            for (number, raw) in (0_u64..).zip(entries) {
                let at = place + number * ENTRY as u64;
                let (first, kind) = (raw[0], raw[11]);
                index += 1;
                if first == 0 {
                    return Ok(());
                }
                let deleted = first == 0xE5;
                if !deleted && kind & 0x3F == attribute::LONG_NAME {
                    if first & 0x40 != 0 {
                        long_entries = 0;
                    }
                    long_entries += 1;
                    long.push(raw);
                } else {
                    let found = long.take(&raw[..11]);
                    let extra = if found.is_some() { long_entries } else { 0 };
                    long_entries = 0;
                    if !deleted && kind & attribute::VOLUME == 0 && !is_dots(raw) {
                        let name = found.unwrap_or_else(|| name::short_name(raw));
                        check_name(&name, at)?;
                        let slot = Slot { name, raw: *raw, at, entries: extra + 1, first: index - 1 - extra };
                        if each(slot).is_break() {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The file of this name, by its long or its short one.
    pub(super) fn find(&self, dir: FileId, name: &[u8]) -> Result<Option<Slot>> {
        let mut found = None;
        self.slots(dir, &mut |slot| {
            if name::same(&slot.name, name) || name::same(&name::short_name(&slot.raw), name) {
                found = Some(slot);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    pub(super) fn metadata(&self, raw: &[u8; ENTRY]) -> Result<Metadata> {
        let fields = Fields::new(raw, "FAT entry");
        let is_folder = raw[11] & attribute::FOLDER != 0;
        let read_only = raw[11] & attribute::READ_ONLY != 0;
        let size = if is_folder { 0 } else { u64::from(file_size(raw)) };
        let writable = if is_folder { 0o755 } else { 0o644 };
        let moment = |date: u16, time: u16, hundredths: u8| moment(date, time, hundredths);
        Ok(Metadata {
            kind: if is_folder { FileKind::Directory } else { FileKind::Regular },
            permissions: if read_only { writable & !0o222 } else { writable },
            owner: Owner::default(),
            size,
            allocated: size.next_multiple_of(self.volume.cluster_size.into()),
            links: 1,
            modified: moment(fields.le16(24)?, fields.le16(22)?, 0),
            accessed: moment(fields.le16(18)?, 0, 0),
            changed: None,
            created: moment(fields.le16(16)?, fields.le16(14)?, fields.u8(13)?),
            device: None,
        })
    }
}

fn is_dots(raw: &[u8; ENTRY]) -> bool {
    &raw[..11] == b".          " || &raw[..11] == b"..         "
}

/// A name that is used as one: a separator in it would lead elsewhere.
fn check_name(name: &[u8], at: u64) -> Result<()> {
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(corrupt(format!("FAT: the entry at {at} has the name \"{}\"", name.escape_ascii())));
    }
    Ok(())
}

/// A date and a time as FAT has them, read as UTC; nothing where there is none.
pub(crate) fn moment(date: u16, time: u16, hundredths: u8) -> Option<Timestamp> {
    let (year, month, day) = (1980 + i64::from(date >> 9), i64::from(date >> 5 & 15), i64::from(date & 31));
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let seconds = i64::from(time >> 11) * 3600 + i64::from(time >> 5 & 63) * 60 + i64::from(time & 31) * 2;
    let seconds = days(year, month, day) * 86_400 + seconds + i64::from(hundredths / 100);
    Some(Timestamp { seconds, nanos: u32::from(hundredths % 100) * 10_000_000 })
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
pub(crate) const fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(1980, 1, 1), 3652);
        assert_eq!(days(1601, 1, 1), -134_774);
    }
}
