//! Outputs that are staged under hidden names, and come to their own when they are whole: once, and by nobody who has lost
//! the job meanwhile.
//!
//! ```text
//! Staging::create ─► the engine writes into it ─► Staging::plan ─► Store::intend ─► Plan::carry_out ─► Store::finish
//!   │ PARENT/.transload-JOB-TOKEN/                  flushed          with the token    renames
//!   └ drop: goes away with all that is in it
//! ```
//!
//! **Why this is safe with any number of workers.** Tokens ascend. Who takes a job over first has a higher token written to the
//! store, and then moves the staging folders of all lower tokens out of reach ([`sweep`]). A worker writes its intent to
//! the store, naming its token, before it renames anything. Either its intent came before the other's claim: then
//! the other finds it, and finishes the same renames, which may be done by two at once ([`Plan::carry_out`]). Or it came
//! after: then the store refuses it, and nothing is renamed. A worker that stands still between the two and wakes up later
//! finds its staging folder gone, or all renames done.
//!
//! A file is recognised by its inode, length and time of modification, which a rename does not change.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind, Result};

use crate::model::JobResult;
use crate::root::RESERVED;

/// A hidden folder beside the place of an output, for one attempt at one job.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
}

/// What is about to be published, and what came of the job: enough for another worker to finish it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    staging: PathBuf,
    moves: Vec<Move>,
    force: bool,
    /// What the job ends with.
    pub result: JobResult,
    /// And its warnings.
    pub warnings: Vec<String>,
}

/// One rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    /// The name in the staging folder.
    from: PathBuf,
    to: PathBuf,
    what: Identity,
}

/// By what a file or folder is recognised after it was renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    inode: u64,
    folder: bool,
    /// Of a file; a folder's may change.
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let folder = metadata.is_dir();
        Ok(Self {
            inode: metadata.ino(),
            folder,
            size: if folder { 0 } else { metadata.len() },
            modified: if folder { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) },
        })
    }
}

