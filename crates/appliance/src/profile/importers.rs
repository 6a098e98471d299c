//! Who imports: one row each.

use super::{Importer, Kind};

const fn row(id: &'static str, title: &'static str, kind: Kind, hardware_version: Option<u32>) -> Importer {
    Importer { id, title, hardware_version, kind }
}

/// All importers. Hardware versions are those of Broadcom's knowledge base, article 315655.
pub const IMPORTERS: &[Importer] = &[
    row("esxi-5.5", "VMware ESXi and vCenter 5.5", Kind::Esxi, Some(10)),
    row("esxi-6.0", "VMware ESXi and vCenter 6.0", Kind::Esxi, Some(11)),
    row("esxi-6.5", "VMware ESXi and vCenter 6.5", Kind::Esxi, Some(13)),
    row("esxi-6.7", "VMware ESXi and vCenter 6.7", Kind::Esxi, Some(14)),
    row("esxi-6.7u2", "VMware ESXi and vCenter 6.7 Update 2", Kind::Esxi, Some(15)),
    row("esxi-7.0", "VMware ESXi and vCenter 7.0", Kind::Esxi, Some(17)),
    row("esxi-7.0u1", "VMware ESXi and vCenter 7.0 Update 1", Kind::Esxi, Some(18)),
    row("esxi-7.0u2", "VMware ESXi and vCenter 7.0 Update 2", Kind::Esxi, Some(19)),
    row("esxi-8.0", "VMware ESXi and vCenter 8.0", Kind::Esxi, Some(20)),
    row("esxi-8.0u2", "VMware ESXi and vCenter 8.0 Update 2", Kind::Esxi, Some(21)),
    row("esxi-9.0", "VMware ESXi and vCenter 9.0", Kind::Esxi, Some(22)),
    row("workstation-16", "VMware Workstation 16 and Fusion 12", Kind::Workstation, Some(18)),
    row("workstation-17", "VMware Workstation 17.5 and Fusion 13.5", Kind::Workstation, Some(21)),
    row("virtualbox-7", "VirtualBox 7", Kind::VirtualBox, None),
    row("proxmox-8", "Proxmox VE 8", Kind::Proxmox, None),
    row("openstack", "OpenStack Glance", Kind::OpenStack, None),
    row("aws", "AWS VM Import", Kind::Aws, None),
    row("virt-v2v", "virt-v2v 2", Kind::VirtV2v, None),
];
