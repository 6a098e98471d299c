//! Archives of disks: the files of any number of disks, deduplicated, compressed, encrypted and verifiable, in a repository of
//! restic's format.
//!
//! ```text
//! Repository::create(path, password)
//! create(repository, disks, settings) ──► Report                                                       archive
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
//! use transload_archive::{OpenSettings, Repository};
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
mod create;
mod format;
mod index;
mod lock;
mod lru;
mod profile;
mod repository;
mod sidecar;
mod store;
mod view;
mod zeroes;

pub use create::{CreateSettings, DiskSource, Parent, RawVolumes, Report, Unwatched, Watch, create};
pub use format::id::Id;
pub use format::snapshot::Snapshot;
pub use format::time::Time;
pub use profile::{Profiles, Treatment};
pub use repository::{OpenSettings, Repository};
pub use sidecar::{Contents, Gap, Sidecar, VolumeEntry};
