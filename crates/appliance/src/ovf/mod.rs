//! OVF, the standard of the DMTF for packages of machines: reading what the world writes, and writing what VMware's importers take.
//!
//! The standard is DSP0243; read are its drafts (0.9), versions 1.0 to 1.1 and 2.0 to 2.1, in the dialects of VMware,
//! VirtualBox, oVirt and others. Written is 1.0, as VMware's ovftool does.
//!
//! ```text
//! bytes ──► read ──► Package { files, disks, networks, systems: [Machine] }
//!                    Machine + files ──► write ──► text ──► pad to widest()
//!           text + changes ──► edit ──► text
//! ```
//!
//! Done elsewhere: the container, the manifest, and every file that the descriptor names. A name in a descriptor is whatever
//! its writer pleased; whoever opens it has to check it.

mod drives;
mod edit;
mod hardware;
pub(crate) mod item;
mod package;
mod read;
mod references;
#[cfg(test)]
mod tests;
mod units;
mod virtualbox;
mod write;
mod write_hardware;
mod written_items;

pub use crate::note::WriteSettings;
pub use edit::{Change, edit};
pub use package::{
    Capacity, Compression, Configuration, DescribedItem, Dialect, Eula, File, LogicalNetwork, Namespace, Package,
    Product, Property, System, VirtualDisk,
};
pub use read::{MAX_LENGTH, read};
pub(crate) use units::bytes as unit_bytes;
pub use write::{FileEntry, FileUse, pad, widest, write};
