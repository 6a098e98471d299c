//! squashfs of version 4 (the kernel's `Documentation/filesystems/squashfs`), compressed by zlib, xz, LZ4 or zstd.
//!
//! A file's number is the reference by which folders name its inode. Blocks that are unpacked stay in memory for a while:
//! metadata, and the last blocks of files.

mod file;
mod unpack;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};

use crate::cache::Cache;
use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Timestamp, Xattr};
use crate::fields::{Fields, corrupt, in_memory, invalid};
use crate::probe::Kind;
use file::{Fragment, PackedFile};
use unpack::Codec;

/// The most bytes of a block of metadata.
const METADATA: usize = 8192;
/// Blocks of metadata that stay in memory: 4 MiB.
const KEPT: usize = 512;
/// The longest list of entries of a folder, and the longest target of a link.
const LONGEST_FOLDER: u64 = 256 << 20;
const LONGEST_LINK: u64 = 64 << 10;
/// The most blocks of a file: 2^22 blocks of 128 KiB are 512 GiB.
const MOST_BLOCKS: u64 = 4 << 20;
const NONE: u64 = u64::MAX;

/// A filesystem that is open.
#[derive(Debug)]
pub(crate) struct Squashfs {
    disk: Arc<Disk>,
    root: FileId,
    inodes: u64,
    folders: u64,
    /// Where the table that finds the blocks of each table begins.
    ids: u64,
    id_count: u16,
    fragments: u64,
    fragment_count: u32,
    attributes: u64,
    info: Info,
}

/// What is read from, and what was unpacked of it.
#[derive(Debug)]
struct Disk {
    cache: Cache,
    codec: Codec,
    block_size: u32,
    /// Unpacked metadata by its place, with the place behind it; forgotten all at once when there is too much.
    metadata: Mutex<HashMap<u64, Unpacked>>,
}

/// An unpacked block of metadata, and the place of the next.
type Unpacked = (Arc<Vec<u8>>, u64);

/// A place in the unpacked metadata, that moves as it is read.
struct Cursor<'a> {
    disk: &'a Disk,
    block: u64,
    offset: usize,
}

impl Disk {
    /// The block of metadata at a place, and the place of the next.
    fn metadata(&self, place: u64) -> Result<Unpacked> {
        const STORED: u16 = 0x8000;
        let lock = || self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&place) {
            return Ok(found.clone());
        }
        let mut head = [0; 2];
        self.cache.read(&mut head, place)?;
        let head = u16::from_le_bytes(head);
        let length = usize::from(head & !STORED);
        if length == 0 || length > METADATA {
            return Err(corrupt(format!("squashfs: a block of metadata of {length} bytes at {place}")));
        }
        let packed = self.cache.read_vec(place + 2, length)?;
        let bytes = if head & STORED != 0 { packed } else { self.codec.unpack(&packed, METADATA)? };
        let found = (Arc::new(bytes), place + 2 + length as u64);
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(place, found.clone());
        Ok(found)
    }
}

impl Cursor<'_> {
    fn read(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(length.min(METADATA));
        while out.len() < length {
            let (bytes, next) = self.disk.metadata(self.block)?;
            let rest = bytes.get(self.offset..).unwrap_or_default();
            if rest.is_empty() {
                if bytes.is_empty() || self.offset > bytes.len() {
                    return Err(corrupt(format!("squashfs: offset {} of a block of metadata", self.offset)));
                }
                (self.block, self.offset) = (next, 0);
                continue;
            }
            let count = rest.len().min(length - out.len());
            out.extend_from_slice(&rest[..count]);
            self.offset += count;
        }
        Ok(out)
    }
}

/// An inode, as far as all kinds have the same.
#[derive(Debug)]
struct Inode {
    kind: FileKind,
    permissions: u16,
    uid: u16,
    gid: u16,
    modified: u32,
    links: u32,
    size: u64,
    attributes: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Folder { block: u32, offset: u16 },
    File { start: u64, blocks: Vec<u32>, fragment: Option<(u32, u32)> },
    Link(Vec<u8>),
    Device(u32),
    Other,
}

