//! Copying files and trees from any filesystem to any other, the host's included.

use std::collections::HashMap;

use transload_block::{Error, ErrorKind, Result};

use crate::contract::{FileId, FileKind, FileSystem, FileSystemExt, Metadata};
use crate::fields::{corrupt, invalid};
use crate::path::show;
use crate::write::{Attributes, FileSystemWrite};

/// Folders inside each other, as many as a walk enters.
const DEEPEST: usize = 2048;

/// What happens with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced by a file of the same kind.
    Replace,
    /// It stays, and the copy is refused.
    Refuse,
}

/// How files are copied.
#[derive(Clone, Copy, Debug)]
pub struct CopySettings {
    /// Folders with everything in them.
    pub recursive: bool,
    /// What happens with files that are there already. Folders are merged.
    pub existing: Existing,
    /// Times of reading and of birth become that of modification, so that the same tree gives the same bytes however often
    /// it was read or checked out.
    pub steady: bool,
}

/// A copy between two filesystems that is going on. Files with several names keep them, over all calls.
#[derive(Debug)]
pub struct Copier<'a> {
    from: &'a dyn FileSystem,
    to: &'a dyn FileSystemWrite,
    settings: CopySettings,
    /// Where files with several names went.
    linked: HashMap<FileId, FileId>,
    /// What could not be copied, since the target has no place for such a thing.
    skipped: Vec<String>,
}

/// A folder whose contents are being copied.
struct Level {
    from: FileId,
    to: FileId,
    path: Vec<u8>,
    /// Still to come, the next one last.
    rest: Vec<crate::contract::Entry>,
    /// Set in the end: what is put into a folder changes its time.
    attributes: Option<Attributes>,
}

impl<'a> Copier<'a> {
    /// A copy from one filesystem to another.
    #[must_use]
    pub fn new(from: &'a dyn FileSystem, to: &'a dyn FileSystemWrite, settings: CopySettings) -> Self {
        Self { from, to, settings, linked: HashMap::new(), skipped: Vec::new() }
    }

    /// Copies a file or folder to `name` in the folder `dir`.
    ///
    /// # Errors
    /// What reading and writing answer; `InvalidInput` for a folder without `recursive`; `Denied` when the target is there
    /// and may not be replaced, or is of another kind.
    pub fn copy(&mut self, id: FileId, dir: FileId, name: &[u8]) -> Result<()> {
        let mut levels = Vec::new();
        let first = self.one(id, dir, name, name.to_vec())?;
        levels.extend(first);
        self.levels(levels)
    }

    /// Copies everything that is in a folder into the folder `dir`.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn copy_contents(&mut self, id: FileId, dir: FileId) -> Result<()> {
        let level = self.level(id, dir, Vec::new(), None)?;
        self.levels(vec![level])
    }

    /// What was left out, since the target has no place for such a thing: a sentence each.
    #[must_use]
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    fn levels(&mut self, mut levels: Vec<Level>) -> Result<()> {
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.rest.pop() else {
                if let Some(attributes) = &level.attributes {
                    self.to.set_attributes(level.to, attributes)?;
                }
                levels.pop();
                continue;
            };
            let (to, mut path) = (level.to, level.path.clone());
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            // A folder that is copied into itself would never end.
            let is_target = std::ptr::addr_eq(self.from, self.to) && levels.iter().any(|level| level.to == entry.id);
            if is_target || levels.iter().any(|level| level.from == entry.id) || levels.len() > DEEPEST {
                return Err(corrupt(format!("{}: a folder that is in itself", show(&path))));
            }
            let within = show(&path);
            let next = self.one(entry.id, to, &entry.name, path).map_err(|error| error.context(within))?;
            levels.extend(next);
        }
        Ok(())
    }

    fn level(&self, from: FileId, to: FileId, path: Vec<u8>, attributes: Option<Attributes>) -> Result<Level> {
        let mut rest = self.from.entries(from)?;
        rest.reverse();
        Ok(Level { from, to, path, rest, attributes })
    }

    /// Copies one file; of a folder the folder itself, and answers what is still to be copied of it.
    fn one(&mut self, id: FileId, dir: FileId, name: &[u8], path: Vec<u8>) -> Result<Option<Level>> {
        let metadata = self.from.stat(id)?;
        let existing = self.existing(dir, name, &metadata)?;
        let keeps = self.to.keeps();
        let attributes = Attributes::of(&metadata, if keeps.xattrs { self.from.xattrs(id)? } else { Vec::new() });
        let attributes =
            if self.settings.steady { Attributes { accessed: None, created: None, ..attributes } } else { attributes };
        if metadata.kind == FileKind::Directory {
            if !self.settings.recursive {
                return Err(invalid(format!("{} is a folder", show(name))).with_remedy("copy folders with -r"));
            }
            let to = match existing {
                Some(found) => found,
                None => self.to.create_dir(dir, name, &attributes)?,
            };
            return self.level(id, to, path, Some(Attributes { xattrs: None, ..attributes })).map(Some);
        }
        if !keeps.links && metadata.kind != FileKind::Regular {
            self.skipped.push(format!("{}: a {} has no place there", show(&path), metadata.kind.name()));
            return Ok(None);
        }
        if let Some(first) = self.linked.get(&id).filter(|_| keeps.links) {
            self.to.link(dir, name, *first)?;
            return Ok(None);
        }
        let made = self.make(id, dir, name, &metadata, &attributes)?;
        if metadata.links > 1 {
            self.linked.insert(id, made);
        }
        Ok(None)
    }

    /// What is there of that name: a folder that is merged, or nothing any more.
    fn existing(&self, dir: FileId, name: &[u8], metadata: &Metadata) -> Result<Option<FileId>> {
        let Some(found) = self.to.lookup(dir, name)? else { return Ok(None) };
        let is_folder = self.to.stat(found)?.kind == FileKind::Directory;
        match (is_folder, metadata.kind == FileKind::Directory) {
            (true, true) => Ok(Some(found)),
            (false, false) if self.settings.existing == Existing::Replace => self.to.remove(dir, name).map(|()| None),
            (false, false) => Err(Error::new(ErrorKind::Denied, format!("{} exists already", show(name)))),
            (true, false) => Err(Error::new(ErrorKind::Denied, format!("{} is a folder there", show(name)))),
            (false, true) => Err(Error::new(ErrorKind::Denied, format!("{} is no folder there", show(name)))),
        }
    }

    fn make(
        &self,
        id: FileId,
        dir: FileId,
        name: &[u8],
        metadata: &Metadata,
        attributes: &Attributes,
    ) -> Result<FileId> {
        match metadata.kind {
            FileKind::Symlink => self.to.create_symlink(dir, name, &self.from.read_link(id)?, attributes),
            FileKind::Regular => self.to.create_file(dir, name, &*self.from.open(id)?, attributes),
            kind => self.to.create_node(dir, name, kind, metadata.device.unwrap_or_default(), attributes),
        }
    }
}
