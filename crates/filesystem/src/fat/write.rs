//! Writing to FAT: files and folders are made, changed and removed. Metadata is kept in pages until it is flushed.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use transload_block::{BlockRead, BlockWrite, Error, ErrorKind, Result};

use super::dir::{LONGEST, attribute, days, file_size, first_cluster};
use super::name::{self, ENTRY, UNITS};
use super::volume::{Volume, Width};
use super::{Fat, ROOT};
use crate::cache::Cache;
use crate::contract::{FileId, FileKind, Timestamp};
use crate::fields::{Fields, invalid, unsupported};
use crate::write::{Attributes, FileSystemWrite, Keeps};

/// Bytes that are moved at once.
const PIECE: u64 = 1 << 20;

/// Opens the filesystem on `device` for writing. Files get `now` as their time where they bring none.
pub(crate) fn open(device: Arc<dyn BlockWrite>, now: Timestamp) -> Result<Arc<dyn FileSystemWrite>> {
    let volume = Volume::read(&*device)?;
    let mut fat = Fat::over(Cache::writable(device), volume)?;
    fat.now = now;
    fat.read_counts()?;
    Ok(Arc::new(fat))
}

/// Where a new entry goes, and the short name that is still free there.
struct Room {
    /// The places of all entries that it takes, its own the last.
    places: Vec<u64>,
    /// The entry behind them, which has to end the folder where they were behind its end.
    next: Option<u64>,
    short: [u8; 11],
}

