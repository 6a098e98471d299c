//! exFAT (Microsoft's exFAT specification 1.00). Names compare without case. Times carry their own offset from UTC.
//!
//! A file's number is the place of its entry on the device.

use std::ops::ControlFlow;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Memory, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Timestamp, Xattr};
use crate::fat::{moment, same_name};
use crate::fields::{Fields, corrupt, invalid};
use crate::mapped::{MappedFile, Runs};
use crate::probe::Kind;
use crate::text::{le_units, utf8_of};

const ROOT: FileId = FileId(0);
const ENTRY: usize = 32;
/// The longest folder that the specification allows.
const LONGEST_FOLDER: u64 = 256 << 20;

const BITMAP_OR_OTHER_END: u8 = 0;
const LABEL: u8 = 0x83;
const FILE: u8 = 0x85;
const STREAM: u8 = 0xC0;
const NAME: u8 = 0xC1;

/// A filesystem that is open for reading.
#[derive(Debug)]
pub(crate) struct ExFat {
    cache: Cache,
    table: u64,
    data: u64,
    cluster_size: u64,
    clusters: u32,
    root_cluster: u32,
    info: Info,
}

/// A file's set of entries.
#[derive(Clone, Debug)]
struct Set {
    name: Vec<u8>,
    at: u64,
    attributes: u16,
    created: Option<Timestamp>,
    modified: Option<Timestamp>,
    accessed: Option<Timestamp>,
    is_contiguous: bool,
    valid: u64,
    first: u32,
    size: u64,
}

impl Set {
    const fn is_folder(&self) -> bool {
        self.attributes & 0x10 != 0
    }
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let bytes = device.read_vec(0, device.size().min(512))?;
    let fields = Fields::new(&bytes, "exFAT boot sector");
    if fields.bytes(3, 8)? != b"EXFAT   " {
        return Err(Error::new(ErrorKind::NotThisFormat, "exFAT: no boot sector"));
    }
    let (sector_log, cluster_log) = (u32::from(fields.u8(108)?), u32::from(fields.u8(109)?));
    if !(9..=12).contains(&sector_log) || sector_log + cluster_log > 25 {
        return Err(fields.corrupt(format!("sectors of 2^{sector_log} bytes, clusters of 2^{cluster_log} sectors")));
    }
    let sector = 1_u64 << sector_log;
    let clusters = fields.le32(92)?;
    if clusters == 0 || clusters > u32::MAX - 10 {
        return Err(fields.corrupt(format!("{clusters} clusters")));
    }
    let table = u64::from(fields.le32(80)?) * sector;
    let table_length = u64::from(fields.le32(84)?) * sector;
    if table_length < (u64::from(clusters) + 2) * 4 {
        return Err(fields.corrupt(format!("a table of {table_length} bytes for {clusters} clusters")));
    }
    // Of two tables, a flag says which one counts.
    let second = fields.u8(110)? == 2 && fields.le16(106)? & 1 != 0;
    let serial = fields.le32(100)?;
    let info = Info {
        kind: Kind::ExFat,
        version: "exFAT".to_owned(),
        label: String::new(),
        uuid: Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF)),
        block_size: 1 << (sector_log + cluster_log),
        size: fields.le64(72)?.saturating_mul(sector),
        notes: Vec::new(),
    };
    let (data, cluster_size) = (u64::from(fields.le32(88)?) * sector, sector << cluster_log);
    // Clusters that are not on the device are in no chain: a lie about their number costs no time.
    let held = u32::try_from(device.size().saturating_sub(data) / cluster_size).unwrap_or(u32::MAX);
    let mut this = ExFat {
        table: if second { table + table_length } else { table },
        data,
        cluster_size,
        clusters: clusters.min(held),
        root_cluster: fields.le32(96)?,
        cache: Cache::new(device),
        info,
    };
    this.info.label = this.label()?;
    Ok(Arc::new(this))
}

impl ExFat {
    fn cluster(&self, cluster: u32) -> Result<u64> {
        match cluster.checked_sub(2) {
            Some(index) if index < self.clusters => Ok(self.data + u64::from(index) * self.cluster_size),
            _ => Err(corrupt(format!("exFAT: cluster {cluster}, there are 2 to {}", u64::from(self.clusters) + 1))),
        }
    }

