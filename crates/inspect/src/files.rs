//! Looking at the files of one volume: bounded reads, and errors as notes.

use std::cell::RefCell;
use std::ops::ControlFlow;

use transload_block::{BlockReadExt, ErrorKind, Result};
use transload_filesystem::{FileId, FileKind, FileSystem, Follow, find};

/// What is read of a file: lists of mounts and releases are a few kilobytes.
const MOST_BYTES: u64 = 256 << 10;
/// Of a folder so many names are looked at.
const MOST_NAMES: usize = 4096;

/// The files of a volume.
pub(crate) struct Files<'a> {
    filesystem: &'a dyn FileSystem,
    pub(crate) volume: &'a str,
    notes: RefCell<Vec<String>>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(filesystem: &'a dyn FileSystem, volume: &'a str) -> Self {
        Self { filesystem, volume, notes: RefCell::new(Vec::new()) }
    }

    /// What could not be read although it is there.
    pub(crate) fn into_notes(self) -> Vec<String> {
        self.notes.into_inner()
    }

    /// The value, or nothing and a note.
    fn noted<T>(&self, path: &str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.notes.borrow_mut().push(format!("volume {}: {path}: {error}", self.volume))).ok()
    }

    /// What stands at a path, through symbolic links.
    fn find(&self, path: &str) -> Option<FileId> {
        match find(self.filesystem, path.as_bytes(), Follow::All) {
            Ok(found) => found.map(|resolved| resolved.id),
            // Something on the way is no folder.
            Err(error) if error.kind() == ErrorKind::InvalidInput => None,
            Err(error) => self.noted(path, Err(error)),
        }
    }

    /// The file at `path`, where there is a regular one.
    pub(crate) fn file(&self, path: &str) -> Option<FileId> {
        let id = self.find(path)?;
        let metadata = self.noted(path, self.filesystem.stat(id))?;
        (metadata.kind == FileKind::Regular).then_some(id)
    }

    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.file(path).is_some()
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        let kind = self.find(path).and_then(|id| self.noted(path, self.filesystem.stat(id)));
        kind.is_some_and(|metadata| metadata.kind == FileKind::Directory)
    }

    /// The first bytes of a file.
    pub(crate) fn head(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        self.part(path, 0, most)
    }

    /// Bytes of a file from `offset` on, `most` or what there is.
    pub(crate) fn part(&self, path: &str, offset: u64, most: u64) -> Option<Vec<u8>> {
        let id = self.file(path)?;
        let device = self.noted(path, self.filesystem.open(id))?;
        let length = device.size().checked_sub(offset)?.min(most);
        self.noted(path, device.read_vec(offset, length))
    }

    /// A small file as text.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.head(path, MOST_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first line of a small file, without blanks around it.
    pub(crate) fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
    }

    /// The names in a folder, sorted; none where there is no folder.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        if !self.has_folder(path) {
            return Vec::new();
        }
        let Some(id) = self.find(path) else { return Vec::new() };
        let mut names = Vec::new();
        let read = self.filesystem.read_dir(id, &mut |entry| {
            names.push(String::from_utf8_lossy(&entry.name).into_owned());
            if names.len() < MOST_NAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.noted(path, read);
        names.sort();
        names
    }
}
