//! From a domain to a machine.
use transload_block::Result;

use crate::machine::Machine;
use crate::note::Reading;

/// Reads a domain's XML, as `virsh dumpxml` prints it.
///
/// # Errors
/// `NotThisFormat` when the root is no domain; `Corrupt`, with the line, when it is not well-formed or a number is none;
/// `Unsupported` for disks that are no file or device of the host.
pub fn read(bytes: &[u8]) -> Result<Reading<Machine>> {
    let _ = bytes;
    todo!()
}