    /// The clusters of a chain: to its end, or as many as `size` takes.
    fn chain(&self, first: u32, size: Option<u64>) -> Result<Runs> {
        let most = size.map_or(LONGEST_FOLDER / self.cluster_size + 1, |size| size.div_ceil(self.cluster_size));
        let (mut runs, mut cluster) = (Runs::default(), first);
        for index in 0..most {
            runs.push(index * self.cluster_size, self.cluster_size, self.cluster(cluster)?)?;
            if index >= u64::from(self.clusters) {
                return Err(corrupt(format!("exFAT: the chain of cluster {first} goes round")));
            }
            let mut bytes = [0; 4];
            self.cache.read(&mut bytes, self.table + u64::from(cluster) * 4)?;
            cluster = u32::from_le_bytes(bytes);
            if cluster >= 0xFFFF_FFF8 {
                break;
            }
        }
        Ok(runs)
    }

    fn runs(&self, set: &Set) -> Result<Runs> {
        if !set.is_contiguous {
            return self.chain(set.first, Some(set.size));
        }
        let length = set.size.checked_next_multiple_of(self.cluster_size);
        let length = length.ok_or_else(|| corrupt("exFAT: a file's length overflows"))?;
        let start = self.cluster(set.first)?;
        if length > u64::from(self.clusters) * self.cluster_size {
            return Err(corrupt(format!("exFAT: a file of {} bytes in {} clusters", set.size, self.clusters)));
        }
        let mut runs = Runs::default();
        runs.push(0, length, start)?;
        Ok(runs)
    }

    fn folder_runs(&self, dir: FileId) -> Result<Runs> {
        if dir == ROOT {
            return self.chain(self.root_cluster, None);
        }
        let set = self.set(dir)?;
        if !set.is_folder() {
            return Err(invalid(format!("exFAT: the entry at {} is no folder", dir.0)));
        }
        if set.size > LONGEST_FOLDER {
            return Err(corrupt(format!("exFAT: a folder of {} bytes", set.size)));
        }
        if set.size == 0 { Ok(Runs::default()) } else { self.runs(&set) }
    }

