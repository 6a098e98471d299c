//! Makes a new raw disk.

use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};

use super::UNIT;
use super::disk::RawDisk;
use crate::{CreateRequest, ImageWrite, OptionValues, TargetFiles};

/// The option's name, as qemu-img has it.
pub(super) const PREALLOCATION: &str = "preallocation";

/// How much of a new file is made before the first byte is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preallocation {
    /// Its length alone.
    Off,
    /// Its room too.
    Falloc,
    /// Zeroes in all of it.
    Full,
}

impl Preallocation {
    pub(super) fn of(options: &OptionValues) -> Self {
        match options.text(PREALLOCATION) {
            Some("falloc") => Self::Falloc,
            Some("full") => Self::Full,
            _ => Self::Off,
        }
    }
}

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
        if is_file && preallocation != Preallocation::Off && size > 0 {
            match storage.allocate(0..size) {
                // Writing everything sets the room aside as well, though the file may lie less well.
                Err(error) if preallocation == Preallocation::Full && error.kind() == ErrorKind::Unsupported => {}
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    return Err(error.with_remedy("use preallocation=full, which writes zeroes"));
                }
                allocated => allocated?,
            }
        }
        if preallocation == Preallocation::Full {
            write_zeroes(storage.as_ref(), size)?;
        }
        Ok(Self { storage, zeroed: is_file || preallocation == Preallocation::Full })
    }
}

/// Writes zeroes as bytes: a request for zeroes could be met with a hole, and room that was promised would not be there.
fn write_zeroes(storage: &dyn Storage, size: u64) -> Result<()> {
    let zeroes = vec![0; UNIT];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(UNIT).min(UNIT);
        storage.write_at(&zeroes[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

/// Makes a disk for random writing. On a block device, what the caller does not write keeps what was there before, unless
/// it was written with zeroes on request: the caller zeroes what it skips.
pub(super) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let target = Target::prepare(request.files, request.size, Preallocation::of(request.options))?;
    Ok(Arc::new(RawDisk::new(target.storage, request.size)))
}
