//! Trees as one file that every Linux mounts: squashfs 4.0 (the kernel's `Documentation/filesystems/squashfs.rst`), in zstd.
//!
//! ```text
//! superblock │ blocks of files, and their ends packed together │ inodes │ folders │ ends │ owners │ attributes
//! ```
//!
//! It keeps modes, owners, hard links, devices, holes of whole blocks and the extended attributes `user.*`, `trusted.*` and
//! `security.*`; times are whole seconds, as the format has no others.

mod inode;
mod tables;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result, is_all_zero};
use transload_filesystem::{Entry, FileId, FileKind, FileSystem, FileSystemExt, Metadata, Timestamp};

use inode::{Body, Fragment, Inode, NO_FRAGMENT};
use tables::{Directory, Metablocks, Owners, Reference, Xattrs, table};

/// The unit of files.
const BLOCK: usize = 128 << 10;
const BLOCK_LOG: u16 = 17;
/// How hard blocks are compressed: the level of mksquashfs.
const LEVEL: i32 = 15;
/// In the length of a block: it is stored as it is.
const PLAIN: u32 = 1 << 24;
/// Blocks that are compressed at once.
const BATCH: usize = 32;
/// Folders inside each other.
const DEEPEST: usize = 2048;
/// The superblock's number for zstd.
const ZSTD: u16 = 6;
const SUPERBLOCK: usize = 96;
const NO_TABLE: u64 = u64::MAX;

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct SquashfsReport {
    /// Files, folders and the like.
    pub inodes: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// What there is no place for.
    pub warnings: Vec<String>,
}

/// Writes everything below `root` into `file`, which is empty. `threads` compress.
///
/// # Errors
/// What reading and writing answer; `TooLarge` for more than 2^32 - 1 files or 65536 owners.
pub fn write_squashfs(
    files: &Arc<dyn FileSystem>,
    root: FileId,
    file: File,
    now: Timestamp,
    threads: usize,
) -> Result<SquashfsReport> {
    let mut writer = Writer {
        files: &**files,
        out: BufWriter::with_capacity(1 << 20, file),
        at: 0,
        threads: threads.max(1),
        inodes: Metablocks::default(),
        folders: Metablocks::default(),
        owners: Owners::default(),
        xattrs: Xattrs::default(),
        fragments: Vec::new(),
        pending: Vec::new(),
        tail: Vec::new(),
        linked: HashMap::new(),
        count: 0,
        report: SquashfsReport::default(),
    };
    writer.put(&[0; SUPERBLOCK])?;
    let root = writer.tree(root)?;
    writer.finish(root, now)
}

struct Writer<'a> {
    files: &'a dyn FileSystem,
    out: BufWriter<File>,
    at: u64,
    threads: usize,
    inodes: Metablocks,
    folders: Metablocks,
    owners: Owners,
    xattrs: Xattrs,
    /// Where blocks of ends are, and their lengths.
    fragments: Vec<(u64, u32)>,
    /// Blocks of ends that are full and not compressed yet.
    pending: Vec<Vec<u8>>,
    /// Ends of files that are being put together.
    tail: Vec<u8>,
    /// Files with several names.
    linked: HashMap<FileId, (Reference, u32)>,
    count: u32,
    report: SquashfsReport,
}

