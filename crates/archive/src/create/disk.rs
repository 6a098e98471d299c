//! One disk: its volumes, and what stands beside their files.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Memory, Result, Slice, is_all_zero};
use transload_filesystem::{self as filesystem, FileKind, FileSystemExt, Follow, Metadata, Owner};
use transload_volume::{Contents as TableContents, Role, Scheme, Usage, Volume};

use super::files::Reader;
use super::folders::{Entry, Folders};
use super::packer::Packing;
use super::volume::Walker;
use super::{CreateSettings, DiskSource, RawVolumes, Report};
use crate::format::node::{Node, Tree};
use crate::format::snapshot::Snapshot;
use crate::repository::Repository;
use crate::sidecar::{Contents, Gap, Sidecar, VERSION, VolumeEntry};
use crate::view::View;

/// What is kept of a gap between volumes: all up to this length, else its two ends. Boot loaders stand in the first
/// mebibyte of a disk, tables at its two ends.
const LONGEST_GAP: u64 = 64 << 20;
const END_OF_GAP: u64 = 1 << 20;
/// What is kept of the beginning of a volume: boot sectors and headers.
const HEAD: u64 = 8 << 10;
/// What is kept of a physical volume: its label and the description of its group.
const HEAD_OF_MEMBER: u64 = 1 << 20;
/// How hard the bytes of disks are compressed that are no files.
const LEVEL: i32 = 3;

/// One disk that is being archived.
pub(super) struct DiskWalk<'a, 'b> {
    pub(super) repository: &'a Arc<Repository>,
    pub(super) settings: &'a CreateSettings,
    pub(super) reader: &'a mut Reader<'b>,
    pub(super) folders: &'a mut Folders<'b>,
    pub(super) report: &'a mut Report,
    pub(super) disk: &'a DiskSource,
    pub(super) number: u64,
    pub(super) parent: Option<&'a Snapshot>,
}

/// A folder that is made for the archive.
#[derive(Default)]
struct Made {
    entries: BTreeMap<String, Item>,
}

enum Item {
    Entry(Box<Entry>),
    Folder(Made),
}

impl Made {
    /// Puts an entry at a path of names that are separated by `/`.
    fn put(&mut self, path: &str, entry: Entry) {
        match path.split_once('/') {
            None => drop(self.entries.insert(path.to_owned(), Item::Entry(Box::new(entry)))),
            Some((first, rest)) => {
                let folder = self.entries.entry(first.to_owned()).or_insert_with(|| Item::Folder(Self::default()));
                if let Item::Folder(folder) = folder {
                    folder.put(rest, entry);
                }
            }
        }
    }
}

/// How many bytes the files of the disks have, as far as they can be read.
pub(super) fn total(disks: &[DiskSource]) -> u64 {
    let volumes = disks.iter().flat_map(|disk| disk.volumes.iter());
    let opened = volumes.filter_map(|volume| volume.device().and_then(filesystem::open).ok());
    opened
        .map(|filesystem| {
            let visits = filesystem.walk(filesystem.root()).filter_map(Result::ok);
            visits
                .filter(|visit| visit.metadata.kind == FileKind::Regular)
                .map(|visit| visit.metadata.size)
                .sum::<u64>()
        })
        .sum()
}

impl DiskWalk<'_, '_> {
    /// Goes through the disk, and answers its folder.
    pub(super) fn walk(&mut self) -> Result<Entry> {
        let mut made = Made::default();
        let before = self.before();
        let mut sidecar = self.sidecar();
        let volumes: Vec<Volume> = self.disk.volumes.iter().cloned().collect();
        for (number, volume) in (1..).zip(&volumes) {
            let entry = self.volume(number, volume, before.as_ref(), &mut made)?;
            sidecar.volumes.push(entry);
        }
        sidecar.gaps = self.gaps(&mut made)?;
        if let Ok(found) = transload_inspect::inspect(self.disk.device.as_ref(), &self.disk.volumes) {
            let name = |system: &transload_inspect::System| {
                system.name.clone().unwrap_or_else(|| format!("{:?}", system.family))
            };
            sidecar.systems = found.systems.iter().map(name).collect();
        }
        let json = serde_json::to_vec_pretty(&sidecar).map_err(|error| Error::io("disk.json", error.into()))?;
        let file = self.bytes("disk.json", json)?;
        made.put("disk.json", file);
        self.made(&self.disk.name.clone(), made)
    }

    fn sidecar(&self) -> Sidecar {
        let disk = self.disk;
        let table = match disk.volumes.contents() {
            TableContents::Table(table) => Some(table),
            TableContents::Whole(_) => None,
        };
        let scheme = |scheme| match scheme {
            Scheme::Mbr => "mbr".to_owned(),
            Scheme::Gpt => "gpt".to_owned(),
        };
        Sidecar {
            version: VERSION,
            name: disk.name.clone(),
            origin: disk.origin.clone(),
            format: disk.format.clone(),
            size: disk.device.size(),
            table: table.map(|table| scheme(table.scheme())),
            disk_id: table.map(|table| table.id().to_string()),
            sector_size: table.map(transload_volume::Table::sector_size),
            gaps: Vec::new(),
            volumes: Vec::new(),
            systems: Vec::new(),
        }
    }

