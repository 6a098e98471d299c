//! Fields of structures that came from a disk: every access is checked, and a structure that is too short says which.

use transload_block::{Error, ErrorKind, Result};

/// The bytes of one structure, and what it is called in messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

macro_rules! number {
    ($($name:ident $kind:ty, $from:ident;)*) => {
        $(
            pub(crate) fn $name(&self, at: usize) -> Result<$kind> {
                self.array(at).map(<$kind>::$from)
            }
        )*
    };
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    pub(crate) fn bytes(&self, at: usize, length: usize) -> Result<&'a [u8]> {
        at.checked_add(length).and_then(|end| self.bytes.get(at..end)).ok_or_else(|| {
            let held = self.bytes.len();
            corrupt(format!("{}: {length} bytes at offset {at} reach behind its {held} bytes", self.what))
        })
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(at, N)?);
        Ok(array)
    }

    pub(crate) fn u8(&self, at: usize) -> Result<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    number! {
        le16 u16, from_le_bytes;
        le32 u32, from_le_bytes;
        le64 u64, from_le_bytes;
        be16 u16, from_be_bytes;
        be32 u32, from_be_bytes;
        be64 u64, from_be_bytes;
    }

    /// The error that says something of this structure is wrong.
    pub(crate) fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        corrupt(format!("{}: {why}", self.what))
    }
}

pub(crate) fn corrupt(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, text)
}

pub(crate) fn unsupported(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, text)
}

pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

/// A length that memory can have, or the error that says it cannot.
pub(crate) fn in_memory(length: u64, most: u64, what: &str) -> Result<usize> {
    if length > most {
        return Err(Error::new(ErrorKind::TooLarge, format!("{what} has {length} bytes, at most {most} are handled")));
    }
    usize::try_from(length).map_err(|_| Error::new(ErrorKind::TooLarge, format!("{what} has {length} bytes")))
}
