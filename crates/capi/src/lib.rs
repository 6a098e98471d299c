//! Disks of any format for programs in C: `include/transload.h`, made from this file.
//!
//! ```text
//! blk_open / blk_create ──► blk_info, blk_map ──► blk_read, blk_write, blk_zero, blk_flush ──► blk_close
//!                     any of them fails ──► a negative errno, and blk_error() says why
//! ```
//!
//! A disk is used by any number of threads at once; only `blk_close` is the last call. No panic leaves the library: it is `-EIO`. The
//! pointers of callers are the one thing that is believed, as in every C library; what they point to is checked.
//!
//! Signatures and their documentation stand here, pointers are turned into references here; what is done is in `disk`.

#![expect(unsafe_code, reason = "a C interface is made of pointers")]

mod call;
mod disk;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::slice;

use transload_block::{Error, ErrorKind, Result};

use call::{answer, invalid};
pub use disk::Disk;

/// Bytes of a sector, for the functions that count in sectors.
pub const BLK_SECTOR_SIZE: u32 = 512;

/// `blk_open`: for reading alone.
pub const BLK_READ_ONLY: u32 = 0;
/// `blk_open`: for reading and writing.
pub const BLK_READ_WRITE: u32 = 1;
/// `blk_open`: open no file that the image names. Without it, files in the image's own folder are.
pub const BLK_NO_REFERENCES: u32 = 2;

/// `blk_map`: bytes that have to be read to be known.
pub const BLK_DATA: c_int = 0;
/// `blk_map`: reads as zeroes.
pub const BLK_ZERO: c_int = 1;

/// What a disk is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Bytes.
    pub size: u64,
    /// Whole sectors of 512 bytes.
    pub sectors: u64,
    /// The request that costs least per byte, in bytes.
    pub preferred: u32,
    /// The unit in which the image allocates, in bytes: cluster, grain, block.
    pub granularity: u32,
    /// Images in the chain: 1, and one for each backing file or parent.
    pub layers: u32,
    /// 1 where it can be written, else 0.
    pub writable: u32,
    /// The format's name, such as "qcow2", with a zero byte at its end.
    pub format: [c_char; 32],
}

/// Opens the image at `path`, with everything it hangs from. `format` is its name, or NULL to find it out from the bytes; say "raw"
/// for a raw disk that a stranger could have written to, or it may be taken for another format. `flags` are BLK_READ_ONLY
/// or BLK_READ_WRITE, and BLK_NO_REFERENCES.
///
/// Puts the disk into `disk` and answers 0, or a negative errno: -ENOENT, -EACCES, -EUCLEAN for a corrupt image, -EOPNOTSUPP for one that
/// needs what is not supported, and so on.
///
/// # Safety
/// `path` and `format` are strings with a zero byte at their end, `disk` a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_open(
    path: *const c_char,
    format: *const c_char,
    flags: u32,
    disk: *mut *mut Disk,
) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let path = unsafe { text(path) }?.ok_or_else(|| invalid("the path is NULL"))?;
        // SAFETY: by the contract of this function.
        let format = unsafe { text(format) }?;
        // SAFETY: by the contract of this function; NULL is no reference.
        let place = unsafe { disk.as_mut() }.ok_or_else(|| invalid("the place for the disk is NULL"))?;
        *place = std::ptr::null_mut();
        *place = Box::into_raw(Box::new(Disk::open(path, format, flags)?));
        Ok(())
    })
}

/// Makes a new image of `size` bytes at `path`, which must not exist. `options` are those of the format, "NAME=VALUE,…", or NULL. The image
/// is there when it is whole; it is then opened with `blk_open`.
///
/// Answers 0 or a negative errno: -EEXIST where there is something at `path`.
///
/// # Safety
/// `path`, `format` and `options` are strings with a zero byte at their end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_create(
    path: *const c_char,
    format: *const c_char,
    size: u64,
    options: *const c_char,
) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let path = unsafe { text(path) }?.ok_or_else(|| invalid("the path is NULL"))?;
        // SAFETY: by the contract of this function.
        let format = unsafe { text(format) }?.ok_or_else(|| invalid("the format is NULL"))?;
        // SAFETY: by the contract of this function.
        let options = unsafe { text(options) }?;
        disk::create(path, format, size, options.unwrap_or_default())
    })
}

/// Puts what the disk is into `info`. Answers 0 or a negative errno.
///
/// # Safety
/// `disk` is from `blk_open` and not closed, `info` a place for the structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_info(disk: *const Disk, info: *mut Info) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        // SAFETY: by the contract of this function; the place may hold anything, as it is written and not read.
        let place = unsafe { info.as_mut() }.ok_or_else(|| invalid("the place for the information is NULL"))?;
        *place = disk.info();
        Ok(())
    })
}

/// Says what stands at `offset`: BLK_DATA or BLK_ZERO in `status`, and in `extent` for how many of the `length` bytes from there on that is so, at
/// least 1. No payload is read. Answers 0 or a negative errno.
///
/// # Safety
/// `disk` is from `blk_open` and not closed, `status` and `extent` are places for their answers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_map(
    disk: *const Disk,
    offset: u64,
    length: u64,
    status: *mut c_int,
    extent: *mut u64,
) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        // SAFETY: by the contract of this function.
        let status = unsafe { status.as_mut() }.ok_or_else(|| invalid("the place for the status is NULL"))?;
        // SAFETY: by the contract of this function.
        let extent = unsafe { extent.as_mut() }.ok_or_else(|| invalid("the place for the extent is NULL"))?;
        let (zero, bytes) = disk.map(offset, length)?;
        *status = if zero { BLK_ZERO } else { BLK_DATA };
        *extent = bytes;
        Ok(())
    })
}

