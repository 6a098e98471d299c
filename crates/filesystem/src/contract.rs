//! The interface that every filesystem has, and the words it is written in.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::path::{self, Follow, Resolved};
use crate::probe::Kind;
use crate::walk::Walk;

/// One file, folder or other object of a filesystem, by the number that the filesystem knows it by. Two names of one file
/// have the same. It means nothing in another filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// A filesystem that can be read by any number of threads at once.
pub trait FileSystem: Send + Sync + Debug {
    /// What it is and what it is called.
    fn info(&self) -> &Info;

    /// The folder that all others are in.
    fn root(&self) -> FileId;

    /// What is known of a file but its name and its bytes. Symbolic links are not followed.
    ///
    /// # Errors
    /// `Corrupt` when `id` names nothing; `Io` and the like from the device.
    fn stat(&self, id: FileId) -> Result<Metadata>;

    /// Hands the entries of a folder to `each` in the order of the disk, without `.` and `..`, until it breaks.
    ///
    /// # Errors
    /// `InvalidInput` when `dir` is no folder; `Corrupt` when its structures are broken, after the entries that stand
    /// before the damage were handed out.
    fn read_dir(&self, dir: FileId, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()>;

    /// The file of this name in a folder, by the filesystem's own rules: NTFS, FAT and exFAT do not tell upper case from
    /// lower case.
    ///
    /// # Errors
    /// As [`read_dir`](Self::read_dir).
    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>>;

    /// The bytes of a regular file. Its status is a hole where nothing was ever written.
    ///
    /// # Errors
    /// `InvalidInput` when it is no regular file; `Unsupported` when its bytes are encrypted or compressed by a method that
    /// is not handled.
    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>>;

    /// What a symbolic link points to, as bytes.
    ///
    /// # Errors
    /// `InvalidInput` when it is no symbolic link.
    fn read_link(&self, id: FileId) -> Result<Vec<u8>>;

    /// The extended attributes, by full name (`user.mime_type`), in the form in which Linux's `getxattr` has them.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>>;

    /// The named streams of a file beside its bytes; NTFS alone has them.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    fn streams(&self, id: FileId) -> Result<Vec<Stream>>;

    /// The bytes of a named stream.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such stream, and as [`open`](Self::open).
    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>>;
}

/// What a filesystem is and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Which filesystem.
    pub kind: Kind,
    /// Its kind in detail: `ext4`, `FAT32`, `NTFS 3.1`.
    pub version: String,
    /// The volume's label; empty where it has none.
    pub label: String,
    /// Its UUID or serial number as `blkid` prints it.
    pub uuid: Option<String>,
    /// The unit in which it allocates, in bytes.
    pub block_size: u32,
    /// How many bytes it says it has.
    pub size: u64,
    /// Things to know: a journal that was replayed in memory, a volume that was not unmounted cleanly.
    pub notes: Vec<String>,
}

/// What kind of object stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A file with bytes.
    Regular,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device that is read in blocks.
    BlockDevice,
    /// A device that is read in characters.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileKind {
    /// The kind in the upper bits of a Unix mode; `None` for a value that is none.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o060_000 => Self::BlockDevice,
            0o020_000 => Self::CharDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// The upper bits of a Unix mode.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::BlockDevice => 0o060_000,
            Self::CharDevice => 0o020_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The letter that begins a line of `ls -l`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Regular => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::BlockDevice => 'b',
            Self::CharDevice => 'c',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }

    /// The word that machine output has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::BlockDevice => "block-device",
            Self::CharDevice => "char-device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// A moment: seconds since 1970-01-01 00:00:00 UTC, which may be before it, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanos: u32,
}

/// Who owns a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// What is known of a file but its name and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// The twelve lower bits of a Unix mode. Filesystems without them say 0755 for folders and 0644 for files, without
    /// the write bits where a file is read-only.
    pub permissions: u32,
    /// The owner; nobody in particular (0, 0) where the filesystem knows none.
    pub owner: Owner,
    /// Bytes: of the contents of a file, of the target of a symbolic link.
    pub size: u64,
    /// Bytes that it takes on the disk, as far as known.
    pub allocated: u64,
    /// How many names it has.
    pub links: u32,
    /// When its contents changed.
    pub modified: Option<Timestamp>,
    /// When it was read.
    pub accessed: Option<Timestamp>,
    /// When its metadata changed.
    pub changed: Option<Timestamp>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

impl Metadata {
    /// Kind and permissions as a Unix mode.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.permissions
    }
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without any `/` and without zero bytes, never `.` or `..`.
    pub name: Vec<u8>,
    /// What it names.
    pub id: FileId,
    /// Its kind, where the folder itself says so.
    pub kind: Option<FileKind>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// The full name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A named stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name in UTF-8.
    pub name: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
}

/// The most entries that are collected into one list: more than any folder in use has, and what fits in the memory of any
/// machine.
const MOST_ENTRIES: usize = 4 << 20;

/// What can be done with every [`FileSystem`], trait objects included.
pub trait FileSystemExt: FileSystem {
    /// The entries of a folder, sorted by the bytes of their names.
    ///
    /// # Errors
    /// As [`FileSystem::read_dir`]; `TooLarge` for a folder of more than four million entries.
    fn entries(&self, dir: FileId) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut full = false;
        self.read_dir(dir, &mut |entry| {
            full = entries.len() >= MOST_ENTRIES;
            if full {
                return ControlFlow::Break(());
            }
            entries.push(entry);
            ControlFlow::Continue(())
        })?;
        if full {
            return Err(Error::new(ErrorKind::TooLarge, format!("a folder has more than {MOST_ENTRIES} entries")));
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// What stands at a path from the root. See [`Follow`] for symbolic links.
    ///
    /// # Errors
    /// `InvalidInput` when there is nothing of that name, or when something on the way is no folder; `Corrupt` when
    /// symbolic links run in circles.
    fn resolve(&self, path: &[u8], follow: Follow) -> Result<Resolved> {
        path::resolve(self, path, follow)
    }

    /// Everything below `dir`, folders before what is in them, sorted by name.
    fn walk(&self, dir: FileId) -> Walk<'_, Self> {
        Walk::new(self, dir)
    }
}

impl<F: FileSystem + ?Sized> FileSystemExt for F {}

/// Finds the file of this name in a folder by reading the folder: for filesystems whose names are told apart byte by byte.
///
/// # Errors
/// As [`FileSystem::read_dir`].
pub(crate) fn find_entry(filesystem: &impl FileSystem, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
    let mut found = None;
    filesystem.read_dir(dir, &mut |entry| {
        if entry.name == name {
            found = Some(entry.id);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
