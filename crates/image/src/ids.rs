//! Identifiers that look random and are not: the same input and options give the same image.

#[cfg(test)]
mod tests;

/// Where a new image's identifiers (VMDK CID, UUIDs) come from: a 32-byte seed, from which each use derives its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdSource {
    seed: [u8; 32],
}

impl IdSource {
    /// Identifiers derived from `material`: the user's seed, or a sample of the content.
    #[must_use]
    pub fn from_material(material: &[u8]) -> Self {
        Self { seed: *blake3::hash(material).as_bytes() }
    }

    /// Sixteen bytes for `purpose`, always the same for one seed.
    #[must_use]
    pub fn bytes(&self, purpose: &str) -> [u8; 16] {
        let digest = blake3::keyed_hash(&self.seed, purpose.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes
    }

    /// A version 4 UUID for `purpose` (RFC 9562, section 5.4), in the order of its text.
    #[must_use]
    pub fn uuid(&self, purpose: &str) -> [u8; 16] {
        let mut bytes = self.bytes(purpose);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        bytes
    }
}
