//! From a descriptor to a package.

use transload_block::Result;

use super::package::Package;

/// The longest descriptor that is read. Real ones are some hundred KiB; those with many licences and translations, a few MiB.
pub const MAX_LENGTH: usize = 16 << 20;

/// Reads an OVF descriptor: UTF-8 (or UTF-16 with a byte order mark) XML without a document type.
///
/// # Errors
/// `TooLarge` over [`MAX_LENGTH`]; `NotThisFormat` when the root is no OVF envelope; `Corrupt`, with the line, when it is not
/// well-formed, has a document type, or breaks a rule without which it makes no sense.
pub fn read(bytes: &[u8]) -> Result<Package> {
    let _ = bytes;
    todo!()
}
