//! How a call ends: a number, and a sentence for who asks.

use std::cell::RefCell;
use std::error::Error as _;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::panic::{self, AssertUnwindSafe};

use rustix::io::Errno;
use transload_block::{Error, ErrorKind, Result};

thread_local! {
    /// Why the last call on this thread failed.
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Does `work` and answers 0, or the negative number of its error, whose sentence is kept for this thread. A panic is an error as well:
/// to unwind into a program in C would be undefined.
pub(crate) fn answer(work: impl FnOnce() -> Result<()>) -> c_int {
    let outcome = panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "a fault in the library")));
    let (number, sentence) = match outcome {
        Ok(()) => (0, String::new()),
        Err(error) => (-number_of(&error), sentence(&error)),
    };
    MESSAGE.with_borrow_mut(|message| {
        // A zero byte inside cannot be said in C.
        *message = CString::new(sentence.replace('\0', "?")).unwrap_or_default();
    });
    number
}

/// The sentence of the last call on this thread.
pub(crate) fn message() -> *const c_char {
    MESSAGE.with_borrow(|message| message.as_ptr())
}

pub(crate) fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

/// What went wrong and its causes, once each.
fn sentence(error: &Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !sentence.ends_with(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = inner.source();
    }
    if let Some(remedy) = error.remedy() {
        sentence = format!("{sentence} ({remedy})");
    }
    sentence
}

/// The number that says most of `error`: that of the operating system where it came from there.
fn number_of(error: &Error) -> c_int {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(number) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return number;
        }
        cause = inner.source();
    }
    let number = match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Checksum => Errno::UCLEAN,
        ErrorKind::Unsupported | ErrorKind::NotThisFormat => Errno::OPNOTSUPP,
        ErrorKind::OutOfRange | ErrorKind::InvalidInput => Errno::INVAL,
        ErrorKind::ReadOnly => Errno::ROFS,
        ErrorKind::Denied => Errno::ACCESS,
        ErrorKind::TooLarge => Errno::FBIG,
        ErrorKind::NoSpace => Errno::NOSPC,
        _ => Errno::IO,
    };
    number.raw_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the message is a pointer for C")]
    fn numbers_and_sentences() {
        let said = || {
            // SAFETY: the message of this thread, which no call changes meanwhile.
            unsafe { std::ffi::CStr::from_ptr(message()) }.to_str().unwrap().to_owned()
        };
        assert_eq!(answer(|| Err(Error::new(ErrorKind::Corrupt, "a\0b"))), -117);
        assert!(said().contains("a?b"), "{}", said());
        assert_eq!(answer(|| Err(Error::io("x", io::Error::from_raw_os_error(13)))), -13);
        assert_eq!(answer(|| Ok(())), 0);
        assert_eq!(said(), "");
        let fault = || -> Result<()> { panic::resume_unwind(Box::new("a fault")) };
        assert_eq!(answer(fault), -5);
        assert!(said().contains("fault"), "{}", said());
    }
}
