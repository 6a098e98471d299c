//! VMX: the file of settings that VMware's products keep of a machine.
//!
//! There is no specification; what is here was learned from files of ESX 3 to 8, Workstation 5 to 17 and Fusion, and from other
//! readers.
//!
//! ```text
//! bytes ──► encoding ──► document: key = "value" ──► read, devices ──► Machine + Notes
//!                                                       write  ◄────── Machine
//! ```
//!
//! Keys are found whatever the case of their letters. Every key that is not understood stays in [`crate::Machine::extra`],
//! but for those that speak of the host or the last run, which are left out and noted.
//!
//! Not done here: finding the disks' files, following the chain of a snapshot (a machine with snapshots names its current
//! delta, whose own header names its parent), telling whether the machine runs.

mod devices;
mod document;
mod encoding;
pub(crate) mod keys;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use crate::note::WriteSettings;
pub use read::{MAX_LENGTH, read};
pub use write::write;