    /// The same disk in an earlier snapshot.
    fn before(&self) -> Option<(Arc<View>, Sidecar)> {
        let view = Arc::new(View::new(Arc::clone(self.repository), self.parent?).ok()?);
        let sidecar = Sidecar::read(&*view, &self.disk.name).ok()?;
        Some((view, sidecar))
    }

    /// The files of the same volume in an earlier snapshot: one with the same UUID in its superblock.
    fn tree_before(&self, entry: &VolumeEntry, before: Option<&(Arc<View>, Sidecar)>) -> Option<Arc<Tree>> {
        let (view, sidecar) = before?;
        let uuid = entry.uuid.as_ref()?;
        let same = sidecar.volumes.iter().find(|old| old.uuid.as_ref() == Some(uuid) && old.name == entry.name)?;
        let path = format!("/{}/{}", self.disk.name, same.files());
        let found = view.resolve(path.as_bytes(), Follow::AllButLast).ok()?;
        self.repository.tree(&view.subtree(found.id)?).ok()
    }

    fn volume(
        &mut self,
        number: u64,
        volume: &Volume,
        before: Option<&(Arc<View>, Sidecar)>,
        made: &mut Made,
    ) -> Result<VolumeEntry> {
        let place = format!("{}#{}", self.disk.name, volume.name);
        let mut entry = describe(volume);
        if volume.partition.as_ref().is_some_and(|partition| partition.role == Role::Extended) {
            return Ok(entry);
        }
        let device = match volume.device() {
            Ok(device) => device,
            Err(error) => {
                self.report.warnings.push(format!("{place}: left out: {error}"));
                self.report.left_out += 1;
                entry.unreadable = Some(error.to_string());
                return Ok(entry);
            }
        };
        let signature = volume.signature()?;
        let usage = signature.as_ref().map(|signature| signature.format.usage());
        if let Some(signature) = signature {
            entry.filesystem = Some(signature.format.name().to_owned());
            entry.variant = signature.format.variant().map(str::to_owned);
            (entry.label, entry.uuid) = (signature.label, signature.uuid);
        }
        let opened = match usage {
            Some(Usage::Filesystem) => match filesystem::open(Arc::clone(&device)) {
                Ok(filesystem) => Some(filesystem),
                Err(error) => {
                    self.report.warnings.push(format!("{place}: stored byte by byte: {error}"));
                    entry.unreadable = Some(error.to_string());
                    None
                }
            },
            _ => None,
        };
        let is_member_of_group = entry.filesystem.as_deref() == Some("LVM2_member")
            && self.disk.volumes.groups().groups.iter().any(|group| group.missing.is_empty());
        let only_head = usage == Some(Usage::Swap) || is_member_of_group;
        let wanted = match &self.settings.raw {
            RawVolumes::All => true,
            RawVolumes::Named(names) => names.contains(&entry.name),
            RawVolumes::Unreadable => false,
        };
        let is_raw = wanted || (opened.is_none() && !only_head);
        entry.contents = match (&opened, is_raw, only_head) {
            (Some(_), true, _) => Contents::FilesAndRaw,
            (Some(_), false, _) => Contents::Files,
            (None, true, _) => Contents::Raw,
            (None, false, true) => Contents::Head,
            (None, false, false) => Contents::Nothing,
        };
        if let Some(filesystem) = opened {
            entry.block_size = Some(filesystem.info().block_size);
            self.report.warnings.extend(filesystem.info().notes.iter().map(|note| format!("{place}: {note}")));
            let parent = self.tree_before(&entry, before);
            let name = entry.name.rsplit('/').next().unwrap_or_default().to_owned();
            let mut walker = Walker {
                repository: self.repository,
                settings: self.settings,
                reader: self.reader,
                folders: self.folders,
                report: self.report,
                filesystem: &*filesystem,
                place,
                device: (self.number + 1) << 32 | number,
                linked: HashMap::new(),
            };
            let root = walker.walk(name.as_bytes(), parent)?;
            made.put(&entry.files(), root);
        }
        if is_raw {
            let file = self.file(&entry.raw(), &*device, Packing::Zstd(LEVEL))?;
            made.put(&entry.raw(), file);
        }
        if entry.contents != Contents::Raw {
            let length = if is_member_of_group { HEAD_OF_MEMBER } else { HEAD }.min(device.size());
            let head = device.read_vec(0, length)?;
            if !is_all_zero(&head) {
                let file = self.bytes(&entry.boot(), head)?;
                made.put(&entry.boot(), file);
            }
        }
        Ok(entry)
    }

