//! Writing to ext2, ext3 and ext4: files and folders are made, changed and removed while nothing has the filesystem mounted.
//!
//! As e2fsprogs does it, and not as the kernel does: past the journal, which has to be empty. Metadata stays in pages until
//! it is flushed, and the counts and checksums of groups and superblock are written then.
//!
//! Folders are lists here. A hash tree over a folder that gets a new name is taken off, which every reader understands:
//! the kernel makes a new one only for folders that grow from one block.

mod allocate;
mod directory;
mod group;
mod map;
mod node;
mod superblock;
mod xattr;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{BlockRead, BlockWrite, Error, ErrorKind, Result};

use super::inode::{Inode, flag};
use super::superblock::{Superblock, incompat};
use super::{Ext, LONGEST_LINK};
use crate::cache::Cache;
use crate::contract::{FileId, FileKind, Timestamp};
use crate::fields::{invalid, unsupported};
use crate::write::{Attributes, FileSystemWrite, Keeps};
use group::Group;
pub(super) use group::set as set_bit;
pub(super) use superblock::halves;
pub(super) use superblock::refuse_unwritable;

/// What is held in memory while the filesystem is written.
#[derive(Debug)]
pub(crate) struct State {
    groups: Vec<Group>,
    /// The superblock as it stands on the disk, with the changes.
    superblock: Vec<u8>,
    free_blocks: u64,
    free_inodes: u32,
    /// Where the search for free blocks goes on.
    next_block: u64,
    /// The names of the folder that was written to last.
    names: Option<(u32, HashMap<Vec<u8>, u32>)>,
    /// The time that new files get where nothing else is said.
    now: Timestamp,
}

/// Opens the filesystem on `device` for writing. Files get `now` as their time where they bring none.
pub(crate) fn open(device: Arc<dyn BlockWrite>, now: Timestamp) -> Result<Arc<dyn FileSystemWrite>> {
    let superblock = Superblock::read(&*device)?;
    let raw = refuse_unwritable(&*device, &superblock)?;
    let mut ext = Ext::with_cache(Cache::writable(device), superblock, Vec::new());
    let state = ext.load_state(raw, now)?;
    ext.state = Some(Mutex::new(state));
    Ok(Arc::new(ext))
}

impl Ext {
    pub(super) fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.as_ref();
        let state = state.ok_or_else(|| Error::new(ErrorKind::ReadOnly, "ext: the filesystem is open for reading"))?;
        Ok(state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has `fill` give a new inode what it names, and puts it into its folder. What was taken for one that does not come to be
    /// is given back.
    fn place(
        &self,
        state: &mut State,
        parent: Inode,
        name: &[u8],
        mut inode: Inode,
        fill: impl FnOnce(&mut State, &mut Inode) -> Result<()>,
    ) -> Result<FileId> {
        let filled = fill(state, &mut inode).and_then(|()| self.write_inode(&mut inode));
        let placed = filled.and_then(|()| self.insert(state, parent, name, inode.number, inode.kind));
        if let Err(error) = placed {
            // The first error is the one to tell.
            drop(self.free_inode(state, &mut inode));
            return Err(error);
        }
        Ok(FileId(inode.number.into()))
    }

    /// A folder that a name is to be put into, where the name is free and can be one.
    fn folder_for(&self, state: &mut State, dir: FileId, name: &[u8]) -> Result<Inode> {
        let folder = self.inode(dir)?;
        if folder.kind != FileKind::Directory {
            return Err(invalid(format!("inode {} is no folder", dir.0)));
        }
        if name.is_empty()
            || name.len() > 255
            || matches!(name, b"." | b"..")
            || name.iter().any(|b| matches!(b, 0 | b'/'))
        {
            return Err(invalid(format!("\"{}\" cannot be a name in ext", name.escape_ascii())));
        }
        if self.names(state, &folder)?.contains_key(name) {
            let text = format!("\"{}\" exists already", String::from_utf8_lossy(name));
            return Err(Error::new(ErrorKind::Denied, text));
        }
        Ok(folder)
    }
}

impl FileSystemWrite for Ext {
    fn keeps(&self) -> Keeps {
        Keeps { owners: true, links: true, xattrs: true }
    }

    fn create_dir(&self, dir: FileId, name: &[u8], attributes: &Attributes) -> Result<FileId> {
        let mut state = self.state()?;
        let parent = self.folder_for(&mut state, dir, name)?;
        let number = parent.number;
        let inode = self.new_inode(&mut state, FileKind::Directory, &parent, attributes)?;
        let id = self.place(&mut state, parent, name, inode, |state, inode| {
            let block = self.allocate_block(state, inode.number)?;
            self.write_block(block, &self.first_folder_block(inode, number))?;
            self.set_map(state, inode, &[(0, 1, block)])?;
            inode.set_size(self.superblock.block_size.into());
            inode.set_links(2);
            self.set_xattrs(state, inode, attributes)
        })?;
        let mut parent = self.inode(dir)?;
        parent.add_link();
        self.write_inode(&mut parent)?;
        Ok(id)
    }