/// Reads `length` bytes at `offset` into `buffer`: all of them or an error. Answers 0 or a negative errno: -EINVAL behind the end of the disk.
///
/// # Safety
/// `disk` is from `blk_open` and not closed, `buffer` has room for `length` bytes, which nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_read(disk: *const Disk, buffer: *mut c_void, length: usize, offset: u64) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        // SAFETY: by the contract of this function.
        let buffer = unsafe { room(buffer, length) }?;
        disk.read(buffer, offset)
    })
}

/// Writes `length` bytes of `buffer` at `offset`: all of them or an error. They survive a crash after `blk_flush`. Answers 0 or a negative
/// errno: -EROFS for a disk that was opened for reading, -ENOSPC where the storage is full.
///
/// # Safety
/// `disk` is from `blk_open` and not closed, `buffer` has `length` bytes, which nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_write(disk: *const Disk, buffer: *const c_void, length: usize, offset: u64) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        // SAFETY: by the contract of this function.
        let buffer = unsafe { bytes(buffer, length) }?;
        disk.write(buffer, offset)
    })
}

/// As `blk_read`, for `count` sectors of 512 bytes from sector `first` on.
///
/// # Safety
/// As `blk_read`, with `count * 512` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_read_sectors(disk: *const Disk, buffer: *mut c_void, first: u64, count: u32) -> c_int {
    answer(|| {
        let (offset, length) = sectors(first, count)?;
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        // SAFETY: by the contract of this function.
        let buffer = unsafe { room(buffer, length) }?;
        disk.read(buffer, offset)
    })
}

/// As `blk_write`, for `count` sectors of 512 bytes from sector `first` on.
///
/// # Safety
/// As `blk_write`, with `count * 512` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_write_sectors(disk: *const Disk, buffer: *const c_void, first: u64, count: u32) -> c_int {
    answer(|| {
        let (offset, length) = sectors(first, count)?;
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        // SAFETY: by the contract of this function.
        let buffer = unsafe { bytes(buffer, length) }?;
        disk.write(buffer, offset)
    })
}

/// Makes `length` bytes at `offset` read as zeroes, without storing them where the image can do without. Answers 0 or a negative errno.
///
/// # Safety
/// `disk` is from `blk_open` and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_zero(disk: *const Disk, offset: u64, length: u64) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        disk.zero(offset, length)
    })
}

/// Makes everything that was written before survive a crash. Answers 0 or a negative errno.
///
/// # Safety
/// `disk` is from `blk_open` and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_flush(disk: *const Disk) -> c_int {
    answer(|| {
        // SAFETY: by the contract of this function.
        let disk = unsafe { open(disk) }?;
        disk.flush()
    })
}

/// Writes what is still in memory, closes the image and frees the disk, also where that fails; NULL is let be. No other call may use the disk at
/// the same time or later. Answers 0 or a negative errno, after which the image is as a crash would leave it.
///
/// # Safety
/// `disk` is NULL, or from `blk_open` and not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blk_close(disk: *mut Disk) -> c_int {
    answer(|| {
        if disk.is_null() {
            return Ok(());
        }
        // SAFETY: by the contract of this function it is from `Box::into_raw` in `blk_open`, and nobody uses it any more.
        let disk = unsafe { Box::from_raw(disk) };
        disk.close()
    })
}

/// Why the last call on this thread failed, as a sentence; an empty one where it did not. Valid until the next call on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn blk_error() -> *const c_char {
    call::message()
}

/// The version of the library.
#[unsafe(no_mangle)]
pub extern "C" fn blk_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

fn sectors(first: u64, count: u32) -> Result<(u64, usize)> {
    let size = u64::from(BLK_SECTOR_SIZE);
    let offset = first.checked_mul(size);
    let length = usize::try_from(u64::from(count) * size).ok();
    offset.zip(length).ok_or_else(|| {
        Error::new(ErrorKind::OutOfRange, format!("{count} sectors from sector {first} on are on no disk"))
    })
}

/// # Safety
/// `disk` is NULL, or lives for as long as the answer is used.
unsafe fn open<'a>(disk: *const Disk) -> Result<&'a Disk> {
    // SAFETY: by the contract of this function.
    unsafe { disk.as_ref() }.ok_or_else(|| invalid("the disk is NULL"))
}

/// # Safety
/// `text` is NULL, or a string with a zero byte at its end that lives for as long as the answer is used.
unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a CStr>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: by the contract of this function.
    Ok(Some(unsafe { CStr::from_ptr(text) }))
}

/// # Safety
/// `buffer` is NULL, or has room for `length` bytes that nobody else uses for as long as the answer is used.
unsafe fn room<'a>(buffer: *mut c_void, length: usize) -> Result<&'a mut [u8]> {
    check_buffer(buffer, length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: by the contract of this function; the length was checked. It is written before it is read.
    Ok(unsafe { slice::from_raw_parts_mut(buffer.cast(), length) })
}

/// # Safety
/// `buffer` is NULL, or has `length` bytes that nobody changes for as long as the answer is used.
unsafe fn bytes<'a>(buffer: *const c_void, length: usize) -> Result<&'a [u8]> {
    check_buffer(buffer, length)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: by the contract of this function; the length was checked.
    Ok(unsafe { slice::from_raw_parts(buffer.cast(), length) })
}

fn check_buffer(buffer: *const c_void, length: usize) -> Result<()> {
    if length > 0 && buffer.is_null() {
        return Err(invalid("the buffer is NULL"));
    }
    if isize::try_from(length).is_err() {
        return Err(invalid("the buffer is larger than memory"));
    }
    Ok(())
}
