//! The files of a new image, which appear under their names together and only when they are whole.
//!
//! ```text
//! AtomicFiles::create ─► primary(), sibling(name) … ─► commit: fsync all ─► rename siblings, then the primary ─► fsync
//!   │ makes .NAME.XXXX.partial/                          folder                                               folder
//!   └ drop without commit: the folder and all in it go away, while unwinding too
//! ```
//!
//! The files stand in a hidden folder beside the target, under their final names. Why a folder, and not hidden names or
//! `O_TMPFILE`: a descriptor names its extents by their final names, so that the set can be opened and verified before
//! anybody else sees it; and whatever a crash leaves is one folder that nobody takes for an image. The folder is beside
//! the target so that renaming stays inside one file system.
//!
//! Block devices are no files to be replaced: [`InPlace`] writes them where they are.

mod counted;
mod folder;
mod place;

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use transload_block::{BlockRead, Error, ErrorKind, FileBlock, Result, Storage};
use transload_image::{FileIdentity, TargetFiles};

use crate::job::lock;
use counted::Counted;
pub(crate) use counted::CountedPipe;
pub use folder::AtomicFolder;
use place::Placed;

/// The folders of all outputs that are not whole yet.
static PARTIAL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes the partial outputs of all jobs of this process. For a program that is about to exit without letting its
/// jobs end: a second Ctrl-C. The ordinary way is [`Cancel`](crate::Cancel), which lets every job clean up after itself.
pub fn remove_partial_outputs() {
    for folder in lock(&PARTIAL).drain(..) {
        // Nothing can be done about a failure here, and nobody would hear of it.
        drop(fs::remove_dir_all(folder));
    }
}

/// What else is in the hidden folder of a conversion that can be taken up again: no image may be called so there.
pub(crate) const CHECKPOINT_FILES: [&str; 3] = [CHECKPOINT, CHECKPOINT_NEXT, CHECKPOINT_LOCK];
/// Says how far it is.
pub(crate) const CHECKPOINT: &str = "transload.checkpoint";
/// The next one, while it is written.
pub(crate) const CHECKPOINT_NEXT: &str = "transload.checkpoint.next";
/// Locked for as long as somebody is at it.
pub(crate) const CHECKPOINT_LOCK: &str = "transload.checkpoint.lock";

/// The files of a new image while they are made.
#[derive(Debug)]
pub struct AtomicFiles {
    /// The folder that the files will be in.
    folder: PathBuf,
    /// The primary file's name there.
    name: OsString,
    /// The same as text, for what the image and messages say: a name that is no Unicode has replacement characters.
    shown: String,
    /// The hidden folder that they are in now.
    staging: PathBuf,
    force: bool,
    /// Files that must not be replaced even with `force`: those of the source.
    avoid: Vec<FileIdentity>,
    made: Mutex<Vec<(OsString, Arc<Counted>)>>,
    written: Arc<AtomicU64>,
    /// The hidden folder stays when it is dropped, for a later run.
    keep: bool,
}

impl AtomicFiles {
    /// Prepares to make the file at `path`, and others beside it. Files in `avoid` are never replaced; others only with
    /// `force`. A symbolic link that leads somewhere is followed: its target is what is replaced.
    ///
    /// # Errors
    /// `Denied` when the file exists and may not be replaced; `InvalidInput` when it is no regular file or one of the
    /// source's; what the operating system answers.
    pub fn create(path: &Path, force: bool, avoid: Vec<FileIdentity>) -> Result<Self> {
        let mut files = Self::named(path, force, avoid)?;
        files.staging = make_staging(&files.folder, &files.shown)?;
        lock(&PARTIAL).push(files.staging.clone());
        Ok(files)
    }