    /// Hands out all entries that are in use, with the places of those that follow.
    fn sets(&self, dir: FileId, each: &mut dyn FnMut(Set) -> ControlFlow<()>) -> Result<()> {
        let places: Vec<u64> = self
            .folder_runs(dir)?
            .places()
            .flat_map(|(place, length)| (0..length / ENTRY as u64).map(move |index| place + index * ENTRY as u64))
            .collect();
        let mut index = 0;
        while let Some(place) = places.get(index) {
            let mut head = [0; ENTRY];
            self.cache.read(&mut head, *place)?;
            if head[0] == BITMAP_OR_OTHER_END {
                break;
            }
            index += 1;
            if head[0] != FILE {
                continue;
            }
            let count = usize::from(head[1]);
            let rest = places.get(index..index + count);
            let rest = rest.ok_or_else(|| corrupt(format!("exFAT: the set at {place} is cut off")))?;
            let set = self.parse(&head, *place, rest)?;
            index += count;
            if each(set).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn parse(&self, head: &[u8; ENTRY], at: u64, rest: &[u64]) -> Result<Set> {
        let fields = Fields::new(head, "exFAT file");
        let (mut stream, mut units) = (None, Vec::new());
        for place in rest {
            let mut raw = [0; ENTRY];
            self.cache.read(&mut raw, *place)?;
            match raw[0] {
                STREAM if stream.is_none() => stream = Some(raw),
                NAME => units.extend(le_units(&raw[2..])),
                _ => {}
            }
        }
        let stream = stream.ok_or_else(|| fields.corrupt(format!("the set at {at} has no stream")))?;
        let stream = Fields::new(&stream, "exFAT stream");
        units.truncate(stream.u8(3)?.into());
        let name = utf8_of(units);
        if name.is_empty()
            || matches!(name.as_slice(), b"." | b"..")
            || name.iter().any(|byte| matches!(byte, 0 | b'/'))
        {
            return Err(fields.corrupt(format!("the set at {at} has the name \"{}\"", name.escape_ascii())));
        }
        let size = stream.le64(24)?;
        Ok(Set {
            name,
            at,
            attributes: fields.le16(4)?,
            created: time(fields.le32(8)?, fields.u8(20)?, fields.u8(22)?),
            modified: time(fields.le32(12)?, fields.u8(21)?, fields.u8(23)?),
            accessed: time(fields.le32(16)?, 0, fields.u8(24)?),
            is_contiguous: stream.u8(1)? & 2 != 0,
            valid: stream.le64(8)?.min(size),
            first: stream.le32(20)?,
            size,
        })
    }

    /// The set that begins at a place. Its entries stand in the same cluster or where that one's chain goes on.
    fn set(&self, id: FileId) -> Result<Set> {
        let mut head = [0; ENTRY];
        if id.0 < self.data || !id.0.is_multiple_of(ENTRY as u64) {
            return Err(corrupt(format!("exFAT: there is no entry at {}", id.0)));
        }
        self.cache.read(&mut head, id.0)?;
        if head[0] != FILE {
            return Err(corrupt(format!("exFAT: the entry at {} is not that of a file", id.0)));
        }
        let mut places = Vec::new();
        let mut place = id.0;
        for _ in 0..head[1] {
            let next = place + ENTRY as u64;
            let within = (next - self.data) % self.cluster_size;
            place = if within == 0 { self.next_place(place)? } else { next };
            places.push(place);
        }
        self.parse(&head, id.0, &places)
    }

    /// Where a folder goes on behind the last entry of a cluster. A folder without a chain goes on in the next cluster.
    fn next_place(&self, place: u64) -> Result<u64> {
        let index = (place - self.data) / self.cluster_size;
        let cluster = u32::try_from(index + 2).map_err(|_| corrupt("exFAT: a place behind the clusters"))?;
        let mut bytes = [0; 4];
        self.cache.read(&mut bytes, self.table + u64::from(cluster) * 4)?;
        match u32::from_le_bytes(bytes) {
            0 | 0xFFFF_FFF7.. => self.cluster(cluster + 1),
            next => self.cluster(next),
        }
    }

    fn label(&self) -> Result<String> {
        for (place, length) in self.chain(self.root_cluster, None)?.places() {
            for index in 0..length / ENTRY as u64 {
                let mut raw = [0; ENTRY];
                self.cache.read(&mut raw, place + index * ENTRY as u64)?;
                match raw[0] {
                    LABEL => {
                        let units: Vec<u16> = le_units(&raw[2..24]).take(raw[1].into()).collect();
                        return Ok(String::from_utf8_lossy(&utf8_of(units)).into_owned());
                    }
                    BITMAP_OR_OTHER_END => return Ok(String::new()),
                    _ => {}
                }
            }
        }
        Ok(String::new())
    }
}

/// A time with its hundredths and its offset from UTC in quarters of an hour, where it has one.
fn time(stamp: u32, hundredths: u8, offset: u8) -> Option<Timestamp> {
    let [a, b, c, d] = stamp.to_le_bytes();
    let local = moment(u16::from_le_bytes([c, d]), u16::from_le_bytes([a, b]), hundredths.min(199))?;
    if offset & 0x80 == 0 {
        return Some(local);
    }
    // Seven bits with a sign.
    let quarters = i64::from((offset << 1).cast_signed() >> 1);
    Some(Timestamp { seconds: local.seconds - quarters * 900, ..local })
}

impl FileSystem for ExFat {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        ROOT
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        let set = if id == ROOT { None } else { Some(self.set(id)?) };
        let is_folder = set.as_ref().is_none_or(Set::is_folder);
        let read_only = set.as_ref().is_some_and(|set| set.attributes & 1 != 0);
        let all = if is_folder { 0o755 } else { 0o644 };
        let size = set.as_ref().filter(|_| !is_folder).map_or(0, |set| set.size);
        Ok(Metadata {
            kind: if is_folder { FileKind::Directory } else { FileKind::Regular },
            permissions: if read_only { all & !0o222 } else { all },
            owner: Owner::default(),
            size,
            allocated: size.saturating_add(self.cluster_size - 1) / self.cluster_size * self.cluster_size,
            links: 1,
            modified: set.as_ref().and_then(|set| set.modified),
            accessed: set.as_ref().and_then(|set| set.accessed),
            changed: None,
            created: set.as_ref().and_then(|set| set.created),
            device: None,
        })
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        self.sets(dir, &mut |set| {
            let kind = Some(if set.is_folder() { FileKind::Directory } else { FileKind::Regular });
            each(Entry { name: set.name, id: FileId(set.at), kind })
        })
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        let mut found = None;
        self.sets(dir, &mut |set| {
            if same_name(&set.name, name) {
                found = Some(FileId(set.at));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let set = if id == ROOT { None } else { Some(self.set(id)?) };
        let Some(set) = set.filter(|set| !set.is_folder()) else {
            return Err(invalid(format!("exFAT: the entry at {} is no file", id.0)));
        };
        if set.size == 0 {
            return Ok(Arc::new(Memory::new(0)));
        }
        let runs = self.runs(&set)?;
        if runs.end() < set.size {
            return Err(corrupt(format!("exFAT: the file at {} has {} bytes and fewer clusters", id.0, set.size)));
        }
        Ok(Arc::new(MappedFile::new(Arc::clone(self.cache.device()), runs, set.size, set.valid)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        Err(invalid(format!("exFAT: the entry at {} is no symbolic link", id.0)))
    }

    fn xattrs(&self, _id: FileId) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("exFAT: the entry at {} has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}