/// A folder that is being gone through.
struct Level {
    id: FileId,
    name: Vec<u8>,
    number: u32,
    rest: Vec<Entry>,
    directory: Directory,
    subfolders: u32,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("squashfs", error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn number(&mut self) -> Result<u32> {
        let too_many = || Error::new(ErrorKind::TooLarge, "squashfs: more than 4 billion files");
        self.count = self.count.checked_add(1).ok_or_else(too_many)?;
        Ok(self.count)
    }

    /// Goes through all folders. Answers the inode of the first.
    fn tree(&mut self, root: FileId) -> Result<Reference> {
        let mut levels = vec![self.level(root, Vec::new())?];
        loop {
            let Some(level) = levels.last_mut() else {
                return Err(Error::new(ErrorKind::InvalidInput, "squashfs: a tree without a root"));
            };
            if let Some(entry) = level.rest.pop() {
                let metadata = self.files.stat(entry.id)?;
                if metadata.kind == FileKind::Directory {
                    if levels.iter().any(|level| level.id == entry.id) || levels.len() >= DEEPEST {
                        let text = format!("{}: a folder that is in itself", entry.name.escape_ascii());
                        return Err(Error::new(ErrorKind::Corrupt, text));
                    }
                    levels.push(self.level(entry.id, entry.name)?);
                } else {
                    let (reference, number) = self.file(&entry, &metadata)?;
                    if let Some(level) = levels.last_mut() {
                        level.directory.add(entry.name, inode::basic(metadata.kind), reference, number)?;
                    }
                }
                continue;
            }
            let Some(done) = levels.pop() else { continue };
            let parent = levels.last().map_or(self.count.saturating_add(1), |above| above.number);
            let reference = self.folder(&done, parent)?;
            match levels.last_mut() {
                None => return Ok(reference),
                Some(above) => {
                    above.subfolders += 1;
                    above.directory.add(done.name, inode::basic(FileKind::Directory), reference, done.number)?;
                }
            }
        }
    }

    fn level(&mut self, id: FileId, name: Vec<u8>) -> Result<Level> {
        let mut rest = self.files.entries(id)?;
        rest.reverse();
        Ok(Level { id, name, number: self.number()?, rest, directory: Directory::default(), subfolders: 0 })
    }

    fn folder(&mut self, level: &Level, parent: u32) -> Result<Reference> {
        let metadata = self.files.stat(level.id)?;
        let start = self.folders.place();
        let listing = level.directory.to_bytes();
        self.folders.write(&listing)?;
        let length = u32::try_from(listing.len())
            .map_err(|_| Error::new(ErrorKind::TooLarge, "squashfs: a folder of more than 4 GiB"))?;
        let body = Body::Folder { listing: start, length, parent };
        self.inode(level.id, &metadata, level.number, level.subfolders + 2, &body)
    }

    fn file(&mut self, entry: &Entry, metadata: &Metadata) -> Result<(Reference, u32)> {
        if let Some(known) = self.linked.get(&entry.id) {
            return Ok(*known);
        }
        let number = self.number()?;
        let body = match metadata.kind {
            FileKind::Regular => self.contents(&*self.files.open(entry.id)?)?,
            FileKind::Symlink => Body::Link(self.files.read_link(entry.id)?),
            _ => Body::Other(metadata.device),
        };
        let reference = self.inode(entry.id, metadata, number, metadata.links, &body)?;
        if metadata.links > 1 {
            self.linked.insert(entry.id, (reference, number));
        }
        Ok((reference, number))
    }

    fn inode(&mut self, id: FileId, metadata: &Metadata, number: u32, links: u32, body: &Body) -> Result<Reference> {
        let (xattrs, lost) = self.xattrs.add(&self.files.xattrs(id)?)?;
        for name in lost {
            let text = format!("the attribute {} has no place in squashfs", name.escape_ascii());
            if !self.report.warnings.contains(&text) {
                self.report.warnings.push(text);
            }
        }
        let owner = (self.owners.number(metadata.owner.uid)?, self.owners.number(metadata.owner.gid)?);
        let inode = Inode { metadata, owner, number, links, xattrs, body };
        let place = self.inodes.place();
        self.inodes.write(&inode.to_bytes()?)?;
        self.report.inodes += 1;
        Ok(place)
    }

    /// Writes the bytes of a file: whole blocks by themselves, the end together with those of others.
    fn contents(&mut self, file: &dyn BlockRead) -> Result<Body> {
        let size = file.size();
        let (mut start, mut lengths, mut sparse, mut at) = (None, Vec::new(), 0, 0);
        let whole = size - size % BLOCK as u64;
        while at < whole {
            let extent = file.block_status(at..whole)?;
            let skipped = if extent.status.reads_zero() { extent.length / BLOCK as u64 } else { 0 };
            lengths.resize(lengths.len() + usize::try_from(skipped).unwrap_or(0), 0);
            sparse += skipped * BLOCK as u64;
            at += skipped * BLOCK as u64;
            let count = usize::try_from((whole - at) / BLOCK as u64).unwrap_or(BATCH).min(BATCH);
            if skipped > 0 || count == 0 {
                continue;
            }
            let mut bytes = vec![0; count * BLOCK];
            file.read_at(&mut bytes, at)?;
            at += bytes.len() as u64;
            let blocks: Vec<&[u8]> = bytes.chunks(BLOCK).collect();
            for (packed, block) in compress(&blocks, self.threads)?.into_iter().zip(blocks) {
                if is_all_zero(block) {
                    lengths.push(0);
                    sparse += BLOCK as u64;
                    continue;
                }
                start.get_or_insert(self.at);
                lengths.push(self.block(packed.as_deref(), block)?);
            }
        }
        let end = usize::try_from(size - whole).unwrap_or(0);
        let mut fragment = Fragment { index: NO_FRAGMENT, offset: 0 };
        if end > 0 {
            if self.tail.len() + end > BLOCK {
                self.flush_tail()?;
            }
            let offset = self.tail.len();
            self.tail.resize(offset + end, 0);
            file.read_at(&mut self.tail[offset..], whole)?;
            let index = u32::try_from(self.fragments.len() + self.pending.len())
                .map_err(|_| Error::new(ErrorKind::TooLarge, "squashfs: more than 4 billion ends of files"))?;
            fragment = Fragment { index, offset: u32::try_from(offset).unwrap_or(0) };
        }
        Ok(Body::File { start: start.unwrap_or(0), size, sparse, fragment, lengths })
    }

    /// Writes a block, and answers its length with the mark of those that are not compressed.
    fn block(&mut self, packed: Option<&[u8]>, plain: &[u8]) -> Result<u32> {
        let bytes = packed.unwrap_or(plain);
        self.put(bytes)?;
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        Ok(if packed.is_some() { length } else { length | PLAIN })
    }

    fn flush_tail(&mut self) -> Result<()> {
        if !self.tail.is_empty() {
            self.pending.push(std::mem::take(&mut self.tail));
        }
        if self.pending.len() >= BATCH { self.flush_pending() } else { Ok(()) }
    }

    fn flush_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let blocks: Vec<&[u8]> = pending.iter().map(Vec::as_slice).collect();
        for (packed, block) in compress(&blocks, self.threads)?.into_iter().zip(blocks) {
            let start = self.at;
            let length = self.block(packed.as_deref(), block)?;
            self.fragments.push((start, length));
        }
        Ok(())
    }

