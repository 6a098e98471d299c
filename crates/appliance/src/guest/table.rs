//! Operating systems, one row each, under the names that products have for them.

/// What kind of operating system it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Linux.
    Linux,
    /// Microsoft Windows.
    Windows,
    /// FreeBSD, NetBSD, OpenBSD.
    Bsd,
    /// Solaris and its kin.
    Solaris,
    /// Apple's.
    MacOs,
    /// Anything else, or not known.
    Other,
}

/// An operating system under its names.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownGuest {
    /// VMware's name in a VMX.
    pub vmware: &'static str,
    /// VMware's name in an OVF and in vSphere's API.
    pub vim: &'static str,
    /// The number in CIM's list.
    pub cim: u32,
    /// VirtualBox's name.
    pub virtualbox: &'static str,
    /// libosinfo's address, or empty.
    pub libosinfo: &'static str,
    /// Proxmox's kind of guest.
    pub proxmox: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What kind it is.
    pub family: Family,
}

/// All that have a row.
pub const KNOWN_GUESTS: &[KnownGuest] = &[];
