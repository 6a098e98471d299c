//! Says what a file that describes a machine says, without opening anything that it names: what `info` shows.

use serde::Serialize;
use transload_appliance::ova::Index;
use transload_appliance::ovf::{self, Configuration, Dialect, File, LogicalNetwork, Namespace, Package, VirtualDisk};
use transload_appliance::{Machine, Notes, libvirt, vmx};
use transload_block::{BlockReadExt, Error, ErrorKind, Result};
use transload_image::Source;

/// What kind of description it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DescriptionKind {
    /// A VMX of VMware's products.
    Vmx,
    /// An OVF descriptor.
    Ovf,
    /// An archive with an OVF descriptor.
    Ova,
    /// A domain of libvirt.
    Libvirt,
}

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberDescription {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Where it begins in the archive.
    pub offset: u64,
}

/// What an OVF descriptor says beside its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageDescription {
    /// The version of the standard.
    pub namespace: Namespace,
    /// Who wrote it.
    pub dialect: Dialect,
    /// The files that it lists.
    pub files: Vec<File>,
    /// Its disks.
    pub disks: Vec<VirtualDisk>,
    /// Its networks.
    pub networks: Vec<LogicalNetwork>,
    /// The ways to deploy it.
    pub configurations: Vec<Configuration>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// What kind of description it is.
    pub kind: DescriptionKind,
    /// The files of an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<MemberDescription>>,
    /// What an OVF descriptor says besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageDescription>,
    /// The machines.
    pub machines: Vec<Machine>,
    /// What of the description is not in the machines.
    pub notes: Notes,
}

impl Description {
    /// Reads what `source` describes: a VMX, an OVF, a domain of libvirt, or, if `is_archive`, an OVA.
    ///
    /// # Errors
    /// `NotThisFormat` when it is none of them; what the readers answer.
    pub fn read(source: &Source, is_archive: bool) -> Result<Self> {
        let bytes = source.bytes();
        if is_archive {
            return Self::of_archive(source);
        }
        if bytes.size() > ovf::MAX_LENGTH as u64 {
            return Err(Error::new(ErrorKind::NotThisFormat, "too long for the description of a machine"));
        }
        Self::of_text(&bytes.read_vec(0, bytes.size())?)
    }

    fn of_archive(source: &Source) -> Result<Self> {
        let bytes = source.bytes();
        let index = Index::read(&**bytes)?;
        let descriptor =
            index.descriptor().ok_or_else(|| Error::new(ErrorKind::Corrupt, "there is no descriptor (.ovf) in it"))?;
        let text = bytes.read_vec(descriptor.offset, descriptor.size.min(ovf::MAX_LENGTH as u64 + 1))?;
        let members = index.members.iter().map(|member| MemberDescription {
            name: member.name.clone(),
            size: member.size,
            offset: member.offset,
        });
        Ok(Self { kind: DescriptionKind::Ova, members: Some(members.collect()), ..Self::of_package(ovf::read(&text)?) })
    }

    /// Tells VMX, OVF and libvirt apart by the text, and reads it.
    pub(crate) fn of_text(text: &[u8]) -> Result<Self> {
        let machine =
            |kind, machine, notes| Self { kind, members: None, package: None, machines: vec![machine], notes };
        if !looks_like_xml(text) {
            let reading = vmx::read(text)?;
            return Ok(machine(DescriptionKind::Vmx, reading.value, reading.notes));
        }
        match ovf::read(text) {
            Err(error) if error.kind() == ErrorKind::NotThisFormat => {
                let reading = libvirt::read(text)?;
                Ok(machine(DescriptionKind::Libvirt, reading.value, reading.notes))
            }
            package => Ok(Self::of_package(package?)),
        }
    }

    fn of_package(package: Package) -> Self {
        let Package { namespace, dialect, files, disks, networks, configurations, systems, mut notes } = package;
        let mut machines = Vec::new();
        for system in systems {
            machines.push(system.machine);
            notes.append(system.notes);
        }
        let package = Some(PackageDescription { namespace, dialect, files, disks, networks, configurations });
        Self { kind: DescriptionKind::Ovf, members: None, package, machines, notes }
    }
}

/// Whether a text begins as XML does, in UTF-8 or UTF-16.
pub(crate) fn looks_like_xml(text: &[u8]) -> bool {
    let utf8 = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let marks: [&[u8]; 2] = [&[0xff, 0xfe, b'<'], &[0xfe, 0xff, 0, b'<']];
    utf8.trim_ascii_start().starts_with(b"<") || marks.iter().any(|mark| text.starts_with(mark))
}