    fn create_file(
        &self,
        dir: FileId,
        name: &[u8],
        contents: &dyn BlockRead,
        attributes: &Attributes,
    ) -> Result<FileId> {
        let mut state = self.state()?;
        let parent = self.folder_for(&mut state, dir, name)?;
        let inode = self.new_inode(&mut state, FileKind::Regular, &parent, attributes)?;
        self.place(&mut state, parent, name, inode, |state, inode| {
            self.write_contents(state, inode, contents)?;
            self.set_xattrs(state, inode, attributes)
        })
    }

    fn create_symlink(&self, dir: FileId, name: &[u8], target: &[u8], attributes: &Attributes) -> Result<FileId> {
        let mut state = self.state()?;
        let block_size = u64::from(self.superblock.block_size);
        if target.is_empty() || target.len() as u64 >= block_size.min(LONGEST_LINK) || target.contains(&0) {
            return Err(invalid(format!("a symbolic link of {} bytes", target.len())));
        }
        let parent = self.folder_for(&mut state, dir, name)?;
        let inode = self.new_inode(&mut state, FileKind::Symlink, &parent, attributes)?;
        self.place(&mut state, parent, name, inode, |state, inode| {
            if target.len() < 60 {
                inode.set_fast_link(target);
            } else {
                let block = self.allocate_block(state, inode.number)?;
                let mut bytes = target.to_vec();
                bytes.resize(self.superblock.block_size as usize, 0);
                self.cache.write_through(&bytes, self.block_offset(block)?)?;
                self.set_map(state, inode, &[(0, 1, block)])?;
            }
            inode.set_size(target.len() as u64);
            self.set_xattrs(state, inode, attributes)
        })
    }

    fn create_node(
        &self,
        dir: FileId,
        name: &[u8],
        kind: FileKind,
        device: (u32, u32),
        attributes: &Attributes,
    ) -> Result<FileId> {
        let mut state = self.state()?;
        if matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink) {
            return Err(invalid(format!("a {} is made in another way", kind.name())));
        }
        let parent = self.folder_for(&mut state, dir, name)?;
        let inode = self.new_inode(&mut state, kind, &parent, attributes)?;
        self.place(&mut state, parent, name, inode, |state, inode| {
            inode.set_device(kind, device)?;
            self.set_xattrs(state, inode, attributes)
        })
    }

    fn link(&self, dir: FileId, name: &[u8], id: FileId) -> Result<()> {
        let mut state = self.state()?;
        let parent = self.folder_for(&mut state, dir, name)?;
        let mut inode = self.inode(id)?;
        if inode.kind == FileKind::Directory {
            return Err(invalid(format!("inode {}: a folder has one name", id.0)));
        }
        if inode.links() >= 65_000 {
            return Err(Error::new(ErrorKind::TooLarge, format!("inode {} has 65000 names", id.0)));
        }
        inode.add_link();
        self.write_inode(&mut inode)?;
        self.insert(&mut state, parent, name, inode.number, inode.kind)
    }

    fn remove(&self, dir: FileId, name: &[u8]) -> Result<()> {
        let mut state = self.state()?;
        let folder = self.inode(dir)?;
        let found = self.names(&mut state, &folder)?.get(name).copied();
        let number = found.ok_or_else(|| crate::path::missing(name))?;
        let mut inode = self.inode(FileId(number.into()))?;
        let is_folder = inode.kind == FileKind::Directory;
        if is_folder {
            let mut empty = true;
            self.read_entries(&inode, &mut |_| {
                empty = false;
                std::ops::ControlFlow::Break(())
            })?;
            if !empty {
                return Err(invalid(format!("{}: the folder is not empty", String::from_utf8_lossy(name))));
            }
        }
        self.take_out(&mut state, &folder, name)?;
        if is_folder {
            let mut folder = self.inode(dir)?;
            folder.drop_link();
            self.write_inode(&mut folder)?;
        } else if inode.links() > 1 {
            inode.drop_link();
            return self.write_inode(&mut inode);
        }
        self.free_inode(&mut state, &mut inode)
    }

    fn set_attributes(&self, id: FileId, attributes: &Attributes) -> Result<()> {
        let mut state = self.state()?;
        let mut inode = self.inode(id)?;
        inode.apply(attributes, state.now);
        if attributes.xattrs.is_some() {
            self.set_xattrs(&mut state, &mut inode, attributes)?;
        }
        self.write_inode(&mut inode)
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.state()?;
        self.write_state(&mut state)?;
        self.cache.flush()
    }
}

/// Refuses what a writer would have to keep up with and does not.
fn refuse_inline(inode: &Inode) -> Result<()> {
    if inode.has(flag::INLINE_DATA) {
        return Err(unsupported(format!("inode {}: changing a folder with inline data", inode.number)));
    }
    Ok(())
}

/// Whether new files are mapped by extents.
fn uses_extents(superblock: &Superblock) -> bool {
    superblock.has(incompat::EXTENTS)
}
