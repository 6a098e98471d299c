//! Errors as numbers of the operating system.

use std::error::Error as StdError;
use std::io;

use fuser::Errno;
use rustix::io::Errno as Number;
use transload_block::{Error, ErrorKind};

/// Why a call is refused: the number that the caller gets, and the error behind it where there is one to tell of.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) number: Errno,
    pub(crate) error: Option<Error>,
}

impl Refusal {
    pub(crate) const READ_ONLY: Self = Self::of(Errno::EROFS);
    pub(crate) const NO_SPACE: Self = Self::of(Errno::ENOSPC);
    pub(crate) const INVALID: Self = Self::of(Errno::EINVAL);
    pub(crate) const UNSUPPORTED: Self = Self::of(Errno::EOPNOTSUPP);
    pub(crate) const MISSING: Self = Self::of(Errno::ENOENT);

    pub(crate) const fn of(number: Errno) -> Self {
        Self { number, error: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { number: number_of(&error), error: Some(error) }
    }
}

/// The number that says most of `error`: that of the operating system where it came from there.
pub(crate) fn number_of(error: &Error) -> Errno {
    let mut cause = StdError::source(error);
    while let Some(inner) = cause {
        if let Some(number) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Errno::from_i32(number);
        }
        cause = inner.source();
    }
    match error.kind() {
        // "Structure needs cleaning": what the kernel's own filesystems answer.
        ErrorKind::Corrupt | ErrorKind::Checksum => Errno::from_i32(Number::UCLEAN.raw_os_error()),
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::OutOfRange | ErrorKind::InvalidInput => Errno::EINVAL,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::Denied => Errno::EACCES,
        ErrorKind::TooLarge => Errno::EFBIG,
        ErrorKind::NoSpace => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_number_comes_first() {
        let full = io::Error::from_raw_os_error(Errno::ENOSPC.code());
        assert_eq!(number_of(&Error::io("x", full)).code(), Errno::ENOSPC.code());
        for (kind, number) in [
            (ErrorKind::Corrupt, Errno::from_i32(117)),
            (ErrorKind::Network, Errno::EIO),
            (ErrorKind::Unsupported, Errno::EOPNOTSUPP),
        ] {
            assert_eq!(number_of(&Error::new(kind, "x")).code(), number.code());
        }
    }
}
