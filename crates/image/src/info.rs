//! What an image says of itself.

use serde::Serialize;

/// What one layer of an image says of itself. Serialized, it is one element of `transload info --json`; the field names
/// are stable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// The format's name, as in `FORMATS`.
    pub format: String,
    /// The kind of the format: `v3`, `streamOptimized`, `fixed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The virtual size in bytes.
    pub virtual_size: u64,
    /// The length in bytes of the file and of its extents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// The bytes that these files occupy on their device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_size: Option<u64>,
    /// The unit of allocation in bytes: cluster, grain, block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<u64>,
    /// How compressed units are encoded, where the format names one: `zlib`, `zstd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// How payload is encrypted: `luks`, `aes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// The name of the backing file or parent, as the image has it. Not opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<String>,
    /// The format of the backing file, as the image has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_format: Option<String>,
    /// The name of the external data file, as the image has it. Not opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_file: Option<String>,
    /// The extents that the image is spread over, as the image has them. Not opened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extents: Vec<ExtentInfo>,
    /// Internal snapshots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotInfo>,
    /// Persistent dirty bitmaps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<BitmapInfo>,
    /// The image was not closed properly.
    pub dirty: bool,
    /// The image is marked as corrupt.
    pub corrupt: bool,
    /// Further facts of the format, by name: `compat`, `refcount-bits`, `cid`, `adapter-type`.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub details: std::collections::BTreeMap<String, String>,
    /// What a reader should know though it is no error: a header and a descriptor that disagree, a backup that was used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One file that holds a part of the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExtentInfo {
    /// The kind, as the format spells it: `SPARSE`, `FLAT`, `ZERO`.
    pub kind: String,
    /// The bytes of the disk it holds.
    pub size: u64,
    /// The file's name as the image has it; `None` for extents without a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotInfo {
    /// Unique id.
    pub id: String,
    /// Name.
    pub name: String,
    /// The disk's size when it was taken, in bytes.
    pub virtual_size: u64,
    /// Bytes of saved machine state.
    pub vm_state_size: u64,
    /// Seconds since 1970 when it was taken.
    pub date_seconds: u64,
    /// Nanoseconds for which the machine had run.
    pub vm_clock_nanoseconds: u64,
}

/// A persistent dirty bitmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BitmapInfo {
    /// Name.
    pub name: String,
    /// Bytes per bit.
    pub granularity: u64,
    /// The flags that are set: `in-use`, `auto`, `extra-data-compatible`.
    pub flags: Vec<String>,
}
