//! Compares a folder of the host with one of a filesystem that is read here.

use std::collections::BTreeMap;
use std::fs::{self, Metadata as HostMetadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use transload_block::{BlockRead, BlockReadExt, FileBlock};
use transload_filesystem::{FileId, FileKind, FileSystem, FileSystemExt, Follow, Metadata};

/// What of the metadata has to agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Modes, owners, links, devices.
    pub(crate) unix: bool,
    /// Modification times: to this many nanoseconds, or not at all.
    pub(crate) time: Option<u32>,
    pub(crate) attributes: bool,
}

pub(crate) fn open(image: &Path) -> Arc<dyn FileSystem> {
    let device: Arc<dyn BlockRead> = Arc::new(FileBlock::open(image, false).unwrap());
    transload_filesystem::open(device).unwrap()
}

/// Every name below `host` is in `filesystem` and the other way round, and everything behind the names is the same.
pub(crate) fn assert_same(filesystem: &dyn FileSystem, host: &Path, rules: Rules) {
    let root = filesystem.resolve(b"/", Follow::All).unwrap().id;
    let mut read: BTreeMap<Vec<u8>, (FileId, Metadata)> = BTreeMap::new();
    for visit in filesystem.walk(root) {
        let visit = visit.unwrap();
        // Folders that a filesystem has for itself: ext, and ISO 9660 for those that were too deep.
        if !matches!(visit.path.as_slice(), b"lost+found" | b"rr_moved") {
            read.insert(visit.path, (visit.id, visit.metadata));
        }
    }
    let mut expected = BTreeMap::new();
    collect(host, host, &mut expected);
    expected.remove(b"lost+found".as_slice());
    let only = |one: Vec<&Vec<u8>>, found: &dyn Fn(&[u8]) -> bool| -> Vec<String> {
        one.into_iter().filter(|name| !found(name)).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    let extra = only(read.keys().collect(), &|name| expected.contains_key(name));
    let missing = only(expected.keys().collect(), &|name| read.contains_key(name));
    assert!(extra.is_empty() && missing.is_empty(), "missing: {missing:?}, not on the host: {extra:?}");
    for (path, theirs) in &expected {
        let (id, ours) = &read[path];
        let full = host.join(std::ffi::OsStr::from_bytes(path));
        assert_metadata(ours, theirs, rules, &full);
        match ours.kind {
            FileKind::Regular => {
                let file = filesystem.open(*id).unwrap();
                assert_contents(&*file, &full);
            }
            FileKind::Symlink => {
                let target = fs::read_link(&full).unwrap();
                assert_eq!(filesystem.read_link(*id).unwrap(), target.as_os_str().as_bytes(), "{}", full.display());
            }
            _ => {}
        }
        if rules.attributes && matches!(ours.kind, FileKind::Regular | FileKind::Directory) {
            assert_attributes(filesystem, *id, &full);
        }
    }
}

fn collect(root: &Path, folder: &Path, into: &mut BTreeMap<Vec<u8>, HostMetadata>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let is_folder = metadata.is_dir();
        into.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), metadata);
        if is_folder {
            collect(root, &path, into);
        }
    }
}

fn assert_metadata(ours: &Metadata, theirs: &HostMetadata, rules: Rules, path: &Path) {
    let kind = match theirs.file_type() {
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_symlink() => FileKind::Symlink,
        kind if kind.is_fifo() => FileKind::Fifo,
        kind if kind.is_block_device() => FileKind::BlockDevice,
        kind if kind.is_char_device() => FileKind::CharDevice,
        kind if kind.is_socket() => FileKind::Socket,
        _ => FileKind::Regular,
    };
    let path = path.display();
    assert_eq!(ours.kind, kind, "{path}");
    if kind == FileKind::Regular || kind == FileKind::Symlink {
        assert_eq!(ours.size, theirs.size(), "size of {path}");
    }
    if rules.unix {
        assert_eq!(format!("{:o}", ours.mode()), format!("{:o}", theirs.mode()), "mode of {path}");
        assert_eq!((ours.owner.uid, ours.owner.gid), (theirs.uid(), theirs.gid()), "owner of {path}");
        if kind != FileKind::Directory {
            assert_eq!(u64::from(ours.links), theirs.nlink(), "links of {path}");
        }
        if let Some((major, minor)) = ours.device {
            let number = theirs.rdev();
            let expected = ((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xF_FF00));
            assert_eq!((u64::from(major), u64::from(minor)), expected, "device {path}");
        }
    }
    if let Some(exact) = rules.time {
        let modified = ours.modified.expect("a time");
        assert_eq!(modified.seconds, theirs.mtime(), "time of {path}");
        let nanos = u32::try_from(theirs.mtime_nsec()).unwrap();
        if let (Some(ours), Some(theirs)) = (modified.nanos.checked_div(exact), nanos.checked_div(exact)) {
            assert_eq!(ours, theirs, "nanoseconds of {path}");
        }
    }
}

/// The whole file at once, by its extents, and some pieces in its middle.
fn assert_contents(file: &dyn BlockRead, path: &Path) {
    let expected = fs::read(path).unwrap();
    assert_eq!(file.size(), expected.len() as u64, "{}", path.display());
    let bytes = file.read_vec(0, file.size()).unwrap();
    assert_eq!(Sha256::digest(&bytes), Sha256::digest(&expected), "contents of {}", path.display());
    for extent in file.extents() {
        let extent = extent.unwrap();
        let range = usize::try_from(extent.offset).unwrap()..usize::try_from(extent.end()).unwrap();
        if extent.status.reads_zero() {
            assert!(expected[range].iter().all(|byte| *byte == 0), "{extent:?} of {}", path.display());
        }
    }
    for at in [1, 4095, 65_535, 1 << 20] {
        if at + 3 <= expected.len() {
            assert_eq!(file.read_vec(at as u64, 3).unwrap(), expected[at..at + 3], "{at} of {}", path.display());
        }
    }
}

fn assert_attributes(filesystem: &dyn FileSystem, id: FileId, path: &Path) {
    let output = std::process::Command::new("getfattr")
        .args(["--absolute-names", "-d", "-m", "-", "-e", "hex"])
        .arg(path)
        .output()
        .expect("getfattr is needed: install attr");
    let text = String::from_utf8(output.stdout).unwrap();
    let expected: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_start_matches("0x").to_owned()))
        .collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let read: BTreeMap<String, String> = filesystem
        .xattrs(id)
        .unwrap()
        .into_iter()
        .map(|xattr| (String::from_utf8(xattr.name).unwrap(), hex(&xattr.value)))
        .collect();
    assert_eq!(read, expected, "attributes of {}", path.display());
}
