//! The sections of one file: a chain of descriptors, each with the place of the next.

use transload_block::{BlockRead, Error, ErrorKind, Result, check_range};

use crate::codec::adler32;
use crate::mapped::{corrupt, field};

pub(super) const SIGNATURE: &[u8; 8] = b"EVF\x09\x0d\x0a\xff\0";
/// Signature, a byte, the number of the file, two bytes.
const FILE_HEADER: u64 = 13;
/// Bytes of a section's descriptor.
pub(super) const DESCRIPTOR: u64 = 76;
/// Bytes of a table's header, behind the descriptor.
pub(super) const TABLE_HEADER: u64 = 24;
/// The most sections of a file. One of 2 GiB has a few hundred.
const SECTIONS_MAX: usize = 1 << 16;
/// The largest chunk: what a compressed one unpacks to in memory. EnCase goes to 16 MiB.
const CHUNK_MAX: u64 = 16 << 20;

/// What a file says of the whole disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Bytes of a sector.
    pub(super) sector: u64,
    /// Bytes of a chunk.
    pub(super) chunk: u64,
    /// Written with the short description of the first version, which has tables without a checksum.
    pub(super) old: bool,
    /// By what the files of a set are known to belong together; zero where they do not say.
    set: [u8; 16],
}

/// A table of places, relative to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) entries: u64,
    /// Where the entries begin.
    pub(super) entries_at: u64,
    /// What places are counted from.
    pub(super) base: u64,
    /// Where the last chunk ends.
    pub(super) data_end: u64,
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) media: Option<Media>,
    /// Its tables; nothing for one that is damaged.
    tables: Vec<Option<Table>>,
    /// Their second copies, in the same order.
    copies: Vec<Option<Table>>,
    pub(super) md5: Option<[u8; 16]>,
    /// Whether another file follows.
    pub(super) goes_on: bool,
    pub(super) warnings: Vec<String>,
}

/// The number of a file in its set, from 1 on.
pub(super) fn number(file: &dyn BlockRead) -> Result<u16> {
    let mut head = [0; FILE_HEADER as usize];
    let short = || Error::new(ErrorKind::NotThisFormat, "EWF file: the signature is missing");
    if file.size() < FILE_HEADER {
        return Err(short());
    }
    file.read_at(&mut head, 0)?;
    if !head.starts_with(SIGNATURE) {
        return Err(short());
    }
    Ok(u16::from_le_bytes(field(&head, 9)))
}

/// A descriptor.
struct Section {
    kind: [u8; 16],
    start: u64,
    next: u64,
    /// With the descriptor.
    size: u64,
}

impl Section {
    fn read(file: &dyn BlockRead, start: u64) -> Result<Self> {
        let size = file.size();
        let mut bytes = [0; DESCRIPTOR as usize];
        if check_range(start, DESCRIPTOR, size).is_err() {
            let what = format!("EWF sections: one is to be at byte {start} of a file of {size} bytes; it is cut off");
            return Err(corrupt(what));
        }
        file.read_at(&mut bytes, start)?;
        let (noted, found) = (u32::from_le_bytes(field(&bytes, 72)), adler32(&bytes[..72]));
        if noted != found {
            let what = format!("EWF section at byte {start}: its checksum is noted as {noted:08x} and is {found:08x}");
            return Err(corrupt(what));
        }
        let [next, length] = [16, 24].map(|at| u64::from_le_bytes(field(&bytes, at)));
        let section = Self { kind: field(&bytes, 0), start, next, size: length.max(DESCRIPTOR) };
        if check_range(start, section.size, size).is_err() {
            let what = format!("EWF section at byte {start}: its {length} bytes reach behind the file's {size}");
            return Err(corrupt(what));
        }
        Ok(section)
    }

    fn kind(&self) -> &[u8] {
        let end = self.kind.iter().position(|byte| *byte == 0).unwrap_or(self.kind.len());
        &self.kind[..end]
    }

    fn end(&self) -> u64 {
        self.start + self.size
    }

    /// The first `N` bytes behind the descriptor.
    fn payload<const N: usize>(&self, file: &dyn BlockRead) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        if self.size < DESCRIPTOR + N as u64 {
            let (kind, start) = (self.kind().escape_ascii(), self.start);
            return Err(corrupt(format!(
                "EWF section '{kind}' at byte {start}: it has {} bytes, fewer than {N} of its own",
                self.size
            )));
        }
        file.read_at(&mut bytes, self.start + DESCRIPTOR)?;
        Ok(bytes)
    }
}

