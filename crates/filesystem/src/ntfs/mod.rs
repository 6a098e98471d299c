//! NTFS 1.2 to 3.1 (as the Linux-NTFS project documented it, and Microsoft's open specifications).
//!
//! Read here: attribute lists, also the master file table's own; resident, sparse and compressed (LZNT1) values; named
//! streams, which are also extended attributes `user.NAME` as ntfs-3g has them; symbolic links, junctions, and the
//! links and devices of WSL and of ntfs-3g. The log is not played back: NTFS keeps only metadata in it, and what it left
//! half done is told in a note.
//!
//! Refused by name: encrypted files, and files that Windows keeps elsewhere or in another form (WOF, deduplication, cloud).

mod boot;
mod compress;
mod index;
mod record;
mod reparse;
mod value;

use std::ops::ControlFlow;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Timestamp, Xattr};
use crate::fat::same_name;
use crate::fields::{Fields, corrupt, in_memory, invalid};
use crate::mapped::{MappedFile, Runs};
use crate::probe::Kind;
use crate::text::{le_units, utf8_of};
use boot::Boot;
use record::{Attribute, Body, Record, kind, reference};
use reparse::Special;

const VOLUME_RECORD: u64 = 3;
const ROOT_RECORD: u64 = 5;
/// Records below are the filesystem's own.
const FIRST_OF_USERS: u64 = 24;
/// Windows makes no longer attribute lists.
const LONGEST_LIST: u64 = 256 << 10;
/// Streams that are handed out as extended attributes: as long as Linux lets one be.
const LONGEST_XATTR: u64 = 64 << 10;

/// A filesystem that is open for reading.
#[derive(Debug)]
pub(crate) struct Ntfs {
    cache: Cache,
    boot: Boot,
    /// The master file table.
    table: MappedFile,
    info: Info,
}

/// A file with the attributes of all its records.
#[derive(Debug)]
struct File {
    number: u64,
    is_folder: bool,
    links: u16,
    attributes: Vec<Attribute>,
}

impl File {
    /// All parts of the attribute of a kind and name.
    fn parts(&self, kind: u32, name: &str) -> Vec<&Attribute> {
        let named =
            |attribute: &&Attribute| attribute.kind == kind && attribute.name.iter().copied().eq(name.encode_utf16());
        self.attributes.iter().filter(named).collect()
    }

    /// The value of an attribute that is always resident.
    fn resident(&self, kind: u32) -> Option<&[u8]> {
        self.attributes.iter().filter(|attribute| attribute.kind == kind).find_map(|attribute| match &attribute.body {
            Body::Resident(bytes) => Some(bytes.as_slice()),
            Body::Clusters(_) => None,
        })
    }
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let boot = Boot::read(&*device)?;
    let table = master_table(&device, &boot)?;
    let info = Info {
        kind: Kind::Ntfs,
        version: "NTFS".to_owned(),
        label: String::new(),
        uuid: Some(format!("{:016X}", boot.serial)),
        block_size: u32::try_from(boot.cluster_size).unwrap_or(u32::MAX),
        size: boot.size,
        notes: Vec::new(),
    };
    let mut this = Ntfs { cache: Cache::new(device), boot, table, info };
    this.describe()?;
    Ok(Arc::new(this))
}