impl Fat {
    fn read_counts(&self) -> Result<()> {
        let Some(place) = self.volume.counts else { return Ok(()) };
        let bytes = self.cache.read_vec(place, 512)?;
        let fields = Fields::new(&bytes, "FAT32 information sector");
        let free = fields.le32(488)?;
        if fields.le32(0)? == 0x4161_5252 && fields.le32(484)? == 0x6141_7272 && free <= self.volume.clusters {
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).free = Some(free);
        }
        Ok(())
    }

    fn write_counts(&self) -> Result<()> {
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(place), Some(free)) = (self.volume.counts, counts.free) else { return Ok(()) };
        self.cache.write(&free.to_le_bytes(), place + 488)?;
        self.cache.write(&counts.next.to_le_bytes(), place + 492)
    }

    /// Finds room for a name, in a folder that grows where it has none.
    fn room(&self, dir: FileId, text: &[u8]) -> Result<(Room, Vec<u16>)> {
        let units = check_name(text)?;
        let (mut shorts, mut taken) = (HashSet::new(), false);
        self.slots(dir, &mut |slot| {
            taken |= name::same(&slot.name, text);
            shorts.insert(<[u8; 11]>::try_from(&slot.raw[..11]).unwrap_or_default());
            ControlFlow::Continue(())
        })?;
        if taken {
            let text = format!("\"{}\" exists already", String::from_utf8_lossy(text));
            return Err(Error::new(ErrorKind::Denied, text));
        }
        let (short, exact) = short_name(text, &shorts)?;
        let units = if exact { Vec::new() } else { units };
        let needed = units.len().div_ceil(UNITS) + 1;
        loop {
            if let Some((places, next)) = self.free_places(dir, needed)? {
                return Ok((Room { places, next, short }, units));
            }
            self.grow(dir)?;
        }
    }

    /// Entries in a row that are free.
    fn free_places(&self, dir: FileId, needed: usize) -> Result<Option<(Vec<u64>, Option<u64>)>> {
        let (mut run, mut ended): (Vec<u64>, bool) = (Vec::new(), false);
        for (place, length) in self.folder_pieces(dir)? {
            let bytes = self.cache.read_vec(place, usize::try_from(length).unwrap_or(0))?;
            for (index, entry) in (0_u64..).zip(bytes.chunks_exact(ENTRY)) {
                let at = place + index * ENTRY as u64;
                ended |= entry[0] == 0;
                if run.len() == needed {
                    return Ok(Some((run, ended.then_some(at))));
                }
                if ended || entry[0] == 0xE5 {
                    run.push(at);
                } else {
                    run.clear();
                }
            }
        }
        Ok((run.len() == needed).then_some((run, None)))
    }

    /// Adds a cluster to a folder.
    fn grow(&self, dir: FileId) -> Result<()> {
        let full = |text: &str| Error::new(ErrorKind::NoSpace, format!("FAT: {text}"));
        let Some(first) = self.folder_cluster(dir)? else {
            return Err(full("the root folder is full; it cannot grow in FAT12 and FAT16"));
        };
        let chain = self.chain(first, u64::from(self.volume.clusters))?;
        if (chain.count + 1) * u64::from(self.volume.cluster_size) > LONGEST {
            return Err(full("a folder has 65536 entries, which is the most it can have"));
        }
        let cluster = self.allocate(Some(chain.last))?;
        self.clear_cluster(cluster)
    }

    fn clear_cluster(&self, cluster: u32) -> Result<()> {
        self.cache.write(&vec![0; self.volume.cluster_size as usize], self.volume.cluster_offset(cluster)?)
    }

    /// Writes the entries of a name.
    fn put(&self, room: &Room, units: &[u16], raw: &mut [u8; ENTRY]) -> Result<FileId> {
        raw[..11].copy_from_slice(&room.short);
        let sum = name::checksum(&room.short);
        let (last, longs) = room.places.split_last().ok_or_else(|| invalid("a name without entries"))?;
        for (index, place) in longs.iter().enumerate() {
            let number = longs.len() - index;
            self.cache.write(&long_entry(units, number, index == 0, sum), *place)?;
        }
        self.cache.write(raw, *last)?;
        if let Some(next) = room.next {
            self.cache.write(&[0; ENTRY], next)?;
        }
        Ok(FileId(*last))
    }

    fn new_entry(&self, kind: u8, attributes: &Attributes) -> [u8; ENTRY] {
        let mut raw = [0; ENTRY];
        raw[11] = kind;
        let modified = attributes.modified.unwrap_or(self.now);
        let given = Attributes {
            modified: Some(modified),
            accessed: attributes.accessed.or(Some(modified)),
            created: attributes.created.or(Some(modified)),
            ..attributes.clone()
        };
        apply(&mut raw, &given);
        raw
    }

    fn set_cluster(&self, raw: &mut [u8; ENTRY], cluster: u32) {
        let bytes = cluster.to_le_bytes();
        raw[26..28].copy_from_slice(&bytes[..2]);
        if self.volume.width == Width::ThirtyTwo {
            raw[20..22].copy_from_slice(&bytes[2..]);
        }
    }

    /// Writes the bytes of a file into new clusters; answers the first of them.
    fn write_contents(&self, contents: &dyn BlockRead) -> Result<u32> {
        let cluster_size = u64::from(self.volume.cluster_size);
        let (mut first, mut last) = (0, None);
        let written = (|| {
            let (mut at, mut buffer) = (0, Vec::new());
            while at < contents.size() {
                // As many clusters as happen to stand together, up to a piece.
                let start = self.allocate(last)?;
                if first == 0 {
                    first = start;
                }
                last = Some(start);
                let mut end = start;
                let wanted = (contents.size() - at).min(PIECE.max(cluster_size)).div_ceil(cluster_size);
                let mut count = 1;
                let mut beyond = None;
                while count < wanted {
                    let next = self.allocate(last)?;
                    last = Some(next);
                    if next != end + 1 {
                        beyond = Some(next);
                        break;
                    }
                    end = next;
                    count += 1;
                }
                self.copy(contents, at, count * cluster_size, self.volume.cluster_offset(start)?, &mut buffer)?;
                at += count * cluster_size;
                if let Some(next) = beyond {
                    self.copy(contents, at, cluster_size, self.volume.cluster_offset(next)?, &mut buffer)?;
                    at += cluster_size;
                }
            }
            Ok(())
        })();
        if let Err(error) = written {
            if first != 0 {
                // Clusters that were taken for nothing are given back; the first error is the one to tell.
                drop(self.free_chain(first));
            }
            return Err(error);
        }
        Ok(first)
    }

    fn copy(&self, from: &dyn BlockRead, at: u64, length: u64, place: u64, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        let held = usize::try_from(from.size().saturating_sub(at).min(length)).unwrap_or(0);
        from.read_at(&mut buffer[..held], at)?;
        self.cache.write_through(buffer, place)
    }
}

impl FileSystemWrite for Fat {
    fn keeps(&self) -> Keeps {
        Keeps { owners: false, links: false, xattrs: false }
    }

    fn create_dir(&self, dir: FileId, text: &[u8], attributes: &Attributes) -> Result<FileId> {
        let (room, units) = self.room(dir, text)?;
        let cluster = self.allocate(None)?;
        self.clear_cluster(cluster)?;
        let mut raw = self.new_entry(attribute::FOLDER, attributes);
        self.set_cluster(&mut raw, cluster);
        let place = self.volume.cluster_offset(cluster)?;
        let mut dot = raw;
        dot[..11].copy_from_slice(b".          ");
        self.cache.write(&dot, place)?;
        // The root folder is 0 in "..", also where it has a cluster.
        let parent = if dir == ROOT { 0 } else { self.folder_cluster(dir)?.unwrap_or(0) };
        self.set_cluster(&mut dot, parent);
        dot[..11].copy_from_slice(b"..         ");
        self.cache.write(&dot, place + ENTRY as u64)?;
        self.put(&room, &units, &mut raw)
    }

