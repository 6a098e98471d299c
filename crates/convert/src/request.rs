//! What a conversion is asked to do, and what it answers.

use std::fmt::Debug;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use transload_block::{BlockStream, Error, ErrorKind, Result, Storage};
use transload_image::codec::Level;
use transload_image::{Format, Opened, OptionValues};

/// Where the guest's bytes come from.
#[derive(Debug)]
pub enum Input {
    /// An opened image, read at random.
    Image(Opened),
    /// A source that is read once.
    Stream {
        /// Its format.
        format: &'static Format,
        /// Its units.
        stream: Box<dyn BlockStream>,
    },
}

/// Where the new image goes.
pub enum Output {
    /// A file, which appears under its name when it is whole, or a block device, which is written in place.
    Path(PathBuf),
    /// A pipe, written from front to back.
    Pipe(Box<dyn Write + Send>),
    /// A storage that is open already, such as an export of an NBD server. It is written in place, like a block device.
    Storage {
        /// What messages call it.
        name: String,
        /// Its bytes.
        storage: Arc<dyn Storage>,
    },
}

impl Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Pipe(_) => f.debug_tuple("Pipe").finish_non_exhaustive(),
            Self::Storage { name, storage } => {
                f.debug_struct("Storage").field("name", name).field("storage", storage).finish()
            }
        }
    }
}

/// How to convert.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The target's format.
    pub format: &'static Format,
    /// Values for the format's `create_options`.
    pub options: OptionValues,
    /// Compress the target's units.
    pub compression: Option<Compression>,
    /// Worker threads; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Bytes of memory for buffers and tables, all together.
    pub memory: u64,
    /// Guest bytes that a worker takes at once, if `memory` allows it: 64 KiB to 64 MiB, rounded up to a power of two. 1 MiB
    /// when `None`.
    pub task_bytes: Option<u64>,
    /// Whether room is set aside for the whole target.
    pub preallocation: Preallocation,
    /// Read the result back and compare the guest's bytes.
    pub verify: bool,
    /// Pass compressed units on without decoding them for their proof, where nothing else needs their bytes.
    pub trust_source: bool,
    /// Digests of the guest's bytes to compute on the way.
    pub digests: Vec<DigestKind>,
    /// Whether an existing target is replaced.
    pub force: bool,
    /// What identifiers in the target are derived from; the content when `None`.
    pub seed: Option<String>,
    /// What an image that is written to a pipe calls itself, for descriptors that name their own file; a file has its
    /// name.
    pub pipe_name: Option<String>,
    /// Whom to tell how far it is.
    pub progress: Option<Arc<dyn Progress>>,
    /// Called with the name of a block device that is the target, once, when all checks have passed and before the
    /// first byte of it changes.
    pub on_device: Option<fn(&Path)>,
    /// Who may ask it to stop.
    pub cancel: Cancel,
}

impl Settings {
    /// The default of `memory`: 256 MiB resident for the whole process, less what it needs beside buffers and tables.
    pub const DEFAULT_MEMORY: u64 = 192 << 20;

    /// Settings for a target of `format`, everything else by default.
    #[must_use]
    pub fn new(format: &'static Format) -> Self {
        Self {
            format,
            options: OptionValues::default(),
            compression: None,
            threads: None,
            memory: Self::DEFAULT_MEMORY,
            task_bytes: None,
            preallocation: Preallocation::Off,
            verify: false,
            trust_source: false,
            digests: Vec::new(),
            force: false,
            seed: None,
            pipe_name: None,
            progress: None,
            on_device: None,
            cancel: Cancel::default(),
        }
    }
}

/// How the target's units are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Which codec; the format's own choice when `None`.
    pub kind: Option<CompressionKind>,
    /// How hard.
    pub level: Level,
}

/// A codec by the name that the command line has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionKind {
    /// Deflate.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// Whether room is set aside for the whole target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// Sparse: holes stay holes.
    #[default]
    Off,
    /// Allocated without being written.
    Falloc,
    /// Written with zeroes.
    Full,
}

/// A digest of the guest's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestKind {
    /// SHA-256.
    Sha256,
    /// BLAKE3 with 32 bytes.
    Blake3,
}

/// A digest and what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestDigest {
    /// Which function.
    pub algorithm: DigestKind,
    /// Lower-case hexadecimal.
    pub hex: String,
}

/// Somebody who is told how far a job is. Calls come from any thread, and often: they must be quick.
pub trait Progress: Send + Sync + Debug {
    /// The guest bytes to go through are known. Called once more, and counted from zero, when the result is read back.
    fn begin(&self, total: u64);
    /// Some of them are done.
    fn advance(&self, delta: ProgressDelta);
}

/// What was done since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressDelta {
    /// Guest bytes read and written.
    pub copied: u64,
    /// Guest bytes found to be zero or not allocated, and skipped.
    pub skipped: u64,
    /// Bytes written to the target.
    pub written: u64,
}

/// A switch that stops a job from another thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the job to stop at its next segment.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Goes on unless it was asked to stop.
    ///
    /// # Errors
    /// `Cancelled` when it was.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(ErrorKind::Cancelled, "interrupted")) } else { Ok(()) }
    }
}

/// What a conversion did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The disk's size in bytes.
    pub virtual_size: u64,
    /// Guest bytes copied.
    pub copied: u64,
    /// Guest bytes skipped as zero or not allocated.
    pub skipped: u64,
    /// Bytes written to the target, tables included.
    pub written: u64,
    /// Wall time in seconds, in thousandths.
    pub elapsed_milliseconds: u64,
    /// The digests that were asked for.
    pub digests: Vec<GuestDigest>,
    /// Whether the result was read back and found the same.
    pub verified: bool,
    /// What the user should know though it is no error.
    pub warnings: Vec<String>,
}
