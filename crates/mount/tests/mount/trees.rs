//! Files and disks that are only read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, FileBlock, Memory, Slice};
use transload_filesystem::{self as filesystem, FileKind, FileSystem, FileSystemExt, Visit};
use transload_mount::{Disk, Files, Tree};
use transload_testkit::{Corpus, Random};
use transload_volume::ReadSettings;

use crate::support::{Mounted, run};

/// A name that is no text.
const ODD_NAME: &[u8] = b"odd \xff\xfe name";

/// An ext4 filesystem that `mke2fs` filled and `debugfs` gave what an ordinary user cannot make.
fn ext4(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("a folder");
    fs::write(tree.join("deep/er/file"), b"contents").expect("a file");
    fs::hard_link(tree.join("deep/er/file"), tree.join("second")).expect("a link");
    fs::write(tree.join(PathBuf::from(std::ffi::OsString::from_vec(ODD_NAME.to_vec()))), b"odd").expect("a file");
    symlink("../nowhere/at/all", tree.join("deep/link")).expect("a link");
    for number in 0..2000 {
        fs::write(tree.join(format!("deep/er/many-{number}")), b"").expect("a file");
    }
    let sparse = File::create(tree.join("sparse")).expect("a file");
    sparse.write_all_at(b"front", 0).expect("bytes");
    sparse.write_all_at(b"back", 5 << 20).expect("bytes");
    sparse.set_len(6 << 20).expect("a length");
    let noise: Vec<u8> = Random::new(3).bytes(3_000_001);
    fs::write(tree.join("noise"), noise).expect("a file");
    let image = folder.join("ext4.img");
    let (image_name, tree_name) = (image.to_str().expect("text"), tree.to_str().expect("text"));
    run("mke2fs", "e2fsprogs", &["-q", "-t", "ext4", "-d", tree_name, image_name, "64M"]);
    for command in [
        "mknod disk b 8 1",
        "mknod console c 5 1",
        "mknod pipe p",
        "ea_set second user.colour blue",
        "ea_set second security.thing mark",
        "sif second mtime_extra 0x1dcd6504",
        "sif second mtime @1234567890",
        "sif second uid 70000",
        "sif second mode 0104755",
    ] {
        run("debugfs", "e2fsprogs", &["-w", "-R", command, image_name]);
    }
    image
}

fn open(path: &Path) -> Arc<dyn BlockRead> {
    Arc::new(FileBlock::open(path, false).expect("an image"))
}

fn tree_of(disk: &Arc<dyn BlockRead>) -> Tree {
    let (tree, notes) =
        Tree::of_disk(&Disk::read_only(Arc::clone(disk)), &[], ReadSettings::default()).expect("a tree");
    assert!(notes.is_empty(), "{notes:?}");
    tree
}

/// Compares everything that the kernel shows of `visit` with what the filesystem says.
fn compare(root: &Path, filesystem: &dyn FileSystem, visit: &Visit, numbers: &mut BTreeMap<u64, u64>) {
    let path = root.join(std::ffi::OsStr::from_bytes(&visit.path));
    let shown = fs::symlink_metadata(&path).expect("it is there");
    let wanted = &visit.metadata;
    let name = path.display();
    assert_eq!(shown.mode(), wanted.mode(), "{name}");
    assert_eq!((shown.uid(), shown.gid()), (wanted.owner.uid, wanted.owner.gid), "{name}");
    assert_eq!(shown.nlink(), u64::from(wanted.links.max(1)), "{name}");
    assert_eq!(shown.size(), wanted.size, "{name}");
    assert_eq!(shown.blocks(), wanted.allocated.div_ceil(512), "{name}");
    let modified = wanted.modified.expect("a time");
    assert_eq!((shown.mtime(), shown.mtime_nsec()), (modified.seconds, i64::from(modified.nanos)), "{name}");
    if let Some(accessed) = wanted.accessed {
        assert_eq!((shown.atime(), shown.atime_nsec()), (accessed.seconds, i64::from(accessed.nanos)), "{name}");
    }
    if let Some((major, minor)) = wanted.device {
        assert_eq!(rustix::fs::makedev(major, minor), shown.rdev(), "{name}");
    }
    assert_eq!(*numbers.entry(visit.id.0).or_insert(shown.ino()), shown.ino(), "{name}: one number for one file");
    match wanted.kind {
        FileKind::Regular => {
            let bytes = filesystem.open(visit.id).expect("a file").read_vec(0, wanted.size).expect("bytes");
            assert!(fs::read(&path).expect("bytes") == bytes, "{name}");
        }
        FileKind::Symlink => {
            let target = fs::read_link(&path).expect("a target");
            assert_eq!(target.as_os_str().as_bytes(), filesystem.read_link(visit.id).expect("a target"), "{name}");
        }
        _ => {}
    }
    for xattr in filesystem.xattrs(visit.id).expect("attributes") {
        let mut value = vec![0; xattr.value.len() + 1];
        let attribute = std::ffi::OsStr::from_bytes(&xattr.name);
        let length = rustix::fs::lgetxattr(&path, attribute, value.as_mut_slice()).expect("an attribute");
        assert_eq!(&value[..length], xattr.value, "{name}: {attribute:?}");
    }
}

