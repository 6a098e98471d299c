//! btrfs, as the crate rust-fs-btrfs reads it: zlib, LZO and zstd, all checksums, one device of a single, DUP or RAID1 profile.
//!
//! Subvolumes are folders, as they are to whoever mounts the top one. A file's number is that of its tree in the upper sixteen bits
//! (as an index into those that were met) and its inode below. Holes are not told apart: they read as zeroes, and are data to
//! whoever asks.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use fs_btrfs::inode::Timestamp as Moment;
use fs_btrfs::{Error as Failure, Filesystem};
use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Error, ErrorKind, Extent, Memory, Result, check_extent,
    check_range,
};

use crate::contained::contained;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Timestamp, Xattr};
use crate::fields::{corrupt, in_memory, invalid, unsupported};
use crate::probe::Kind;
use crate::text;

const NAME: &str = "rust-fs-btrfs";
/// Bits of a file's number that hold its inode.
const INODE_BITS: u32 = 48;
/// Subvolumes that can be entered in one run.
const MOST_TREES: usize = 1 << 16;
/// What the crate reads at once: it holds as much again.
const PIECE: usize = 1 << 20;
/// The key of an entry that names a subvolume.
const SUBVOLUME: u8 = 132;
const LONGEST_LINK: u64 = 4096;
/// The folder that every tree begins with.
const FIRST_INODE: u64 = 256;

/// A filesystem that is open for reading.
#[derive(Debug)]
pub(crate) struct Btrfs {
    trees: Mutex<Vec<(u64, Tree)>>,
    info: Info,
}

/// A subvolume that is open. The crate's own type says nothing of itself.
#[derive(Clone)]
struct Tree(Arc<Filesystem>);

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tree")
    }
}

/// Our device behind the crate's interface.
struct Device(Arc<dyn BlockRead>);

impl fs_core::BlockRead for Device {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> fs_core::Result<()> {
        self.0.read_at(buf, offset).map_err(|error| fs_core::Error::Io(std::io::Error::other(error)))
    }

    fn size_bytes(&self) -> u64 {
        self.0.size()
    }
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let mut head = [0; 4096];
    device.read_at(&mut head, 0x1_0000)?;
    let label = text::label(&head[0x12B..0x22B]);
    let uuid = text::uuid(&head[0x20..0x30]);
    let fields = crate::fields::Fields::new(&head, "btrfs superblock");
    let (size, block_size, log) = (fields.le64(0x70)?, fields.le32(0x90)?, fields.le64(0x60)?);
    if fields.le64(0x88)? > 1 {
        return Err(unsupported(format!("btrfs on {} devices", fields.le64(0x88)?)));
    }
    let mut notes = Vec::new();
    if log != 0 {
        notes.push("the log holds changes since the last commit, which are not shown".to_owned());
    }
    let top = contained(NAME, || Filesystem::mount(Arc::new(Device(device))).map_err(|error| failed(&error)))?;
    let info = Info { kind: Kind::Btrfs, version: "btrfs".to_owned(), label, uuid, block_size, size, notes };
    Ok(Arc::new(Btrfs { trees: Mutex::new(vec![(0, Tree(Arc::new(top)))]), info }))
}

fn failed(error: &Failure) -> Error {
    let kind = match error {
        Failure::Io(_) => ErrorKind::Io,
        Failure::UnsupportedChecksum(_)
        | Failure::UnsupportedFeature(_)
        | Failure::UnsupportedProfile(_)
        | Failure::DirtyLog => ErrorKind::Unsupported,
        Failure::NotBtrfs { .. } => ErrorKind::NotThisFormat,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, format!("btrfs: {error}"))
}

impl Btrfs {
    fn tree(&self, id: FileId) -> Result<(Arc<Filesystem>, u64)> {
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(id.0 >> INODE_BITS).unwrap_or(usize::MAX);
        let (_, tree) = trees.get(index).ok_or_else(|| corrupt(format!("btrfs: no file has the number {}", id.0)))?;
        Ok((Arc::clone(&tree.0), id.0 & ((1 << INODE_BITS) - 1)))
    }

