//! OVF 1.x: reading what the world writes, and writing what VMware's importers take.
mod edit;
mod package;
mod read;
mod write;

pub use edit::{Change, edit};
pub use package::{
    Capacity, Compression, Configuration, Dialect, Eula, File, LogicalNetwork, Namespace, Package, Product, Property,
    System, VirtualDisk,
};
pub use read::{MAX_LENGTH, read};
pub use write::{FileEntry, FileUse, WriteSettings, pad, widest, write};