    fn create_file(
        &self,
        dir: FileId,
        text: &[u8],
        contents: &dyn BlockRead,
        attributes: &Attributes,
    ) -> Result<FileId> {
        let size = u32::try_from(contents.size()).map_err(|_| {
            let text = format!("a file of {} bytes; FAT can hold {}", contents.size(), u32::MAX);
            Error::new(ErrorKind::TooLarge, text)
        })?;
        let (room, units) = self.room(dir, text)?;
        let first = self.write_contents(contents)?;
        let mut raw = self.new_entry(attribute::ARCHIVE, attributes);
        self.set_cluster(&mut raw, first);
        raw[28..].copy_from_slice(&size.to_le_bytes());
        self.put(&room, &units, &mut raw)
    }

    fn create_symlink(&self, _: FileId, text: &[u8], _: &[u8], _: &Attributes) -> Result<FileId> {
        Err(unsupported(format!("\"{}\": FAT has no symbolic links", String::from_utf8_lossy(text))))
    }

    fn create_node(&self, _: FileId, text: &[u8], kind: FileKind, _: (u32, u32), _: &Attributes) -> Result<FileId> {
        Err(unsupported(format!("\"{}\": FAT has no {}", String::from_utf8_lossy(text), kind.name())))
    }

    fn link(&self, _: FileId, text: &[u8], _: FileId) -> Result<()> {
        Err(unsupported(format!("\"{}\": FAT has no hard links", String::from_utf8_lossy(text))))
    }

    fn remove(&self, dir: FileId, text: &[u8]) -> Result<()> {
        let slot = self.find(dir, text)?.ok_or_else(|| crate::path::missing(text))?;
        if slot.is_folder() {
            let mut empty = true;
            self.slots(FileId(slot.at), &mut |_| {
                empty = false;
                ControlFlow::Break(())
            })?;
            if !empty {
                return Err(invalid(format!("{}: the folder is not empty", String::from_utf8_lossy(text))));
            }
        }
        let places = self
            .folder_pieces(dir)?
            .into_iter()
            .flat_map(|(place, length)| (0..length / ENTRY as u64).map(move |index| place + index * ENTRY as u64));
        for place in places.skip(slot.first).take(slot.entries) {
            self.cache.write(&[0xE5], place)?;
        }
        match first_cluster(&slot.raw, self.is_wide()) {
            0 => Ok(()),
            _ if !slot.is_folder() && file_size(&slot.raw) == 0 => Ok(()),
            cluster => self.free_chain(cluster),
        }
    }

    fn set_attributes(&self, id: FileId, attributes: &Attributes) -> Result<()> {
        if id == ROOT {
            return Ok(());
        }
        let mut raw = self.raw_entry(id)?;
        apply(&mut raw, attributes);
        self.cache.write(&raw, id.0)
    }

    fn flush(&self) -> Result<()> {
        self.write_counts()?;
        self.cache.flush()
    }
}

/// Sets what FAT has a place for: times, and whether a file may be written.
fn apply(raw: &mut [u8; ENTRY], attributes: &Attributes) {
    if let Some(permissions) = attributes.permissions {
        let read_only = permissions & 0o222 == 0 && raw[11] & attribute::FOLDER == 0;
        raw[11] = raw[11] & !attribute::READ_ONLY | if read_only { attribute::READ_ONLY } else { 0 };
    }
    let mut put = |at: usize, value: u16| raw[at..at + 2].copy_from_slice(&value.to_le_bytes());
    if let Some(time) = attributes.modified {
        let (date, clock, _) = dos_time(time);
        put(24, date);
        put(22, clock);
    }
    if let Some(time) = attributes.accessed {
        put(18, dos_time(time).0);
    }
    if let Some(time) = attributes.created {
        let (date, clock, hundredths) = dos_time(time);
        put(16, date);
        put(14, clock);
        raw[13] = hundredths;
    }
}

