//! The container of a virtual appliance: an OVA is a tar archive of an OVF descriptor, its manifest, perhaps a signature,
//! and disks (DMTF DSP0243 2.1.1, section 5.3 and 6).
//!
//! ```text
//! Index::read(device) ──► Member { name, offset, size } ──► a slice of the device is the disk, opened in place
//! Walk::new(source)   ──► next_member(), read() …           the same from front to back, over a pipe
//! Manifest::parse     ──► entry(name)                       what each file's digest must be
//! member_header, padding, end_padding                       what stands between the payloads of a new one
//! ```
//!
//! The reader and writer of tar are our own because both have to be narrower than a general one: importers take plain
//! ustar, and GNU's base 256 for sizes from 8 GiB on, and nothing else may be written; and an archive from elsewhere must
//! not lead out of itself by links, absolute names or a second member of a name. Nothing here opens a file.

mod certificate;
#[doc(hidden)]
pub mod fuzz;
mod header;
mod index;
mod manifest;
mod member;
#[cfg(test)]
mod tests;
mod walk;
mod write;

pub use certificate::{CERTIFICATE_MAX, SignatureFile, Signer};
pub use header::{BLOCK, Dialect, NAME_MAX, USTAR_SIZE_LIMIT};
pub use index::Index;
pub use manifest::{Irregularity, MANIFEST_MAX, Manifest, ManifestAlgorithm, ManifestEntry, ManifestHasher, hex};
pub use member::{MEMBERS_MAX, Member, MemberKind, refuse_unsafe_name};
pub use walk::{ArchiveEnd, Forward, FromReader, OnDevice, Walk};
pub use write::{end_padding, member_header, padding};
