//! ISO 9660 (ECMA-119) with Rock Ridge (IEEE P1282) or Joliet names, as Linux chooses them: Rock Ridge where it is there,
//! then Joliet, then the plain names in lower case.
//!
//! A file's number is the place of its directory record. Interleaved and compressed (zisofs) files are refused by name.

mod record;
mod rock_ridge;

use std::ops::ControlFlow;
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Xattr};
use crate::fields::{Fields, corrupt, invalid, unsupported};
use crate::mapped::{MappedFile, Runs};
use crate::probe::Kind;
use crate::text;
use record::Record;

/// Bytes of a sector, in which everything is counted.
const SECTOR: u64 = 2048;
/// Where the descriptors begin, and how many are looked at.
const FIRST_DESCRIPTOR: u64 = 16;
const MOST_DESCRIPTORS: u64 = 64;
/// The longest folder: one of 64 MiB has half a million entries.
const LONGEST_FOLDER: u64 = 256 << 20;
/// Parts of one file: each has up to 4 GiB.
const MOST_PARTS: usize = 4096;

/// How names are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Plain,
    Joliet,
    RockRidge {
        /// Bytes of the system use area that belong to somebody else.
        skip: usize,
    },
}

/// A filesystem that is open.
#[derive(Debug)]
pub(crate) struct Iso {
    cache: Cache,
    block_size: u64,
    names: Names,
    root: FileId,
    info: Info,
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let cache = Cache::new(device);
    let (mut primary, mut joliet) = (None, None);
    for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MOST_DESCRIPTORS {
        let bytes = cache.read_vec(number * SECTOR, 2048)?;
        if &bytes[1..6] != b"CD001" || bytes[0] == 255 {
            break;
        }
        match bytes[0] {
            1 if primary.is_none() => primary = Some((number, bytes)),
            2 if matches!(&bytes[88..91], b"%/@" | b"%/C" | b"%/E") => joliet = Some((number, bytes)),
            _ => {}
        }
    }
    let (number, bytes) = primary.ok_or_else(|| Error::new(ErrorKind::NotThisFormat, "ISO 9660: no descriptor"))?;
    let fields = Fields::new(&bytes, "ISO 9660 volume descriptor");
    let block_size = u64::from(fields.le16(128)?);
    if !block_size.is_power_of_two() || !(512..=2048).contains(&block_size) {
        return Err(fields.corrupt(format!("blocks of {block_size} bytes")));
    }
    let size = u64::from(fields.le32(80)?) * block_size;
    let label = text::label(fields.bytes(40, 32)?);
    let info = Info {
        kind: Kind::Iso,
        version: "ISO 9660".to_owned(),
        label,
        uuid: uuid(fields.bytes(813, 17)?),
        block_size: u32::try_from(block_size).unwrap_or(2048),
        size,
        notes: Vec::new(),
    };
    let root = FileId(number * SECTOR + 156);
    let mut this = Iso { cache, block_size, names: Names::Plain, root, info };
    if let Some(skip) = this.rock_ridge_skip()? {
        this.names = Names::RockRidge { skip };
        "ISO 9660 with Rock Ridge".clone_into(&mut this.info.version);
    } else if let Some((number, _)) = joliet {
        this.names = Names::Joliet;
        this.root = FileId(number * SECTOR + 156);
        "ISO 9660 with Joliet".clone_into(&mut this.info.version);
    }
    Ok(Arc::new(this))
}

/// The time of making, by which `blkid` tells discs apart: `2026-11-21-08-30-00-00`.
fn uuid(digits: &[u8]) -> Option<String> {
    let digits = std::str::from_utf8(digits.get(..16)?).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.bytes().all(|byte| byte == b'0') {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let parts = [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)];
    Some(parts.join("-"))
}

impl Iso {
    fn record(&self, id: FileId) -> Result<Record> {
        let mut length = [0];
        self.cache.read(&mut length, id.0)?;
        let bytes = self.cache.read_vec(id.0, length[0].into())?;
        Record::parse(&bytes, id.0)
    }

