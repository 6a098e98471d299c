//! Files out of an archive, one after another: what is damaged is said, and the rest comes out all the same.

use std::collections::HashMap;

use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::{
    Attributes, Entry, FileId, FileKind, FileSystem, FileSystemExt, FileSystemWrite, Metadata, Xattr,
};

/// Folders inside each other.
const DEEPEST: usize = 2048;

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Extraction {
    /// Files, folders, links and so on.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What did not come out, each with the reason.
    pub failed: Vec<String>,
}

struct Extractor<'a> {
    files: &'a dyn FileSystem,
    target: &'a dyn FileSystemWrite,
    replace: bool,
    linked: HashMap<FileId, FileId>,
    done: Extraction,
}

/// A folder that is being filled.
struct Level {
    from: FileId,
    to: FileId,
    path: Vec<u8>,
    rest: Vec<Entry>,
    /// Set in the end: what is put into a folder changes its time, and it may be read-only.
    attributes: Option<Attributes>,
}

/// Puts the file or the contents of the folder `id` into the folder `dir` of `target`. A file is called `name` there. Files
/// that are there already stay, unless `replace` says otherwise; folders are merged.
///
/// # Errors
/// What writing answers: no room, no leave. What cannot be read is in the answer.
pub fn extract(
    files: &dyn FileSystem,
    id: FileId,
    name: &[u8],
    target: &dyn FileSystemWrite,
    dir: FileId,
    replace: bool,
) -> Result<Extraction> {
    let mut extractor = Extractor { files, target, replace, linked: HashMap::new(), done: Extraction::default() };
    let metadata = files.stat(id)?;
    if metadata.kind != FileKind::Directory {
        let entry = Entry { name: name.to_vec(), id, kind: Some(metadata.kind) };
        extractor.entry(&entry, dir, b"", 0)?;
        return Ok(extractor.done);
    }
    let mut levels = vec![extractor.level(id, dir, Vec::new(), None)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.rest.pop() else {
            if let Some(Level { to, attributes: Some(attributes), .. }) = levels.pop() {
                target.set_attributes(to, &attributes)?;
            }
            continue;
        };
        let (from, to, path) = (level.from, level.to, level.path.clone());
        let depth = if from == entry.id { DEEPEST } else { levels.len() };
        let below = extractor.entry(&entry, to, &path, depth)?;
        levels.extend(below);
    }
    Ok(extractor.done)
}

impl Extractor<'_> {
    fn level(&self, from: FileId, to: FileId, path: Vec<u8>, attributes: Option<Attributes>) -> Result<Level> {
        let mut rest = self.files.entries(from)?;
        rest.reverse();
        Ok(Level { from, to, path, rest, attributes })
    }

    /// One entry; of a folder the folder itself, and answers what is to be done in it.
    fn entry(&mut self, entry: &Entry, dir: FileId, folder: &[u8], depth: usize) -> Result<Option<Level>> {
        let path = [folder, b"/", &entry.name].concat();
        match self.try_entry(entry, dir, &path, depth) {
            Ok(level) => {
                self.done.entries += 1;
                Ok(level)
            }
            Err(error) => match error.kind() {
                ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::TooLarge | ErrorKind::Denied => {
                    self.done.failed.push(format!("{}: {error}", path.escape_ascii()));
                    Ok(None)
                }
                _ => Err(error.context(path.escape_ascii())),
            },
        }
    }

    fn try_entry(&mut self, entry: &Entry, dir: FileId, path: &[u8], depth: usize) -> Result<Option<Level>> {
        let metadata = self.files.stat(entry.id)?;
        let attributes = Attributes::of(&metadata, self.xattrs(entry.id)?);
        let existing = self.make_room(dir, &entry.name, &metadata)?;
        if metadata.kind == FileKind::Directory {
            if depth >= DEEPEST {
                return Err(Error::new(ErrorKind::TooLarge, format!("more than {DEEPEST} folders in each other")));
            }
            let to = match existing {
                Some(found) => found,
                None => self.target.create_dir(dir, &entry.name, &Attributes::default())?,
            };
            return self.level(entry.id, to, path.to_vec(), Some(attributes)).map(Some);
        }
        if let Some(first) = self.linked.get(&entry.id) {
            self.target.link(dir, &entry.name, *first)?;
            return Ok(None);
        }
        let made = self.make(entry, dir, &metadata, &attributes)?;
        if metadata.links > 1 {
            self.linked.insert(entry.id, made);
        }
        Ok(None)
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<Xattr>> {
        if self.target.keeps().xattrs { self.files.xattrs(id) } else { Ok(Vec::new()) }
    }

    /// What is there already: a folder that is merged, or nothing any more.
    fn make_room(&self, dir: FileId, name: &[u8], metadata: &Metadata) -> Result<Option<FileId>> {
        let Some(found) = self.target.lookup(dir, name)? else { return Ok(None) };
        let is_folder = self.target.stat(found)?.kind == FileKind::Directory;
        match (is_folder, metadata.kind == FileKind::Directory) {
            (true, true) => Ok(Some(found)),
            (false, false) if self.replace => self.target.remove(dir, name).map(|()| None),
            (false, false) => {
                Err(Error::new(ErrorKind::Denied, "it exists already").with_remedy("replace it with --force"))
            }
            (true, false) => Err(Error::new(ErrorKind::Denied, "there is a folder of that name")),
            (false, true) => Err(Error::new(ErrorKind::Denied, "there is a file of that name")),
        }
    }

    fn make(&mut self, entry: &Entry, dir: FileId, metadata: &Metadata, attributes: &Attributes) -> Result<FileId> {
        match metadata.kind {
            FileKind::Symlink => {
                let target = self.files.read_link(entry.id)?;
                self.target.create_symlink(dir, &entry.name, &target, attributes)
            }
            FileKind::Regular => {
                let file = self.files.open(entry.id)?;
                self.done.bytes += file.size();
                self.target.create_file(dir, &entry.name, &*file, attributes)
            }
            kind => self.target.create_node(dir, &entry.name, kind, metadata.device.unwrap_or_default(), attributes),
        }
    }
}
