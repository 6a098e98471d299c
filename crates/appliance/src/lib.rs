//! Virtual machines and their writings: VMX, OVF, OVA, libvirt, Proxmox, Hyper-V, VirtualBox.
//!
//! ```text
//! vmx::read, ovf::read, libvirt::read ──► Machine + Notes ──► vmx, ovf, libvirt, proxmox, hyperv, virtualbox ::write
//!                                                                            └──► text + Notes
//! ova: archive, manifest, signature      profile: importers and their rules
//! ```
//!
//! A [`Machine`] is what every description is read into and written from; [`Notes`] say what a description cannot. The crate
//! names disks and reads none: whoever calls it opens the files, checks the names before, and moves the bytes. Of
//! `transload-block` it takes the error type, and the bytes of a container.
//!
//! Descriptions are hostile input: everything is bounded, nothing in them is expanded or followed, and every text is escaped
//! for the language it is written in.
//!
//! # From a VMX to Proxmox
//!
//! ```
//! use transload_appliance::{DiskFormat, proxmox, vmx};
//!
//! # fn main() -> transload_block::Result<()> {
//! let text = r#"
//!     displayName = "web server"
//!     guestOS = "debian12-64"
//!     memsize = "2048"
//!     firmware = "efi"
//!     scsi0.present = "TRUE"
//!     scsi0.virtualDev = "pvscsi"
//!     scsi0:0.present = "TRUE"
//!     scsi0:0.fileName = "web.vmdk"
//! "#;
//! let mut machine = vmx::read(text.as_bytes())?.value;
//! assert_eq!(machine.disks[0].address.to_string(), "scsi0:0");
//!
//! // Somebody converts web.vmdk.
//! machine.disks[0].file = Some(String::from("web.qcow2"));
//! machine.disks[0].format = Some(DiskFormat::Qcow2);
//! let script = proxmox::write(&machine);
//! assert!(script.text.contains("--bios ovmf") && script.text.contains("--scsihw pvscsi"));
//! assert!(script.notes.iter().any(|note| note.part == "name"));
//! # Ok(())
//! # }
//! ```

mod adapt;
mod device;
mod guest;
pub mod hyperv;
pub mod libvirt;
mod machine;
mod note;
pub mod ova;
pub mod ovf;
pub mod profile;
pub mod properties;
pub mod proxmox;
mod quoting;
mod spelling;
mod storage;
pub mod virtualbox;
pub mod vmx;
mod xml;

pub use device::{Mac, MacPolicy, Network, Nic, NicModel, Port, PortBacking, Sound, UsbController, Video};
pub use guest::{Family, GuestOs, KNOWN_GUESTS, KnownGuest};
pub use machine::{BootDevice, Features, Firmware, Machine};
pub use note::{Note, NoteKind, Notes, Reading, WriteSettings, Written};
pub use storage::{
    Address, Bus, Controller, Disk, DiskFormat, DiskMode, Drive, DriveKind, Media, ScsiModel, base_name,
};