/// The master file table, from its own first record; where that has an attribute list, the parts are found through those before.
fn master_table(device: &Arc<dyn BlockRead>, boot: &Boot) -> Result<MappedFile> {
    let offset = boot.table.checked_mul(boot.cluster_size).ok_or_else(|| corrupt("NTFS: the master file table"))?;
    let raw = Cache::new(Arc::clone(device)).read_vec(offset, boot.record_size)?;
    let record = Record::parse(raw, 0)?;
    let is_data = |attribute: &&Attribute| attribute.kind == kind::DATA && attribute.name.is_empty();
    let Some(Body::Clusters(first)) = record.attributes.iter().find(is_data).map(|attribute| &attribute.body) else {
        return Err(corrupt("NTFS: the master file table has no bytes"));
    };
    let mut parts = vec![first.clone()];
    let build = |parts: &[record::Clusters]| {
        let (mut runs, mut end) = (Runs::default(), 0);
        for part in parts {
            if part.first != end {
                return Err(corrupt(format!("NTFS: cluster {end} of the master file table is nowhere")));
            }
            end = value::decode(part, boot.cluster_size, &mut runs)?;
        }
        let size = first.size.min(end.saturating_mul(boot.cluster_size));
        MappedFile::new(Arc::clone(device), runs, size, u64::MAX)
    };
    let mut table = build(&parts)?;
    let Some(list) = record.attributes.iter().find(|attribute| attribute.kind == kind::ATTRIBUTE_LIST) else {
        return Ok(table);
    };
    let list = value::open(device, boot.cluster_size, &[list])?;
    for item in list_items(&read_list(&*list)?)? {
        if item.kind != kind::DATA || item.first == 0 || item.record == 0 {
            continue;
        }
        let part = Record::parse(read_record(&table, boot.record_size, item.record)?, item.record)?;
        for attribute in part.attributes.into_iter().filter(|attribute| is_data(&attribute)) {
            if let Body::Clusters(clusters) = attribute.body
                && clusters.first == item.first
            {
                parts.push(clusters);
                table = build(&parts)?;
            }
        }
    }
    Ok(table)
}

fn read_record(table: &MappedFile, size: usize, number: u64) -> Result<Vec<u8>> {
    let offset = number.saturating_mul(size as u64);
    if offset.saturating_add(size as u64) > table.size() {
        let count = table.size() / size as u64;
        return Err(corrupt(format!("NTFS: record {number} of a master file table of {count}")));
    }
    table.read_vec(offset, size as u64)
}

fn read_list(list: &dyn BlockRead) -> Result<Vec<u8>> {
    in_memory(list.size(), LONGEST_LIST, "an attribute list")?;
    list.read_vec(0, list.size())
}

/// An entry of an attribute list.
struct Item {
    kind: u32,
    first: u64,
    record: u64,
}

fn list_items(bytes: &[u8]) -> Result<Vec<Item>> {
    let fields = Fields::new(bytes, "NTFS attribute list");
    let (mut items, mut at) = (Vec::new(), 0);
    while at + 26 <= bytes.len() {
        let length = usize::from(fields.le16(at + 4)?);
        if length < 26 {
            return Err(fields.corrupt(format!("an entry of {length} bytes at {at}")));
        }
        items.push(Item {
            kind: fields.le32(at)?,
            first: fields.le64(at + 8)?,
            record: reference(fields.le64(at + 16)?),
        });
        at += length;
    }
    Ok(items)
}

impl Ntfs {
    /// Reads label and version.
    fn describe(&mut self) -> Result<()> {
        let volume = self.file(FileId(VOLUME_RECORD))?;
        if let Some(name) = volume.resident(kind::VOLUME_NAME) {
            self.info.label = String::from_utf8_lossy(&utf8_of(le_units(name))).into_owned();
        }
        if let Some(information) = volume.resident(kind::VOLUME_INFORMATION) {
            let fields = Fields::new(information, "NTFS volume information");
            self.info.version = format!("NTFS {}.{}", fields.u8(8)?, fields.u8(9)?);
            if fields.le16(10)? & 1 != 0 {
                self.info.notes.push("it is marked as dirty: Windows would look at it".to_owned());
            }
        }
        Ok(())
    }

