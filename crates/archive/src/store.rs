//! The folder that a repository is in: files that appear whole, are never changed, and go when they are no longer needed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use transload_block::{Error, ErrorKind, Result};

use crate::format::id::Id;

/// The most bytes of a file that is read as a whole: an index, or a pack of restic, which has up to 128 MiB.
const LONGEST_FILE: u64 = 4 << 30;

/// The kinds of file of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Pack,
    Key,
    Lock,
    Snapshot,
    Index,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Pack, Self::Key, Self::Lock, Self::Snapshot, Self::Index];

    /// The folder of its files.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Pack => "data",
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
        }
    }
}

/// A folder with a repository.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Numbers of files that are being written.
    next: AtomicU64,
}

impl Store {
    /// The folder at `root`, whatever is in it.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), next: AtomicU64::new(0) }
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is a repository.
    pub(crate) fn exists(&self) -> bool {
        self.root.join("config").is_file()
    }

    /// Makes the folders of a new repository.
    ///
    /// # Errors
    /// `Denied` when the folder has something in it.
    pub(crate) fn create(&self) -> Result<()> {
        let within = |error| Error::io(self.root.display().to_string(), error);
        if let Ok(mut entries) = fs::read_dir(&self.root)
            && entries.next().is_some()
        {
            let text = format!("{}: the folder is not empty, and holds no archive", self.root.display());
            return Err(Error::new(ErrorKind::Denied, text));
        }
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&self.root).map_err(within)?;
        for kind in Kind::ALL {
            make(&self.root.join(kind.folder())).map_err(within)?;
        }
        for first in 0..=255_u8 {
            make(&self.root.join("data").join(format!("{first:02x}"))).map_err(within)?;
        }
        Ok(())
    }

    /// The name of a file, for messages and for opening it.
    pub(crate) fn path(&self, kind: Kind, id: Id) -> PathBuf {
        let name = id.to_string();
        let folder = self.root.join(kind.folder());
        if kind == Kind::Pack { folder.join(&name[..2]).join(name) } else { folder.join(name) }
    }

    /// The files of a kind, sorted, with their lengths. What is called otherwise is no file of the repository.
    pub(crate) fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>> {
        let folder = self.root.join(kind.folder());
        let mut found = Vec::new();
        self.list_folder(&folder, kind == Kind::Pack, &mut found)?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn list_folder(&self, folder: &Path, deeper: bool, found: &mut Vec<(Id, u64)>) -> Result<()> {
        let within = |error| Error::io(folder.display().to_string(), error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(within(error)),
        };
        for entry in entries {
            let entry = entry.map_err(within)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Somebody else removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(within(error)),
            };
            if metadata.is_dir() && deeper {
                self.list_folder(&entry.path(), false, found)?;
            } else if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((id, metadata.len()));
            }
        }
        Ok(())
    }

    /// The configuration's bytes.
    pub(crate) fn read_config(&self) -> Result<Vec<u8>> {
        read_file(&self.root.join("config"))
    }

    /// Stores the configuration, which makes the folder a repository.
    pub(crate) fn write_config(&self, bytes: &[u8]) -> Result<()> {
        self.write(&self.root.join("config"), bytes)
    }

    /// The bytes of a file.
    pub(crate) fn read(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        read_file(&self.path(kind, id))
    }

    /// The bytes of a file, proved to be those that it is called by.
    pub(crate) fn read_proved(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        let bytes = self.read(kind, id)?;
        if Id::of(&bytes) == id {
            return Ok(bytes);
        }
        let text = format!("{}: the bytes are not those that it is called by", self.path(kind, id).display());
        Err(Error::new(ErrorKind::Corrupt, text))
    }

    /// A file that is read in pieces.
    pub(crate) fn open(&self, kind: Kind, id: Id) -> Result<File> {
        let path = self.path(kind, id);
        File::open(&path).map_err(|error| Error::io(path.display().to_string(), error))
    }

    /// So many bytes at a place of a file.
    pub(crate) fn read_at(&self, kind: Kind, id: Id, offset: u64, length: usize) -> Result<Vec<u8>> {
        read_at(&self.open(kind, id)?, offset, length).map_err(|error| error.context(self.path(kind, id).display()))
    }

    /// Stores a file under the name of its contents, and returns when it would survive a power cut.
    pub(crate) fn save(&self, kind: Kind, bytes: &[u8]) -> Result<Id> {
        let id = Id::of(bytes);
        self.save_as(kind, id, bytes)?;
        Ok(id)
    }

    /// As [`save`](Self::save), where the name is known already.
    pub(crate) fn save_as(&self, kind: Kind, id: Id, bytes: &[u8]) -> Result<()> {
        self.write(&self.path(kind, id), bytes)
    }

    /// Removes a file. One that is gone already is no error.
    pub(crate) fn remove(&self, kind: Kind, id: Id) -> Result<()> {
        let path = self.path(kind, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path.display().to_string(), error)),
            _ => Ok(()),
        }
    }

    /// Writes into a file of another name first: a file that is there is whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = path.parent().unwrap_or(&self.root);
        let name = path.file_name().unwrap_or_default().display();
        let partial = folder.join(format!("{name}-tmp-{}-{number}", std::process::id()));
        let within = |error| Error::io(path.display().to_string(), error);
        let written = write_new(&partial, bytes).and_then(|()| fs::rename(&partial, path));
        if let Err(error) = written {
            // The first error is the one to tell.
            drop(fs::remove_file(&partial));
            return Err(within(error));
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(within)
    }

    /// Removes what writers left that were killed: files that never got their names, an hour after they were last written to.
    pub(crate) fn sweep(&self) -> Result<()> {
        const OLD: std::time::Duration = std::time::Duration::from_secs(3600);
        let mut folders: Vec<PathBuf> = Kind::ALL.iter().map(|kind| self.root.join(kind.folder())).collect();
        folders.extend((0..=255_u8).map(|first| self.root.join("data").join(format!("{first:02x}"))));
        for folder in folders {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let is_partial = entry.file_name().to_str().is_some_and(|name| name.contains("-tmp-"));
                let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                let is_old = written.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > OLD);
                if is_partial && is_old {
                    fs::remove_file(entry.path()).map_err(|error| Error::io(folder.display().to_string(), error))?;
                }
            }
        }
        Ok(())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o400).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            open()?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    file.sync_all()
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let within = |error| Error::io(path.display().to_string(), error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(within)?;
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(within)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Error::new(ErrorKind::TooLarge, format!("{}: more than {LONGEST_FILE} bytes", path.display())));
    }
    Ok(bytes)
}

/// So many bytes at a place of a file that is open.
pub(crate) fn read_at(file: &File, offset: u64, length: usize) -> Result<Vec<u8>> {
    let end = file.metadata().map_err(|error| Error::io("length", error))?.len();
    if offset.checked_add(length as u64).is_none_or(|last| last > end) {
        let text = format!("{length} bytes at {offset}, and the file ends at {end}");
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).map_err(|error| Error::io(format!("{length} bytes at {offset}"), error))?;
    Ok(bytes)
}