/// Date, time in steps of two seconds, and the hundredths that these leave. What FAT cannot say becomes the nearest moment.
pub(super) fn dos_time(time: Timestamp) -> (u16, u16, u8) {
    let (first, last) = (days(1980, 1, 1) * 86_400, days(2108, 1, 1) * 86_400 - 1);
    let nanos = if (first..=last).contains(&time.seconds) { time.nanos } else { 0 };
    let seconds = time.seconds.clamp(first, last);
    let (day, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The year is found by counting: there are at most 128.
    let year = (1980..2108).rev().find(|year| days(*year, 1, 1) <= day).unwrap_or(1980);
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= day).unwrap_or(1);
    let date = (year - 1980) << 9 | month << 5 | (day - days(year, month, 1) + 1);
    let clock = (of_day / 3600) << 11 | (of_day / 60 % 60) << 5 | (of_day % 60 / 2);
    let hundredths = of_day % 2 * 100 + i64::from(nanos / 10_000_000);
    (u16::try_from(date).unwrap_or(0x21), u16::try_from(clock).unwrap_or(0), u8::try_from(hundredths).unwrap_or(0))
}

/// The units of a name that FAT can have.
fn check_name(text: &[u8]) -> Result<Vec<u16>> {
    let wrong = |why: &str| invalid(format!("\"{}\" cannot be a name in FAT: {why}", text.escape_ascii()));
    let name = std::str::from_utf8(text).map_err(|_| wrong("it is no UTF-8"))?;
    if name.is_empty() || matches!(name, "." | "..") {
        return Err(wrong("it means something else"));
    }
    if name.chars().any(|one| one < ' ' || r#""*/:<>?\|"#.contains(one)) {
        return Err(wrong(r#"it has a control character or one of "*/:<>?\|"#));
    }
    if name.ends_with([' ', '.']) {
        return Err(wrong("it ends with a blank or a dot"));
    }
    let units: Vec<u16> = name.encode_utf16().collect();
    if units.len() > name::LONGEST {
        return Err(wrong("it has more than 255 characters"));
    }
    Ok(units)
}

/// A short name that is not in use, and whether it says all that the name says.
fn short_name(text: &[u8], used: &HashSet<[u8; 11]>) -> Result<([u8; 11], bool)> {
    let name = String::from_utf8_lossy(text).to_uppercase();
    let fits = |one: char| one.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(one);
    let trimmed = name.trim_start_matches('.');
    let (base, extension) = match trimmed.rsplit_once('.') {
        Some((base, extension)) if !base.is_empty() => (base, extension),
        _ => (trimmed, ""),
    };
    let part = |text: &str| -> Vec<u8> {
        let kept = text.chars().filter(|one| !matches!(one, ' ' | '.'));
        kept.map(|one| if fits(one) { one } else { '_' }).map(|one| u8::try_from(one).unwrap_or(b'_')).collect()
    };
    let (base, extension) = (part(base), part(extension));
    let build = |base: &[u8]| {
        let mut short = [b' '; 11];
        short[..base.len().min(8)].copy_from_slice(&base[..base.len().min(8)]);
        short[8..8 + extension.len().min(3)].copy_from_slice(&extension[..extension.len().min(3)]);
        short
    };
    let plain = build(&base);
    let mut padded = plain.to_vec();
    padded.resize(ENTRY, 0);
    let exact = name::short_name(&padded) == text;
    if exact && !used.contains(&plain) {
        return Ok((plain, true));
    }
    // After a few numbers a hash of the name leads to a free one sooner, as Windows does it.
    let hash = text.iter().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    for number in 1..=999_999_u32 {
        let stem = if number <= 4 {
            base.clone()
        } else {
            let two = &base[..base.len().min(2)];
            [two, format!("{:04X}", hash.wrapping_add(number / 10) & 0xFFFF).as_bytes()].concat()
        };
        let tail = format!("~{}", if number <= 4 { number } else { number % 10 });
        let stem = &stem[..stem.len().min(8 - tail.len())];
        let short = build(&[stem, tail.as_bytes()].concat());
        if !used.contains(&short) {
            return Ok((short, false));
        }
    }
    Err(Error::new(ErrorKind::NoSpace, "FAT: no short name is free in the folder"))
}

/// The entry of piece `number` of a long name.
fn long_entry(units: &[u16], number: usize, is_last: bool, sum: u8) -> [u8; ENTRY] {
    let mut raw = [0xFF; ENTRY];
    raw[0] = u8::try_from(number).unwrap_or(0) | if is_last { 0x40 } else { 0 };
    (raw[11], raw[12], raw[13]) = (attribute::LONG_NAME, 0, sum);
    raw[26..28].fill(0);
    let piece = &units[(number - 1) * UNITS..];
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
    for (index, place) in places.enumerate() {
        // A zero ends the name where it does not fill the entry, and ones fill the rest.
        let unit = match piece.get(index) {
            Some(unit) => *unit,
            None if index == piece.len() => 0,
            None => 0xFFFF,
        };
        raw[place..place + 2].copy_from_slice(&unit.to_le_bytes());
    }
    raw
}