    fn finish(mut self, root: Reference, now: Timestamp) -> Result<SquashfsReport> {
        self.flush_tail()?;
        self.flush_pending()?;
        let inode_table = self.at;
        let bytes = std::mem::take(&mut self.inodes).finish()?;
        self.put(&bytes)?;
        let folder_table = self.at;
        let bytes = std::mem::take(&mut self.folders).finish()?;
        self.put(&bytes)?;
        let entries: Vec<u8> = self
            .fragments
            .iter()
            .flat_map(|(start, length)| [start.to_le_bytes().as_slice(), &length.to_le_bytes(), &[0; 4]].concat())
            .collect();
        let fragment_table = self.table(&entries)?;
        let ids: Vec<u8> = self.owners.all().iter().flat_map(|id| id.to_le_bytes()).collect();
        let id_table = self.table(&ids)?;
        let xattr_table = match self.xattrs.finish(self.at)? {
            Some((bytes, at)) => {
                self.put(&bytes)?;
                at
            }
            None => NO_TABLE,
        };
        let used = self.at;
        // Loop devices and kernels read whole pages.
        let padding = usize::try_from(used.next_multiple_of(4096) - used).unwrap_or(0);
        self.put(&vec![0; padding])?;
        let seconds = u32::try_from(now.seconds).unwrap_or(0);
        let fragments = u32::try_from(self.fragments.len()).unwrap_or(u32::MAX);
        let owners = u16::try_from(self.owners.all().len()).unwrap_or(u16::MAX);
        let block = u32::try_from(BLOCK).unwrap_or(0);
        let mut head: Vec<u8> = Vec::with_capacity(SUPERBLOCK);
        head.extend_from_slice(b"hsqs");
        head.extend([self.count, seconds, block, fragments].into_iter().flat_map(u32::to_le_bytes));
        head.extend([ZSTD, BLOCK_LOG, 0, owners, 4, 0].into_iter().flat_map(u16::to_le_bytes));
        let places = [root.0, used, id_table, xattr_table, inode_table, folder_table, fragment_table, NO_TABLE];
        head.extend(places.into_iter().flat_map(u64::to_le_bytes));
        debug_assert_eq!(head.len(), SUPERBLOCK, "the superblock has 96 bytes");
        let mut file = self.out.into_inner().map_err(|error| Error::io("squashfs", error.into_error()))?;
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&head)).and_then(|()| file.sync_all());
        written.map_err(|error| Error::io("squashfs", error))?;
        self.report.bytes = used + padding as u64;
        Ok(self.report)
    }

    /// Writes a table in blocks with the list of these, and answers where the list is.
    fn table(&mut self, entries: &[u8]) -> Result<u64> {
        let (bytes, list) = table(entries, self.at)?;
        self.put(&bytes)?;
        Ok(list)
    }
}

/// Compresses blocks in as many threads as are asked for. `None` for one that becomes no shorter.
fn compress(blocks: &[&[u8]], threads: usize) -> Result<Vec<Option<Vec<u8>>>> {
    let share = blocks.len().div_ceil(threads).max(1);
    let one = |blocks: &[&[u8]]| -> Result<Vec<Option<Vec<u8>>>> {
        let failed = |error| Error::io("zstd", error);
        let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(failed)?;
        let pack = |block: &&[u8]| {
            if is_all_zero(block) {
                return Ok(None);
            }
            let packed = compressor.compress(block).map_err(failed)?;
            Ok(Some(packed).filter(|packed| packed.len() < block.len()))
        };
        blocks.iter().map(pack).collect()
    };
    if blocks.len() <= 1 || threads == 1 {
        return one(blocks);
    }
    let parts: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = blocks.chunks(share).map(|part| scope.spawn(move || one(part))).collect();
        let stopped = |_| Err(Error::new(ErrorKind::Io, "a thread has stopped"));
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(stopped)).collect()
    });
    parts.into_iter().collect::<Result<Vec<_>>>().map(|parts| parts.into_iter().flatten().collect())
}
