//! Unpacks an OVA for a hypervisor: its disks converted, its machine in that hypervisor's own writing.
//!
//! ```text
//! archive (file or pipe) ──► descriptor ──► machine, what is wanted of the archive
//!            │
//!            └─ one pass ─► hash ─► disk: converted into a hidden folder ─► manifest compared ─► description written ─► folder appears
//! ```
//!
//! Nothing stands under its name before every digest of the manifest was found right. Names in the archive and in the
//! descriptor decide nothing about where files go: all of them get names of our own, in one folder.

mod finish;
mod job;
mod read;
mod target;

pub use target::ImportTarget;

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use transload_appliance::Notes;
use transload_block::Result;
use transload_convert::{AtomicFolder, Cancel, Settings};
use transload_image::{Access, Format, Source};

use crate::export::MachineProgress;

/// Where the package comes from.
pub enum ImportSource {
    /// A file.
    File(PathBuf),
    /// Bytes that are open already and can be read at any place.
    Source(Source),
    /// Bytes that come once: its descriptor has to be the first file in it.
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for ImportSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Source(source) => f.debug_tuple("Source").field(source).finish(),
            Self::Stream(_) => f.debug_tuple("Stream").finish_non_exhaustive(),
        }
    }
}

/// How to import.
#[derive(Debug)]
pub struct ImportSettings {
    /// For which hypervisor.
    pub target: ImportTarget,
    /// The disks' format, instead of the hypervisor's own.
    pub format: Option<&'static Format>,
    /// Which of several machines, by its id or name; the only one when `None`.
    pub system: Option<String>,
    /// The folder that a description says its files are in, where it names them by their whole path: for a caller that moves the
    /// folder afterwards. The one that is written to when `None`.
    pub described_folder: Option<PathBuf>,
    /// Go on where the manifest or the signature is wrong, with a warning.
    pub ignore_manifest: bool,
    /// Put files into a folder that is not empty, replacing those of the same names.
    pub force: bool,
    /// Worker threads; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Bytes of memory for buffers and tables.
    pub memory: u64,
    /// Who may ask it to stop.
    pub cancel: Cancel,
    /// Whom to tell how far it is.
    pub progress: Option<Arc<dyn MachineProgress>>,
}

impl ImportSettings {
    /// Settings for `target`, everything else by default.
    #[must_use]
    pub fn new(target: ImportTarget) -> Self {
        Self {
            target,
            format: None,
            system: None,
            described_folder: None,
            ignore_manifest: false,
            force: false,
            threads: None,
            memory: Settings::DEFAULT_MEMORY,
            cancel: Cancel::default(),
            progress: None,
        }
    }
}

/// What a file of an imported machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ImportedKind {
    /// The machine in the hypervisor's writing.
    Machine,
    /// A disk.
    Disk,
    /// The medium of a drive.
    Media,
    /// The firmware's variables.
    Nvram,
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImportedFile {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ImportedKind,
    /// The name it had in the package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The disk's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<&'static str>,
    /// The disk's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImportReport {
    /// The machine's name.
    pub machine: String,
    /// The folder, absolute.
    pub folder: String,
    /// What was made in it.
    pub files: Vec<ImportedFile>,
    /// Whether every file of the package that the manifest names has the digest that it says; `None` without a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_matches: Option<bool>,
    /// Wall time in milliseconds.
    pub elapsed_milliseconds: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What of the machine is not in its description, or is in it as something else.
    pub notes: Notes,
}

/// Imports the machine in `source` into the folder at `folder`.
///
/// # Errors
/// `Checksum` when a digest or the signature is wrong; `Corrupt`, `Denied` and `Unsupported` for packages that are broken,
/// lead out of themselves or hold what is not read; `InvalidInput` when there are several machines and none was chosen, or
/// the descriptor comes too late in a stream; `NoSpace`; `Cancelled`. On an error nothing is left behind.
pub fn import(source: ImportSource, folder: &Path, settings: &ImportSettings) -> Result<ImportReport> {
    let started = Instant::now();
    let place = AtomicFolder::create(folder, settings.force)?;
    let mut report = match source {
        ImportSource::File(path) => job::from_source(&Source::from_path(&path, Access::ReadOnly)?, &place, settings),
        ImportSource::Source(source) => job::from_source(&source, &place, settings),
        ImportSource::Stream(input) => job::from_stream(input, &place, settings),
    }?;
    settings.cancel.check()?;
    place.commit()?;
    report.elapsed_milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}