    /// As [`create`](Self::create), in a hidden folder `.NAME.resume`, which is taken as it is if it is there and stays when this is
    /// dropped, committed or not.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub(crate) fn resumable(path: &Path, force: bool, avoid: Vec<FileIdentity>) -> Result<Self> {
        let mut files = Self::named(path, force, avoid)?;
        files.keep = true;
        files.staging = files.folder.join(format!(".{}.resume", files.shown));
        let failed = |error| Error::io(format!("{}: create", files.staging.display()), error);
        match DirBuilder::new().mode(0o700).create(&files.staging) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&files.staging).map_err(failed)?;
                let own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
                if !own {
                    let text =
                        format!("{}: is not a folder of an interrupted conversion of yours", files.staging.display());
                    return Err(Error::new(ErrorKind::Denied, text).with_remedy("move it out of the way"));
                }
            }
            other => other.map_err(failed)?,
        }
        Ok(files)
    }

    /// The hidden folder.
    pub(crate) fn staging_folder(&self) -> PathBuf {
        self.staging.clone()
    }

    /// Removes the files of the image that an interrupted run left.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in self.left_over()? {
            let path = self.staging.join(name);
            fs::remove_file(&path).map_err(|error| Error::io(format!("{}: remove", path.display()), error))?;
        }
        Ok(())
    }

    /// Takes the files of the image that an interrupted run left for its own.
    pub(crate) fn adopt_all(&self) -> Result<()> {
        for name in self.left_over()? {
            let file = FileBlock::open(&self.staging.join(&name), true)?;
            let storage = Arc::new(Counted::new(Arc::new(file), Arc::clone(&self.written)));
            lock(&self.made).push((name, storage));
        }
        Ok(())
    }

    /// What is in the hidden folder but the checkpoint's own files.
    fn left_over(&self) -> Result<Vec<OsString>> {
        let failed = |error| Error::io(self.staging.display().to_string(), error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.staging).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !CHECKPOINT_FILES.contains(&name.to_string_lossy().as_ref()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// What will be at `path`, with no hidden folder yet.
    fn named(path: &Path, force: bool, avoid: Vec<FileIdentity>) -> Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().filter(|_| !ends_in_slash(&path)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{}: not the name of a file", path.display()))
        })?;
        let (name, shown) = (name.to_owned(), name.to_string_lossy().into_owned());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        refuse_existing(&path, force, &avoid)?;
        let (staging, made, written) = (PathBuf::new(), Mutex::default(), Arc::default());
        Ok(Self { folder, name, shown, staging, force, avoid, made, written, keep: false })
    }

    /// Where the primary file is until [`commit`](Self::commit).
    #[must_use]
    pub fn staged_path(&self) -> PathBuf {
        self.staging.join(&self.name)
    }

    /// Where the primary file will be.
    #[must_use]
    pub fn final_path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Bytes written to all files so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Makes the files durable and moves them to their names, the primary one last. On an error everything is as it was
    /// before.
    ///
    /// # Errors
    /// `Denied` when a name was taken meanwhile and may not be replaced; what the operating system answers.
    pub fn commit(self) -> Result<()> {
        let mut names: Vec<OsString> = lock(&self.made).iter().map(|(name, _)| name.clone()).collect();
        names.sort_by_key(|name| *name == self.name);
        for name in &names {
            let path = self.staging.join(name);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| Error::io(format!("{}: flush", path.display()), error))?;
        }
        let mut placed: Vec<Placed> = Vec::new();
        for name in &names {
            let (from, to) = (self.staging.join(name), self.folder.join(name));
            match refuse_existing(&to, self.force, &self.avoid).and_then(|()| Placed::rename(from, to, self.force)) {
                Ok(done) => placed.push(done),
                Err(error) => {
                    placed.into_iter().rev().for_each(Placed::undo);
                    return Err(error);
                }
            }
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io(format!("{}: flush", self.folder.display()), error))
    }

    fn make(&self, name: &OsStr) -> Result<Arc<dyn Storage>> {
        let mut made = lock(&self.made);
        if let Some((_, storage)) = made.iter().find(|(known, _)| known == name) {
            return Ok(Arc::clone(storage) as Arc<dyn Storage>);
        }
        let path = self.staging.join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| Error::io(format!("{}: create", path.display()), error))?;
        // Messages name the file that the user asked for.
        let storage = FileBlock::from_file(file, &self.folder.join(name), true)?;
        let storage = Arc::new(Counted::new(Arc::new(storage), Arc::clone(&self.written)));
        made.push((name.to_owned(), Arc::clone(&storage)));
        Ok(storage)
    }
}

impl TargetFiles for AtomicFiles {
    fn name(&self) -> &str {
        &self.shown
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        self.make(&self.name)
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        if *self.name != *self.shown {
            let path = self.final_path();
            let text = format!("{}: not UTF-8, as names of images of several files have to be", path.display());
            return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("choose a variant that is one file"));
        }
        let mut parts = Path::new(name).components();
        let one_part = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
        let taken = lock(&self.made).iter().any(|(known, _)| known == name);
        if !one_part || *name == *self.name || taken {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("'{name}' cannot be a file beside '{}'", self.shown),
            ));
        }
        refuse_existing(&self.folder.join(name), self.force, &self.avoid)?;
        self.make(OsStr::new(name))
    }
}

