//! Files of the host behind the interface of a filesystem, so that copying is the same in every direction.
//!
//! Symbolic links are never followed below the folder that was opened: what an image names cannot lead elsewhere, since
//! every folder that is entered is one that stands there as a folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata as HostMetadata, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, FileBlock, Result};

use crate::contract::{Entry, FileId, FileKind, FileSystem, Info, Metadata, Owner, Stream, Timestamp, Xattr};
use crate::fields::{corrupt, invalid};
use crate::probe::Kind;
use crate::write::{Attributes, FileSystemWrite, Keeps};

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;
/// The longest list of names of attributes, and the longest value, that Linux has.
const LONGEST_XATTR: usize = 64 << 10;

/// A folder of the host, or a file in it.
#[derive(Debug)]
pub struct Host {
    info: Info,
    is_root: bool,
    table: Mutex<Table>,
}

/// The numbers that were given to paths.
#[derive(Debug, Default)]
struct Table {
    paths: Vec<PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), u64>,
}

impl Host {
    /// The files below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let mut table = Table::default();
        table.paths.push(root.to_owned());
        let info = Info {
            kind: Kind::Host,
            version: "host".to_owned(),
            label: String::new(),
            uuid: None,
            block_size: 4096,
            size: 0,
            notes: Vec::new(),
        };
        Self { info, is_root: rustix::process::geteuid().is_root(), table: Mutex::new(table) }
    }

    fn path(&self, id: FileId) -> Result<PathBuf> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        table.paths.get(index).cloned().ok_or_else(|| corrupt(format!("host: no file has the number {}", id.0)))
    }

    /// The number of a path; the same for all names of a file.
    fn number(&self, path: &Path, metadata: &HostMetadata) -> FileId {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (metadata.dev(), metadata.ino());
        let linked = metadata.nlink() > 1 && !metadata.is_dir();
        if let Some(number) = linked.then(|| table.linked.get(&key)).flatten().or_else(|| table.numbers.get(path)) {
            return FileId(*number);
        }
        let number = table.paths.len() as u64;
        table.paths.push(path.to_owned());
        table.numbers.insert(path.to_owned(), number);
        if linked {
            table.linked.insert(key, number);
        }
        FileId(number)
    }

    /// The path of a name in a folder, which has to be a folder and no link to one. The root was named by the user.
    fn child(&self, dir: FileId, name: &[u8]) -> Result<PathBuf> {
        if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(invalid(format!("\"{}\" cannot be a name", name.escape_ascii())));
        }
        let folder = self.path(dir)?;
        let metadata = if dir.0 == 0 { fs::metadata(&folder) } else { folder.symlink_metadata() };
        if !metadata.map_err(|error| failed(&folder, error))?.is_dir() {
            return Err(invalid(format!("{}: is no folder", folder.display())));
        }
        Ok(folder.join(OsStr::from_bytes(name)))
    }

    fn made(&self, path: &Path, attributes: &Attributes) -> Result<FileId> {
        let metadata = path.symlink_metadata().map_err(|error| failed(path, error))?;
        let id = self.number(path, &metadata);
        self.set_attributes(id, attributes)?;
        Ok(id)
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Error::new(ErrorKind::Denied, format!("{}: exists already", path.display()));
    }
    Error::io(path.display().to_string(), error)
}

fn kind_of(metadata: &HostMetadata) -> FileKind {
    let kind = metadata.file_type();
    if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else if kind.is_block_device() {
        FileKind::BlockDevice
    } else if kind.is_char_device() {
        FileKind::CharDevice
    } else if kind.is_fifo() {
        FileKind::Fifo
    } else if kind.is_socket() {
        FileKind::Socket
    } else {
        FileKind::Regular
    }
}

fn moment(seconds: i64, nanos: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: u32::try_from(nanos).ok()? })
}

impl FileSystem for Host {
    fn info(&self) -> &Info {
        &self.info
    }

    fn root(&self) -> FileId {
        FileId(0)
    }

