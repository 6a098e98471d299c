//! Positioned I/O as operating systems offer it, short counts and interruptions included, and the loops that turn it
//! into "all or an error".
//!
//! These two loops are the only ones of their kind: [`crate::FileBlock`] runs them over a [`File`], tests over a file
//! that answers as shortly as it may.

use std::fs::File;
use std::io;

/// Raw positioned I/O: one system call, which may move fewer bytes than asked for.
pub trait PositionedIo {
    /// Reads at most `buf.len()` bytes at `offset` and returns how many; 0 only at the end of the file or for an empty
    /// `buf`.
    ///
    /// # Errors
    /// What the operating system answers, `Interrupted` included.
    fn read_some_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most `buf.len()` bytes at `offset` and returns how many.
    ///
    /// # Errors
    /// What the operating system answers, `Interrupted` included.
    fn write_some_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
}

/// Fills all of `buf` with the bytes at `offset`.
///
/// # Errors
/// `UnexpectedEof` when the file ends before; what `io` answers, but for `Interrupted`, which is tried again.
pub fn read_full_at(io: &(impl PositionedIo + ?Sized), buf: &mut [u8], offset: u64) -> io::Result<()> {
    let length = buf.len();
    transfer(length, offset, io::ErrorKind::UnexpectedEof, |done, at| io.read_some_at(&mut buf[done..], at))
}

/// Writes all of `buf` at `offset`.
///
/// # Errors
/// `WriteZero` when the file takes no more; what `io` answers, but for `Interrupted`, which is tried again.
pub fn write_full_at(io: &(impl PositionedIo + ?Sized), buf: &[u8], offset: u64) -> io::Result<()> {
    transfer(buf.len(), offset, io::ErrorKind::WriteZero, |done, at| io.write_some_at(&buf[done..], at))
}

/// Repeats `step`, which is told how many bytes are done and at which offset to go on, until `length` bytes are moved.
fn transfer(
    length: usize,
    offset: u64,
    at_end: io::ErrorKind,
    mut step: impl FnMut(usize, u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset.checked_add(done as u64).ok_or(io::ErrorKind::InvalidInput)?;
        match step(done, at) {
            Ok(0) => {
                return Err(io::Error::new(
                    at_end,
                    format!("the file ends at offset {at}, {} bytes early", length - done),
                ));
            }
            Ok(count) if count <= length - done => done += count,
            Ok(count) => {
                return Err(io::Error::other(format!("{count} bytes moved where {} were asked for", length - done)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
impl PositionedIo for File {
    fn read_some_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }

    fn write_some_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, buf, offset)
    }
}

// Windows moves the cursor of the file with every call. Nothing here uses the cursor, so calls need no lock.
#[cfg(windows)]
impl PositionedIo for File {
    fn read_some_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match std::os::windows::fs::FileExt::seek_read(self, buf, offset) {
            // ERROR_HANDLE_EOF, which other systems answer with a count of 0.
            Err(error) if error.raw_os_error() == Some(38) => Ok(0),
            answer => answer,
        }
    }

    fn write_some_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, buf, offset)
    }
}
