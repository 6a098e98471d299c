//! The hypervisors that machines are imported for: the format of their disks, and who writes their description.

use transload_appliance::{Bus, Machine, Written, hyperv, libvirt, proxmox, virtualbox, vmx};
use transload_block::Result;
use transload_image::{Format, OptionValues};

/// A hypervisor, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportTarget {
    /// libvirt's domain XML, with qcow2 disks.
    Libvirt,
    /// A script of `qm` commands, with qcow2 disks.
    Proxmox,
    /// A VMX for Workstation, Fusion and Player, with VMDKs.
    Vmx,
    /// A PowerShell script, with VHDX disks.
    HyperV,
    /// A `.vbox`, with VDI disks.
    VirtualBox,
    /// The disks alone, raw.
    Raw,
}

impl ImportTarget {
    /// The format of its disks.
    pub(super) fn format(self) -> &'static Format {
        let name = match self {
            Self::Libvirt | Self::Proxmox => "qcow2",
            Self::Vmx => "vmdk",
            Self::HyperV => "vhdx",
            Self::VirtualBox => "vdi",
            Self::Raw => "raw",
        };
        Format::by_name(name).expect("a row of the table")
    }

    /// The options that a disk on `bus` is made with.
    pub(super) fn options(format: &'static Format, bus: Bus) -> Result<OptionValues> {
        let mut options = OptionValues::default();
        if format.name == "vmdk" {
            options.set(format.create_options, "subformat", "monolithicSparse")?;
            options.set(format.create_options, "adapter_type", if bus == Bus::Ide { "ide" } else { "lsilogic" })?;
        }
        Ok(options)
    }

    /// The ending and the text of the machine's description; `None` where there is none.
    pub(super) fn describe(self, machine: &Machine) -> Option<(&'static str, Written)> {
        match self {
            Self::Libvirt => Some(("xml", libvirt::write(machine))),
            Self::Proxmox => Some(("sh", proxmox::write(machine))),
            Self::Vmx => Some(("vmx", vmx::write(machine, &vmx::WriteSettings::default()))),
            Self::HyperV => Some(("ps1", hyperv::write(machine))),
            Self::VirtualBox => Some(("vbox", virtualbox::write(machine))),
            Self::Raw => None,
        }
    }

    /// Whether its description names files by their whole path.
    pub(super) fn wants_absolute(self) -> bool {
        self == Self::Libvirt
    }

    /// Whether it can use the firmware's variables of VMware.
    pub(super) fn takes_nvram(self) -> bool {
        self == Self::Vmx
    }
}