/// Opens the filesystem on `device`.
pub(crate) fn open(device: Arc<dyn BlockRead>) -> Result<Arc<dyn FileSystem>> {
    let bytes = device.read_vec(0, device.size().min(96))?;
    let fields = Fields::new(&bytes, "squashfs superblock");
    if fields.bytes(0, 4)? != b"hsqs" {
        return Err(Error::new(ErrorKind::NotThisFormat, "squashfs: no superblock"));
    }
    let (major, minor) = (fields.le16(28)?, fields.le16(30)?);
    if major != 4 {
        return Err(crate::fields::unsupported(format!("squashfs of version {major}.{minor}")));
    }
    let (block_size, log) = (fields.le32(12)?, fields.le16(22)?);
    if !(4096..=1 << 20).contains(&block_size) || !block_size.is_power_of_two() || block_size.ilog2() != u32::from(log)
    {
        return Err(fields.corrupt(format!("blocks of {block_size} bytes, 2^{log}")));
    }
    let info = Info {
        kind: Kind::Squashfs,
        version: format!("squashfs {major}.{minor}"),
        label: String::new(),
        uuid: None,
        block_size,
        size: fields.le64(40)?,
        notes: Vec::new(),
    };
    let codec = Codec::new(fields.le16(20)?)?;
    let disk = Disk { cache: Cache::new(device), codec, block_size, metadata: Mutex::default() };
    Ok(Arc::new(Squashfs {
        disk: Arc::new(disk),
        root: FileId(fields.le64(32)?),
        inodes: fields.le64(64)?,
        folders: fields.le64(72)?,
        ids: fields.le64(48)?,
        id_count: fields.le16(26)?,
        fragments: fields.le64(80)?,
        fragment_count: fields.le32(16)?,
        attributes: fields.le64(56)?,
        info,
    }))
}

