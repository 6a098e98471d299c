//! The configuration of a repository.

use serde::{Deserialize, Serialize};
use transload_block::{Error, ErrorKind, Result};

use super::crypto::{CryptoKey, random};
use super::id::Id;
use super::polynomial;

/// What is the same for all of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// 1, or 2 with compression.
    pub(crate) version: u32,
    /// What tells the repository from others.
    pub(crate) id: Id,
    /// By which files are cut into chunks.
    pub(crate) polynomial: u64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    id: Id,
    chunker_polynomial: String,
}

impl Config {
    /// The configuration of a new repository, of version 2.
    pub(crate) fn generate() -> Result<Self> {
        let mut id = [0; 32];
        random(&mut id)?;
        Ok(Self { version: 2, id: Id(id), polynomial: polynomial::generate()? })
    }

    /// The file `config`.
    pub(crate) fn seal(&self, key: &CryptoKey) -> Result<Vec<u8>> {
        let chunker_polynomial = format!("{:x}", self.polynomial);
        let document = Document { version: self.version, id: self.id, chunker_polynomial };
        key.seal(&serde_json::to_vec(&document).map_err(|error| Error::io("config", error.into()))?)
    }

    /// Reads the file `config`.
    pub(crate) fn open(file: Vec<u8>, key: &CryptoKey) -> Result<Self> {
        let corrupt = |what: String| Error::new(ErrorKind::Corrupt, format!("config: {what}"));
        let json = key.open(file).ok_or_else(|| corrupt("the authentication code is wrong".to_owned()))?;
        let document: Document = serde_json::from_slice(&json).map_err(|error| corrupt(error.to_string()))?;
        if !matches!(document.version, 1 | 2) {
            let text = format!("config: version {} of the repository format", document.version);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let text = &document.chunker_polynomial;
        let polynomial = u64::from_str_radix(text, 16).ok().filter(|found| polynomial::is_usable(*found));
        let polynomial = polynomial
            .ok_or_else(|| corrupt(format!("\"{}\" is no irreducible polynomial of degree 53", text.escape_debug())))?;
        Ok(Self { version: document.version, id: document.id, polynomial })
    }
}
