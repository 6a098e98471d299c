//! What stands beside the files of a disk: its table, its boot sectors, and what tells its volumes from others.
//!
//! ```text
//! /DISK/disk.json                  this document
//! /DISK/volumes/VOLUME/…           the files of a volume
//! /DISK/gaps/OFFSET.bin            the bytes of the disk outside its volumes: tables, boot loaders
//! /DISK/boot/VOLUME.bin            the first bytes of a volume: boot sector, header
//! /DISK/raw/VOLUME.img             all bytes of a volume whose files cannot be read, or where that was asked for
//! ```
//!
//! All of it are ordinary files of the snapshot, which any program that reads the format can restore.

use serde::{Deserialize, Serialize};
use transload_block::{BlockReadExt, Error, ErrorKind, Result};
use transload_filesystem::{FileSystem, FileSystemExt, Follow};

/// The version of the document.
pub(crate) const VERSION: u32 = 1;
/// The longest document that is read.
const LONGEST: u64 = 16 << 20;

/// A disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sidecar {
    /// The version of this document: 1.
    pub version: u32,
    /// What the disk is called in the archive.
    pub name: String,
    /// The image that it was read from.
    pub origin: String,
    /// The image's format.
    pub format: String,
    /// Bytes of the disk.
    pub size: u64,
    /// `gpt`, `mbr`, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What tells the disk from others, where its table says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_id: Option<String>,
    /// The unit of the table, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<u32>,
    /// What stands outside the volumes.
    pub gaps: Vec<Gap>,
    /// The volumes, extended partitions included.
    pub volumes: Vec<VolumeEntry>,
    /// The systems on it, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub systems: Vec<String>,
}

/// Bytes outside the volumes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gap {
    /// Where they begin.
    pub offset: u64,
    /// How many are stored.
    pub length: u64,
    /// The file that holds them, below the disk's folder.
    pub file: String,
}

/// What is stored of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// Its files.
    Files,
    /// All its bytes.
    Raw,
    /// Its files and all its bytes.
    FilesAndRaw,
    /// Its first bytes alone: swap space, members of a group whose volumes are there.
    Head,
    /// Nothing: it is empty, or holds other partitions.
    Nothing,
}

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VolumeEntry {
    /// Its name: a number, `GROUP/VOLUME`, or `whole`.
    pub name: String,
    /// Where on the disk it begins; nothing for a logical volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes.
    pub length: u64,
    /// The type that the table says.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The name that the table says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub partition_name: String,
    /// What tells the partition from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_uuid: Option<String>,
    /// What it holds, as `blkid` calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<String>,
    /// That in detail: `FAT32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its UUID or serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The unit in which it allocates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// What is stored of it.
    pub contents: Contents,
    /// Why its files are not, where that has a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl VolumeEntry {
    /// The folder of its files, below the disk's.
    #[must_use]
    pub fn files(&self) -> String {
        format!("volumes/{}", self.name)
    }

    /// The file of its first bytes.
    #[must_use]
    pub fn boot(&self) -> String {
        format!("boot/{}.bin", self.name)
    }

    /// The file of all its bytes.
    #[must_use]
    pub fn raw(&self) -> String {
        format!("raw/{}.img", self.name)
    }
}

impl Sidecar {
    /// Reads the document of a disk in a snapshot.
    ///
    /// # Errors
    /// `InvalidInput` when there is no disk of that name; `Corrupt` and `Unsupported` for what the document says.
    pub fn read(files: &dyn FileSystem, disk: &str) -> Result<Self> {
        let path = format!("/{disk}/disk.json");
        let within = |error: Error| error.context(&path);
        let found = files.resolve(path.as_bytes(), Follow::AllButLast).map_err(within)?;
        let file = files.open(found.id)?;
        if file.size() > LONGEST {
            return Err(Error::new(ErrorKind::TooLarge, format!("{path}: {} bytes", file.size())));
        }
        let bytes = file.read_vec(0, file.size()).map_err(within)?;
        let sidecar: Self = serde_json::from_slice(&bytes)
            .map_err(|error| within(Error::new(ErrorKind::Corrupt, error.to_string())))?;
        if sidecar.version != VERSION {
            let text = format!("{path}: version {} of the description of a disk", sidecar.version);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(sidecar)
    }

    /// The disks of a snapshot: the folders at its top that have such a document.
    ///
    /// # Errors
    /// What reading the folders answers.
    pub fn disks(files: &dyn FileSystem) -> Result<Vec<String>> {
        let mut disks = Vec::new();
        for entry in files.entries(files.root())? {
            let Ok(name) = String::from_utf8(entry.name) else { continue };
            if files.stat(entry.id)?.kind == transload_filesystem::FileKind::Directory
                && files.lookup(entry.id, b"disk.json")?.is_some()
            {
                disks.push(name);
            }
        }
        Ok(disks)
    }
}