impl Segment {
    /// Walks through the sections of `file`.
    pub(super) fn read(file: &dyn BlockRead) -> Result<Self> {
        let mut segment = Self::default();
        let mut at = FILE_HEADER;
        // Chunks stand in the section in front of their table, or behind the entries in the table itself.
        let mut sectors_end = None;
        for _ in 0..SECTIONS_MAX {
            let section = Section::read(file, at)?;
            match section.kind() {
                b"volume" | b"disk" | b"data" => segment.media(file, &section)?,
                b"sectors" => sectors_end = Some(section.end()),
                b"table" => {
                    let table = segment.table(file, &section, sectors_end.unwrap_or(section.end()));
                    segment.tables.push(table?);
                }
                b"table2" => {
                    let table = segment.table(file, &section, sectors_end.unwrap_or(section.end()))?;
                    segment.copies.push(table);
                }
                b"hash" => segment.md5 = segment.md5.or(Some(section.payload(file)?)),
                b"digest" => segment.md5 = Some(section.payload(file)?),
                b"done" => return Ok(segment),
                b"next" => return Ok(Self { goes_on: true, ..segment }),
                // Texts about the case, lists of sectors that could not be read, sessions of an optical disc.
                _ => {}
            }
            if section.next < section.end() {
                let what = format!("EWF section at byte {at}: the next one is said to be at byte {}", section.next);
                return Err(corrupt(what));
            }
            at = section.next;
        }
        Err(corrupt(format!("EWF sections: more than {SECTIONS_MAX}")))
    }

    fn media(&mut self, file: &dyn BlockRead, section: &Section) -> Result<()> {
        const LONG: u64 = 1052;
        let old = section.size < DESCRIPTOR + LONG;
        let short: [u8; 94] = section.payload(file)?;
        let (mut long, mut noted, mut found) =
            ([0; LONG as usize], u32::from_le_bytes(field(&short, 90)), adler32(&short[..90]));
        if !old {
            long = section.payload(file)?;
            (noted, found) = (u32::from_le_bytes(field(&long, 1048)), adler32(&long[..1048]));
        }
        if noted != found {
            let what = format!("EWF volume: its checksum is noted as {noted:08x} and is {found:08x}");
            return Err(corrupt(what));
        }
        let le32 = |at: usize| u64::from(u32::from_le_bytes(field(&short, at)));
        let (sectors_in_chunk, sector) = (le32(8), le32(12));
        let sectors = if old { le32(16) } else { u64::from_le_bytes(field(&short, 16)) };
        let chunk = sectors_in_chunk.saturating_mul(sector);
        let size = sectors.checked_mul(sector).filter(|size| *size <= u64::MAX / 2);
        let (Some(size), true, true) = (size, sector.is_power_of_two(), (512..=CHUNK_MAX).contains(&chunk)) else {
            return Err(corrupt(format!(
                "EWF volume: {sectors} sectors of {sector} bytes in chunks of {sectors_in_chunk}; a chunk has 512 bytes to 16 MiB"
            )));
        };
        let media = Media { size, sector, chunk, old, set: if old { [0; 16] } else { field(&long, 64) } };
        match self.media {
            Some(known) if !known.is_of(&media) => {
                Err(corrupt("EWF volume: two that contradict each other".to_owned()))
            }
            _ => {
                self.media = self.media.or(Some(media));
                Ok(())
            }
        }
    }

    fn table(&mut self, file: &dyn BlockRead, section: &Section, data_end: u64) -> Result<Option<Table>> {
        let header: [u8; TABLE_HEADER as usize] = section.payload(file)?;
        let entries = u64::from(u32::from_le_bytes(field(&header, 0)));
        let base = u64::from_le_bytes(field(&header, 8));
        let (noted, found) = (u32::from_le_bytes(field(&header, 20)), adler32(&header[..20]));
        let entries_at = section.start + DESCRIPTOR + TABLE_HEADER;
        let inside = entries_at + entries * 4 <= section.end() && base <= data_end;
        if noted == found && inside {
            return Ok(Some(Table { entries, entries_at, base, data_end }));
        }
        let what =
            format!("EWF table at byte {}: {entries} entries from byte {base} on, checksum {noted:08x}", section.start);
        self.warnings.push(format!("{what}: it is damaged"));
        Ok(None)
    }

    /// The tables that are sound, each from the first or the second copy.
    pub(super) fn sound_tables(&self) -> Result<Vec<Table>> {
        let tables = self.tables.iter().enumerate().map(|(index, table)| {
            let table = table.or_else(|| *self.copies.get(index)?);
            table.ok_or_else(|| corrupt(self.warnings.first().cloned().unwrap_or_default()))
        });
        tables.collect()
    }
}

impl Media {
    /// Whether two files speak of the same disk.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        let same_set = self.set == other.set || [self.set, other.set].contains(&[0; 16]);
        same_set && (self.size, self.sector, self.chunk) == (other.size, other.sector, other.chunk)
    }
}
