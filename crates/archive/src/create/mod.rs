//! Making a snapshot of disks.
//!
//! ```text
//! one thread:   walk the volumes ──► read past holes ──► cut ──┐
//!                     ▲                                         ▼ bounded
//! threads:            │           hash ──► known? ──► compress ──► encrypt ──► pack ──► index
//!                     └── names of chunks ──► trees, from the leaves up ──► snapshot
//! ```
//!
//! Packs are on the disk before the index names them, and the index before the snapshot does. Whatever stops it, earlier
//! snapshots are whole, and what was stored already is found again by the next run.

mod disk;
mod files;
mod folders;
pub(crate) mod packer;
mod volume;
mod workers;

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};
use transload_volume::Volumes;

use crate::chunk::Chunker;
use crate::format::document;
use crate::format::id::Id;
use crate::format::snapshot::{Snapshot, SnapshotDocument, TAG};
use crate::format::time::Time;
use crate::lock;
use crate::profile::Profiles;
use crate::repository::{Repository, adopt_packs};
use crate::store::Kind;

use disk::DiskWalk;
use files::Reader;
use folders::{Entry, Folders};
use packer::Packer;
use workers::Workshop;

/// Bytes of chunks that may wait for the threads.
const IN_FLIGHT: usize = 24 << 20;

/// Who looks on while a snapshot is made or read: for progress, and to stop it. All calls may come from any thread.
pub trait Watch: Sync {
    /// Whether the total is worth finding out, which costs a walk through all folders.
    fn wants_total(&self) -> bool;
    /// How many bytes there are to read, as far as known.
    fn begin(&self, total: u64);
    /// So many bytes of files were read, or need not be.
    fn read(&self, bytes: u64);
    /// So many bytes were added to the archive.
    fn written(&self, bytes: u64);
    /// Fails when it is to stop.
    ///
    /// # Errors
    /// `Cancelled`.
    fn check(&self) -> Result<()>;
}

/// Nobody looks on.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn wants_total(&self) -> bool {
        false
    }

    fn begin(&self, _total: u64) {}

    fn read(&self, _bytes: u64) {}

    fn written(&self, _bytes: u64) {}

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A disk whose files are to be archived.
#[derive(Debug)]
pub struct DiskSource {
    /// What it is called in the archive: the name of a folder.
    pub name: String,
    /// Where it was read from, for people.
    pub origin: String,
    /// The format of the image, for people.
    pub format: String,
    /// Its bytes.
    pub device: Arc<dyn BlockRead>,
    /// Its volumes.
    pub volumes: Volumes,
}

/// Which volumes are stored byte by byte besides their files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RawVolumes {
    /// Those alone whose files cannot be read.
    #[default]
    Unreadable,
    /// These as well, by name.
    Named(Vec<String>),
    /// All of them.
    All,
}

/// Which earlier snapshot is looked at for what has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parent {
    /// The last one that has a disk of the same name.
    #[default]
    Latest,
    /// This one.
    Snapshot(Id),
    /// None: everything is read.
    None,
}

/// How a snapshot is made.
#[derive(Clone, Debug)]
pub struct CreateSettings {
    /// The machine that the snapshot is said to be of; the one that it is made on when not given.
    pub hostname: Option<String>,
    /// Words for it.
    pub tags: Vec<String>,
    /// Its time.
    pub time: Time,
    /// How hard what is compressed, and what is left out.
    pub profiles: Profiles,
    /// What is looked at for unchanged files.
    pub parent: Parent,
    /// Whether times of reading are kept; those of modification stand in their place otherwise.
    pub access_times: bool,
    /// Which volumes are stored byte by byte.
    pub raw: RawVolumes,
    /// Threads that hash and compress.
    pub threads: usize,
}

