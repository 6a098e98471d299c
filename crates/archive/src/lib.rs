//! Archives of disks: the files of any number of disks, deduplicated, compressed, encrypted and verifiable, in a repository of
//! restic's format.
//!
//! ```text
//! Repository::create(path, password)
//! create(repository, disks, settings) ──► Report                                                archive
//! verify(repository), forget(repository), compact(repository), difference(), similarity()         care for it
//! restore(files, sidecar, target), write_squashfs(files)                                                 take it elsewhere
//! Repository::open(path, password) ──► snapshots() ──► files(snapshot) ──► Arc<dyn FileSystem>     read
//! ```
//!
//! The format is version 2 of restic's repository (restic's `doc/design.rst`): restic lists, checks and restores what is
//! written here, and what it wrote is read here. docs/adr/0040 says why. The files of a snapshot are a
//! [`FileSystem`](transload_filesystem::FileSystem), so that whatever shows, copies or packs the files of a disk does the same
//! with those of an archive; a file is a [`BlockRead`](transload_block::BlockRead) over the chunks that were unpacked last.
//!
//! ```no_run
//! use std::path::Path;
//! use transload_archive::{OpenSettings, Repository, Totals};
//! use transload_filesystem::FileSystemExt;
//!
//! # fn main() -> transload_block::Result<()> {
//! let archive = Repository::open(Path::new("/srv/archive"), b"password", OpenSettings::default())?;
//! for snapshot in archive.snapshots()? {
//!     let files = archive.files(&snapshot)?;
//!     for disk in files.entries(files.root())? {
//!         println!("{} {}: {}", snapshot.id.short(), snapshot.time, disk.name.escape_ascii());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod chunk;
mod compact;
mod compare;
mod create;
mod extract;
mod forget;
mod format;
mod index;
mod lock;
mod lru;
mod profile;
mod reach;
mod repository;
mod restore;
mod sidecar;
mod squashfs;
mod store;
mod verify;
mod view;
mod watched;
mod zeroes;

pub use compact::{CompactSettings, Compaction, compact};
pub use compare::{Change, Difference, Part, Similarity, difference, similarity};
pub use create::{CreateSettings, DiskSource, Parent, RawVolumes, Report, Unwatched, Watch, create};
pub use extract::{Extraction, extract};
pub use forget::{Keep, forget};
pub use format::id::Id;
pub use format::snapshot::Snapshot;
pub use format::time::Time;
pub use profile::{Profiles, Treatment};
pub use repository::{Damaged, OpenSettings, Repository, Totals};
pub use restore::{Restoration, obstacles, restore};
pub use sidecar::{Contents, Gap, Sidecar, VolumeEntry};
pub use squashfs::{SquashfsReport, write_squashfs};
pub use verify::{Affected, Verification, verify};
pub use watched::{Watched, total};
