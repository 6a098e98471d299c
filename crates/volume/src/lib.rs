//! Partition tables and logical volumes: every volume of a disk as a device of its own, and what stands in it.
//!
//! ```text
//! BlockRead ──► Contents::read() ──► Table ──► partitions()                      look at a table
//!           └─► Volumes::scan() ──► find(VolumeName) ──► Volume::device()        read a volume: partition or LVM
//!                                                   └──► Volume::signature()     what is in it
//! BlockWrite ─► writable(VolumeName)                                             write a partition
//!           └─► Table::create(), add(), delete(), change() ──► write()           edit a table
//! ```
//!
//! MBR with logical partitions and GPT are read and written, volumes of LVM2 are read. A table that is damaged is read as
//! far as it is sound, and says what is wrong ([`Finding`]); an error is what cannot be read at all. Everything works
//! through positioned reads on any device, whatever format is below, and holds no more than the table in memory.
//!
//! Files are the business of `transload-filesystem`, images that of `transload-image`.
//!
//! ```
//! use std::sync::Arc;
//! use transload_block::{BlockRead, Memory};
//! use transload_volume::{ReadSettings, Volumes};
//!
//! # fn main() -> transload_block::Result<()> {
//! let disk: Arc<dyn BlockRead> = Arc::new(Memory::new(1 << 20));
//! let volumes = Volumes::scan(&disk, &[], ReadSettings::default())?;
//! for volume in volumes.iter() {
//!     println!("{} of {} bytes: {:?}", volume.name, volume.size, volume.signature()?);
//! }
//! # Ok(())
//! # }
//! ```

mod contents;
mod edit;
mod foreign;
mod gpt;
mod guid;
mod kind;
pub mod lvm;
mod mbr;
mod name;
#[doc(hidden)]
pub mod properties;
pub mod signature;
mod table;
mod volumes;

pub use contents::{Contents, ReadSettings};
pub use edit::{ALIGNMENT, Change, NewPartition, Size};
pub use gpt::Gpt;
pub use guid::{Guid, Identifiers};
pub use kind::{Kind, short_names};
pub use mbr::Mbr;
pub use name::VolumeName;
pub use signature::{Format, Signature, Usage};
pub use table::{DiskId, Finding, Partition, Role, Scheme, Severity, Table};
pub use volumes::{Volume, Volumes, writable};