impl Default for CreateSettings {
    fn default() -> Self {
        Self {
            hostname: None,
            tags: Vec::new(),
            time: Time::now(),
            profiles: Profiles::default(),
            parent: Parent::Latest,
            access_times: true,
            raw: RawVolumes::Unreadable,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The snapshot; `None` only while it is being made.
    pub snapshot: Option<Snapshot>,
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, devices and the like.
    pub others: u64,
    /// Files that were not read, since they have not changed.
    pub unchanged: u64,
    /// What the profiles leave out.
    pub excluded: u64,
    /// What could not be read, with everything below it.
    pub left_out: u64,
    /// Named streams of NTFS, for which there is no place.
    pub streams: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// New chunks and folders.
    pub new_blobs: u64,
    /// Bytes that they take.
    pub stored: u64,
    /// What to know.
    pub warnings: Vec<String>,
}

/// Makes a snapshot of `disks`.
///
/// # Errors
/// `InvalidInput` when two disks have the same name; what reading the disks and writing the archive answer. What is wrong
/// with single files is in the report.
pub fn create(
    repository: &Arc<Repository>,
    disks: &[DiskSource],
    settings: &CreateSettings,
    watch: &dyn Watch,
) -> Result<Report> {
    check_names(disks)?;
    let lock = repository.lock(false)?;
    repository.reload()?;
    let packer = Packer::new(repository);
    // What a run stored that was stopped.
    let (adopted, damaged) = adopt_packs(&repository.store, &repository.key, &mut repository.index_mut())?;
    packer.adopt(adopted);
    let mut report = Report::default();
    report.warnings.extend(damaged.into_iter().map(|(_, error)| error.to_string()));
    let parent = parent(repository, settings, disks)?;
    let chunker = Chunker::new(repository.config.polynomial);
    let workshop = Workshop::new(&packer, watch, IN_FLIGHT);
    let made = workshop.run(settings.threads.max(1), |workshop| {
        let mut reader = Reader::new(workshop, watch, &chunker);
        let mut folders = Folders::new(workshop);
        let mut entries = Vec::new();
        if watch.wants_total() {
            watch.begin(disk::total(disks));
        }
        for (number, disk) in disks.iter().enumerate() {
            let mut walk = DiskWalk {
                repository,
                settings,
                reader: &mut reader,
                folders: &mut folders,
                report: &mut report,
                disk,
                number: number as u64,
                parent: parent.as_ref(),
            };
            entries.push(walk.walk()?);
        }
        entries.sort_by(|one, other| one.name().cmp(other.name()));
        let root = folders.finish(entries)?;
        folders.wait()?;
        root.get().copied().flatten().ok_or_else(|| Error::new(ErrorKind::Cancelled, "stopped"))
    });
    // Also what was stored before a failure is told to the index.
    let flushed = packer.flush();
    let tree = made?;
    flushed?;
    lock.check()?;
    (report.stored, report.new_blobs) = packer.added();
    if report.streams > 0 {
        report.warnings.push(format!("{} named streams of NTFS are left out", report.streams));
    }
    report.snapshot = Some(save_snapshot(repository, disks, settings, tree, parent.map(|parent| parent.id))?);
    Ok(report)
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Whole(node) | Self::File(node, _) | Self::Folder(node, _) => &node.name,
        }
    }
}

fn check_names(disks: &[DiskSource]) -> Result<()> {
    let mut names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
    names.sort_unstable();
    let invalid = |text: String| Err(Error::new(ErrorKind::InvalidInput, text));
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return invalid(format!("two disks are called \"{}\"", pair[0]));
    }
    match names.iter().find(|name| name.is_empty() || name.contains('/') || matches!(**name, "." | "..")) {
        Some(name) => invalid(format!("a disk cannot be called \"{name}\"")),
        None if names.is_empty() => invalid("there is no disk to archive".to_owned()),
        None => Ok(()),
    }
}

/// The snapshot to compare with.
fn parent(repository: &Repository, settings: &CreateSettings, disks: &[DiskSource]) -> Result<Option<Snapshot>> {
    let (snapshots, _) = repository.snapshots_and_damage()?;
    let has_one = |snapshot: &Snapshot| {
        let is_disk = |path: &String| disks.iter().any(|disk| path.strip_prefix('/') == Some(&disk.name));
        snapshot.is_of_disks() && snapshot.paths.iter().any(is_disk)
    };
    match &settings.parent {
        Parent::None => Ok(None),
        Parent::Latest => Ok(snapshots.into_iter().rev().find(has_one)),
        Parent::Snapshot(id) => match snapshots.into_iter().find(|snapshot| snapshot.id == *id) {
            Some(found) => Ok(Some(found)),
            None => Err(Error::new(ErrorKind::InvalidInput, format!("there is no snapshot {}", id.short()))),
        },
    }
}

fn save_snapshot(
    repository: &Repository,
    disks: &[DiskSource],
    settings: &CreateSettings,
    tree: Id,
    parent: Option<Id>,
) -> Result<Snapshot> {
    let mut paths: Vec<_> = disks.iter().map(|disk| format!("/{}", disk.name)).collect();
    paths.sort();
    let mut tags = settings.tags.clone();
    tags.push(TAG.to_owned());
    tags.dedup();
    let document = SnapshotDocument {
        time: settings.time,
        parent,
        tree,
        paths: Some(paths),
        hostname: settings.hostname.clone().unwrap_or_else(lock::host),
        username: lock::user(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        tags: Some(tags),
        program_version: format!("transload {}", env!("CARGO_PKG_VERSION")),
    };
    let bytes = document::seal(&document, repository.config.version, &repository.key)?;
    let id = repository.store.save(Kind::Snapshot, &bytes)?;
    Ok(Snapshot::new(id, document))
}