    /// The index of a subvolume, opened where it was not yet.
    fn subvolume(&self, tree: u64) -> Result<u64> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = trees.iter().position(|(known, _)| *known == tree) {
            return Ok(index as u64);
        }
        if trees.len() >= MOST_TREES {
            return Err(Error::new(ErrorKind::TooLarge, format!("btrfs: more than {MOST_TREES} subvolumes")));
        }
        let Some((_, Tree(top))) = trees.first().cloned() else { return Err(corrupt("btrfs: no tree is open")) };
        let opened = contained(NAME, || top.open_subvolume(tree).map_err(|error| failed(&error)))?;
        trees.push((tree, Tree(Arc::new(opened))));
        Ok(trees.len() as u64 - 1)
    }

    fn number(index: u64, inode: u64) -> Result<FileId> {
        if inode >> INODE_BITS != 0 {
            return Err(unsupported(format!("btrfs: the inode {inode}")));
        }
        Ok(FileId(index << INODE_BITS | inode))
    }

    fn inode(&self, id: FileId) -> Result<fs_btrfs::inode::Inode> {
        let (tree, inode) = self.tree(id)?;
        contained(NAME, || tree.read_inode(inode).map_err(|error| failed(&error)))
    }

    fn kind(inode: &fs_btrfs::inode::Inode) -> Result<FileKind> {
        FileKind::from_mode(inode.mode).ok_or_else(|| corrupt(format!("btrfs: the mode {:o}", inode.mode)))
    }
}

fn moment(moment: Moment) -> Option<Timestamp> {
    Some(Timestamp { seconds: moment.sec, nanos: moment.nsec.min(999_999_999) })
}

impl FileSystem for Btrfs {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        FileId(FIRST_INODE)
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        let inode = self.inode(id)?;
        let kind = Self::kind(&inode)?;
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
        // The kernel's own form: twelve bits of the major number above twenty of the minor one.
        let major = u32::try_from(inode.rdev >> 20 & 0xFFF).unwrap_or(0);
        let minor = u32::try_from(inode.rdev & 0xF_FFFF).unwrap_or(0);
        Ok(Metadata {
            kind,
            permissions: inode.mode & 0o7777,
            owner: Owner { uid: inode.uid, gid: inode.gid },
            size: inode.size,
            allocated: inode.nbytes,
            links: inode.nlink,
            modified: moment(inode.mtime),
            accessed: moment(inode.atime),
            changed: moment(inode.ctime),
            created: moment(inode.otime),
            device: is_device.then_some((major, minor)),
        })
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        let (tree, inode) = self.tree(dir)?;
        if Self::kind(&self.inode(dir)?)? != FileKind::Directory {
            return Err(invalid(format!("btrfs: inode {inode} is no folder")));
        }
        let entries = contained(NAME, || tree.read_dir(inode).map_err(|error| failed(&error)))?;
        for entry in entries {
            let name = entry.name;
            if name.is_empty()
                || matches!(name.as_slice(), b"." | b"..")
                || name.iter().any(|byte| matches!(byte, 0 | b'/'))
            {
                return Err(corrupt(format!("btrfs: inode {inode} has the name \"{}\"", name.escape_ascii())));
            }
            let id = if entry.location_type == SUBVOLUME {
                Self::number(self.subvolume(entry.ino)?, FIRST_INODE)?
            } else {
                Self::number(dir.0 >> INODE_BITS, entry.ino)?
            };
            if each(Entry { name, id, kind: None }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        crate::contract::find_entry(self, dir, name)
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let inode = self.inode(id)?;
        if Self::kind(&inode)? != FileKind::Regular {
            return Err(invalid(format!("btrfs: inode {} is no regular file", inode.ino)));
        }
        if inode.size == 0 {
            return Ok(Arc::new(Memory::new(0)));
        }
        let (tree, number) = self.tree(id)?;
        Ok(Arc::new(File { tree: Tree(tree), inode: number, size: inode.size }))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        if Self::kind(&inode)? != FileKind::Symlink {
            return Err(invalid(format!("btrfs: inode {} is no symbolic link", inode.ino)));
        }
        in_memory(inode.size, LONGEST_LINK, "a symbolic link")?;
        let (tree, number) = self.tree(id)?;
        contained(NAME, || tree.read_link(number).map_err(|error| failed(&error)))
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        let (tree, inode) = self.tree(id)?;
        let list = contained(NAME, || tree.list_xattrs(inode).map_err(|error| failed(&error)))?;
        let mut list: Vec<Xattr> = list
            .into_iter()
            // The method of compression of a file is kept as an attribute that no other filesystem has.
            .filter(|xattr| !xattr.name.starts_with(b"btrfs."))
            .map(|xattr| Xattr { name: xattr.name, value: xattr.value })
            .collect();
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("btrfs: inode {} has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}

/// The bytes of a file.
#[derive(Debug)]
struct File {
    tree: Tree,
    inode: u64,
    size: u64,
}

impl BlockRead for File {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let mut at = offset;
        for piece in buf.chunks_mut(PIECE) {
            let wanted = piece.len();
            let count = contained(NAME, || self.tree.0.read_at(self.inode, at, piece).map_err(|error| failed(&error)))?;
            if count != wanted {
                let text = format!("btrfs: inode {}: {count} bytes at {at} where {wanted} should be", self.inode);
                return Err(corrupt(text));
            }
            at += count as u64;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = check_extent(&range, self.size)?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::default()
    }
}
