//! The operating system inside a machine, under the names that VMware, CIM, VirtualBox, libosinfo and Proxmox have for it.

use serde::Serialize;

mod table;

pub use table::{Family, KNOWN_GUESTS, KnownGuest};

/// The guest's operating system as writings name it. Each has a naming of its own; [`GuestOs::known`] joins them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestOs {
    /// VMware's name as a VMX has it, such as `debian12-64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmware: Option<String>,
    /// The number in CIM's list of operating systems, as an OVF has it: 96 is 64-bit Debian.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cim: Option<u32>,
    /// The version, where an OVF says it beside the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// VirtualBox's name, such as `Debian_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtualbox: Option<String>,
    /// libosinfo's address, such as `http://debian.org/debian/12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub libosinfo: Option<String>,
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
