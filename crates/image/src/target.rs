//! What a new image is made of, and what it can do.

use std::fmt::Debug;
use std::sync::Arc;

use transload_block::{BlockWrite, Result, Storage};

/// A writable image: a [`BlockWrite`] that has something to do at its end.
pub trait ImageWrite: BlockWrite {
    /// Writes all metadata that is still in memory, trims what was allocated ahead, clears the mark of an image in use,
    /// and flushes. After it the image is whole; writing afterwards is allowed and needs another `finish`.
    ///
    /// An image that is dropped without it is what a crash would leave.
    ///
    /// # Errors
    /// As [`BlockWrite::flush`].
    fn finish(&self) -> Result<()>;
}

/// Makes the files of a new image. Most formats need one; some need a descriptor and extents beside it.
///
/// The names that a format writes into descriptors are final names; where the bytes stand until the whole set appears
/// is the implementation's business.
pub trait TargetFiles: Send + Sync + Debug {
    /// The final name of the primary file, without a folder.
    fn name(&self) -> &str;

    /// The primary file, empty unless it is a block device. Asking twice gives the same file.
    ///
    /// # Errors
    /// What the operating system answers.
    fn primary(&self) -> Result<Arc<dyn Storage>>;

    /// A further file beside the primary one, called `name` (one path component), empty.
    ///
    /// # Errors
    /// `Unsupported` when the target is a single place, such as a block device; `Denied` when the name exists and may not
    /// be replaced; what the operating system answers.
    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>>;
}
