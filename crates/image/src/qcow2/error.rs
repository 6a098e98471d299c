//! What can be wrong with a qcow2 file: one variant for each broken rule, with the numbers that broke it.
//!
//! Inside the driver these are matched on and tested; towards callers each becomes a [`transload_block::Error`] whose
//! kind tells a broken rule (`Corrupt`) from a valid feature that is not handled (`Unsupported`).

use transload_block::{Error, ErrorKind};

/// A broken rule of the format, or a feature that is not handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Qcow2Error {
    #[error("header: the file has {size} bytes, a header at least {needed}")]
    HeaderCutOff { size: u64, needed: usize },
    #[error("header: the magic is {found:02x?}, not 'QFI' and 0xfb")]
    Magic { found: [u8; 4] },
    #[error("header: version {0}; versions 2 and 3 are known")]
    Version(u32),
    #[error("header: cluster bits is {0}, must be 9 to 21")]
    ClusterBits(u32),
    #[error("header: cluster bits is {0}, must be at least 14 with extended L2 entries")]
    ClusterBitsExtended(u32),
    #[error("header: length is {length}, must be a multiple of 8 from 104 to the cluster size {cluster_size}")]
    HeaderLength { length: u32, cluster_size: u64 },
    #[error("header: refcount order is {0}, must be at most 6")]
    RefcountOrder(u32),
    #[error("header: encryption method {0} is not known")]
    CryptMethod(u32),
    #[error("payload is encrypted ({0})")]
    Encrypted(&'static str),
    #[error("header: compression type {0} is not known")]
    CompressionType(u8),
    #[error("header: compression type {kind} with its feature bit {}", if *.bit { "set" } else { "clear" })]
    CompressionBit { kind: u8, bit: bool },
    #[error("incompatible features: {0}")]
    Incompatible(String),
    #[error("{table}: offset {offset:#x} is not a multiple of {alignment}")]
    Unaligned { table: &'static str, offset: u64, alignment: u64 },
    #[error("{table}: {length} bytes at offset {offset:#x} reach behind the file's {file_size} bytes")]
    OutsideFile { table: &'static str, offset: u64, length: u64, file_size: u64 },
    #[error("{table}: {length} bytes, at most {limit} are handled")]
    TableTooLarge { table: &'static str, length: u64, limit: u64 },
    #[error("{table}: {length} bytes at offset {offset:#x} overlap the {other}")]
    Overlap { table: &'static str, offset: u64, length: u64, other: &'static str },
    #[error("L1 table: {entries} entries, a disk of {size} bytes needs {needed}")]
    L1TooSmall { entries: u64, needed: u64, size: u64 },
    #[error("refcount table: it has no clusters")]
    NoRefcountTable,
    #[error("snapshot table: {0} snapshots, at most 65536 are handled")]
    TooManySnapshots(u32),
    #[error("snapshot table: entry {index} at offset {offset:#x} breaks off")]
    SnapshotCutOff { index: u32, offset: u64 },
    #[error("snapshot table: {snapshots} snapshots end at offset {end:#x}, behind the limit of {limit} bytes")]
    SnapshotTableTooLarge { snapshots: u32, end: u64, limit: u64 },
    #[error("snapshot '{name}': {source}")]
    Snapshot { name: String, source: Box<Qcow2Error> },
    #[error("header extension {kind:#010x}: {length} bytes at offset {offset:#x} reach behind the area's end {end:#x}")]
    ExtensionCutOff { kind: u32, offset: u64, length: u32, end: u64 },
    #[error("header extension {kind:#010x}: length is {length}, must be {rule}")]
    ExtensionLength { kind: u32, length: u32, rule: &'static str },
    #[error("{what}: the name is not UTF-8")]
    NameEncoding { what: &'static str },
    #[error(
        "backing file name: {length} bytes at offset {offset:#x}; must be at most 1023 and inside the first cluster"
    )]
    BackingName { offset: u64, length: u32 },
    #[error("an external data file is needed and the image does not name it")]
    DataFileUnnamed,
    #[error("external data file and backing file exclude each other when the data file is raw")]
    RawDataFileWithBacking,
    #[error("L1 entry {index}: {entry:#018x} has reserved bits set")]
    L1Reserved { index: u64, entry: u64 },
    #[error("L1 entry {index}: L2 table offset {offset:#x} is not a multiple of the cluster size")]
    L2TableUnaligned { index: u64, offset: u64 },
    #[error("L1 entry {index}: L2 table at {offset:#x} lies behind the file's {file_size} bytes")]
    L2TableOutside { index: u64, offset: u64, file_size: u64 },
    #[error("L2 entry of guest offset {guest:#x}: {entry:#018x} {rule}")]
    L2Entry { guest: u64, entry: u64, rule: &'static str },
    #[error("L2 entry of guest offset {guest:#x}: subcluster bitmap {bitmap:#018x} {rule}")]
    Bitmap { guest: u64, bitmap: u64, rule: &'static str },
    #[error("cluster of guest offset {guest:#x}: host offset {host:#x} lies behind the file's {file_size} bytes")]
    DataOutside { guest: u64, host: u64, file_size: u64 },
    #[error("compressed cluster of guest offset {guest:#x}: holds {found} bytes, must be {wanted}")]
    CompressedLength { guest: u64, found: usize, wanted: usize },
    #[error("refcount table entry {index}: block offset {offset:#x} {rule}")]
    RefcountBlock { index: u64, offset: u64, rule: &'static str },
    #[error("cluster at {offset:#x}: refcount is 0 and it holds the {structure}")]
    RefcountZero { offset: u64, structure: &'static str },
    #[error("cluster at {offset:#x}: refcount {count} cannot be changed by {change}")]
    RefcountRange { offset: u64, count: u64, change: i64 },
    #[error("guest data at host offset {host:#x} overlaps the {structure}")]
    DataOverMetadata { host: u64, structure: &'static str },
    #[error("the image is marked as corrupt and may only be read")]
    MarkedCorrupt,
}

impl Qcow2Error {
    /// The kind that callers match on.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Magic { .. } => ErrorKind::NotThisFormat,
            Self::Version(_)
            | Self::CryptMethod(_)
            | Self::Encrypted(_)
            | Self::CompressionType(_)
            | Self::Incompatible(_)
            | Self::DataFileUnnamed => ErrorKind::Unsupported,
            Self::TableTooLarge { .. } | Self::TooManySnapshots(_) | Self::SnapshotTableTooLarge { .. } => {
                ErrorKind::TooLarge
            }
            Self::Snapshot { source, .. } => source.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
}

impl From<Qcow2Error> for Error {
    fn from(error: Qcow2Error) -> Self {
        let out = Self::new(error.kind(), error.to_string());
        match error {
            Qcow2Error::MarkedCorrupt => out.with_remedy("mend the image with `transload check --repair`"),
            Qcow2Error::Encrypted(_) => out.with_remedy("decrypt the image with the tool that made it"),
            _ => out,
        }
    }
}
