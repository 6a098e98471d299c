//! What an image is and what stands on it, as the API has it.

use std::collections::BTreeMap;

use serde::Serialize;
use transload::block::{ErrorKind, Result};
use transload::image::{Format, ImageInfo};
use transload::inspect::{Family, Inspection, MountState};
use transload::volume::{Contents, DiskId, Partition, Role, Scheme, Severity, Signature, Usage, Volume, Volumes};
use utoipa::ToSchema;

use crate::state::App;

/// What an image says of itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageDocument {
    /// The image, as it was asked for.
    image: String,
    /// The format.
    format: String,
    /// The format's name for people.
    title: &'static str,
    /// The kind of the format: `v3`, `streamOptimized`, `fixed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    /// The size of the disk in bytes.
    virtual_size: u64,
    /// The length of the file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_size: Option<u64>,
    /// The bytes that it occupies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allocated_size: Option<u64>,
    /// The unit of allocation in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_size: Option<u64>,
    /// How units are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
    /// How it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<String>,
    /// The backing file or parent, as the image has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_file: Option<String>,
    /// Its format, as the image has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_format: Option<String>,
    /// The external data file, as the image has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_file: Option<String>,
    /// The files of extents, as the image has them.
    extents: Vec<ExtentDocument>,
    /// Internal snapshots.
    snapshots: Vec<SnapshotDocument>,
    /// It was not closed properly.
    dirty: bool,
    /// It is marked as corrupt.
    corrupt: bool,
    /// Further facts of the format, by name.
    details: BTreeMap<String, String>,
    /// What one should know though it is no error.
    warnings: Vec<String>,
}

/// A file that holds a part of the disk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExtentDocument {
    /// As the format spells it: `SPARSE`, `FLAT`, `ZERO`.
    kind: String,
    /// The bytes of the disk that it holds.
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// An internal snapshot.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotDocument {
    id: String,
    name: String,
    virtual_size: u64,
    /// Bytes of saved machine state.
    vm_state_size: u64,
    /// Seconds since 1970 when it was taken.
    date: u64,
}

impl ImageDocument {
    pub(crate) fn new(name: &str, format: &Format, info: ImageInfo) -> Self {
        let extents = info.extents.into_iter();
        let snapshots = info.snapshots.into_iter().map(|snapshot| SnapshotDocument {
            id: snapshot.id,
            name: snapshot.name,
            virtual_size: snapshot.virtual_size,
            vm_state_size: snapshot.vm_state_size,
            date: snapshot.date_seconds,
        });
        Self {
            image: name.to_owned(),
            title: format.title,
            format: info.format,
            variant: info.variant,
            virtual_size: info.virtual_size,
            file_size: info.file_size,
            allocated_size: info.allocated_size,
            cluster_size: info.cluster_size,
            compression: info.compression,
            encryption: info.encryption,
            backing_file: info.backing_file,
            backing_format: info.backing_format,
            data_file: info.data_file,
            extents: extents
                .map(|extent| ExtentDocument { kind: extent.kind, size: extent.size, file: extent.file })
                .collect(),
            snapshots: snapshots.collect(),
            dirty: info.dirty,
            corrupt: info.corrupt,
            details: info.details,
            warnings: info.warnings,
        }
    }

    /// Takes the names of the host's folders out.
    pub(crate) fn tidy(&mut self, app: &App) {
        for text in self.warnings.iter_mut().chain(self.details.values_mut()) {
            *text = app.shown(text);
        }
    }
}

/// What stands on a disk.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InspectionDocument {
    /// The image, as it was asked for.
    image: String,
    /// The size of the disk in bytes.
    virtual_size: u64,
    /// The partition table: `gpt` or `mbr`; nothing when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'static str>,
    /// The disk's identifier in its table.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The volumes, partitions before logical ones: what the parameter `volume` of the tree takes.
    volumes: Vec<VolumeDocument>,
    /// The operating systems.
    systems: Vec<SystemDocument>,
    /// What starts them.
    boot_loaders: Vec<BootLoaderDocument>,
    /// What is wrong, and what else there is to know.
    findings: Vec<FindingDocument>,
}

/// A partition, a logical volume, or the whole of a disk without a table.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeDocument {
    /// How it is addressed: a partition's number, `GROUP/VOLUME`, or `whole`.
    name: String,
    /// Bytes.
    size: u64,
    /// Its entry in the table, where it is a partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<PartitionDocument>,
    /// What it holds, by its superblock.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<ContentsDocument>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

/// A partition's entry.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartitionDocument {
    number: u32,
    /// The first byte on the disk.
    start: u64,
    /// The byte of an MBR, the GUID of a GPT.
    type_code: String,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    type_title: Option<&'static str>,
    /// `primary`, `extended` or `logical`.
    role: &'static str,
    /// The name that a GPT has for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    label: String,
    partuuid: String,
    active: bool,
}

/// What a superblock says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContentsDocument {
    /// `ext4`, `vfat`, `crypto_LUKS`, as `blkid` calls it.
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    /// `filesystem`, `encrypted`, `member` or `swap`.
    usage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
}

