//! The domain XML of libvirt, for QEMU and KVM.
//!
//! Described at <https://libvirt.org/formatdomain.html>. What is written passes `virt-xml-validate`.
//!
//! VMware's LSI and BusLogic controllers of parallel SCSI are not among the ones that QEMU has. Their disks hang from virtio-scsi where
//! the guest is Linux, which has had the driver since 2012, and from SATA otherwise, which every system has a driver for. The
//! SAS and the paravirtual controller of VMware are there and stay what they are.

mod read;
#[cfg(test)]
mod tests;
mod write;
mod write_devices;

pub use read::{MAX_LENGTH, read};
pub use write::write;
