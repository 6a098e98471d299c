//! The digest that a source must have, computed as its bytes go by.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use transload_block::{Error, ErrorKind, Result};

/// Which function a [`Checksum`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChecksumKind {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1: against accidents alone.
    Sha1,
    /// MD5: against accidents alone.
    Md5,
    /// BLAKE3 with 32 bytes.
    Blake3,
}

impl ChecksumKind {
    const ALL: [Self; 5] = [Self::Sha256, Self::Sha512, Self::Sha1, Self::Md5, Self::Blake3];

    /// The name, as it stands in front of the digest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha1 => "sha1",
            Self::Md5 => "md5",
            Self::Blake3 => "blake3",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 64,
            Self::Sha512 => 128,
            Self::Sha1 => 40,
            Self::Md5 => 32,
        }
    }
}

/// The digest that a source must have, written as `sha256:HEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    kind: ChecksumKind,
    hex: String,
}

impl FromStr for Checksum {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names: Vec<_> = ChecksumKind::ALL.iter().map(|kind| kind.name()).collect();
        let wrong = |why: String| Error::new(ErrorKind::InvalidInput, format!("checksum '{text}': {why}"));
        let (name, hex) =
            text.split_once(':').ok_or_else(|| wrong("must be ALGORITHM:HEX, as in sha256:…".to_owned()))?;
        let kind = ChecksumKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name.trim()));
        let kind = kind.ok_or_else(|| wrong(format!("the algorithm must be one of {}", names.join(", "))))?;
        let hex = hex.trim().to_ascii_lowercase();
        if hex.len() != kind.digits() || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong(format!("{} has {} hexadecimal digits", kind.name(), kind.digits())));
        }
        Ok(Self { kind, hex })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.hex)
    }
}

impl Checksum {
    /// Which function it is of.
    #[must_use]
    pub const fn kind(&self) -> ChecksumKind {
        self.kind
    }

    /// Begins to compute the digest of some bytes.
    #[must_use]
    pub fn digest(&self) -> ChecksumDigest {
        let hasher = match self.kind {
            ChecksumKind::Sha256 => Hasher::Sha256(Sha256::new()),
            ChecksumKind::Sha512 => Hasher::Sha512(Sha512::new()),
            ChecksumKind::Sha1 => Hasher::Sha1(Sha1::new()),
            ChecksumKind::Md5 => Hasher::Md5(Md5::new()),
            ChecksumKind::Blake3 => Hasher::Blake3(Box::new(blake3::Hasher::new())),
        };
        ChecksumDigest { hasher, expected: self.clone() }
    }
}

/// A digest under way, and what it must be in the end.
pub struct ChecksumDigest {
    hasher: Hasher,
    expected: Checksum,
}

impl fmt::Debug for ChecksumDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChecksumDigest").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl ChecksumDigest {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Makes sure that the bytes, which messages call `name`, were those that were expected.
    ///
    /// # Errors
    /// `Checksum` when they were not.
    pub fn verify(self, name: &str) -> Result<()> {
        let (found, expected) = (self.hasher.finish(), self.expected);
        if found == expected.hex {
            return Ok(());
        }
        let text = format!("{name}: is {}:{found}, must be {expected}", expected.kind.name());
        Err(Error::new(ErrorKind::Checksum, text)
            .with_remedy("get it again, and the checksum from whoever published it"))
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
    Sha1(Sha1),
    Md5(Md5),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
            Self::Sha1(hasher) => hex(&hasher.finalize()),
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Blake3(hasher) => hasher.finalize().to_hex().to_string(),
        }
    }
}

/// Bytes that are hashed as they are read, and whose end is an error when they are not those that were expected.
///
/// A reader that stops before the end, since its format has one of its own, asks [`verify`](Self::verify) in the end.
#[derive(Clone)]
pub struct Checksummed(Arc<Mutex<Inner>>);

struct Inner {
    input: Box<dyn Read + Send>,
    name: String,
    digest: Option<ChecksumDigest>,
}

impl fmt::Debug for Checksummed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checksummed").finish_non_exhaustive()
    }
}

impl Checksummed {
    /// Bytes of `input`, which messages call `name`.
    #[must_use]
    pub fn new(input: Box<dyn Read + Send>, name: &str, expected: &Checksum) -> Self {
        let inner = Inner { input, name: name.to_owned(), digest: Some(expected.digest()) };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Reads what is left, and answers whether all of it is what was expected.
    ///
    /// # Errors
    /// `Checksum` when it is not; what reading answers.
    pub fn verify(&self) -> Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = match error.downcast::<Error>() {
                        Ok(own) => own,
                        Err(error) => Error::io(inner.name.clone(), error),
                    };
                    return Err(error);
                }
            }
        }
    }
}

impl Inner {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buf)?;
        if let Some(digest) = &mut self.digest {
            digest.update(&buf[..length]);
        }
        if length == 0
            && !buf.is_empty()
            && let Some(digest) = self.digest.take()
        {
            digest.verify(&self.name).map_err(io::Error::other)?;
        }
        Ok(length)
    }
}

impl Read for Checksummed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buf)
    }
}