impl Squashfs {
    fn cursor(&self, table: u64, block: u64, offset: usize) -> Result<Cursor<'_>> {
        let block = table.checked_add(block).ok_or_else(|| corrupt("squashfs: a reference overflows"))?;
        Ok(Cursor { disk: &self.disk, block, offset })
    }

    /// An entry of a table that is found through a list of its blocks.
    fn table_entry(&self, list: u64, index: u64, size: usize) -> Result<Vec<u8>> {
        let at = index * size as u64;
        let place = list.saturating_add(at / METADATA as u64 * 8);
        let block = self.disk.cache.read_vec(place, 8)?;
        let block = Fields::new(&block, "squashfs table").le64(0)?;
        let offset = usize::try_from(at % METADATA as u64).unwrap_or(0);
        self.cursor(0, block, offset)?.read(size)
    }

    fn id(&self, index: u16) -> Result<u32> {
        if index >= self.id_count {
            return Err(corrupt(format!("squashfs: owner {index} of {}", self.id_count)));
        }
        Fields::new(&self.table_entry(self.ids, index.into(), 4)?, "squashfs owner").le32(0)
    }

    fn inode(&self, id: FileId) -> Result<Inode> {
        let offset = usize::try_from(id.0 & 0xFFFF).unwrap_or(0);
        let mut cursor = self.cursor(self.inodes, id.0 >> 16, offset)?;
        let head = cursor.read(16)?;
        let head = Fields::new(&head, "squashfs inode");
        let code = head.le16(0)?;
        let mut inode = Inode {
            kind: kind_of(code).ok_or_else(|| head.corrupt(format!("its type is {code}")))?,
            permissions: head.le16(2)?,
            uid: head.le16(4)?,
            gid: head.le16(6)?,
            modified: head.le32(8)?,
            links: 1,
            size: 0,
            attributes: u32::MAX,
            body: Body::Other,
        };
        self.read_body(&mut inode, code, &mut cursor)?;
        Ok(inode)
    }

    fn read_body(&self, inode: &mut Inode, code: u16, cursor: &mut Cursor<'_>) -> Result<()> {
        let mut fields = |length: usize| cursor.read(length);
        match code {
            1 => {
                let raw = fields(16)?;
                let raw = Fields::new(&raw, "squashfs folder");
                (inode.links, inode.size) = (raw.le32(4)?, raw.le16(8)?.into());
                inode.body = Body::Folder { block: raw.le32(0)?, offset: raw.le16(10)? };
            }
            8 => {
                let raw = fields(24)?;
                let raw = Fields::new(&raw, "squashfs folder");
                (inode.links, inode.size, inode.attributes) = (raw.le32(0)?, raw.le32(4)?.into(), raw.le32(20)?);
                inode.body = Body::Folder { block: raw.le32(8)?, offset: raw.le16(18)? };
            }
            2 => {
                let raw = fields(16)?;
                let raw = Fields::new(&raw, "squashfs file");
                inode.size = raw.le32(12)?.into();
                let fragment = (raw.le32(4)?, raw.le32(8)?);
                inode.body = self.file_body(raw.le32(0)?.into(), fragment, inode.size, &mut fields)?;
            }
            9 => {
                let raw = fields(40)?;
                let raw = Fields::new(&raw, "squashfs file");
                (inode.size, inode.links, inode.attributes) = (raw.le64(8)?, raw.le32(24)?, raw.le32(36)?);
                let fragment = (raw.le32(28)?, raw.le32(32)?);
                inode.body = self.file_body(raw.le64(0)?, fragment, inode.size, &mut fields)?;
            }
            3 | 10 => {
                let raw = fields(8)?;
                let raw = Fields::new(&raw, "squashfs link");
                (inode.links, inode.size) = (raw.le32(0)?, raw.le32(4)?.into());
                let length = in_memory(inode.size, LONGEST_LINK, "a symbolic link")?;
                inode.body = Body::Link(fields(length)?);
                if code == 10 {
                    inode.attributes = Fields::new(&fields(4)?, "squashfs link").le32(0)?;
                }
            }
            4 | 5 | 11 | 12 => {
                let raw = fields(if code > 7 { 12 } else { 8 })?;
                let raw = Fields::new(&raw, "squashfs device");
                inode.links = raw.le32(0)?;
                inode.body = Body::Device(raw.le32(4)?);
                if code > 7 {
                    inode.attributes = raw.le32(8)?;
                }
            }
            _ => {
                let raw = fields(if code > 7 { 8 } else { 4 })?;
                let raw = Fields::new(&raw, "squashfs inode");
                inode.links = raw.le32(0)?;
                if code > 7 {
                    inode.attributes = raw.le32(4)?;
                }
            }
        }
        Ok(())
    }

    fn file_body(
        &self,
        start: u64,
        (fragment, offset): (u32, u32),
        size: u64,
        fields: &mut dyn FnMut(usize) -> Result<Vec<u8>>,
    ) -> Result<Body> {
        let block_size = u64::from(self.disk.block_size);
        let fragment = (fragment != u32::MAX).then_some((fragment, offset));
        let count = if fragment.is_some() { size / block_size } else { size.div_ceil(block_size) };
        if count > MOST_BLOCKS {
            return Err(Error::new(ErrorKind::TooLarge, format!("squashfs: a file of {count} blocks")));
        }
        let list = fields(usize::try_from(count * 4).unwrap_or(0))?;
        let (words, _) = list.as_chunks::<4>();
        let blocks = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Ok(Body::File { start, blocks, fragment })
    }

    fn fragment(&self, index: u32, offset: u32) -> Result<Fragment> {
        if index >= self.fragment_count {
            return Err(corrupt(format!("squashfs: fragment {index} of {}", self.fragment_count)));
        }
        let raw = self.table_entry(self.fragments, index.into(), 16)?;
        let fields = Fields::new(&raw, "squashfs fragment");
        Ok(Fragment { place: fields.le64(0)?, stored: fields.le32(8)?, offset })
    }
}

fn kind_of(code: u16) -> Option<FileKind> {
    Some(match code {
        1 | 8 => FileKind::Directory,
        2 | 9 => FileKind::Regular,
        3 | 10 => FileKind::Symlink,
        4 | 11 => FileKind::BlockDevice,
        5 | 12 => FileKind::CharDevice,
        6 | 13 => FileKind::Fifo,
        7 | 14 => FileKind::Socket,
        _ => return None,
    })
}

