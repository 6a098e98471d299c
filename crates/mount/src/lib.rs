//! A disk, its partitions and the files in them as folders of the host, through FUSE.
//!
//! ```text
//! Tree::of_disk(Disk) ──► Tree: disk.raw, partitions/N.raw, fs/N/…
//! Tree::new() ──► disk(path, Disk), filesystem(path, …) ──► Tree                any other arrangement
//! Mount::new(tree, folder, settings) ──► wait()                                 serves until it is unmounted, then flushes
//!                                   └──► unmounter() ──► unmount()              from any thread, a signal's for example
//! ```
//!
//! Files are shown as they are: modes, owners, times to the nanosecond, symbolic links (which point where they point, so an
//! absolute one leads out of the mount), devices, extended attributes, hard links, holes, names of any bytes. Nothing is written
//! but through a [`Disk`] that was given a writer; files are only read. Where a disk is written, its files show what a system
//! would find after a power cut at that moment.
//!
//! Several threads answer the kernel side by side. What is on a disk is hostile: an error or a fault of a filesystem is an error
//! of the one call, and memory grows with what is open, not with what a disk claims.
//!
//! Mounting takes the kernel's FUSE and the right to use it: root's, or the program `fusermount3`. What is missing is said by the
//! error.

mod answers;
mod attributes;
mod disk;
mod errno;
mod handles;
mod numbers;
mod serve;
mod session;
mod slot;
mod tree;

pub use disk::Disk;
pub use session::{Event, Mount, MountSettings, Unmounter};
pub use slot::Files;
pub use tree::{Note, Tree};
