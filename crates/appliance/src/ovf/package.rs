//! What an OVF descriptor says, beside the machines: files, disks, networks, properties, configurations.

use serde::Serialize;

use crate::machine::Machine;
use crate::note::Notes;
use crate::spelling::spelled;

/// The namespace of the envelope, which tells the version of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub enum Namespace {
    /// `http://www.vmware.com/schema/ovf/1/envelope` and its like: the draft that VMware and VirtualBox wrote first.
    #[serde(rename = "0.9")]
    V0_9,
    /// `http://schemas.dmtf.org/ovf/envelope/1`: versions 1.0 and 1.1.
    #[serde(rename = "1.0")]
    V1,
    /// `http://schemas.dmtf.org/ovf/envelope/2`: version 2.0 and 2.1.
    #[serde(rename = "2.0")]
    V2,
}

spelled! {
    /// The program that wrote the descriptor, as far as its private elements tell.
    Dialect {
        /// vSphere, ovftool, Workstation: `vmw:` elements, or a family `vmx-NN`.
        VMware = "vmware",
        /// VirtualBox, or Oracle's products on it: `vbox:` elements, or a family `virtualbox-2.2`.
        VirtualBox = "virtualbox",
        /// oVirt and Red Hat Virtualization.
        OVirt = "ovirt",
        /// Xen, XCP-ng, Oracle VM.
        Xen = "xen",
        /// Nothing tells.
        Generic = "generic",
    }
}

/// How a file in the package is compressed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all; `identity` says the same.
    None,
    /// By gzip.
    Gzip,
    /// By something else.
    Other(String),
}

/// A file of the package: one `File` of `References`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    /// Its id, which disks and drives point to.
    pub id: String,
    /// Where it is: a name beside the descriptor, or an address. Never to be followed unchecked.
    pub href: String,
    /// Its length in bytes, where it is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How it is compressed as a whole.
    pub compression: Compression,
    /// It is cut into pieces of this many bytes, named `href.000000000`, `href.000000001` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
}

impl File {
    /// The names of the pieces, or the one name, that the file is stored under.
    ///
    /// Without a size the number of pieces is not known: the first name is all that is returned then.
    #[must_use]
    pub fn pieces(&self) -> Vec<String> {
        /// More pieces than any package has; a size over a tiny piece would be a list without end.
        const MAX_PIECES: u64 = 100_000;
        match (self.chunk_size, self.size) {
            (Some(piece), Some(size)) if piece > 0 => {
                let count = size.div_ceil(piece).clamp(1, MAX_PIECES);
                (0..count).map(|number| format!("{}.{number:09}", self.href)).collect()
            }
            (Some(_), _) => vec![format!("{}.000000000", self.href)],
            (None, _) => vec![self.href.clone()],
        }
    }
}

/// The size of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capacity {
    /// So many bytes.
    Bytes(u64),
    /// What the property of this key says, in units of `unit` bytes; `default` is what its default comes to in bytes.
    #[serde(rename_all = "kebab-case")]
    Property {
        /// The property's key.
        key: String,
        /// Bytes of one.
        unit: u64,
        /// What the property's default comes to, in bytes, where it has one that is a number.
        default: Option<u64>,
    },
}

impl Capacity {
    /// The size in bytes, with properties at their defaults.
    #[must_use]
    pub const fn bytes(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(*bytes),
            Self::Property { default, .. } => *default,
        }
    }
}

/// A disk of the package: one `Disk` of `DiskSection`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VirtualDisk {
    /// Its id, which machines point to.
    pub id: String,
    /// The id of the file that holds it; `None` for a disk that is to be created empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The id of the disk that this one is a layer over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its size.
    pub capacity: Capacity,
    /// The units of the capacity as the descriptor spells them; `None` is bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<String>,
    /// The address that stands for the format of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Bytes of it that hold data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub populated: Option<u64>,
}

/// A network that adapters are plugged into by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogicalNetwork {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One way to deploy the package: a `Configuration` of `DeploymentOptionSection`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Configuration {
    /// Its id, which items of the hardware name.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// What it is for.
    pub description: String,
    /// It is the one unless another is chosen.
    pub default: bool,
}

/// Something that whoever deploys the package may or must fill in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Property {
    /// Its whole key, with the class before and the instance behind: `class.key.instance`.
    pub key: String,
    /// Its type: `string`, `boolean`, `uint16`, `password` and so on.
    pub kind: String,
    /// Its default, in the default configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its short name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The category it is shown under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Whoever deploys the package is asked for it.
    pub user_configurable: bool,
    /// It is a password.
    pub password: bool,
}

/// A `ProductSection`: what the software is, and its properties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Product {
    /// What the product is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Its short version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its long version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_version: Option<String>,
    /// Its properties.
    pub properties: Vec<Property>,
}

/// A licence that whoever deploys the package has to agree to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Eula(pub String);

/// An `Item` of the hardware as the descriptor spells it, for those who judge the spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DescribedItem {
    /// Its name for people.
    pub name: String,
    /// Its `ResourceType`; 0 where it has none.
    pub resource_type: u32,
    /// Its `ResourceSubType`, or empty.
    pub subtype: String,
    /// Whoever deploys the package must understand it.
    pub required: bool,
    /// Its `Parent`.
    pub parent: Option<String>,
    /// Its `AddressOnParent`.
    pub unit: Option<u32>,
    /// The `ResourceType` of its parent, where that is described.
    pub parent_type: Option<u32>,
    /// Its `HostResource`.
    pub host_resource: Option<String>,
    /// Its `AllocationUnits`.
    pub units: Option<String>,
    /// Its `Connection`.
    pub connection: Option<String>,
}

/// A virtual machine of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct System {
    /// Its id in the descriptor.
    pub id: String,
    /// The ids of the collections it stands in, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<String>,
    /// The hardware families that it asks for, such as `vmx-21` or `virtualbox-2.2`.
    pub families: Vec<String>,
    /// The machine, in the default configuration. Its disks' `file` is the `href` of a [`File`], their `id` that of a [`VirtualDisk`].
    pub machine: Machine,
    /// What is installed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<Product>,
    /// Licences to agree to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula>,
    /// How properties reach the guest: `com.vmware.guestInfo`, `iso`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<String>,
    /// The items of its hardware in the default configuration, as they are spelled.
    #[serde(skip)]
    pub items: Vec<DescribedItem>,
    /// What of the descriptor is not in the machine.
    pub notes: Notes,
}

/// What an OVF descriptor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Package {
    /// The version of the standard, by the envelope's namespace.
    pub namespace: Namespace,
    /// Who wrote it.
    pub dialect: Dialect,
    /// The files, in the order of the descriptor.
    pub files: Vec<File>,
    /// The disks, in the order of the descriptor.
    pub disks: Vec<VirtualDisk>,
    /// The networks.
    pub networks: Vec<LogicalNetwork>,
    /// The ways to deploy it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<Configuration>,
    /// The machines, in the order of the descriptor.
    pub systems: Vec<System>,
    /// What of the descriptor as a whole is not in this.
    pub notes: Notes,
}

impl Package {
    /// The file of this id.
    #[must_use]
    pub fn file(&self, id: &str) -> Option<&File> {
        self.files.iter().find(|file| file.id == id)
    }

    /// The disk of this id.
    #[must_use]
    pub fn disk(&self, id: &str) -> Option<&VirtualDisk> {
        self.disks.iter().find(|disk| disk.id == id)
    }
}
