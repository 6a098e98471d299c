//! The volumes of an image as JSON, and as what the lists for people are made from.

use serde::Serialize;
use transload::block::{ErrorKind, Result};
use transload::volume::lvm::Group;
use transload::volume::{
    Contents, DiskId, Finding, Partition, Role, Scheme, Severity, Signature, Table, Usage, Volume, Volumes,
};

/// What stands on a disk.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DiskDocument {
    /// `gpt`, `mbr`, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sector_size: Option<u32>,
    pub(crate) virtual_size: u64,
    /// Of a disk without a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filesystem: Option<FilesystemDocument>,
    pub(crate) partitions: Vec<PartitionDocument>,
    pub(crate) groups: Vec<GroupDocument>,
    pub(crate) findings: Vec<FindingDocument>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PartitionDocument {
    pub(crate) number: u32,
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// The byte of an MBR, the GUID of a GPT.
    pub(crate) type_code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) type_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) type_title: Option<&'static str>,
    /// `primary`, `extended` or `logical`.
    pub(crate) role: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    pub(crate) partuuid: String,
    pub(crate) attributes: u64,
    pub(crate) active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filesystem: Option<FilesystemDocument>,
}

/// What a superblock says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FilesystemDocument {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<&'static str>,
    /// `filesystem`, `encrypted`, `member` or `swap`.
    pub(crate) usage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uuid: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct GroupDocument {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) extent_size: u64,
    pub(crate) missing: Vec<String>,
    pub(crate) volumes: Vec<LogicalDocument>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LogicalDocument {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) size: u64,
    pub(crate) kinds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filesystem: Option<FilesystemDocument>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FindingDocument {
    /// `warning` or `damage`.
    pub(crate) severity: &'static str,
    pub(crate) text: String,
}

impl DiskDocument {
    pub(crate) fn new(virtual_size: u64, volumes: &Volumes) -> Result<Self> {
        let groups = volumes.groups();
        let mut document = Self {
            table: None,
            id: None,
            sector_size: None,
            virtual_size,
            filesystem: None,
            partitions: Vec::new(),
            groups: groups.groups.iter().map(group_document).collect::<Result<_>>()?,
            findings: Vec::new(),
        };
        match volumes.contents() {
            Contents::Whole(found) => document.filesystem = found.as_ref().map(filesystem),
            Contents::Table(table) => document.set_table(table, volumes)?,
        }
        let failures = groups.failures.iter().map(|error| {
            let severity = if error.kind() == ErrorKind::Corrupt { "damage" } else { "warning" };
            FindingDocument { severity, text: error.to_string() }
        });
        document.findings.extend(failures);
        Ok(document)
    }

    fn set_table(&mut self, table: &Table, volumes: &Volumes) -> Result<()> {
        self.table = Some(match table.scheme() {
            Scheme::Mbr => "mbr",
            Scheme::Gpt => "gpt",
        });
        let id = table.id();
        self.id = Some(id.to_string());
        self.sector_size = Some(table.sector_size());
        self.findings.extend(table.findings().iter().map(finding));
        for volume in volumes.iter() {
            if let Some(partition) = &volume.partition {
                self.partitions.push(partition_document(partition, id, volume)?);
            }
        }
        Ok(())
    }

    /// Whether a rule was found broken.
    pub(crate) fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == "damage")
    }
}

fn finding(finding: &Finding) -> FindingDocument {
    let severity = match finding.severity {
        Severity::Warning => "warning",
        Severity::Damage => "damage",
    };
    FindingDocument { severity, text: finding.text.clone() }
}

fn partition_document(partition: &Partition, id: DiskId, volume: &Volume) -> Result<PartitionDocument> {
    let partuuid = match (partition.guid, id) {
        (Some(guid), _) => guid.to_string(),
        // As Linux makes one from the signature and the number.
        (None, id) => format!("{id}-{:02x}", partition.number),
    };
    Ok(PartitionDocument {
        number: partition.number,
        start: partition.range.start,
        size: partition.size(),
        type_code: partition.kind.to_string(),
        type_name: partition.kind.short_name(),
        type_title: partition.kind.title(),
        role: match partition.role {
            Role::Primary => "primary",
            Role::Extended => "extended",
            Role::Logical => "logical",
        },
        name: partition.name.clone(),
        partuuid,
        attributes: partition.attributes,
        active: partition.active,
        filesystem: signature(volume)?.as_ref().map(filesystem),
    })
}

/// What a volume holds; nothing of one that cannot be read, which is told elsewhere.
fn signature(volume: &Volume) -> Result<Option<Signature>> {
    match volume.signature() {
        Err(error) if error.kind() == ErrorKind::Io => Err(error),
        found => Ok(found.unwrap_or(None)),
    }
}

pub(crate) fn filesystem(signature: &Signature) -> FilesystemDocument {
    FilesystemDocument {
        kind: signature.format.name(),
        version: signature.format.variant(),
        usage: match signature.format.usage() {
            Usage::Filesystem => "filesystem",
            Usage::Encrypted => "encrypted",
            Usage::Member => "member",
            Usage::Swap => "swap",
        },
        label: signature.label.clone(),
        uuid: signature.uuid.clone(),
    }
}

fn group_document(group: &Group) -> Result<GroupDocument> {
    let mut logical = Vec::new();
    for volume in &group.volumes {
        let (filesystem, unreadable) = match volume.device() {
            Ok(device) => (transload::volume::signature::probe(device.as_ref())?.as_ref().map(filesystem), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (name, uuid, kinds) = (volume.name.clone(), volume.uuid.clone(), volume.kinds.clone());
        logical.push(LogicalDocument { name, uuid, size: volume.size, kinds, filesystem, unreadable });
    }
    let (name, uuid, missing) = (group.name.clone(), group.uuid.clone(), group.missing.clone());
    Ok(GroupDocument { name, uuid, extent_size: group.extent_size, missing, volumes: logical })
}
