//! A folder that appears under its name only when everything in it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use transload_block::{Error, ErrorKind, Result};

use super::place::Placed;
use super::{PARTIAL, ends_in_slash, make_staging};
use crate::job::lock;

/// A folder while it is filled: a hidden one beside the place where it will be.
#[derive(Debug)]
pub struct AtomicFolder {
    path: PathBuf,
    staging: PathBuf,
    force: bool,
}

impl AtomicFolder {
    /// Prepares to make the folder at `path`. One that is there must be empty, unless `force` allows to put files into it
    /// and to replace those of the same names.
    ///
    /// # Errors
    /// `Denied` when there is a folder that is not empty; `InvalidInput` when there is something else, or no name; what
    /// the operating system answers.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        let context = |error| Error::io(path.display().to_string(), error);
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) if !force => {
                let text = format!("{}: is not empty", path.display());
                return Err(Error::new(ErrorKind::Denied, text)
                    .with_remedy("name another folder, or replace files of the same names with --force"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::new(ErrorKind::InvalidInput, format!("{}: is not a folder", path.display())));
            }
            Err(error) => return Err(context(error)),
        }
        let absolute = std::path::absolute(path).map_err(context)?;
        let resolved = fs::canonicalize(&absolute).unwrap_or(absolute);
        let (Some(parent), Some(name)) = (resolved.parent(), resolved.file_name()) else {
            let text = format!("{}: not the name of a folder that can be made", path.display());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        };
        debug_assert!(!ends_in_slash(&resolved), "canonical names end in no slash");
        let staging = make_staging(parent, &name.to_string_lossy())?;
        lock(&PARTIAL).push(staging.clone());
        Ok(Self { path: resolved, staging, force })
    }

    /// Where the folder will be, absolute.
    #[must_use]
    pub fn final_path(&self) -> &Path {
        &self.path
    }

    /// Where it is until [`commit`](Self::commit).
    #[must_use]
    pub fn staged_path(&self) -> &Path {
        &self.staging
    }

    /// Makes everything in it durable and moves it to its name. The files themselves are directly in it, and flushed
    /// here.
    ///
    /// # Errors
    /// `Denied` when the folder was filled meanwhile; what the operating system answers.
    pub fn commit(self) -> Result<()> {
        let context = |path: &Path, error| Error::io(path.display().to_string(), error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.staging).map_err(|error| context(&self.staging, error))? {
            let path = entry.map_err(|error| context(&self.staging, error))?.path();
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| context(&path, error))?;
            names.extend(path.file_name().map(ToOwned::to_owned));
        }
        names.sort();
        if !self.path.exists() {
            fs::create_dir(&self.path).map_err(|error| context(&self.path, error))?;
        }
        let mut placed: Vec<Placed> = Vec::new();
        for name in names {
            match Placed::rename(self.staging.join(&name), self.path.join(&name), self.force) {
                Ok(done) => placed.push(done),
                Err(error) => {
                    placed.into_iter().rev().for_each(Placed::undo);
                    // What was made here goes; what was there stays, as it is not empty.
                    drop(fs::remove_dir(&self.path));
                    return Err(error);
                }
            }
        }
        let parent = self.path.parent().unwrap_or(&self.path);
        for folder in [self.path.as_path(), parent] {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| context(folder, error))?;
        }
        Ok(())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        // After a commit the folder holds nothing of value; before it, nothing that anybody may see.
        drop(fs::remove_dir_all(&self.staging));
        lock(&PARTIAL).retain(|folder| *folder != self.staging);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("vm");
        let folder = AtomicFolder::create(&path, false).unwrap();
        fs::write(folder.staged_path().join("a"), "a").unwrap();
        assert!(!path.exists());
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);

        let folder = AtomicFolder::create(&path, false).unwrap();
        fs::write(folder.staged_path().join("a"), "a").unwrap();
        folder.commit().unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"a");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_is_kept_unless_told_otherwise() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("vm");
        fs::create_dir(&path).unwrap();
        AtomicFolder::create(&path, false).unwrap().commit().unwrap();
        fs::write(path.join("a"), "old").unwrap();
        fs::write(path.join("b"), "old").unwrap();
        assert_eq!(AtomicFolder::create(&path, false).unwrap_err().kind(), ErrorKind::Denied);
        let folder = AtomicFolder::create(&path, true).unwrap();
        fs::write(folder.staged_path().join("a"), "new").unwrap();
        folder.commit().unwrap();
        assert_eq!(
            (fs::read(path.join("a")).unwrap(), fs::read(path.join("b")).unwrap()),
            (b"new".to_vec(), b"old".to_vec())
        );
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(AtomicFolder::create(&file, true).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
