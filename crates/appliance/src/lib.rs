//! Virtual machines and their writings.
//!
//! A [`Machine`] is what every writing is read into and written from; [`Notes`] say what a writing cannot.
//! The crate names disks and reads none.

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
pub mod proxmox;
mod spelling;
mod storage;
pub mod virtualbox;
pub mod vmx;
mod xml;

pub use device::{Mac, MacPolicy, Network, Nic, NicModel, Port, PortBacking, Sound, UsbController, Video};
pub use guest::{Family, GuestOs, KNOWN_GUESTS, KnownGuest};
pub use machine::{BootDevice, Features, Firmware, Machine};
pub use note::{Note, NoteKind, Notes, Reading, Written};
pub use storage::{
    Address, Bus, Controller, Disk, DiskFormat, DiskMode, Drive, DriveKind, Media, ScsiModel, base_name,
};