    fn stat(&self, id: FileId) -> Result<Metadata> {
        let path = self.path(id)?;
        let found = if id.0 == 0 { fs::metadata(&path) } else { path.symlink_metadata() };
        let found = found.map_err(|error| failed(&path, error))?;
        let kind = kind_of(&found);
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
        let created = found.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Metadata {
            kind,
            permissions: found.mode() & 0o7777,
            owner: Owner { uid: found.uid(), gid: found.gid() },
            size: found.size(),
            allocated: found.blocks().saturating_mul(512),
            links: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
            modified: moment(found.mtime(), found.mtime_nsec()),
            accessed: moment(found.atime(), found.atime_nsec()),
            changed: moment(found.ctime(), found.ctime_nsec()),
            created: created.map(|since| Timestamp {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: since.subsec_nanos(),
            }),
            device: is_device.then(|| (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()))),
        })
    }

    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        let path = self.path(dir)?;
        for entry in fs::read_dir(&path).map_err(|error| failed(&path, error))? {
            let entry = entry.map_err(|error| failed(&path, error))?;
            let metadata = entry.metadata().map_err(|error| failed(&entry.path(), error))?;
            let id = self.number(&entry.path(), &metadata);
            let name = entry.file_name().as_bytes().to_vec();
            if each(Entry { name, id, kind: Some(kind_of(&metadata)) }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        let path = self.child(dir, name)?;
        match path.symlink_metadata() {
            Ok(metadata) => Ok(Some(self.number(&path, &metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, error)),
        }
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        let path = self.path(id)?;
        if self.stat(id)?.kind != FileKind::Regular {
            return Err(invalid(format!("{}: is no regular file", path.display())));
        }
        Ok(Arc::new(FileBlock::open(&path, false)?))
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        let path = self.path(id)?;
        fs::read_link(&path).map(|target| target.as_os_str().as_bytes().to_vec()).map_err(|error| failed(&path, error))
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        let path = self.path(id)?;
        let mut buffer = vec![0; LONGEST_XATTR];
        let length = match rustix::fs::llistxattr(&path, &mut buffer[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(failed(&path, error.into())),
        };
        let names: Vec<Vec<u8>> =
            buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        let mut xattrs = Vec::new();
        for name in names {
            match rustix::fs::lgetxattr(&path, OsStr::from_bytes(&name), &mut buffer[..]) {
                Ok(length) => xattrs.push(Xattr { name, value: buffer[..length].to_vec() }),
                // What only others may read is not ours to copy; what vanished is gone.
                Err(rustix::io::Errno::PERM | rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => {}
                Err(error) => return Err(failed(&path, error.into())),
            }
        }
        xattrs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(xattrs)
    }

    fn streams(&self, _id: FileId) -> Result<Vec<Stream>> {
        Ok(Vec::new())
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        Err(invalid(format!("{}: has no stream \"{}\"", self.path(id)?.display(), name.escape_ascii())))
    }
}

impl FileSystemWrite for Host {
    fn keeps(&self) -> Keeps {
        Keeps { owners: true, links: true, xattrs: true }
    }

    fn create_dir(&self, dir: FileId, name: &[u8], attributes: &Attributes) -> Result<FileId> {
        let path = self.child(dir, name)?;
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| failed(&path, error))?;
        self.made(&path, &Attributes { permissions: attributes.permissions.or(Some(0o755)), ..attributes.clone() })
    }

    fn create_file(
        &self,
        dir: FileId,
        name: &[u8],
        contents: &dyn BlockRead,
        attributes: &Attributes,
    ) -> Result<FileId> {
        let path = self.child(dir, name)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed(&path, error))?;
        if let Err(error) = write_contents(&file, &path, contents) {
            // Half a file is none; the first error is the one to tell.
            drop(fs::remove_file(&path));
            return Err(error);
        }
        self.made(&path, &Attributes { permissions: attributes.permissions.or(Some(0o644)), ..attributes.clone() })
    }

    fn create_symlink(&self, dir: FileId, name: &[u8], target: &[u8], attributes: &Attributes) -> Result<FileId> {
        let path = self.child(dir, name)?;
        symlink(OsStr::from_bytes(target), &path).map_err(|error| failed(&path, error))?;
        self.made(&path, &Attributes { permissions: None, ..attributes.clone() })
    }

    fn create_node(
        &self,
        dir: FileId,
        name: &[u8],
        kind: FileKind,
        (major, minor): (u32, u32),
        attributes: &Attributes,
    ) -> Result<FileId> {
        let path = self.child(dir, name)?;
        let kind = match kind {
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            other => return Err(invalid(format!("a {} is made in another way", other.name()))),
        };
        let device = rustix::fs::makedev(major, minor);
        let made = rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), device);
        made.map_err(|error| failed(&path, error.into()))?;
        self.made(&path, &Attributes { permissions: attributes.permissions.or(Some(0o644)), ..attributes.clone() })
    }

    fn link(&self, dir: FileId, name: &[u8], id: FileId) -> Result<()> {
        let (path, old) = (self.child(dir, name)?, self.path(id)?);
        fs::hard_link(&old, &path).map_err(|error| failed(&path, error))
    }

    fn remove(&self, dir: FileId, name: &[u8]) -> Result<()> {
        let path = self.child(dir, name)?;
        let metadata = path.symlink_metadata().map_err(|error| failed(&path, error))?;
        let removed = if metadata.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| failed(&path, error))?;
        // The name may come again, for another file.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.numbers.remove(&path);
        table.linked.remove(&(metadata.dev(), metadata.ino()));
        Ok(())
    }

    fn set_attributes(&self, id: FileId, attributes: &Attributes) -> Result<()> {
        let path = self.path(id)?;
        let is_link = self.stat(id)?.kind == FileKind::Symlink;
        let within = |error: rustix::io::Errno| failed(&path, error.into());
        // Others than root cannot give files away, and nobody expects it of them.
        if let Some(owner) = attributes.owner.filter(|_| self.is_root) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(within)?;
        }
        for xattr in attributes.xattrs.iter().flatten() {
            let set = rustix::fs::lsetxattr(&path, OsStr::from_bytes(&xattr.name), &xattr.value, XattrFlags::empty());
            match set {
                // Attributes for root, and filesystems without attributes: as `cp -a`, it is done as far as possible.
                Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::NOTSUP) => {}
                Err(error) => return Err(within(error)),
            }
        }
        // After the owner, whose change takes the bits for set-user-ID away.
        if let Some(permissions) = attributes.permissions.filter(|_| !is_link) {
            // Without the right to a file's owner, its set-user-ID bit would stand for another user.
            let kept = if self.is_root { permissions } else { permissions & 0o1777 };
            rustix::fs::chmod(&path, Mode::from_raw_mode(kept)).map_err(within)?;
        }
        if attributes.modified.is_some() || attributes.accessed.is_some() {
            const OMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
            let spec = |time: Option<Timestamp>| {
                time.map_or(OMIT, |time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() })
            };
            let times =
                Timestamps { last_access: spec(attributes.accessed), last_modification: spec(attributes.modified) };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(within)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn write_contents(file: &File, path: &Path, contents: &dyn BlockRead) -> Result<()> {
    let within = |error| Error::io(path.display().to_string(), error);
    let mut buffer = vec![0; PIECE.min(usize::try_from(contents.size()).unwrap_or(PIECE))];
    for extent in contents.extents() {
        let extent = extent?;
        if extent.status.reads_zero() {
            continue;
        }
        let mut at = extent.offset;
        while at < extent.end() {
            let count = usize::try_from(extent.end() - at).unwrap_or(usize::MAX).min(buffer.len());
            contents.read_at(&mut buffer[..count], at)?;
            file.write_all_at(&buffer[..count], at).map_err(within)?;
            at += count as u64;
        }
    }
    file.set_len(contents.size()).map_err(within)
}
