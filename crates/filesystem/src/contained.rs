//! The wall between us and filesystem crates of others: a panic behind it is an error in front of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use transload_block::Result;

use crate::fields::corrupt;

/// Calls into `name`, a crate that may panic on structures that it did not expect.
///
/// What it was working on may be left half changed by a panic; every call here reads and keeps nothing but caches whose entries
/// are whole.
pub(crate) fn contained<T>(name: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(corrupt(format!("{name} gave up on what it found: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use transload_block::ErrorKind;

    use super::contained;

    #[test]
    fn a_panic_becomes_an_error() {
        let error = contained::<()>("a crate", || panic!("index {}", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("index 7"), "{error}");
        assert_eq!(contained("a crate", || Ok(1)).unwrap(), 1);
    }
}