    /// Reads a file with all its records.
    fn file(&self, id: FileId) -> Result<File> {
        let record = self.record(id.0)?;
        if record.base != 0 {
            return Err(corrupt(format!("NTFS: record {} belongs to record {}", id.0, record.base)));
        }
        let mut attributes = record.attributes;
        if let Some(list) = attributes.iter().find(|attribute| attribute.kind == kind::ATTRIBUTE_LIST) {
            let list = self.value(&[list])?;
            let mut others: Vec<u64> = list_items(&read_list(&*list)?)?.into_iter().map(|item| item.record).collect();
            others.sort_unstable();
            others.dedup();
            for number in others.into_iter().filter(|number| *number != id.0) {
                let other = self.record(number)?;
                if other.base != id.0 {
                    return Err(corrupt(format!("NTFS: record {number} does not belong to record {}", id.0)));
                }
                attributes.extend(other.attributes);
            }
        }
        Ok(File { number: id.0, is_folder: record.is_folder, links: record.links, attributes })
    }

    fn record(&self, number: u64) -> Result<Record> {
        let size = self.boot.record_size as u64;
        let raw = match self.table.place(number.saturating_mul(size), size) {
            Some(place) => self.cache.read_vec(place, self.boot.record_size)?,
            None => read_record(&self.table, self.boot.record_size, number)?,
        };
        Record::parse(raw, number)
    }

    fn value(&self, parts: &[&Attribute]) -> Result<Arc<dyn BlockRead>> {
        value::open(self.cache.device(), self.boot.cluster_size, parts)
    }

    /// What a file stands for beside a file or a folder.
    fn special(&self, file: &File) -> Result<Option<Special>> {
        const SYSTEM: u32 = 4;
        if file.is_folder || file.resident(kind::REPARSE_POINT).is_some() {
            return Ok(None);
        }
        let flags = file.resident(kind::STANDARD_INFORMATION).map(|info| Fields::new(info, "NTFS file").le32(32));
        let parts = file.parts(kind::DATA, "");
        if flags.transpose()?.unwrap_or(0) & SYSTEM == 0 || parts.is_empty() {
            return Ok(None);
        }
        let content = self.value(&parts)?;
        if content.size() > reparse::LONGEST_SPECIAL {
            return Ok(None);
        }
        Ok(reparse::special(&content.read_vec(0, content.size())?))
    }

    fn point(&self, file: &File) -> Result<Option<Vec<u8>>> {
        let parts = file.parts(kind::REPARSE_POINT, "");
        if parts.is_empty() {
            return Ok(None);
        }
        let value = self.value(&parts)?;
        in_memory(value.size(), 16 << 10, "a reparse point")?;
        value.read_vec(0, value.size()).map(Some)
    }
}

