//! LVM2, for reading: physical volumes, the text that describes their group, and its linear and striped volumes.
//!
//! ```text
//! label (sector 0 to 3) ──► areas of metadata ──► text of the group ──► volumes ──► segments ──► extents of physical volumes
//! ```
//!
//! The format is that of lvm2's `format_text`: checksums are those of its `crc.c`, and the text is what `vgcfgbackup` writes.
//! Every physical volume has the group's text, some of them in two copies; the one with the highest number counts.
//!
//! Mirrors, RAID, thin pools, caches, snapshots and whatever else needs more than arithmetic are named and refused, each
//! for itself: the other volumes of the group are there.

mod group;
mod label;
mod striped;
mod text;

pub use group::{Group, Groups, LogicalVolume};
pub(crate) use label::{crc, find_label};
pub use striped::Striped;

pub(crate) use text::fuzz_text;
