//! Opening the archive that a command works on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use transload::archive::{Id, OpenSettings, Repository, Snapshot};
use transload::block::{Error, Result};
use transload::filesystem::FileSystem;

use super::password::PasswordArgs;
use crate::files::Place;

/// An archive that is there.
#[derive(Args, Clone, Debug)]
pub(super) struct ArchiveArgs {
    /// The archive
    #[arg(value_name = "ARCHIVE")]
    pub(super) archive: PathBuf,
    #[command(flatten)]
    pub(super) password: PasswordArgs,
}

impl ArchiveArgs {
    /// Opens it, and says what was found wrong.
    pub(super) fn open(&self) -> Result<Arc<Repository>> {
        let repository = self.open_quietly()?;
        for note in repository.notes() {
            eprintln!("transload: {note}");
        }
        Ok(repository)
    }

    /// As [`open`](Self::open), for a command that says itself what is wrong.
    pub(super) fn open_quietly(&self) -> Result<Arc<Repository>> {
        open(&self.archive, &self.password)
    }

    /// The files of a snapshot, under the name that messages have for it.
    pub(super) fn place(&self, repository: &Arc<Repository>, snapshot: &Snapshot) -> Result<Place> {
        let filesystem: Arc<dyn FileSystem> = repository.files(snapshot)?;
        Ok(Place { filesystem, name: format!("{} {}", self.archive.display(), snapshot.id.short()) })
    }
}

/// Opens the archive at `path`.
pub(in crate::commands) fn open(path: &Path, password: &PasswordArgs) -> Result<Arc<Repository>> {
    // Nobody is asked for the password of something that is no archive.
    let password = if Repository::is_at(path) { password.get(false)? } else { Vec::new() };
    Repository::open(path, &password, OpenSettings::default())
}

/// The names of snapshots, from the first digits of each.
pub(super) fn ids(repository: &Repository, names: &[String]) -> Result<Vec<Id>> {
    let (sound, damaged) = repository.snapshots_and_damage()?;
    let known: Vec<Id> =
        sound.iter().map(|snapshot| snapshot.id).chain(damaged.into_iter().map(|(id, _)| id)).collect();
    let find = |name: &String| {
        let found: Vec<&Id> = known.iter().filter(|id| !name.is_empty() && id.to_string().starts_with(name)).collect();
        match found.as_slice() {
            [id] => Ok(**id),
            // The message for none and for several; `latest` is found by it as well.
            _ => repository.find_snapshot(name).map(|snapshot| snapshot.id),
        }
    };
    names.iter().map(find).collect::<Result<_, Error>>()
}