    /// The records of a file, of which all but the last say that there is more.
    fn parts(&self, id: FileId) -> Result<Vec<Record>> {
        let mut parts = vec![self.record(id)?];
        let mut at = id.0;
        while parts.last().is_some_and(|part| part.has_more) {
            at += parts.last().map_or(0, |part| part.length as u64);
            let mut length = [0];
            self.cache.read(&mut length, at)?;
            if length[0] == 0 {
                at = at.next_multiple_of(SECTOR);
            }
            if parts.len() >= MOST_PARTS {
                return Err(corrupt(format!("ISO 9660: the file at {} has more than {MOST_PARTS} parts", id.0)));
            }
            parts.push(self.record(FileId(at))?);
        }
        Ok(parts)
    }

    fn size(parts: &[Record]) -> u64 {
        parts.iter().map(|part| u64::from(part.size)).sum()
    }

    /// Hands out the records of a folder with their places, `.` and `..` too.
    fn records(&self, dir: FileId, each: &mut dyn FnMut(u64, Record) -> Result<ControlFlow<()>>) -> Result<()> {
        let folder = self.record(dir)?;
        if !folder.is_folder {
            return Err(invalid(format!("ISO 9660: the record at {} is no folder", dir.0)));
        }
        let (start, length) = (u64::from(folder.extent) * self.block_size, u64::from(folder.size));
        if length > LONGEST_FOLDER {
            return Err(corrupt(format!("ISO 9660: a folder of {length} bytes")));
        }
        let mut sector = 0;
        while sector < length {
            let held = usize::try_from(SECTOR.min(length - sector)).unwrap_or(0);
            let bytes = self.cache.read_vec(start + sector, held)?;
            let mut at = 0;
            // A record does not cross the end of a sector; a zero fills what is left of one.
            while at < bytes.len() && bytes[at] != 0 {
                let size = usize::from(bytes[at]);
                let place = start + sector + at as u64;
                let raw = bytes.get(at..at + size).ok_or_else(|| corrupt(format!("ISO 9660: a record at {place}")))?;
                if each(place, Record::parse(raw, place)?)?.is_break() {
                    return Ok(());
                }
                at += size;
            }
            sector += SECTOR;
        }
        Ok(())
    }

    /// What Rock Ridge says of a record.
    fn extra(&self, record: &Record) -> Result<rock_ridge::Extra> {
        match self.names {
            Names::RockRidge { skip } => rock_ridge::read(&self.cache, self.block_size, &record.system_use, skip),
            _ => Ok(rock_ridge::Extra::default()),
        }
    }

