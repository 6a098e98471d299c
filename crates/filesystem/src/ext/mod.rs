//! ext2, ext3 and ext4 (the kernel's `Documentation/filesystems/ext4`, revision 0 and 1 superblocks).
//!
//! Read here: extents and block maps, hash trees, inline data, 64-bit and flexible block groups, metadata checksums (checked
//! in the superblock, inodes, extent nodes and the journal), extended attributes in all three places, access control lists.
//! A journal that a crash left behind is played back in memory.
//!
//! Refused by name: compression, encrypted files, an external journal that would have to be played back, fast commits that
//! wait to be.

mod checksum;
mod dir;
mod inline;
mod inode;
mod journal;
mod map;
mod mkfs;
mod superblock;
mod write;
mod xattr;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use transload_block::{BlockRead, BlockReadExt, Memory, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Stream, Xattr};
use crate::fields::{in_memory, invalid, unsupported};
use crate::probe::Kind;
pub(crate) use mkfs::make;
use superblock::{Superblock, incompat};
pub(crate) use write::open as open_writable;

const ROOT: FileId = FileId(2);
/// The longest target of a symbolic link is a block of the largest size.
const LONGEST_LINK: u64 = 64 << 10;

/// A filesystem that is open for reading.
#[derive(Debug)]
pub(crate) struct Ext {
    cache: Cache,
    superblock: Superblock,
    info: Info,
    /// What a writer holds in memory; nothing where the filesystem is open for reading.
    state: Option<Mutex<write::State>>,
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Ext::open(device)?))
}

impl Ext {
    pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Self> {
        let superblock = Superblock::read(&*device)?;
        if !superblock.has(incompat::RECOVER) {
            return Ok(Self::over(device, superblock, Vec::new()));
        }
        if superblock.journal_inode == 0 {
            return Err(unsupported("ext: an external journal holds changes that were not played back")
                .with_remedy("mount the filesystem once, or run e2fsck on it"));
        }
        let before = Self::over(Arc::clone(&device), superblock, Vec::new());
        let inode = before.inode(FileId(before.superblock.journal_inode.into()))?;
        let journal = before.mapped(&inode)?;
        let Some(replayed) = journal::replay(&device, &before.superblock, journal)? else {
            return Ok(before);
        };
        let note = format!("the journal holds changes to {} blocks, played back in memory", replayed.count());
        let device: Arc<dyn BlockRead> = Arc::new(replayed);
        let superblock = Superblock::read(&*device)?;
        Ok(Self::over(device, superblock, vec![note]))
    }

    fn over(device: Arc<dyn BlockRead>, superblock: Superblock, notes: Vec<String>) -> Self {
        Self::with_cache(Cache::new(device), superblock, notes)
    }

    fn with_cache(cache: Cache, superblock: Superblock, mut notes: Vec<String>) -> Self {
        if !superblock.clean {
            notes.push("it is marked as not clean: e2fsck would look at it".to_owned());
        }
        let info = Info {
            kind: Kind::Ext,
            version: superblock.version().to_owned(),
            label: superblock.label.clone(),
            uuid: superblock.uuid.clone(),
            block_size: superblock.block_size,
            size: superblock.blocks.saturating_mul(superblock.block_size.into()),
            notes,
        };
        Self { cache, superblock, info, state: None }
    }
}

impl FileSystem for Ext {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        ROOT
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        self.inode(id)?.metadata(self.superblock.block_size)
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        self.read_entries(&self.inode(dir)?, each)
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        crate::contract::find_entry(self, dir, name)
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let inode = self.inode(id)?;
        if inode.kind != FileKind::Regular {
            return Err(invalid(format!("inode {} is no regular file", id.0)));
        }
        if inode.has(inode::flag::INLINE_DATA) {
            return Ok(Arc::new(Memory::from(self.inline_bytes(&inode)?)));
        }
        Ok(Arc::new(self.mapped(&inode)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        if inode.kind != FileKind::Symlink {
            return Err(invalid(format!("inode {} is no symbolic link", id.0)));
        }
        if inode.has(inode::flag::ENCRYPT) {
            return Err(unsupported(format!("inode {}: a link under ext4 encryption (fscrypt)", id.0)));
        }
        if inode.has(inode::flag::INLINE_DATA) {
            return self.inline_bytes(&inode);
        }
        let length = in_memory(inode.size, LONGEST_LINK, "a symbolic link")?;
        if inode.is_fast_link(self.superblock.block_size) {
            return Ok(inode.block_area()[..length].to_vec());
        }
        self.mapped(&inode)?.read_vec(0, inode.size)
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        self.attributes(&self.inode(id)?)
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("inode {}: ext has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}
