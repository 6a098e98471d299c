//! A virtual machine: what every writing of this crate is read into, and written from.
//!
//! ```text
//! vmx::read, ovf::read, libvirt::read ──► Machine ──► vmx, ovf, libvirt, proxmox, hyperv, virtualbox ::write
//!                                  └──► Notes          └──► Notes: what that writing cannot say
//! ```
//!
//! The model holds what at least one hypervisor acts on. What only one product knows stays under that product's own
//! names: settings that an OVF of VMware has a `vmw:Config` for in [`Machine::config`], and whatever else a VMX holds in
//! [`Machine::extra`].

use std::collections::BTreeMap;

use serde::Serialize;

use crate::device::{Nic, Port, Sound, UsbController, Video};
use crate::guest::GuestOs;
use crate::note::Notes;
use crate::storage::{Address, Bus, Controller, Disk, Drive, ScsiModel};

/// More processors than any hypervisor gives a machine; a number above it is a mistake or a lie.
pub(crate) const MAX_CPUS: u32 = 4096;

/// More drives, adapters and ports than any hypervisor gives a machine. Above it a description is not read, so that work
/// stays in proportion to what a machine can be.
pub(crate) const MAX_DEVICES: usize = 4096;

/// More memory than any hypervisor gives a machine: 256 TiB.
pub(crate) const MAX_MEMORY_MIB: u64 = 256 << 20;

/// 32 digits in groups of 8-4-4-4-12.
pub(crate) fn grouped(digits: &str) -> String {
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

/// What a boot order means, as a VMX writes it: `cdrom,hdd,ethernet0`.
pub(crate) fn boot_order(text: &str, notes: &mut Notes) -> Vec<BootDevice> {
    let mut order = Vec::new();
    for word in text.split(',') {
        let word = word.trim().to_ascii_lowercase();
        let device = match word.as_str() {
            "" | "allow:" => continue,
            "hdd" => BootDevice::Disk,
            "cdrom" => BootDevice::Cdrom,
            "floppy" => BootDevice::Floppy,
            _ if word.starts_with("ethernet") => BootDevice::Network,
            _ => {
                notes.left_out("bios.bootOrder", format!("\"{word}\" is not known"));
                continue;
            }
        };
        if !order.contains(&device) {
            order.push(device);
        }
    }
    order
}

/// A boot order as a VMX writes it.
pub(crate) fn boot_order_text(order: &[BootDevice]) -> String {
    let word = |device: &BootDevice| match device {
        BootDevice::Disk => "hdd",
        BootDevice::Cdrom => "cdrom",
        BootDevice::Floppy => "floppy",
        BootDevice::Network => "ethernet0",
    };
    order.iter().map(word).collect::<Vec<_>>().join(",")
}

/// What starts the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Firmware {
    /// PC BIOS.
    #[default]
    Bios,
    /// UEFI.
    #[serde(rename_all = "kebab-case")]
    Efi {
        /// Only signed boot loaders run.
        secure_boot: bool,
    },
}

impl Firmware {
    /// Whether it is UEFI, with Secure Boot or without.
    #[must_use]
    pub const fn is_efi(self) -> bool {
        matches!(self, Self::Efi { .. })
    }

    /// Whether only signed boot loaders run.
    #[must_use]
    pub const fn secure_boot(self) -> bool {
        matches!(self, Self::Efi { secure_boot: true })
    }
}

/// What a machine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BootDevice {
    /// A disk.
    Disk,
    /// A CD-ROM.
    Cdrom,
    /// A floppy.
    Floppy,
    /// The network.
    Network,
}

/// Abilities of the processors and the memory that several hypervisors know. `None` is what the writing does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// Processors may be added while the guest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_hot_add: Option<bool>,
    /// Processors may be taken away while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_hot_remove: Option<bool>,
    /// Memory may be added while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_hot_add: Option<bool>,
    /// The guest may be a hypervisor itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_virtualization: Option<bool>,
    /// The guest has an IOMMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu: Option<bool>,
    /// Windows may isolate its secrets (virtualisation-based security).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtualization_based_security: Option<bool>,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// What people call it. May hold any character.
    pub name: String,
    /// What its owner wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
    /// The operating system that is or will be installed.
    pub guest: GuestOs,
    /// VMware's hardware version, such as 21 for `vmx-21`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_version: Option<u32>,
    /// The identity that the guest sees in its SMBIOS tables, as 32 lower-case digits in groups of 8-4-4-4-12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Virtual processors: at least 1.
    pub cpus: u32,
    /// How many of them make a socket, where the writing says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores_per_socket: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Abilities of processors and memory.
    pub features: Features,
    /// What starts the guest.
    pub firmware: Firmware,
    /// The file with the firmware's variables, as the writing names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvram: Option<String>,
    /// What is tried first, second and so on; empty where the writing does not say it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boot_order: Vec<BootDevice>,
    /// It has a trusted platform module of version 2.0. Its state is never part of a writing.
    pub tpm: bool,
    /// Controllers, each bus and number once.
    pub controllers: Vec<Controller>,
    /// Disks, in the order of the writing; the first is what the guest starts from unless the firmware says otherwise.
    pub disks: Vec<Disk>,
    /// CD-ROM and floppy drives.
    pub drives: Vec<Drive>,
    /// Network adapters, by number.
    pub nics: Vec<Nic>,
    /// USB controllers, each kind once.
    pub usb: Vec<UsbController>,
    /// The graphics adapter, where the writing says anything of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// The sound card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sound: Option<Sound>,
    /// Serial ports, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serial: Vec<Port>,
    /// Parallel ports, by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parallel: Vec<Port>,
    /// Settings that VMware's OVF has a `vmw:Config` for and no other hypervisor knows, by the name they have there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Further settings of VMware, by the key they have in a VMX.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

impl Machine {
    /// A machine with one processor and `memory_mib` MiB, and nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>, memory_mib: u64) -> Self {
        Self {
            name: name.into(),
            annotation: None,
            guest: GuestOs::default(),
            hardware_version: None,
            uuid: None,
            cpus: 1,
            cores_per_socket: None,
            memory_mib,
            features: Features::default(),
            firmware: Firmware::Bios,
            nvram: None,
            boot_order: Vec::new(),
            tpm: false,
            controllers: Vec::new(),
            disks: Vec::new(),
            drives: Vec::new(),
            nics: Vec::new(),
            usb: Vec::new(),
            video: None,
            sound: None,
            serial: Vec::new(),
            parallel: Vec::new(),
            config: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The controller with this number on this bus.
    #[must_use]
    pub fn controller(&self, bus: Bus, number: u32) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.bus == bus && controller.number == number)
    }

    /// Adds the controller that `address` needs, unless it is there.
    pub fn need_controller(&mut self, address: Address) {
        if self.controller(address.bus, address.controller).is_none() {
            self.controllers.push(Controller { bus: address.bus, number: address.controller, model: None });
        }
    }

    /// The kind of the SCSI controller with this number, where it is known.
    #[must_use]
    pub fn scsi_model(&self, number: u32) -> Option<&ScsiModel> {
        self.controller(Bus::Scsi, number)?.model.as_ref()
    }

    /// Sockets and cores of each: processors that the cores do not divide evenly are one core to a socket.
    #[must_use]
    pub fn topology(&self) -> (u32, u32) {
        match self.cores_per_socket {
            Some(cores) if cores > 0 && self.cpus.is_multiple_of(cores) => (self.cpus / cores, cores),
            _ => (self.cpus, 1),
        }
    }
}