    /// Whether the root folder's own record says that Rock Ridge is in use, and how many bytes of each area are not its own.
    fn rock_ridge_skip(&self) -> Result<Option<usize>> {
        let mut skip = None;
        self.records(self.root, &mut |_, record| {
            skip = rock_ridge::indicator(&record.system_use);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(skip)
    }

    /// The name of a record; nothing for the folder itself and the one above.
    fn name(&self, record: &Record, extra: &rock_ridge::Extra) -> Option<Vec<u8>> {
        if matches!(record.name.as_slice(), [0 | 1]) {
            return None;
        }
        if let Some(name) = &extra.name {
            return Some(name.clone());
        }
        if self.names == Names::Joliet {
            let (pairs, _) = record.name.as_chunks::<2>();
            let name = text::utf8_of(pairs.iter().map(|pair| u16::from_be_bytes(*pair)));
            return Some(name.strip_suffix(b";1").unwrap_or(&name).to_vec());
        }
        let name = record.name.split(|byte| *byte == b';').next().unwrap_or_default();
        let name = name.strip_suffix(b".").unwrap_or(name);
        Some(if extra.is_set { name.to_vec() } else { name.to_ascii_lowercase() })
    }
}

impl FileSystem for Iso {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        self.root
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        let parts = self.parts(id)?;
        let Some(first) = parts.first() else { return Err(corrupt("ISO 9660: a file without a record")) };
        let mut extra = self.extra(first)?;
        if id == self.root && !extra.is_set {
            // The descriptor's copy of the root's record has no room for more; the folder's own has it.
            self.records(id, &mut |_, own| {
                extra = self.extra(&own)?;
                Ok(ControlFlow::Break(()))
            })?;
        }
        let default = if first.is_folder { 0o040_555 } else { 0o100_444 };
        let mode = extra.mode.unwrap_or(default);
        let kind = FileKind::from_mode(mode).ok_or_else(|| corrupt(format!("ISO 9660: the mode {mode:o}")))?;
        let size = match &extra.link {
            Some(target) if kind == FileKind::Symlink => target.len() as u64,
            _ => Self::size(&parts),
        };
        Ok(Metadata {
            kind,
            permissions: mode & 0o7777,
            owner: Owner { uid: extra.uid, gid: extra.gid },
            size,
            allocated: size.next_multiple_of(SECTOR),
            links: extra.links.max(1),
            modified: extra.modified.or(first.time),
            accessed: extra.accessed.or(first.time),
            changed: extra.changed.or(first.time),
            created: extra.created,
            device: matches!(kind, FileKind::BlockDevice | FileKind::CharDevice).then_some(extra.device),
        })
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        let mut continues = false;
        self.records(dir, &mut |place, record| {
            let is_part = std::mem::replace(&mut continues, record.has_more);
            let extra = self.extra(&record)?;
            // What was moved elsewhere because it was too deep is shown where it belongs, and not where it is.
            if is_part || record.is_associated || extra.is_moved_here {
                return Ok(ControlFlow::Continue(()));
            }
            let Some(name) = self.name(&record, &extra) else { return Ok(ControlFlow::Continue(())) };
            if name.is_empty()
                || matches!(name.as_slice(), b"." | b"..")
                || name.iter().any(|byte| matches!(byte, 0 | b'/'))
            {
                let name = name.escape_ascii();
                return Err(corrupt(format!("ISO 9660: the record at {place} has the name \"{name}\"")));
            }
            let id = extra.moved_to.map_or(place, |block| u64::from(block) * self.block_size);
            Ok(each(Entry { name, id: FileId(id), kind: None }))
        })
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        let (mut exact, mut alike) = (None, None);
        let any_case = !matches!(self.names, Names::RockRidge { .. });
        self.read_dir(dir, &mut |entry| {
            if entry.name == name {
                exact = Some(entry.id);
                return ControlFlow::Break(());
            }
            if any_case && alike.is_none() && crate::fat::same_name(&entry.name, name) {
                alike = Some(entry.id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(exact.or(alike))
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        if self.stat(id)?.kind != FileKind::Regular {
            return Err(invalid(format!("ISO 9660: the record at {} is no regular file", id.0)));
        }
        let parts = self.parts(id)?;
        let (mut runs, mut at) = (Runs::default(), 0);
        for part in &parts {
            if part.is_interleaved {
                return Err(unsupported("ISO 9660: an interleaved file"));
            }
            if self.extra(part)?.is_compressed {
                return Err(unsupported("ISO 9660: a file compressed by zisofs"));
            }
            let place = (u64::from(part.extent) + u64::from(part.attribute_blocks)) * self.block_size;
            runs.push(at, part.size.into(), place)?;
            at += u64::from(part.size);
        }
        Ok(Arc::new(MappedFile::new(Arc::clone(self.cache.device()), runs, at, u64::MAX)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        let link = self.extra(&self.record(id)?)?.link;
        link.ok_or_else(|| invalid(format!("ISO 9660: the record at {} is no symbolic link", id.0)))
    }

    fn xattrs(&self, _id: FileId) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("ISO 9660: the record at {} has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}