#[test]
fn a_whole_tree_is_as_it_stands_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(&ext4(folder.path()));
    let filesystem = filesystem::open(Arc::clone(&disk)).expect("a filesystem");
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let root = mounted.path().join("fs/whole");
    let mut numbers = BTreeMap::new();
    let mut names = Vec::new();
    for visit in filesystem.walk(filesystem.root()) {
        let visit = visit.expect("a sound filesystem");
        compare(&root, &*filesystem, &visit, &mut numbers);
        names.push(visit.path);
    }
    assert!(names.len() > 2010);
    // What `debugfs` and `mke2fs` were told, which no reader of ours comes between.
    let second = fs::symlink_metadata(root.join("second")).expect("a file");
    assert_eq!((second.mtime(), second.mtime_nsec()), (1_234_567_890, 0x1dcd_6504 >> 2));
    assert_eq!((second.uid(), second.mode(), second.nlink()), (70000, 0o104_755, 2));
    assert_eq!(second.ino(), fs::symlink_metadata(root.join("deep/er/file")).expect("a file").ino());
    assert!(fs::symlink_metadata(root.join("disk")).expect("a device").file_type().is_block_device());
    assert!(fs::symlink_metadata(root.join("console")).expect("a device").file_type().is_char_device());
    assert!(fs::symlink_metadata(root.join("pipe")).expect("a pipe").file_type().is_fifo());
    assert_eq!(fs::read_link(root.join("deep/link")).expect("a link"), Path::new("../nowhere/at/all"));
    assert_eq!(fs::read(root.join(std::ffi::OsStr::from_bytes(ODD_NAME))).expect("a file"), b"odd");
    assert_eq!(fs::read(root.join("noise")).expect("a file"), Random::new(3).bytes(3_000_001));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(root.join("second"), "user.colour", &mut value[..]).expect("an attribute");
    assert_eq!(&value[..length], b"blue");
    // What the kernel lists, names and kinds, is what there is.
    let mut listed = Vec::new();
    list(&root, Path::new(""), &mut listed);
    listed.sort();
    names.sort();
    assert!(listed == names);
    assert!(fs::write(root.join("new"), b"").is_err() && fs::remove_file(root.join("second")).is_err());
    assert!(mounted.end().is_empty());
}

fn list(root: &Path, below: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(root.join(below)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        let kind = entry.file_type().expect("a kind");
        found.push(path.as_os_str().as_bytes().to_vec());
        if kind.is_dir() {
            list(root, &path, found);
        }
    }
}

#[test]
fn holes_are_found_by_seeking() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(&ext4(folder.path()));
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let sparse = File::open(mounted.path().join("fs/whole/sparse")).expect("a file");
    let (data, hole) = (rustix::fs::SeekFrom::Data, rustix::fs::SeekFrom::Hole);
    let first_hole = rustix::fs::seek(&sparse, hole(0)).expect("a hole");
    assert!((5..=1 << 20).contains(&first_hole), "{first_hole}");
    let second_data = rustix::fs::seek(&sparse, data(first_hole)).expect("data");
    assert!(second_data > 4 << 20 && second_data <= 5 << 20, "{second_data}");
    let last = rustix::fs::seek(&sparse, hole((6 << 20) - 1)).expect("a hole");
    assert_eq!(last, (6 << 20) - 1);
    assert!(rustix::fs::seek(&sparse, data(6 << 20)).is_err());
    // Behind the data of a file without holes is the one that every file ends in.
    let noise = File::open(mounted.path().join("fs/whole/noise")).expect("a file");
    assert_eq!(rustix::fs::seek(&noise, hole(5)).expect("the end"), 3_000_001);
    drop((sparse, noise));
    mounted.end();
}

#[test]
fn many_threads_read_at_random_what_stands_in_the_flat_file() {
    let bytes = Random::new(9).bytes(40 << 20);
    let disk: Arc<dyn BlockRead> = Arc::new(Memory::from(bytes.clone()));
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let path = mounted.path().join("disk.raw");
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (path, bytes) = (&path, &bytes);
            scope.spawn(move || {
                let file = File::open(path).expect("the disk");
                let mut random = Random::new(seed);
                for _ in 0..400 {
                    let at = random.below(bytes.len() as u64 + 10);
                    let mut buffer = vec![1; usize::try_from(random.below(300_000)).expect("small")];
                    let read = file.read_at(&mut buffer, at).expect("bytes");
                    let at = usize::try_from(at).expect("small").min(bytes.len());
                    let wanted = &bytes[at..bytes.len().min(at + buffer.len())];
                    assert!(buffer[..read] == wanted[..read] && (read > 0 || wanted.is_empty()), "{at}");
                }
            });
        }
    });
    let mut all = Vec::new();
    File::open(&path).expect("the disk").read_to_end(&mut all).expect("bytes");
    assert!(all == bytes);
    mounted.end();
}