impl FileSystem for Squashfs {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        self.root
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        let inode = self.inode(id)?;
        let device = match inode.body {
            Body::Device(number) => Some((number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xF_FF00)),
            _ => None,
        };
        let modified = Some(Timestamp { seconds: inode.modified.into(), nanos: 0 });
        Ok(Metadata {
            kind: inode.kind,
            permissions: u32::from(inode.permissions) & 0o7777,
            owner: Owner { uid: self.id(inode.uid)?, gid: self.id(inode.gid)? },
            size: inode.size,
            allocated: inode.size,
            links: inode.links,
            modified,
            accessed: modified,
            changed: modified,
            created: None,
            device,
        })
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        let inode = self.inode(dir)?;
        let Body::Folder { block, offset } = inode.body else {
            return Err(invalid(format!("squashfs: inode {} is no folder", dir.0)));
        };
        // Three bytes are counted for "." and "..", which are not stored.
        let Some(mut left) = inode.size.checked_sub(3) else { return Ok(()) };
        if left > LONGEST_FOLDER {
            return Err(corrupt(format!("squashfs: a folder of {left} bytes")));
        }
        let mut cursor = self.cursor(self.folders, block.into(), offset.into())?;
        while left > 0 {
            let head = cursor.read(12)?;
            let fields = Fields::new(&head, "squashfs folder");
            let (count, start) = (fields.le32(0)?, fields.le32(4)?);
            if count >= 256 {
                return Err(fields.corrupt(format!("{count} entries behind one header")));
            }
            left = left.checked_sub(12).ok_or_else(|| fields.corrupt("it ends within a header"))?;
            for _ in 0..=count {
                let raw = cursor.read(8)?;
                let raw = Fields::new(&raw, "squashfs entry");
                let length = usize::from(raw.le16(6)?) + 1;
                let name = cursor.read(length)?;
                left = left.checked_sub(8 + length as u64).ok_or_else(|| raw.corrupt("it is behind its folder"))?;
                if matches!(name.as_slice(), b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                    return Err(raw.corrupt(format!("its name is \"{}\"", name.escape_ascii())));
                }
                let id = FileId(u64::from(start) << 16 | u64::from(raw.le16(0)?));
                if each(Entry { name, id, kind: kind_of(raw.le16(4)?) }).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        crate::contract::find_entry(self, dir, name)
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let inode = self.inode(id)?;
        let Body::File { start, blocks, fragment } = inode.body else {
            return Err(invalid(format!("squashfs: inode {} is no regular file", id.0)));
        };
        let fragment = fragment.map(|(index, offset)| self.fragment(index, offset)).transpose()?;
        Ok(Arc::new(PackedFile::new(Arc::clone(&self.disk), start, &blocks, fragment, inode.size)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        match self.inode(id)?.body {
            Body::Link(target) => Ok(target),
            _ => Err(invalid(format!("squashfs: inode {} is no symbolic link", id.0))),
        }
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        let index = self.inode(id)?.attributes;
        if index == u32::MAX || self.attributes == NONE {
            return Ok(Vec::new());
        }
        let head = self.disk.cache.read_vec(self.attributes, 16)?;
        let head = Fields::new(&head, "squashfs attributes");
        let (values, count) = (head.le64(0)?, head.le32(8)?);
        if index >= count {
            return Err(head.corrupt(format!("list {index} of {count}")));
        }
        let entry = self.table_entry(self.attributes + 16, index.into(), 16)?;
        let entry = Fields::new(&entry, "squashfs attributes");
        let (place, count) = (entry.le64(0)?, entry.le32(8)?);
        let offset = |place: u64| usize::try_from(place & 0xFFFF).unwrap_or(0);
        let mut cursor = self.cursor(values, place >> 16, offset(place))?;
        let mut list = Vec::new();
        for _ in 0..count.min(64 << 10) {
            const ELSEWHERE: u16 = 0x100;
            let raw = cursor.read(4)?;
            let raw = Fields::new(&raw, "squashfs attribute");
            let (kind, length) = (raw.le16(0)?, usize::from(raw.le16(2)?));
            let suffix = cursor.read(length)?;
            let length = |cursor: &mut Cursor<'_>| -> Result<usize> {
                let length = Fields::new(&cursor.read(4)?, "squashfs attribute").le32(0)?;
                in_memory(length.into(), 64 << 10, "an attribute")
            };
            let held = length(&mut cursor)?;
            let mut value = cursor.read(held)?;
            if kind & ELSEWHERE != 0 {
                let place = Fields::new(&value, "squashfs attribute").le64(0)?;
                let mut other = self.cursor(values, place >> 16, offset(place))?;
                let held = length(&mut other)?;
                value = other.read(held)?;
            }
            let prefix: &[u8] = match kind & 0xFF {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                other => return Err(raw.corrupt(format!("an attribute of type {other}"))),
            };
            list.push(Xattr { name: [prefix, &suffix].concat(), value });
        }
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("squashfs: inode {} has no stream \"{}\"", id.0, name.escape_ascii())))
    }
}
