//! FAT12, FAT16 and FAT32 with long names (Microsoft's FAT specification 1.03).
//!
//! Names compare without case. Times are local on the disk, and are read as UTC. A file's number is the place of its entry
//! on the device.

mod dir;
mod mkfs;
mod name;
mod table;
mod volume;
mod write;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use transload_block::{BlockRead, Memory, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Timestamp, Xattr};
use crate::fields::{corrupt, invalid};
use crate::mapped::MappedFile;
use crate::probe::Kind;
pub(crate) use dir::{days, moment};
pub(crate) use mkfs::make;
pub(crate) use name::same as same_name;
pub(crate) use volume::looks_like;
use volume::{Volume, Width};
pub(crate) use write::open as open_writable;

const ROOT: FileId = FileId(0);

/// A filesystem that is open.
#[derive(Debug)]
pub(crate) struct Fat {
    cache: Cache,
    volume: Volume,
    info: Info,
    counts: Mutex<Counts>,
    /// The time that new files get where nothing else is said.
    now: Timestamp,
}

/// What a writer keeps of the free clusters.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// Where the search for one goes on.
    next: u32,
    /// How many there are, where the volume says it.
    free: Option<u32>,
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let volume = Volume::read(&*device)?;
    Ok(Arc::new(Fat::over(Cache::new(device), volume)?))
}

impl Fat {
    fn over(cache: Cache, volume: Volume) -> Result<Self> {
        let info = Info {
            kind: Kind::Fat,
            version: volume.width.name().to_owned(),
            label: volume.label.clone(),
            uuid: (volume.serial != 0).then(|| format!("{:04X}-{:04X}", volume.serial >> 16, volume.serial & 0xFFFF)),
            block_size: volume.cluster_size,
            size: volume.size,
            notes: Vec::new(),
        };
        let mut this =
            Self { cache, volume, info, counts: Mutex::new(Counts { next: 2, free: None }), now: Timestamp::default() };
        if let Some(label) = this.root_label()? {
            this.info.label = label;
        }
        Ok(this)
    }

    /// The label that stands in the root folder, which counts before the one in the boot sector.
    fn root_label(&self) -> Result<Option<String>> {
        for (place, length) in self.folder_pieces(ROOT)? {
            let mut at = place;
            while at + 32 <= place + length {
                let mut raw = [0; 32];
                self.cache.read(&mut raw, at)?;
                if raw[0] == 0 {
                    return Ok(None);
                }
                if raw[0] != 0xE5 && raw[11] & 0x3F == dir::attribute::VOLUME {
                    return Ok(Some(crate::text::label(&raw[..11])));
                }
                at += 32;
            }
        }
        Ok(None)
    }

    fn is_wide(&self) -> bool {
        self.volume.width == Width::ThirtyTwo
    }
}

impl FileSystem for Fat {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        ROOT
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        if id == ROOT {
            return Ok(Metadata {
                kind: FileKind::Directory,
                permissions: 0o755,
                owner: Owner::default(),
                size: 0,
                allocated: 0,
                links: 1,
                modified: None,
                accessed: None,
                changed: None,
                created: None,
                device: None,
            });
        }
        self.metadata(&self.raw_entry(id)?)
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        self.slots(dir, &mut |slot| {
            let kind = Some(if slot.is_folder() { FileKind::Directory } else { FileKind::Regular });
            each(Entry { name: slot.name, id: FileId(slot.at), kind })
        })
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        Ok(self.find(dir, name)?.map(|slot| FileId(slot.at)))
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let raw = if id == ROOT { [0; 32] } else { self.raw_entry(id)? };
        if id == ROOT || raw[11] & dir::attribute::FOLDER != 0 {
            return Err(invalid(format!("FAT: the entry at {} is no file", id.0)));
        }
        let size = u64::from(dir::file_size(&raw));
        if size == 0 {
            return Ok(Arc::new(Memory::new(0)));
        }
        let cluster_size = u64::from(self.volume.cluster_size);
        let chain = self.chain(dir::first_cluster(&raw, self.is_wide()), size.div_ceil(cluster_size))?;
        if chain.count * cluster_size < size {
            let held = chain.count;
            return Err(corrupt(format!("FAT: the file at {} has {size} bytes and {held} clusters", id.0)));
        }
        Ok(Arc::new(MappedFile::new(Arc::clone(self.cache.device()), chain.runs, size, u64::MAX)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        Err(invalid(format!("FAT: the entry at {} is no symbolic link", id.0)))
    }

    fn xattrs(&self, _id: FileId) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("FAT: the entry at {} has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}
