//! How everything in a repository is encrypted: AES-256 in counter mode, authenticated by Poly1305-AES.
//!
//! ```text
//! initialisation vector, 16 bytes │ ciphertext │ authentication code, 16 bytes
//! ```
//!
//! The code is Poly1305 over the ciphertext; its second half of a key is the vector encrypted by AES-128 (Bernstein, "The
//! Poly1305-AES message-authentication code"). Vectors are random and never used twice.

use std::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use base64ct::{Base64, Encoding};
use ctr::Ctr128BE;
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use serde::{Deserialize, Serialize};
use transload_block::{Error, ErrorKind, Result};

const VECTOR: usize = 16;
const CODE: usize = 16;
/// By how much encryption lengthens what it is given.
pub(crate) const OVERHEAD: usize = VECTOR + CODE;

/// A key: one half encrypts, the other authenticates.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CryptoKey {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CryptoKey")
    }
}

/// A key as the document that a key file holds.
#[derive(Serialize, Deserialize)]
struct KeyDocument {
    mac: MacDocument,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacDocument {
    k: String,
    r: String,
}

/// Fills `bytes` with random numbers of the system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::new(ErrorKind::Io, format!("random numbers of the system: {error}")))
}

impl CryptoKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self> {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        let mut key = Self::from_bytes(&bytes);
        // Bits that Poly1305 does not use are zero in the repositories of restic.
        for at in [3, 7, 11, 15] {
            key.mac_r[at] &= 15;
        }
        for at in [4, 8, 12] {
            key.mac_r[at] &= 252;
        }
        Ok(key)
    }

    /// The key that 64 bytes are, in the order in which scrypt gives them.
    pub(crate) fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// The key as JSON.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let text = |bytes: &[u8]| Base64::encode_string(bytes);
        let mac = MacDocument { k: text(&self.mac_k), r: text(&self.mac_r) };
        let document = KeyDocument { mac, encrypt: text(&self.encrypt) };
        serde_json::to_vec(&document).map_err(|error| Error::io("a key", error.into()))
    }

    /// Reads a key from JSON.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::Corrupt, format!("master key: {what}"));
        let document: KeyDocument = serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?;
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        let fields = [
            (&document.encrypt, &mut key.encrypt[..]),
            (&document.mac.k, &mut key.mac_k[..]),
            (&document.mac.r, &mut key.mac_r[..]),
        ];
        for (text, field) in fields {
            let bytes = Base64::decode_vec(text).map_err(|_| wrong("a field is no Base64"))?;
            if bytes.len() != field.len() {
                return Err(wrong(&format!("a field of {} bytes, must have {}", bytes.len(), field.len())));
            }
            field.copy_from_slice(&bytes);
        }
        Ok(key)
    }

    /// Encrypts `plain` behind what `out` holds already.
    pub(crate) fn seal_into(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let mut vector = [0; VECTOR];
        random(&mut vector)?;
        out.reserve(plain.len() + OVERHEAD);
        out.extend_from_slice(&vector);
        out.extend_from_slice(plain);
        let body = start + VECTOR;
        self.cipher(&vector).apply_keystream(&mut out[body..]);
        let code = self.code(&vector, &out[body..]);
        out.extend_from_slice(&code);
        Ok(())
    }

    /// Encrypts `plain`.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        self.seal_into(plain, &mut out)?;
        Ok(out)
    }

    /// Decrypts what [`seal`](Self::seal) made. `None` when it was changed, or is of another key.
    pub(crate) fn open(&self, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let length = sealed.len().checked_sub(OVERHEAD)?;
        let (vector, rest) = sealed.split_first_chunk_mut::<VECTOR>()?;
        let (body, code) = rest.split_at_mut(length);
        let expected = self.code(vector, body);
        // Without an early exit: how many bytes are right is not to be seen from the time it takes.
        let difference = expected.iter().zip(code.iter()).fold(0, |all, (one, other)| all | (one ^ other));
        if difference != 0 {
            return None;
        }
        self.cipher(vector).apply_keystream(body);
        sealed.copy_within(VECTOR..VECTOR + length, 0);
        sealed.truncate(length);
        Some(sealed)
    }

    fn cipher(&self, vector: &[u8; VECTOR]) -> Ctr128BE<Aes256> {
        Ctr128BE::new((&self.encrypt).into(), vector.into())
    }

    fn code(&self, vector: &[u8; VECTOR], ciphertext: &[u8]) -> [u8; CODE] {
        let mut nonce = (*vector).into();
        Aes128::new((&self.mac_k).into()).encrypt_block(&mut nonce);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&nonce);
        let mut mac = Poly1305::new((&key).into());
        let (blocks, rest) = poly1305::Block::slice_as_chunks(ciphertext);
        mac.update(blocks);
        mac.compute_unpadded(rest).into()
    }
}

#[cfg(test)]
mod tests {
    use super::CryptoKey;

    #[test]
    fn what_is_sealed_is_opened_and_nothing_else_is() {
        let key = CryptoKey::generate().unwrap();
        for length in [0, 1, 15, 16, 17, 31, 32, 1000] {
            let plain: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let sealed = key.seal(&plain).unwrap();
            assert_ne!(sealed, key.seal(&plain).unwrap(), "a vector is used once");
            assert_eq!(key.open(sealed.clone()).unwrap(), plain);
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 0x10;
                assert_eq!(key.open(changed), None, "byte {at} of {length}");
            }
            assert_eq!(key.open(sealed[1..].to_vec()), None);
        }
        assert_eq!(CryptoKey::from_json(&key.to_json().unwrap()).unwrap(), key);
    }
}
