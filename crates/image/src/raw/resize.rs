//! Moves the end of a raw disk.

use transload_block::{Error, ErrorKind, Result};

use crate::ResizeRequest;

/// Makes the file as long as the disk shall be. New bytes read as zeroes.
pub(super) fn resize(request: ResizeRequest<'_>) -> Result<()> {
    let ResizeRequest { source, size: wanted, shrink, .. } = request;
    let storage = source.storage()?;
    let (name, now) = (source.display_name(), storage.size());
    if wanted < now && !shrink {
        let what = format!("{name}: shrinking from {now} to {wanted} bytes loses what stands behind the new end");
        return Err(Error::new(ErrorKind::InvalidInput, what).with_remedy("allow it with --shrink"));
    }
    storage.set_size(wanted)?;
    // A block device takes a smaller size without a word and stays as long as it is.
    if storage.size() != wanted {
        let what = format!("{name}: its size of {} bytes is fixed, as that of a block device", storage.size());
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    storage.flush()
}