impl FileSystem for Ntfs {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        FileId(ROOT_RECORD)
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        const READ_ONLY: u32 = 1;
        let file = self.file(id)?;
        let information = file.resident(kind::STANDARD_INFORMATION);
        let fields = Fields::new(information.unwrap_or(&[0; 48]), "NTFS file");
        let (mut kind, mut device, mut size, mut allocated) = (FileKind::Regular, None, 0, 0);
        if file.is_folder {
            kind = FileKind::Directory;
        } else if let Some(first) = file.parts(kind::DATA, "").first() {
            (size, allocated) = match &first.body {
                Body::Resident(bytes) => (bytes.len() as u64, 0),
                Body::Clusters(_) => sizes(&file),
            };
        }
        if let Some(point) = self.point(&file)? {
            kind = reparse::kind(&point)?.unwrap_or(kind);
            if kind == FileKind::Symlink {
                size = reparse::target(&point)?.len() as u64;
            }
        } else if let Some(special) = self.special(&file)? {
            (kind, device, size) = match special {
                Special::Link(target) => (FileKind::Symlink, None, target.len() as u64),
                Special::Device(kind, numbers) => (kind, Some(numbers), 0),
                Special::Node(kind) => (kind, None, 0),
            };
        }
        let read_only = fields.le32(32)? & READ_ONLY != 0 && kind != FileKind::Directory;
        let all = match kind {
            FileKind::Directory => 0o755,
            FileKind::Symlink => 0o777,
            _ => 0o644,
        };
        let time = |at| fields.le64(at).map(moment);
        Ok(Metadata {
            kind,
            permissions: if read_only { all & !0o222 } else { all },
            owner: Owner::default(),
            size,
            allocated,
            links: u32::from(file.links).max(1),
            created: time(0)?,
            modified: time(8)?,
            changed: time(16)?,
            accessed: time(24)?,
            device,
        })
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        self.read_index(&self.file(dir)?, each)
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        let (mut exact, mut alike) = (None, None);
        self.read_dir(dir, &mut |entry| {
            if entry.name == name {
                exact = Some(entry.id);
                return ControlFlow::Break(());
            }
            if alike.is_none() && same_name(&entry.name, name) {
                alike = Some(entry.id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(exact.or(alike))
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let file = self.file(id)?;
        if file.is_folder || self.stat(id)?.kind != FileKind::Regular {
            return Err(invalid(format!("NTFS: record {} is no regular file", id.0)));
        }
        if let Some(point) = self.point(&file)? {
            reparse::refuse_stored_elsewhere(&point)?;
        }
        let parts = file.parts(kind::DATA, "");
        if parts.is_empty() {
            return Ok(Arc::new(transload_block::Memory::new(0)));
        }
        self.value(&parts).map_err(|error| error.context(format_args!("record {}", id.0)))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        let file = self.file(id)?;
        if let Some(point) = self.point(&file)?
            && reparse::kind(&point)? == Some(FileKind::Symlink)
        {
            return reparse::target(&point);
        }
        match self.special(&file)? {
            Some(Special::Link(target)) => Ok(target),
            _ => Err(invalid(format!("NTFS: record {} is no symbolic link", id.0))),
        }
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        let mut list = Vec::new();
        for stream in self.streams(id)?.into_iter().filter(|stream| stream.size <= LONGEST_XATTR) {
            let value = self.open_stream(id, &stream.name)?.read_vec(0, stream.size)?;
            list.push(Xattr { name: [b"user.".as_slice(), &stream.name].concat(), value });
        }
        Ok(list)
    }

    fn streams(&self, id: FileId) -> Result<Vec<Stream>> {
        let file = self.file(id)?;
        let mut names: Vec<Vec<u16>> = Vec::new();
        for attribute in file.attributes.iter().filter(|found| found.kind == kind::DATA && !found.name.is_empty()) {
            if !names.contains(&attribute.name) {
                names.push(attribute.name.clone());
            }
        }
        let mut streams = Vec::new();
        for name in names {
            let parts: Vec<_> =
                file.attributes.iter().filter(|one| one.kind == kind::DATA && one.name == name).collect();
            let size = match self.value(&parts) {
                Ok(value) => value.size(),
                Err(error) if error.kind() == transload_block::ErrorKind::Unsupported => continue,
                Err(error) => return Err(error),
            };
            streams.push(Stream { name: utf8_of(name), size });
        }
        streams.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(streams)
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        let file = self.file(id)?;
        let is_named = |found: &&Attribute| {
            found.kind == kind::DATA && !found.name.is_empty() && utf8_of(found.name.iter().copied()) == name
        };
        let parts: Vec<_> = file.attributes.iter().filter(is_named).collect();
        if parts.is_empty() {
            return Err(invalid(format!("NTFS: record {} has no stream \"{}\"", id.0, name.escape_ascii())));
        }
        self.value(&parts)
    }
}

/// Size and allocated size, as the first part of the contents says them.
fn sizes(file: &File) -> (u64, u64) {
    let first = file.parts(kind::DATA, "").into_iter().find_map(|part| match &part.body {
        Body::Clusters(clusters) if clusters.first == 0 => Some((clusters.size, clusters.allocated)),
        _ => None,
    });
    first.unwrap_or_default()
}

/// A time as NTFS has it: tenths of microseconds since 1601.
fn moment(ticks: u64) -> Option<Timestamp> {
    const TO_1970: i64 = 11_644_473_600;
    if ticks == 0 {
        return None;
    }
    let seconds = i64::try_from(ticks / 10_000_000).ok()? - TO_1970;
    Some(Timestamp { seconds, nanos: u32::try_from(ticks % 10_000_000).ok()? * 100 })
}
