//! Documents that are files of their own: indexes, snapshots, locks. JSON, compressed in version 2, encrypted.

use serde::Serialize;
use serde::de::DeserializeOwned;
use transload_block::{Error, ErrorKind, Result};

use super::crypto::CryptoKey;

/// What a compressed document begins with; one that is not compressed begins with a bracket.
const COMPRESSED: u8 = 2;
/// The most bytes of a document: an index of restic has 50,000 blobs of 200 bytes.
const LONGEST: usize = 256 << 20;
const LEVEL: i32 = 9;

/// Makes the bytes of a document.
pub(crate) fn seal(document: &impl Serialize, version: u32, key: &CryptoKey) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(document).map_err(|error| Error::io("a document", error.into()))?;
    if version < 2 {
        return key.seal(&json);
    }
    let packed = zstd::bulk::compress(&json, LEVEL).map_err(|error| Error::io("zstd", error))?;
    key.seal(&[&[COMPRESSED], packed.as_slice()].concat())
}

/// Reads the bytes of a document.
///
/// # Errors
/// `Corrupt` when the authentication code is wrong, or what it proves is no such document.
pub(crate) fn open<T: DeserializeOwned>(sealed: Vec<u8>, key: &CryptoKey) -> Result<T> {
    let corrupt = |what: String| Error::new(ErrorKind::Corrupt, what);
    let plain = key.open(sealed).ok_or_else(|| corrupt("the authentication code is wrong".to_owned()))?;
    let json = match plain.first() {
        Some(&COMPRESSED) => unpack(&plain[1..], LONGEST)?,
        Some(b'{' | b'[') => plain,
        Some(other) => return Err(Error::new(ErrorKind::Unsupported, format!("a document of kind {other}"))),
        None => return Err(corrupt("an empty document".to_owned())),
    };
    serde_json::from_slice(&json).map_err(|error| corrupt(error.to_string()))
}

/// Unpacks a zstd frame into at most `longest` bytes.
fn unpack(packed: &[u8], longest: usize) -> Result<Vec<u8>> {
    use std::io::Read;
    let corrupt = |error: std::io::Error| Error::new(ErrorKind::Corrupt, format!("zstd: {error}"));
    let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(corrupt)?;
    let mut plain = Vec::new();
    decoder.take(longest as u64 + 1).read_to_end(&mut plain).map_err(corrupt)?;
    if plain.len() > longest {
        return Err(Error::new(ErrorKind::TooLarge, format!("a document of more than {longest} bytes")));
    }
    Ok(plain)
}