impl Drop for AtomicFiles {
    fn drop(&mut self) {
        if self.keep || self.staging.as_os_str().is_empty() {
            return;
        }
        // After a commit the folder holds nothing of value; before it, nothing that anybody may see. A failure leaves
        // a hidden folder, which is no image.
        drop(fs::remove_dir_all(&self.staging));
        lock(&PARTIAL).retain(|folder| *folder != self.staging);
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Refuses a place that is taken and may not be replaced.
fn refuse_existing(path: &Path, force: bool, avoid: &[FileIdentity]) -> Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| Error::io(path.display().to_string(), error))?,
    };
    if avoid.contains(&identity_of(&metadata)) {
        let text = format!("{}: is a file that the source is read from", path.display());
        return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("write to another name"));
    }
    if !metadata.is_file() && !metadata.is_symlink() {
        return Err(no_place_for_an_image(path));
    }
    if !force {
        return Err(exists(path));
    }
    Ok(())
}

/// The error for a target that is a folder, a character device or the like, which `--force` does not help.
pub(crate) fn no_place_for_an_image(path: &Path) -> Error {
    let text = format!("{}: is neither a regular file nor a block device", path.display());
    Error::new(ErrorKind::InvalidInput, text).with_remedy("name a file, or - for standard output")
}

/// The error for a target that is there already.
pub(crate) fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::Denied, format!("{}: exists", path.display())).with_remedy("replace it with --force")
}

/// Which file `metadata` is of; for a block device, which device, whatever node it was reached by.
pub(crate) fn identity_of(metadata: &fs::Metadata) -> FileIdentity {
    if metadata.file_type().is_block_device() {
        FileIdentity { device: u64::MAX, inode: metadata.rdev() }
    } else {
        FileIdentity { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Makes the hidden folder for the files of `name`, with a name that nobody can guess.
fn make_staging(folder: &Path, name: &str) -> Result<PathBuf> {
    /// A component may have 255 bytes; this leaves room for what is put around it.
    const MOST: usize = 200;
    let mut stem = name;
    while stem.len() > MOST {
        let mut letters = stem.chars();
        letters.next_back();
        stem = letters.as_str();
    }
    loop {
        // The keys are random for each `RandomState`; the folder is only made if there is none of its name.
        let suffix = RandomState::new().hash_one(std::process::id());
        let staging = folder.join(format!(".{stem}.{suffix:016x}.partial"));
        match DirBuilder::new().mode(0o700).create(&staging) {
            Ok(()) => return Ok(staging),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(format!("{}: create a folder in it", folder.display()), error)),
        }
    }
}

/// A block device, or another storage that is no file to be replaced, written where it is.
#[derive(Debug)]
pub struct InPlace {
    name: String,
    storage: Arc<Counted>,
    written: Arc<AtomicU64>,
}

impl InPlace {
    /// Opens the block device at `path` for writing, unless somebody else uses it.
    ///
    /// # Errors
    /// What the operating system answers: `Io` for a device that is mounted or held otherwise.
    pub fn open(path: &Path) -> Result<Self> {
        // For a block device, O_EXCL without O_CREAT means: not while it is mounted or claimed.
        let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0);
        let file = File::options().read(true).write(true).custom_flags(exclusive).open(path);
        let file = file.map_err(|error| Error::io(format!("{}: open for writing", path.display()), error))?;
        let storage = Arc::new(FileBlock::from_file(file, path, true)?);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self::over(name, storage))
    }

    /// A storage that is open already and called `name`.
    #[must_use]
    pub fn over(name: String, storage: Arc<dyn Storage>) -> Self {
        let written = Arc::default();
        let storage = Arc::new(Counted::new(storage, Arc::clone(&written)));
        Self { name, storage, written }
    }

    /// The device's bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.storage.size()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl TargetFiles for InPlace {
    fn name(&self) -> &str {
        &self.name
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::clone(&self.storage) as Arc<dyn Storage>)
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        let text = format!("a target that is written in place has no room for a further file '{name}'");
        Err(Error::new(ErrorKind::Unsupported, text).with_remedy("choose a variant that is one file"))
    }
}

#[cfg(test)]
mod tests;
