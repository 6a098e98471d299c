//! XFS of versions 4 and 5 (the XFS developers' "Filesystem Algorithms & Data Structures").
//!
//! Read here: all forms of folders, extents and extent trees, sparse inodes, times beyond 2038, large extent counts, extended
//! attributes with access control lists. Checksums are compared in the superblock and in inodes.
//!
//! Refused by name: a log that holds changes that were not played back, files on a real-time device.

mod dir;
mod inode;
mod log;
mod superblock;
mod xattr;

use std::ops::ControlFlow;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, Memory, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Stream, Xattr};
use crate::fields::{Fields, corrupt, in_memory, invalid, unsupported};
use crate::probe::Kind;
use inode::Form;
use superblock::Superblock;

/// The longest target of a symbolic link.
const LONGEST_LINK: u64 = 1024;

/// A filesystem that is open for reading.
#[derive(Debug)]
pub(crate) struct Xfs {
    cache: Cache,
    superblock: Superblock,
    info: Info,
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let superblock = Superblock::read(&*device)?;
    let info = Info {
        kind: Kind::Xfs,
        version: if superblock.is_5 { "XFS (v5)".to_owned() } else { "XFS (v4)".to_owned() },
        label: superblock.label.clone(),
        uuid: superblock.uuid.clone(),
        block_size: superblock.block_size,
        size: superblock.blocks.saturating_mul(superblock.block_size.into()),
        notes: Vec::new(),
    };
    let this = Xfs { cache: Cache::new(device), superblock, info };
    if !this.is_log_clean()? {
        return Err(unsupported("XFS: the log holds changes that were not played back")
            .with_remedy("mount the filesystem once and unmount it"));
    }
    Ok(Arc::new(this))
}

impl FileSystem for Xfs {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        FileId(self.superblock.root)
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
            return Err(invalid(format!("XFS: inode {} is no regular file", id.0)));
        }
        if inode.is_real_time() {
            return Err(unsupported(format!("XFS: inode {} stands on the real-time device", id.0)));
        }
        if inode.form == Form::Local {
            let size = in_memory(inode.size, 2048, "a file in its inode")?;
            let bytes = Fields::new(inode.data_fork(), "XFS inode").bytes(0, size)?;
            return Ok(Arc::new(Memory::from(bytes.to_vec())));
        }
        Ok(Arc::new(self.mapped(&inode, inode.size)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        if inode.kind != FileKind::Symlink {
            return Err(invalid(format!("XFS: inode {} is no symbolic link", id.0)));
        }
        let length = in_memory(inode.size, LONGEST_LINK, "a symbolic link")?;
        if inode.form == Form::Local {
            return Fields::new(inode.data_fork(), "XFS link").bytes(0, length).map(<[u8]>::to_vec);
        }
        let block_size = u64::from(self.superblock.block_size);
        let header = if self.superblock.is_5 { 56 } else { 0 };
        let blocks = inode.size.div_ceil(block_size - header);
        let file = self.mapped(&inode, blocks * block_size)?;
        let mut target = Vec::new();
        for block in 0..blocks {
            let bytes = file.read_vec(block * block_size, block_size)?;
            if header > 0 && &bytes[..4] != b"XSLM" {
                return Err(corrupt(format!("XFS: a block of the link {} without its mark", id.0)));
            }
            target.extend_from_slice(&bytes[usize::try_from(header).unwrap_or(0)..]);
        }
        target.truncate(length);
        Ok(target)
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        self.attributes(&self.inode(id)?)
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("XFS: inode {} has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}