impl Staging {
    /// Makes the folder for an attempt at `job` beside `target`. A target that is there already may only be replaced with
    /// `force`, unless it is an empty folder.
    ///
    /// # Errors
    /// `Denied` when the target is there; what the operating system answers.
    pub fn create(target: &Path, job: &str, token: i64, force: bool) -> Result<Self> {
        refuse_existing(target, force)?;
        let parent = parent_of(target)?;
        let folder = parent.join(format!("{RESERVED}-{job}-{token}"));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| Error::io(format!("{}: make a folder for what is not whole", parent.display()), error))?;
        Ok(Self { folder, target: target.to_owned() })
    }

    /// Where the output is written until it is whole.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.target.file_name().unwrap_or_default())
    }

    /// The folder itself, which may also hold what is needed meanwhile and has no name.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it will be.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Makes everything durable that was written, and says how it gets its names: what belongs to the output first, the
    /// output itself last.
    ///
    /// # Errors
    /// `Denied` when a name was taken meanwhile and may not be replaced; what the operating system answers.
    pub fn plan(&self, force: bool, result: JobResult, warnings: Vec<String>) -> Result<Plan> {
        let primary = self.path();
        let place = parent_of(&self.target)?;
        let mut moves = Vec::new();
        for path in entries(&self.folder)? {
            let Some(name) = path.file_name() else { continue };
            flush_all(&path)?;
            // A folder that is there and has files in it gets those of the new one, by their names.
            if force && path == primary && path.is_dir() && is_filled_folder(&self.target) {
                for inner in entries(&path)? {
                    let to = self.target.join(inner.file_name().unwrap_or_default());
                    moves.push(Move::new(&self.folder, &inner, to)?);
                }
                continue;
            }
            moves.push(Move::new(&self.folder, &path, place.join(name))?);
        }
        moves.sort_by_key(|one| (one.to == self.target, one.to.clone()));
        for one in &moves {
            refuse_existing(&one.to, force)?;
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| Error::io(format!("{}: flush", self.folder.display()), error))?;
        Ok(Plan { staging: self.folder.clone(), moves, force, result, warnings })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A failure leaves a hidden folder, which the next who looks after this job's place removes.
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Move {
    fn new(staging: &Path, from: &Path, to: PathBuf) -> Result<Self> {
        let what = Identity::of(from).map_err(|error| Error::io(from.display().to_string(), error))?;
        Ok(Self { from: from.strip_prefix(staging).unwrap_or(from).to_owned(), to, what })
    }
}

impl Plan {
    /// Renames everything that has not been renamed yet. May be called again, and by another process at the same time.
    ///
    /// # Errors
    /// `Denied` when a name was taken by something else meanwhile; `Io` with `NotFound` when what is to be renamed is neither
    /// here nor there. What was renamed is then taken back, unless it has replaced something.
    pub fn carry_out(&self) -> Result<()> {
        for (done, one) in self.moves.iter().enumerate() {
            if let Err(error) = self.rename(one) {
                for earlier in self.moves[..done].iter().filter(|_| !self.force) {
                    earlier.take_back(&self.staging);
                }
                return Err(error);
            }
        }
        let mut folders: Vec<&Path> = self.moves.iter().filter_map(|one| one.to.parent()).collect();
        folders.dedup();
        for folder in folders {
            let flushed = File::open(folder).and_then(|folder| folder.sync_all());
            flushed.map_err(|error| Error::io(format!("{}: flush", folder.display()), error))?;
        }
        Ok(())
    }

    /// Every file that will be, with its length. For before the renames.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for one in &self.moves {
            let from = self.staging.join(&one.from);
            if !one.what.folder {
                found.push((one.to.clone(), one.what.size));
                continue;
            }
            for inner in entries(&from)? {
                let size = fs::metadata(&inner).map_err(|error| Error::io(inner.display().to_string(), error))?.len();
                found.push((one.to.join(inner.file_name().unwrap_or_default()), size));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The folder that the files come from, relative names of which the moves have.
    #[must_use]
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    fn rename(&self, one: &Move) -> Result<()> {
        let from = self.staging.join(&one.from);
        let renamed = if one.what.folder {
            // A folder takes the place of an empty one, and of nothing else.
            fs::rename(&from, &one.to)
        } else if self.force {
            fs::rename(&from, &one.to)
        } else {
            rename_new(&from, &one.to)
        };
        match renamed {
            Ok(()) => Ok(()),
            // Whoever was at it before, or is at it now, has done it.
            Err(_) if Identity::of(&one.to).is_ok_and(|there| there == one.what) => Ok(()),
            Err(error) if is_taken(&error) => Err(taken(&one.to)),
            Err(error) => Err(Error::io(format!("{}: publish", one.to.display()), error)),
        }
    }
}

impl Move {
    fn take_back(&self, staging: &Path) {
        if Identity::of(&self.to).is_ok_and(|there| there == self.what) {
            // Where the staging folder is gone, somebody else has the job, and what is here goes.
            if fs::rename(&self.to, staging.join(&self.from)).is_err() {
                drop(if self.what.folder { fs::remove_dir_all(&self.to) } else { fs::remove_file(&self.to) });
            }
        }
    }
}

/// Moves the staging folders of earlier attempts at `job` out of the reach of whoever still writes into them, and removes them.
/// Those of `token` and above stay.
///
/// # Errors
/// What the operating system answers. A place that does not exist has nothing in it.
pub fn sweep(target: &Path, job: &str, token: i64) -> Result<()> {
    let parent = parent_of(target)?;
    let listing = match fs::read_dir(parent) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other.map_err(|error| Error::io(parent.display().to_string(), error))?,
    };
    let prefix = format!("{RESERVED}-{job}-");
    for entry in listing {
        let entry = entry.map_err(|error| Error::io(parent.display().to_string(), error))?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        let dead = rest.ends_with(DEAD);
        if !dead && !rest.parse::<i64>().is_ok_and(|owner| owner < token) {
            continue;
        }
        let mut path = entry.path();
        if !dead {
            let aside = parent.join(format!("{prefix}{rest}{DEAD}"));
            match fs::rename(&path, &aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| Error::io(path.display().to_string(), error))?,
            }
            path = aside;
        }
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(path.display().to_string(), error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the name of a staging folder ends in while it is removed.
const DEAD: &str = ".dead";

fn parent_of(target: &Path) -> Result<&Path> {
    target
        .parent()
        .filter(|_| target.file_name().is_some())
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{}: not the name of a file", target.display())))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = |error| Error::io(folder.display().to_string(), error);
    let listing = fs::read_dir(folder).map_err(context)?;
    listing.map(|entry| entry.map(|entry| entry.path()).map_err(context)).collect()
}

/// Flushes a file, or a folder with everything in it.
fn flush_all(path: &Path) -> Result<()> {
    if path.is_dir() {
        entries(path)?.iter().try_for_each(|inner| flush_all(inner))?;
    }
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.map_err(|error| Error::io(format!("{}: flush", path.display()), error))
}

fn is_filled_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

fn refuse_existing(target: &Path, force: bool) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(target) else { return Ok(()) };
    let empty_folder = metadata.is_dir() && !is_filled_folder(target);
    if force || empty_folder {
        return Ok(());
    }
    Err(taken(target))
}

fn taken(target: &Path) -> Error {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let error = Error::new(ErrorKind::Denied, format!("'{name}' exists"));
    error.with_remedy("name another target, or allow it to be replaced with `force`")
}

fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory)
}

/// Renames a file to a name that nobody has: by the rename itself, or by a link where the file system knows no such rename.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests;
