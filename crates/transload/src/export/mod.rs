//! Packs a machine and its disks into an OVA, or into a folder with an OVF, in one pass over the disks.
//!
//! ```text
//! MachineSource::open ──► ExportPlan::new (printable) ──► run ──► ExportReport
//!
//!            room is left for these            one pass: compressed, hashed and written at its place
//! file:      ┌ .ovf ┬ .mf ┬ .cert ┐            ┌ disk 1 ────────── ┬ disk 2 ────── ┬ nvram ┐
//!            └──── written last, when sizes and digests are known ─────┘
//! pipe:      the disks are compressed twice: once to learn sizes and digests, once to be written
//! ```
//!
//! No disk is ever stored twice, and nothing grows with the size of the disks. Both ways give the same bytes, for any
//! number of threads: the encoder is deterministic. Disks are streamOptimized VMDKs with their tables behind the data,
//! which is what ovftool writes and what can be hashed while it is written.

mod archive;
mod estimate;
mod member;
mod names;
mod pack;
mod plan;
mod source;

pub(crate) use archive::{Contents, Packager, Payload};
pub use estimate::{Estimate, estimate};
pub(crate) use member::into_io;
pub use names::{file_stem, portable_stem};
pub(crate) use pack::{EngineSettings, Part, compress};
pub use pack::{ExportReport, ExportTarget, ExportedFile};
pub use plan::{ExportPlan, ExportedKind, PlannedFile};
pub(crate) use source::choose_system;
pub use source::{MachineSource, SourceSettings};

use std::num::NonZeroUsize;
use std::sync::Arc;

use transload_appliance::ova::{ManifestAlgorithm, Signer};
use transload_convert::{Cancel, Progress, Settings};
use transload_image::codec::Level;

/// Who is told how far an export or import is: beside the bytes of all disks together, which disk it is.
pub trait MachineProgress: Progress {
    /// The disk with this place, from 1, of so many, begins; it has `size` bytes.
    fn disk(&self, place: usize, of: usize, name: &str, size: u64);
}

/// Whether the file with the firmware's variables goes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nvram {
    /// If the machine starts by EFI, which may not boot without it, and the file is there.
    #[default]
    Auto,
    /// It does; without it nothing is exported.
    Include,
    /// It does not: some importers refuse a package that has one.
    Skip,
}

/// How to export.
#[derive(Debug)]
pub struct ExportSettings {
    /// How hard to compress.
    pub level: Level,
    /// The manifest's function; no manifest when `None`.
    pub manifest: Option<ManifestAlgorithm>,
    /// The hardware version to ask for instead of the machine's own.
    pub hardware_version: Option<u32>,
    /// Whether the firmware's variables go along.
    pub nvram: Nvram,
    /// Signs the manifest.
    pub signer: Option<Signer>,
    /// Worker threads; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Bytes of memory for buffers and tables.
    pub memory: u64,
    /// Bytes of a disk that a worker takes at once; the engine's own choice when `None`.
    pub chunk_size: Option<u64>,
    /// Replace an existing target, and begin even where the room will probably not do.
    pub force: bool,
    /// Who may ask it to stop.
    pub cancel: Cancel,
    /// Whom to tell how far it is.
    pub progress: Option<Arc<dyn MachineProgress>>,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            level: Level::BALANCED,
            manifest: Some(ManifestAlgorithm::Sha256),
            hardware_version: None,
            nvram: Nvram::Auto,
            signer: None,
            threads: None,
            memory: Settings::DEFAULT_MEMORY,
            chunk_size: None,
            force: false,
            cancel: Cancel::default(),
            progress: None,
        }
    }
}