/// An operating system.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SystemDocument {
    /// The volume that its root is on.
    volume: String,
    /// The folder on it that is its root.
    root: String,
    /// `linux` or `windows`.
    family: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    kernels: Vec<String>,
    mounts: Vec<MountDocument>,
}

/// What a system mounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountDocument {
    source: String,
    mount_point: String,
    /// The volume that it is, where that was found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<String>,
    /// `resolved`, `locked`, `virtual` or `unresolved`.
    state: &'static str,
}

/// Something that starts a system.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BootLoaderDocument {
    name: String,
    /// `bios` or `uefi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<&'static str>,
    volume: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// Something to know.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FindingDocument {
    /// `note`, `warning` or `damage`.
    severity: &'static str,
    text: String,
}

impl InspectionDocument {
    pub(crate) fn new(image: String, virtual_size: u64, volumes: &Volumes, found: Inspection) -> Result<Self> {
        let (table, id, mut findings) = match volumes.contents() {
            Contents::Whole(_) => (None, None, Vec::new()),
            Contents::Table(table) => {
                let scheme = match table.scheme() {
                    Scheme::Mbr => "mbr",
                    Scheme::Gpt => "gpt",
                };
                let findings = table.findings().iter().map(|finding| FindingDocument {
                    severity: match finding.severity {
                        Severity::Warning => "warning",
                        Severity::Damage => "damage",
                    },
                    text: finding.text.clone(),
                });
                (Some(scheme), Some(table.id()), findings.collect())
            }
        };
        findings.extend(volumes.groups().failures.iter().map(|error| FindingDocument {
            severity: if error.kind() == ErrorKind::Corrupt { "damage" } else { "warning" },
            text: error.to_string(),
        }));
        let unreadable = found
            .unreadable
            .iter()
            .map(|volume| format!("volume {}, {}: {}", volume.volume, volume.kind, volume.reason));
        findings.extend(unreadable.chain(found.notes).map(|text| FindingDocument { severity: "note", text }));
        Ok(Self {
            image,
            virtual_size,
            table,
            id: id.map(|id| id.to_string()),
            volumes: volumes.iter().map(|one| volume(one, id)).collect::<Result<_>>()?,
            systems: found.systems.into_iter().map(system).collect(),
            boot_loaders: found
                .boot_loaders
                .into_iter()
                .map(|loader| BootLoaderDocument {
                    name: loader.name,
                    firmware: loader.firmware,
                    volume: loader.volume,
                    path: loader.path,
                })
                .collect(),
            findings,
        })
    }
}

fn volume(volume: &Volume, disk: Option<DiskId>) -> Result<VolumeDocument> {
    let contents = match volume.signature() {
        Err(error) if error.kind() == ErrorKind::Io => return Err(error),
        found => found.unwrap_or(None),
    };
    Ok(VolumeDocument {
        name: volume.name.to_string(),
        size: volume.size,
        partition: volume.partition.as_ref().map(|entry| partition(entry, disk)),
        contents: contents.map(superblock),
        unreadable: volume.device().err().map(|error| error.to_string()),
    })
}

fn partition(entry: &Partition, disk: Option<DiskId>) -> PartitionDocument {
    let partuuid = match (entry.guid, disk) {
        (Some(guid), _) => guid.to_string(),
        // As Linux makes one from the signature and the number.
        (None, Some(disk)) => format!("{disk}-{:02x}", entry.number),
        (None, None) => String::new(),
    };
    PartitionDocument {
        number: entry.number,
        start: entry.range.start,
        type_code: entry.kind.to_string(),
        type_title: entry.kind.title(),
        role: match entry.role {
            Role::Primary => "primary",
            Role::Extended => "extended",
            Role::Logical => "logical",
        },
        label: entry.name.clone(),
        partuuid,
        active: entry.active,
    }
}

fn superblock(signature: Signature) -> ContentsDocument {
    ContentsDocument {
        r#type: signature.format.name(),
        version: signature.format.variant(),
        usage: match signature.format.usage() {
            Usage::Filesystem => "filesystem",
            Usage::Encrypted => "encrypted",
            Usage::Member => "member",
            Usage::Swap => "swap",
        },
        label: signature.label,
        uuid: signature.uuid,
    }
}

fn system(system: transload::inspect::System) -> SystemDocument {
    let mounts = system.mounts.into_iter().map(|mount| MountDocument {
        source: mount.source,
        mount_point: mount.mount_point,
        volume: mount.volume,
        state: match mount.state {
            MountState::Resolved => "resolved",
            MountState::Locked => "locked",
            MountState::Virtual => "virtual",
            MountState::Unresolved => "unresolved",
        },
    });
    SystemDocument {
        volume: system.volume,
        root: system.root,
        family: match system.family {
            Family::Linux => "linux",
            Family::Windows => "windows",
        },
        name: system.name,
        id: system.id,
        version: system.version,
        architecture: system.architecture,
        hostname: system.hostname,
        kernels: system.kernels,
        mounts: mounts.collect(),
    }
}
