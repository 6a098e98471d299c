//! Identifiers for what has none, always the same for the same thing.

/// The identifier that the file of a disk should have inside when nothing else is chosen: by the machine's name and the disk's id.
#[must_use]
pub fn disk_uuid(machine: &str, disk: &str) -> String {
    derived(&["disk", machine, disk])
}

/// A UUID of version 8, whose bits are ours to choose.
pub(super) fn derived(parts: &[&str]) -> String {
    let mut bytes = hash(parts).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    crate::machine::grouped(&digits)
}

/// An address from the range that VirtualBox generates from.
pub(super) fn mac(part: &str) -> String {
    let [.., a, b, c] = hash(&["mac", part]).to_be_bytes();
    format!("080027{a:02X}{b:02X}{c:02X}")
}

/// FNV-1a of 128 bits, with a byte between parts that no text has.
fn hash(parts: &[&str]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}
