//! Files and folders of a disk: every filesystem behind one interface, over a device of `transload-block`.
//!
//! ```text
//! probe(device) ──► Kind
//! open(device) ──► Arc<dyn FileSystem> ──► root() ──► entries(dir) / lookup(dir, name) / resolve(path) / walk(dir)
//!                                            │
//!                                            └► stat(id), read_link(id), xattrs(id), streams(id)
//!                                               open(id) ──► Arc<dyn BlockRead>: read_at, block_status (holes)
//! ```
//!
//! An open file is a [`BlockRead`](transload_block::BlockRead) of its own: positioned reads from any number of threads, and
//! a status that shows its holes. Names are bytes as they stand on the disk; filesystems that store UTF-16 hand out UTF-8.
//!
//! Everything on the disk is hostile: sizes, counts and offsets are checked before they are used, memory does not grow with
//! what they claim, and no loop of the structures is followed for ever. `Corrupt` says that a rule of the filesystem is
//! broken, `Unsupported` that it uses something that is not handled. What stands in crates by others is called through
//! a wall that turns their panics into errors.
//!
//! What it does not do: it knows no image format and no partition table. It is handed the device of one partition.

mod btrfs;
mod cache;
mod contained;
mod contract;
mod copy;
mod exfat;
mod ext;
mod fat;
mod fields;
mod host;
mod iso;
mod make;
mod mapped;
mod ntfs;
mod path;
mod probe;
pub mod properties;
mod squashfs;
pub mod tar;
mod text;
mod walk;
mod write;
mod xfs;

pub use contract::{
    Entry, FileId, FileKind, FileSystem, FileSystemExt, Info, Metadata, Owner, Stream, Timestamp, Xattr,
};
pub use copy::{Copier, CopySettings, Existing};
pub use host::Host;
pub use make::{ExtVersion, FatBits, MakeKind, MakeSettings, make};
pub use path::{Follow, Resolved, find};
pub use probe::{Kind, open, open_writable, probe};
pub use walk::{Visit, Walk};
pub use write::{Attributes, FileSystemWrite, Keeps};
