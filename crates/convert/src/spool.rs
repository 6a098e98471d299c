//! Turns what can be read only once into what can be read anywhere, through a temporary file.
//!
//! Nothing does so by itself: a caller asks for it by name, since it costs the room and the time of a whole copy.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use transload_block::{Error, FileBlock, Result, is_all_zero};

use crate::Cancel;

/// Reads `input` to its end into a file in `folder` that has no name, and returns it for reading. The room is free again
/// when the device is dropped. Zeroes become holes.
///
/// # Errors
/// `NoSpace` when the folder's file system is full; `Cancelled`; what reading and the operating system answer.
pub fn spool_to_temp(input: &mut dyn Read, folder: &Path, cancel: &Cancel) -> Result<FileBlock> {
    const STEP: usize = 1 << 20;
    let fail = |error| Error::io(format!("{}: spool file", folder.display()), error);
    let file = unnamed(folder).map_err(fail)?;
    let mut buffer = vec![0; STEP];
    let mut end = 0;
    loop {
        cancel.check()?;
        let got = read_full(input, &mut buffer).map_err(|error| Error::io("input", error))?;
        let piece = &buffer[..got];
        if !is_all_zero(piece) {
            file.write_all_at(piece, end).map_err(fail)?;
        }
        end += got as u64;
        if got < STEP {
            break;
        }
    }
    file.set_len(end).map_err(fail)?;
    FileBlock::from_file(file, Path::new("spooled input"), false)
}

/// A file that is gone as soon as nobody has it open.
fn unnamed(folder: &Path) -> io::Result<File> {
    loop {
        let suffix = RandomState::new().hash_one(std::process::id());
        let path = folder.join(format!(".transload.{suffix:016x}.spool"));
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads until `buffer` is full or the input ends.
fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use transload_block::BlockRead;

    use super::*;

    #[test]
    fn the_spooled_file_has_no_name_and_keeps_holes() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 5 << 20];
        bytes[(4 << 20) + 17] = 1;
        let device = spool_to_temp(&mut &bytes[..], folder.path(), &Cancel::default()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut back = vec![1; bytes.len()];
        assert_eq!(device.size(), bytes.len() as u64);
        device.read_at(&mut back, 0).unwrap();
        assert!(back == bytes);
        let host = device.capabilities().host_extents.unwrap();
        let blocks = host.host_extent(0..1).unwrap().location.unwrap().file.metadata().unwrap().blocks();
        assert!(blocks * 512 < 3 << 20, "{blocks} blocks");
    }

    #[test]
    fn stopping_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(spool_to_temp(&mut io::repeat(1), folder.path(), &cancel).is_err());
    }
}
