//! What a format is stored in: a device whose end can be moved.

use std::ops::Range;

use crate::{BlockWrite, Result};

/// A file beneath a format: a writable device that its one owner can make longer or shorter.
///
/// `size()` is the current length. Writing never extends it; a format that needs room calls [`set_size`](Self::set_size)
/// first, in steps as large as it likes.
pub trait Storage: BlockWrite {
    /// Moves the end to `size` bytes. New bytes read as zeroes, and what is cut off is gone.
    ///
    /// # Errors
    /// `NoSpace`, `TooLarge`, or what the storage answers; `Unsupported` where the size is fixed (a block device) and
    /// `size` is larger than it.
    fn set_size(&self, size: u64) -> Result<()>;

    /// Sets room aside for `range`, inside the size, so that later writes there cannot run out of space. Contents do not
    /// change.
    ///
    /// # Errors
    /// `NoSpace`, or what the storage answers. `Unsupported` where the storage cannot promise it.
    fn allocate(&self, range: Range<u64>) -> Result<()>;
}