#[test]
fn partitions_are_files_and_their_files_are_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("disk.raw");
    File::create(&image).expect("a file").set_len(80 << 20).expect("a length");
    let name = image.to_str().expect("text");
    run("sgdisk", "gdisk", &["-n", "1:2048:+64M", "-n", "2:0:0", name]);
    let part = open(&ext4(folder.path())).read_vec(0, 64 << 20).expect("bytes");
    File::options().write(true).open(&image).expect("a file").write_all_at(&part, 1 << 20).expect("bytes");
    let disk = open(&image);
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let at = |path: &str| mounted.path().join(path);
    assert!(fs::read(at("partitions/1.raw")).expect("a partition") == part);
    let second = fs::metadata(at("partitions/2.raw")).expect("a partition").len();
    assert!(second > 10 << 20 && second < 16 << 20, "{second}");
    assert_eq!(fs::read(at("fs/1/second")).expect("a file"), b"contents");
    assert!(!at("fs/2").exists());
    assert_eq!(fs::metadata(at("disk.raw")).expect("the disk").len(), disk.size());
    mounted.end();
}

#[test]
fn real_images_are_the_same_through_a_mount() {
    let Some(corpus) = Corpus::get() else { return };
    let mut looked_at = 0;
    for entry in corpus.of_format("raw").filter(|entry| entry.notes.contains("content:")) {
        let disk = open(&corpus.file(entry));
        if disk.size() > 64 << 20 {
            continue;
        }
        let found = Tree::of_disk(&Disk::read_only(Arc::clone(&disk)), &[], ReadSettings::default());
        let (tree, _) = found.expect(&entry.path);
        let Some(mounted) = Mounted::new(tree) else { return };
        let bytes = disk.read_vec(0, disk.size()).expect("bytes");
        assert!(fs::read(mounted.path().join("disk.raw")).expect("the disk") == bytes, "{}", entry.path);
        for folder in fs::read_dir(mounted.path().join("fs")).expect("a folder") {
            let folder = folder.expect("an entry").path();
            if !fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
                continue;
            }
            let Some(filesystem) = filesystem_of(&disk, &folder) else { continue };
            let mut numbers = BTreeMap::new();
            for visit in filesystem.walk(filesystem.root()).flatten() {
                if visit.metadata.modified.is_some() {
                    compare_loosely(&folder, &*filesystem, &visit, &mut numbers);
                    looked_at += 1;
                }
            }
        }
        mounted.end();
    }
    assert!(looked_at > 100, "{looked_at}");
}

/// The filesystem that the mount shows in `folder`.
fn filesystem_of(disk: &Arc<dyn BlockRead>, folder: &Path) -> Option<Arc<dyn FileSystem>> {
    let name = folder.file_name()?.to_str()?;
    let volumes = transload_volume::Volumes::scan(disk, &[], ReadSettings::default()).ok()?;
    let volume = volumes.find(&name.parse().ok()?).ok()?.device().ok()?;
    filesystem::open(volume).ok()
}

/// As [`compare`], for filesystems of which a file may be damaged.
fn compare_loosely(root: &Path, filesystem: &dyn FileSystem, visit: &Visit, numbers: &mut BTreeMap<u64, u64>) {
    let sound = match visit.metadata.kind {
        FileKind::Regular => {
            visit.metadata.size <= 64 << 20
                && filesystem.open(visit.id).is_ok_and(|file| file.read_vec(0, visit.metadata.size).is_ok())
        }
        FileKind::Symlink => filesystem.read_link(visit.id).is_ok(),
        _ => true,
    };
    if sound && filesystem.xattrs(visit.id).is_ok_and(|all| all.iter().all(|xattr| xattr.name.starts_with(b"user."))) {
        compare(root, filesystem, visit, numbers);
    }
}

#[test]
fn other_trees_are_shown_and_opened_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open(&ext4(folder.path()));
    let mut tree = Tree::new();
    tree.filesystem(&["snapshots", "monday", "1"], Files::lazy(move || filesystem::open(Arc::clone(&disk))))
        .expect("free");
    let broken = || Err(transload_block::Error::new(transload_block::ErrorKind::Corrupt, "a lost chunk"));
    tree.filesystem(&["snapshots", "tuesday", "1"], Files::lazy(broken)).expect("free");
    let part: Arc<dyn BlockRead> = Arc::new(Memory::from(vec![7; 4096]));
    let part = Slice::new(part, 512..1024).expect("a part");
    tree.disk(&["parts", "x.raw"], Disk::read_only(Arc::new(part))).expect("free");
    let Some(mounted) = Mounted::new(tree) else { return };
    assert_eq!(fs::read(mounted.path().join("snapshots/monday/1/second")).expect("a file"), b"contents");
    assert_eq!(fs::read(mounted.path().join("parts/x.raw")).expect("a disk"), [7; 512]);
    let missing = fs::read_dir(mounted.path().join("snapshots/tuesday/1")).expect_err("it is damaged");
    assert_eq!(missing.raw_os_error(), Some(rustix::io::Errno::UCLEAN.raw_os_error()));
    let told = mounted.end();
    assert!(format!("{told:?}").contains("a lost chunk"), "{told:?}");
}
