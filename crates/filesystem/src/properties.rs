//! What has to hold for every device, whatever its bytes: the properties that fuzz targets and tests call alike.

use std::sync::Arc;

use transload_block::{BlockRead, BlockWrite, ErrorKind, Memory, Property, Result};

use crate::contract::{FileKind, FileSystem, FileSystemExt, Timestamp};
use crate::make::{ExtVersion, FatBits, MakeKind, MakeSettings, make};
use crate::write::Attributes;

/// Every property, by the name of its fuzz target.
pub const ALL: &[Property] = &[Property { name: "filesystem", holds: any_bytes, seeds }];

/// Bytes that are read of one file, and files of one filesystem: a lie about lengths is no work.
const MOST_BYTES: u64 = 1 << 20;
const MOST_FILES: usize = 2000;
const PIECE: usize = 64 << 10;

/// Reads everything of a filesystem, as far as it can be read; answers the kinds of errors that were met.
pub fn read_all(filesystem: &dyn FileSystem) -> Vec<ErrorKind> {
    let mut kinds = Vec::new();
    let mut buffer = vec![0; PIECE];
    for visit in filesystem.walk(filesystem.root()).take(MOST_FILES) {
        let visit = match visit {
            Ok(visit) => visit,
            Err(error) => {
                kinds.push(error.kind());
                continue;
            }
        };
        kinds.extend(filesystem.xattrs(visit.id).err().map(|error| error.kind()));
        kinds.extend(filesystem.streams(visit.id).err().map(|error| error.kind()));
        if visit.metadata.kind == FileKind::Symlink {
            kinds.extend(filesystem.read_link(visit.id).err().map(|error| error.kind()));
        }
        if visit.metadata.kind != FileKind::Regular {
            continue;
        }
        match filesystem.open(visit.id) {
            Ok(file) => kinds.extend(read_file(&*file, &mut buffer)),
            Err(error) => kinds.push(error.kind()),
        }
    }
    kinds
}

fn read_file(file: &dyn BlockRead, buffer: &mut [u8]) -> Option<ErrorKind> {
    let mut at = 0;
    while at < file.size().min(MOST_BYTES) {
        let count = usize::try_from(file.size() - at).unwrap_or(usize::MAX).min(buffer.len());
        if let Err(error) = file.read_at(&mut buffer[..count], at) {
            return Some(error.kind());
        }
        at += count as u64;
    }
    None
}

/// Any bytes are a filesystem that is read, or an error that says what is wrong with them: never one of the device, never a
/// panic.
///
/// # Panics
/// When the property does not hold.
pub fn any_bytes(bytes: &[u8]) {
    let device: Arc<dyn BlockRead> = Arc::new(Memory::from(bytes.to_vec()));
    assert_told(&device);
}

/// As [`any_bytes`], for a device that is there already.
///
/// # Panics
/// When the property does not hold.
pub fn assert_told(device: &Arc<dyn BlockRead>) {
    let kinds = match crate::open(Arc::clone(device)) {
        Ok(filesystem) => read_all(&*filesystem),
        Err(error) => vec![error.kind()],
    };
    let told = |kind: &ErrorKind| !matches!(kind, ErrorKind::Io | ErrorKind::OutOfRange | ErrorKind::InvalidInput);
    assert!(kinds.iter().all(told), "errors that say nothing of the filesystem: {kinds:?}");
}

/// Small filesystems with a little in them.
fn seeds() -> Vec<Vec<u8>> {
    let kinds = [
        (MakeKind::Fat(Some(FatBits::Twelve)), 64 << 10),
        (MakeKind::Ext(ExtVersion::Ext2), 192 << 10),
        (MakeKind::Ext(ExtVersion::Ext4), 192 << 10),
    ];
    kinds.into_iter().filter_map(|(kind, size)| seed(kind, size).ok()).collect()
}

fn seed(kind: MakeKind, size: usize) -> Result<Vec<u8>> {
    let disk = Arc::new(Memory::new(size));
    let device: Arc<dyn BlockWrite> = Arc::clone(&disk) as Arc<dyn BlockWrite>;
    let now = Timestamp { seconds: 315_532_800, nanos: 0 };
    make(&device, kind, &MakeSettings { label: "SEED".into(), uuid: [7; 16], now, hidden_sectors: 0 })?;
    let filesystem = crate::open_writable(device, now)?;
    let folder = filesystem.create_dir(filesystem.root(), b"folder", &Attributes::default())?;
    let contents = Memory::from(vec![1; 3000]);
    filesystem.create_file(folder, b"a long name.text", &contents, &Attributes::default())?;
    filesystem.flush()?;
    Ok(disk.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_is_no_folder_is_corrupt() {
        let mut bytes = seed(MakeKind::Ext(ExtVersion::Ext2), 192 << 10).unwrap();
        let is_root = |at: &usize| bytes[*at..*at + 2] == 0o040_755_u16.to_le_bytes();
        let mode = (2048..bytes.len() - 1).find(is_root).expect("the root's inode is in the image");
        bytes[mode..mode + 2].copy_from_slice(&0o100_755_u16.to_le_bytes());
        let error = crate::open(Arc::new(Memory::from(bytes.clone()))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        any_bytes(&bytes);
    }

    #[test]
    fn seeds_are_filesystems_and_the_property_holds_for_them() {
        let seeds = seeds();
        assert_eq!(seeds.len(), 3);
        for seed in &seeds {
            let filesystem = crate::open(Arc::new(Memory::from(seed.clone()))).unwrap();
            assert!(read_all(&*filesystem).is_empty());
            any_bytes(seed);
            any_bytes(&seed[..seed.len() / 2]);
        }
        any_bytes(&[]);
    }
}
