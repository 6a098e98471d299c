//! From a VMX to a machine.
use transload_block::Result;

use crate::machine::Machine;
use crate::note::Reading;

/// The longest VMX that is read. Real ones have a few KiB; embedded data may make some hundred.
pub const MAX_LENGTH: usize = 4 << 20;

/// Reads a VMX. Disks' files are as it has them: relative to its folder, absolute, with either kind of slash, or `[datastore] path`.
///
/// # Errors
/// `TooLarge` over [`MAX_LENGTH`]; `NotThisFormat` when no line of it is a setting that a VMX has; `Corrupt` when a value that counts
/// is no number or out of bounds; `Unsupported` when it is encrypted or in an encoding that is not known.
pub fn read(bytes: &[u8]) -> Result<Reading<Machine>> {
    let _ = bytes;
    todo!()
}
