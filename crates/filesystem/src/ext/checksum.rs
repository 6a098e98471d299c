//! CRC-32C as ext4 and jbd2 use it: without the inversions at its two ends.

/// Continues `seed` over `bytes`.
pub(super) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}