    /// Stores what stands outside the volumes.
    fn gaps(&mut self, made: &mut Made) -> Result<Vec<Gap>> {
        let device = Arc::clone(&self.disk.device);
        let mut gaps = Vec::new();
        for range in outside(&self.disk.volumes, device.size()) {
            let data = trimmed(&*device, range)?;
            if data.is_empty() {
                continue;
            }
            let (offset, length) = (data.start, data.end - data.start);
            let file = format!("gaps/{offset}.bin");
            let piece = Slice::new(Arc::clone(&device), data)?;
            let entry = self.file(&file, &piece, Packing::Zstd(LEVEL))?;
            made.put(&file, entry);
            gaps.push(Gap { offset, length, file });
        }
        Ok(gaps)
    }

    fn bytes(&mut self, path: &str, bytes: Vec<u8>) -> Result<Entry> {
        self.file(path, &Memory::from(bytes), Packing::Zstd(LEVEL))
    }

    fn file(&mut self, path: &str, contents: &dyn BlockRead, packing: Packing) -> Result<Entry> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let node = Node::new(name.as_bytes(), &self.metadata(FileKind::Regular, contents.size()));
        Ok(Entry::File(node, self.reader.read(contents, packing)?))
    }

    /// What is made for the archive has no owner and the time 0, so that the same disk gives the same trees.
    fn metadata(&self, kind: FileKind, size: u64) -> Metadata {
        let time = Some(transload_filesystem::Timestamp::default());
        Metadata {
            kind,
            permissions: if kind == FileKind::Directory { 0o755 } else { 0o644 },
            owner: Owner::default(),
            size,
            allocated: size,
            links: 1,
            modified: time,
            accessed: time,
            changed: time,
            created: None,
            device: None,
        }
    }

    fn made(&mut self, name: &str, made: Made) -> Result<Entry> {
        let mut entries = Vec::new();
        for (name, item) in made.entries {
            entries.push(match item {
                Item::Entry(entry) => *entry,
                Item::Folder(folder) => self.made(&name, folder)?,
            });
        }
        let node = Node::new(name.as_bytes(), &self.metadata(FileKind::Directory, 0));
        Ok(Entry::Folder(node, self.folders.finish(entries)?))
    }
}

fn describe(volume: &Volume) -> VolumeEntry {
    let partition = volume.partition.as_ref();
    VolumeEntry {
        name: volume.name.to_string(),
        offset: match (&volume.name, partition) {
            (_, Some(partition)) => Some(partition.range.start),
            (transload_volume::VolumeName::Whole, None) => Some(0),
            _ => None,
        },
        length: volume.size,
        kind: partition.map(|partition| partition.kind.to_string()),
        partition_name: partition.map(|partition| partition.name.clone()).unwrap_or_default(),
        partition_uuid: partition.and_then(|partition| partition.guid).map(|guid| guid.to_string()),
        filesystem: None,
        variant: None,
        label: None,
        uuid: None,
        block_size: None,
        contents: Contents::Nothing,
        unreadable: None,
    }
}

/// The ranges of a disk that are in no volume, the middles of long ones left out.
fn outside(volumes: &transload_volume::Volumes, size: u64) -> Vec<Range<u64>> {
    if matches!(volumes.contents(), TableContents::Whole(_)) {
        return Vec::new();
    }
    let mut inside: Vec<Range<u64>> = volumes
        .iter()
        .filter_map(|volume| volume.partition.as_ref())
        .filter(|partition| partition.role != Role::Extended)
        .map(|partition| partition.range.clone())
        .collect();
    inside.sort_by_key(|range| range.start);
    inside.push(size..size);
    let (mut ranges, mut at) = (Vec::new(), 0);
    for range in inside {
        let end = range.start.min(size);
        if end > at && end - at > LONGEST_GAP {
            ranges.push(at..at + END_OF_GAP);
            ranges.push(end - END_OF_GAP..end);
        } else if end > at {
            ranges.push(at..end);
        }
        at = at.max(range.end);
    }
    ranges
}

/// A range without the zeroes at its two ends, in sectors.
fn trimmed(device: &dyn BlockRead, range: Range<u64>) -> Result<Range<u64>> {
    const SECTOR: u64 = 512;
    let (mut first, mut last) = (None, range.start);
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(1 << 20);
        let bytes = device.read_vec(at, length)?;
        for (number, sector) in bytes.chunks(512).enumerate() {
            if !is_all_zero(sector) {
                let start = at + number as u64 * SECTOR;
                first.get_or_insert(start);
                last = start + sector.len() as u64;
            }
        }
        at += length;
    }
    let start = first.unwrap_or(range.end);
    if last < start && first.is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("the gap {range:?} ends before it begins")));
    }
    Ok(if first.is_some() { start..last } else { range.end..range.end })
}
