//! Makes a new raw disk.

use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};

use super::disk::RawDisk;
use crate::preallocation::{Preallocation, write_zeroes};
use crate::{CreateRequest, ImageWrite, TargetFiles};

/// A place for a raw disk of known size.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) storage: Arc<dyn Storage>,
    /// Whether what is not written reads as zeroes; otherwise as what was there before.
    pub(super) zeroed: bool,
}

impl Target {
    /// Makes the primary file `size` bytes long, or makes sure that the block device has room for them.
    ///
    /// # Errors
    /// `NoSpace` when a device or its filesystem is too small; `Unsupported` when room cannot be set aside.
    pub(super) fn prepare(files: &dyn TargetFiles, size: u64, preallocation: Preallocation) -> Result<Self> {
        let storage = files.primary()?;
        // Files begin empty; what has a size already is a block device and keeps it.
        let device = storage.size();
        if device == 0 {
            storage.set_size(size)?;
        } else if device < size {
            let what = format!("{}: the disk has {size} bytes, the block device {device}", files.name());
            return Err(Error::new(ErrorKind::NoSpace, what));
        }
        let is_file = device == 0;
        if is_file {
            preallocation.set_aside(storage.as_ref(), size)?;
        } else if preallocation == Preallocation::Full {
            write_zeroes(storage.as_ref(), size)?;
        }
        Ok(Self { storage, zeroed: is_file || preallocation == Preallocation::Full })
    }
}

/// Makes a disk for random writing. On a block device, what the caller does not write keeps what was there before, unless
/// it was written with zeroes on request: the caller zeroes what it skips.
pub(super) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let target = Target::prepare(request.files, request.size, Preallocation::of(request.options))?;
    Ok(Arc::new(RawDisk::new(target.storage, request.size)))
}
