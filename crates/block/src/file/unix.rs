//! What Unix systems offer for files: identity, holes, zeroing, allocation. Linux offers all of it, others a part.

use std::fs::{File, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::HostFile;

/// Opens `path` without waiting: a FIFO that slips in between the caller's look at the path and this call would
/// otherwise wait for its other end. A block device that is to be written must be in nobody else's use, which `O_EXCL`
/// asks the kernel on Linux.
pub(super) fn open(path: &Path, writable: bool) -> io::Result<File> {
    let mut flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let found = std::fs::metadata(path)?.file_type();
    refuse_odd(found)?;
    if cfg!(target_os = "linux") && writable && found.is_block_device() {
        flags |= rustix::fs::OFlags::EXCL;
    }
    File::options().read(true).write(writable).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Looks at an open file; refuses what is neither a regular file nor a block device.
pub(super) fn describe(file: &File, _path: &Path) -> io::Result<HostFile> {
    let metadata = file.metadata()?;
    refuse_odd(metadata.file_type())?;
    if metadata.file_type().is_block_device() {
        describe_device(file, &metadata)
    } else {
        Ok(describe_regular(&metadata))
    }
}

fn describe_regular(metadata: &Metadata) -> HostFile {
    // Network file systems give their transfer size as block size, although holes are finer than that.
    let block = u32::try_from(metadata.blksize()).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096).min(4096);
    HostFile { size: metadata.len(), is_device: false, identity: (metadata.dev(), metadata.ino()), block }
}

fn describe_device(file: &File, metadata: &Metadata) -> io::Result<HostFile> {
    let size = rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?;
    #[cfg(target_os = "linux")]
    let block = rustix::fs::ioctl_blksszget(file)?;
    #[cfg(not(target_os = "linux"))]
    let block = 512;
    let block = if block.is_power_of_two() { block } else { 512 };
    // The device's own number, since it may have several nodes; no file has inode 0.
    Ok(HostFile { size, is_device: true, identity: (metadata.rdev(), 0), block })
}

fn refuse_odd(file_type: FileType) -> io::Result<()> {
    let name = if file_type.is_file() || file_type.is_block_device() {
        return Ok(());
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_char_device() {
        "a character device"
    } else {
        "neither a regular file nor a block device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, name))
}

/// Where the run that holds `offset` ends, and whether it is data. `None` where the file system does not tell.
///
/// Moves the cursor of the file, which nothing here uses.
#[cfg(any(target_vendor = "apple", target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn run_at(file: &File, offset: u64) -> io::Result<Option<(u64, bool)>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) if data > offset => Ok(Some((data, false))),
        Ok(_) => match seek(file, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => Ok(Some((hole, true))),
            // Somebody punched a hole or cut the file between the two calls.
            Ok(_) | Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        },
        // No data up to the end, which is asked for anew: behind it is no hole but a file that became shorter.
        Err(Errno::NXIO) => {
            let end = file.metadata()?.len();
            Ok(if end > offset { Some((end, false)) } else { None })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_vendor = "apple", target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn run_at(_file: &File, _offset: u64) -> io::Result<Option<(u64, bool)>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a range zero and gives its space back.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
}

/// Makes a range zero and keeps its space, or takes space for it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn zero_range(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length)
}

/// Takes space for a range and leaves its contents.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn allocate(file: &File, offset: u64, length: u64) -> io::Result<()> {
    fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn fallocate(file: &File, mode: rustix::fs::FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
    use rustix::io::Errno;
    loop {
        match rustix::fs::fallocate(file, mode, offset, length) {
            Err(Errno::INTR) => {}
            // What kernels and file systems of several ages say for "I cannot do this".
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) => return Err(io::ErrorKind::Unsupported.into()),
            answer => return answer.map_err(io::Error::from),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use unsupported::{allocate, punch, zero_range};

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod unsupported {
    use std::fs::File;
    use std::io;

    pub(crate) fn punch(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn zero_range(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn allocate(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
