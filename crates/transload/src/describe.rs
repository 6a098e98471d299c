//! What a description of machines says: a VMX, an OVF, an OVA, a libvirt domain.
//!
//! No file is opened but the description's own, and of an OVA no more is read than the archive's headers and the descriptor.

use serde::Serialize;
use transload_appliance::ova::Index;
use transload_appliance::ovf::{
    self, Configuration, Dialect, Eula, File, LogicalNetwork, Namespace, Package, Product, VirtualDisk,
};
use transload_appliance::{Machine, Notes, libvirt, vmx};
use transload_block::{BlockRead, Result};
use transload_image::{Source, detect};

/// Which kind of description it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DescriptionKind {
    /// VMware's file of settings.
    Vmx,
    /// An OVF descriptor.
    Ovf,
    /// An OVF descriptor in an archive.
    Ova,
    /// The XML of a libvirt domain.
    Libvirt,
}

impl DescriptionKind {
    /// Its name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vmx => "VMX",
            Self::Ovf => "OVF",
            Self::Ova => "OVA",
            Self::Libvirt => "libvirt domain",
        }
    }
}

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DescribedMember {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What an OVF says beside its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DescribedPackage {
    /// The version of the standard, by the envelope's namespace.
    pub version: Namespace,
    /// Who wrote it.
    pub dialect: Dialect,
    /// The files that it names.
    pub files: Vec<File>,
    /// The disks.
    pub disks: Vec<VirtualDisk>,
    /// The networks.
    pub networks: Vec<LogicalNetwork>,
    /// The ways to deploy it.
    pub configurations: Vec<Configuration>,
}

/// A machine, and what its description says beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DescribedMachine {
    /// Its id in an OVF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The collections of an OVF that it stands in, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<String>,
    /// The hardware families that an OVF asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// What is installed, and its properties.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<Product>,
    /// Licences to agree to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<Eula>,
    /// How properties reach the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<String>,
    /// What of the description is not in the machine.
    pub notes: Notes,
}

/// What a description of machines says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// What kind it is.
    pub kind: DescriptionKind,
    /// The machines.
    pub machines: Vec<DescribedMachine>,
    /// What an OVF says beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<DescribedPackage>,
    /// The files of an archive, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<DescribedMember>,
    /// What of the description as a whole is in no machine.
    pub notes: Notes,
}

/// Reads the description of machines that `source` is; `None` when it is something else.
///
/// # Errors
/// `Io` when it cannot be read; else as its reader: [`vmx::read`], [`ovf::read()`], [`libvirt::read`], [`Index::read`].
pub fn describe(source: &Source) -> Result<Option<Description>> {
    let described = match guess(source)? {
        None => return Ok(None),
        Some(DescriptionKind::Ova) => archive(source.bytes().as_ref()).map(Some),
        Some(kind) => text(source, kind),
    };
    described.map_err(|error| error.context(source.display_name()))
}

/// What the first bytes look like. A VMX is known by its name as well, as it has no mark of its own.
fn guess(source: &Source) -> Result<Option<DescriptionKind>> {
    const HEAD: u64 = 8 << 10;
    let bytes = source.bytes();
    let length = bytes.size().min(HEAD);
    let mut head = vec![0; usize::try_from(length).unwrap_or_default()];
    bytes.read_at(&mut head, 0)?;
    // UTF-16 is looked at without its zeroes.
    let head: Vec<u8> = head.into_iter().filter(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&head);
    let text = text.trim_start_matches(['\u{feff}', '\u{fffd}']).trim_start();
    let ending = source.path().and_then(|path| path.extension()).map(std::ffi::OsStr::to_ascii_lowercase);
    if text.starts_with('<') {
        return Ok(if text.contains("<domain") && !text.contains("Envelope") {
            Some(DescriptionKind::Libvirt)
        } else if text.contains("Envelope") || ending.as_deref().is_some_and(|ending| ending == "ovf") {
            Some(DescriptionKind::Ovf)
        } else {
            None
        });
    }
    let descriptor = text.starts_with("# Disk DescriptorFile");
    let setting = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        line.contains('=') && ["config.version", "virtualHW.version"].iter().any(|sign| sign.eq_ignore_ascii_case(key))
    };
    if !descriptor && (ending.as_deref().is_some_and(|ending| ending == "vmx") || text.lines().any(setting)) {
        return Ok(Some(DescriptionKind::Vmx));
    }
    let archive = detect(bytes)?.unambiguous().is_ok_and(|format| format.name == "ova");
    Ok(archive.then_some(DescriptionKind::Ova))
}

/// All of a text that is no longer than its reader takes, and one byte more of a longer one, which is then refused.
fn bounded(bytes: &dyn BlockRead, offset: u64, size: u64, most: usize) -> Result<Vec<u8>> {
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(most.saturating_add(1));
    let mut text = vec![0; length];
    bytes.read_at(&mut text, offset)?;
    Ok(text)
}

fn text(source: &Source, kind: DescriptionKind) -> Result<Option<Description>> {
    let bytes = source.bytes().as_ref();
    let all = |most| bounded(bytes, 0, bytes.size(), most);
    let one = |machine, notes| {
        let machine = DescribedMachine {
            id: None,
            collections: Vec::new(),
            families: Vec::new(),
            machine,
            products: Vec::new(),
            licences: Vec::new(),
            transports: Vec::new(),
            notes,
        };
        Description { kind, machines: vec![machine], package: None, members: Vec::new(), notes: Notes::new() }
    };
    Ok(Some(match kind {
        DescriptionKind::Vmx => {
            let reading = vmx::read(&all(vmx::MAX_LENGTH)?)?;
            one(reading.value, reading.notes)
        }
        DescriptionKind::Libvirt => {
            let reading = libvirt::read(&all(libvirt::MAX_LENGTH)?)?;
            one(reading.value, reading.notes)
        }
        DescriptionKind::Ovf | DescriptionKind::Ova => of_package(ovf::read(&all(ovf::MAX_LENGTH)?)?, kind),
    }))
}

fn archive(bytes: &dyn BlockRead) -> Result<Description> {
    let index = Index::read(bytes)?;
    let descriptor = index.descriptor().ok_or_else(|| {
        transload_block::Error::new(transload_block::ErrorKind::Corrupt, "OVA: there is no descriptor in it")
    })?;
    let text = bounded(bytes, descriptor.offset, descriptor.size, ovf::MAX_LENGTH)?;
    let mut description = of_package(ovf::read(&text)?, DescriptionKind::Ova);
    let members = index.members.iter();
    description.members =
        members.map(|member| DescribedMember { name: member.name.clone(), size: member.size }).collect();
    Ok(description)
}

fn of_package(package: Package, kind: DescriptionKind) -> Description {
    let machine = |system: ovf::System| DescribedMachine {
        id: Some(system.id),
        collections: system.collections,
        families: system.families,
        machine: system.machine,
        products: system.products,
        licences: system.eulas,
        transports: system.transports,
        notes: system.notes,
    };
    Description {
        kind,
        machines: package.systems.into_iter().map(machine).collect(),
        package: Some(DescribedPackage {
            version: package.namespace,
            dialect: package.dialect,
            files: package.files,
            disks: package.disks,
            networks: package.networks,
            configurations: package.configurations,
        }),
        members: Vec::new(),
        notes: package.notes,
    }
}
