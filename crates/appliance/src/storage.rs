//! Controllers, and what hangs from them: disks, CD-ROM drives, floppy drives.

use std::fmt;

use serde::Serialize;

use crate::spelling::spelled;

/// What a controller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Bus {
    /// Parallel ATA: two channels (controllers 0 and 1) of two drives.
    Ide,
    /// Serial ATA (AHCI).
    Sata,
    /// SCSI, of one of the kinds of [`ScsiModel`].
    Scsi,
    /// NVM Express; the unit is the namespace, counted from 0.
    Nvme,
    /// Virtio block devices, each its own controller. Of the writings, libvirt and Proxmox alone have them.
    Virtio,
}

impl Bus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ide, Self::Sata, Self::Scsi, Self::Nvme, Self::Virtio];

    /// The name, as VMX and libvirt spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Sata => "sata",
            Self::Scsi => "scsi",
            Self::Nvme => "nvme",
            Self::Virtio => "virtio",
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a drive hangs: bus, controller, unit. Displayed as VMX writes it, `scsi0:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// What the controller speaks.
    pub bus: Bus,
    /// The controller's number among those of its bus.
    pub controller: u32,
    /// The unit on the controller. On SCSI controllers of VMware unit 7 is the controller itself.
    pub unit: u32,
}

impl Address {
    /// Makes the address of a unit.
    #[must_use]
    pub const fn new(bus: Bus, controller: u32, unit: u32) -> Self {
        Self { bus, controller, unit }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.bus, self.controller, self.unit)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

spelled! {
    /// The kind of a SCSI controller, spelled as VMX does.
    ScsiModel {
        /// BusLogic BT-958, parallel SCSI.
        BusLogic = "buslogic",
        /// LSI Logic 53C1030, parallel SCSI.
        LsiLogic = "lsilogic",
        /// LSI Logic SAS 1068.
        LsiLogicSas = "lsisas1068",
        /// VMware's paravirtual controller.
        ParaVirtual = "pvscsi",
        /// The paravirtual controller of KVM.
        VirtioScsi = "virtio-scsi",
    }
}

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Controller {
    /// What it speaks.
    pub bus: Bus,
    /// Its number among those of its bus.
    pub number: u32,
    /// Its kind, of SCSI controllers whose writing names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ScsiModel>,
}

spelled! {
    /// The format of a disk's file, spelled as on the command line.
    DiskFormat {
        /// The bytes of the disk, one after the other.
        Raw = "raw",
        /// QEMU's format, versions 2 and 3.
        Qcow2 = "qcow2",
        /// VMware's formats.
        Vmdk = "vmdk",
        /// Microsoft's older format.
        Vhd = "vhd",
        /// Microsoft's newer format.
        Vhdx = "vhdx",
        /// VirtualBox's format.
        Vdi = "vdi",
        /// An ISO 9660 image.
        Iso = "iso",
    }
}

impl DiskFormat {
    /// The format that the ending of a file's name stands for.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, ending) = base_name(name).rsplit_once('.')?;
        Some(match ending.to_ascii_lowercase().as_str() {
            "vmdk" => Self::Vmdk,
            "qcow2" => Self::Qcow2,
            "vhd" | "vpc" => Self::Vhd,
            "vhdx" | "avhdx" => Self::Vhdx,
            "vdi" => Self::Vdi,
            "raw" | "img" => Self::Raw,
            "iso" => Self::Iso,
            _ => return None,
        })
    }
}

/// The last part of a name with either kind of slash, or of a name on a datastore, `[store] folder/name`.
#[must_use]
pub fn base_name(name: &str) -> &str {
    let name = match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, path)) => path.trim_start(),
        None => name,
    };
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// What becomes of writes to a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DiskMode {
    /// They stay, and snapshots of the machine cover the disk.
    #[default]
    Persistent,
    /// They stay; snapshots leave the disk alone.
    IndependentPersistent,
    /// They are lost when the machine is switched off; snapshots leave the disk alone.
    IndependentNonpersistent,
    /// They go to a log that is kept or thrown away later (`undoable`, `append`, `nonpersistent` of old products).
    Undoable,
}

/// A virtual disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Its name in this machine: the `diskId` of an OVF, else `disk1`, `disk2` and so on.
    pub id: String,
    /// Where it hangs.
    pub address: Address,
    /// The file that holds it, as the writing has it: relative to the writing's folder, absolute, or an OVF's `href`. `None`
    /// is a disk that is to be created empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The format of that file, where the writing says it or its ending does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<DiskFormat>,
    /// Its size in bytes as the guest sees it, where the writing says it. The disk's own header is to be trusted more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Bytes of it that hold data, as an estimate, where the writing says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub populated: Option<u64>,
    /// The identifier inside its file, where it is known, as 8-4-4-4-12 digits. VirtualBox wants to be told; the others look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// What becomes of writes.
    pub mode: DiskMode,
    /// A guest cannot write to it.
    pub read_only: bool,
    /// It is handed through from the host (raw device mapping, physical disk), so that its file has no data.
    pub raw_device: bool,
}

impl Disk {
    /// A writable disk in `file` at `address`.
    #[must_use]
    pub fn new(id: impl Into<String>, address: Address, file: Option<String>) -> Self {
        Self {
            id: id.into(),
            address,
            file,
            format: None,
            capacity: None,
            populated: None,
            uuid: None,
            mode: DiskMode::Persistent,
            read_only: false,
            raw_device: false,
        }
    }
}

/// What kind of drive with removable media it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DriveKind {
    /// CD-ROM or DVD.
    Cdrom,
    /// Floppy; `Drive::floppy` says which of the two.
    Floppy,
}

/// What is in a drive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Media {
    /// Nothing.
    Empty,
    /// An image, as the writing names it.
    Image(String),
    /// A drive of the host: its name, or empty for whichever there is.
    Host(String),
    /// A drive of whoever looks at the console.
    Client,
}

/// A drive with removable media.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drive {
    /// What it is.
    pub kind: DriveKind,
    /// Where it hangs. `None` for a floppy drive: these have a controller of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The number of a floppy drive, 0 or 1; 0 for others.
    pub floppy: u32,
    /// What is in it.
    pub media: Media,
    /// The medium is connected when the machine starts.
    pub connected: bool,
}
