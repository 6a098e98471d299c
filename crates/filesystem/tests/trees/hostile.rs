//! Filesystems that lie: bytes of sound ones are changed at random, and everything in them is read. Whatever comes of it, it comes
//! soon, as an error of the right kind or as bytes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, BlockWrite, ErrorKind, FileBlock, Memory};
use transload_filesystem::FileSystemExt;
use transload_filesystem::properties::{assert_told, read_all};
use transload_testkit::Random;
use transload_testkit::witness::must;

use crate::mount::{self, Mount};
use crate::tree::{self, Limits};

/// What one changed filesystem may take, on a machine that does other things besides.
const LONGEST: Duration = Duration::from_secs(20);

/// Changes bytes in the parts of the image that hold anything, and reads what is left of it.
fn torment(image: &Path, rounds: u64) {
    let sound = fs::read(image).unwrap();
    let used: Vec<usize> = sound
        .chunks(512)
        .enumerate()
        .filter(|(_, sector)| sector.iter().any(|byte| *byte != 0))
        .map(|(at, _)| at)
        .collect();
    let disk = Arc::new(Memory::from(sound.clone()));
    for round in 0..rounds {
        let mut random = Random::new(round);
        let mut changed = Vec::new();
        for _ in 0..1 + random.below(8) {
            // The first sectors hold what everything else is found by.
            let span = if random.below(2) == 0 { used.len().min(40) } else { used.len() };
            let sector = used[usize::try_from(random.below(span as u64)).unwrap()];
            let at = (sector * 512) as u64 + random.below(512);
            let value =
                [0, 0xFF, 0x7F, u8::try_from(random.below(256)).unwrap()][usize::try_from(random.below(4)).unwrap()];
            disk.write_at(&[value], at).unwrap();
            changed.push(at);
        }
        let begun = Instant::now();
        eprintln!("{} round {round}: {changed:?}", image.display());
        assert_told(&(Arc::clone(&disk) as Arc<dyn BlockRead>));
        assert!(begun.elapsed() < LONGEST, "{} round {round} took {:?}", image.display(), begun.elapsed());
        for at in changed {
            let index = usize::try_from(at).unwrap();
            disk.write_at(&sound[index..=index], at).unwrap();
        }
    }
}

fn empty(image: &Path, size: u64) -> String {
    fs::File::create(image).unwrap().set_len(size).unwrap();
    image.display().to_string()
}

#[test]
fn filesystems_that_lie_end_soon_and_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: true, attributes: true, many: 60 });
    fs::remove_file(source.join("large")).unwrap();
    let image = folder.path().join("image");
    let text = image.display().to_string();
    let tree = source.display().to_string();
    for options in [vec!["-t", "ext4", "-O", "inline_data", "-b", "1024"], vec!["-t", "ext2", "-b", "1024"]] {
        empty(&image, 16 << 20);
        must("mke2fs", ["-q", "-F", "-d", &tree].into_iter().chain(options).chain([text.as_str()]));
        torment(&image, 120);
    }
    for codec in ["gzip", "xz"] {
        fs::remove_file(&image).unwrap();
        must("mksquashfs", [&tree, &text, "-quiet", "-no-progress", "-comp", codec]);
        torment(&image, 120);
    }
    fs::remove_file(&image).unwrap();
    let status = Command::new("genisoimage").args(["-R", "-J", "-quiet", "-o", &text, &tree]).status();
    assert!(status.expect("genisoimage is needed: install genisoimage").success());
    torment(&image, 120);
    empty(&image, 4 << 20);
    must("mkfs.fat", ["-F", "12", "-s", "2", &text]);
    let status = Command::new("mcopy").args(["-s", "-i", &text, &format!("{tree}/many"), "::/"]).status();
    assert!(status.expect("mcopy is needed: install mtools").success());
    torment(&image, 120);
}

#[test]
fn mounted_filesystems_that_lie_end_soon_and_in_an_error() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { unix: true, attributes: true, many: 60 };
    let image = folder.path().join("ntfs");
    let text = empty(&image, 12 << 20);
    must("mkntfs", ["-q", "-F", &text]);
    {
        let Some(mount) = Mount::ntfs(&image) else { return };
        tree::make(&mount.folder, limits);
    }
    torment(&image, 120);
    for (kind, program, size) in [("xfs", "mkfs.xfs", 310 << 20), ("btrfs", "mkfs.btrfs", 120 << 20)] {
        let image = folder.path().join(kind);
        let text = empty(&image, size);
        must(program, ["-q", &text]);
        {
            let Some(mount) = Mount::new(&image, kind, "rw") else { continue };
            tree::make(&mount.folder, limits);
        }
        torment(&image, 40);
        fs::remove_file(image).unwrap();
    }
}

/// Filesystems of other makers are read without an error, and where the kernel can mount them they are the same to it.
#[test]
fn specimens_of_other_makers_are_read() {
    let Some(corpus) = transload_testkit::Corpus::get() else { return };
    for (path, version) in [
        ("dfvfs/ext2.raw", "ext2"),
        ("dfvfs/ext4.raw", "ext4"),
        ("dfvfs/fat12.raw", "FAT12"),
        ("dfvfs/ntfs.raw", "NTFS 3.1"),
        ("dfvfs/xfs.raw", "XFS (v5)"),
        ("dfvfs/iso9660.raw", "ISO 9660"),
        ("cot/input.iso", "ISO 9660"),
        ("crate-ntfs/testdata/testfs1", "NTFS 3.1"),
        ("ext4-view/test_disk1.bin", "ext4"),
        ("ext4-view/test_disk_4k_block_journal.bin", "ext4"),
        ("ext4-view/test_disk_ext2.bin", "ext2"),
        ("ext4-view/test_disk_ext3.bin", "ext3"),
        ("e2fsprogs/r_move_inode_int_extent/image", "ext4"),
    ] {
        let file = corpus.folder.join(path);
        let device = Arc::new(FileBlock::open(&file, false).unwrap());
        let filesystem = transload_filesystem::open(device).unwrap_or_else(|error| panic!("{path}: {error}"));
        let found = &filesystem.info().version;
        assert!(found.starts_with(version), "{path}: {found}");
        // Files under fscrypt are in one of them, and refused by name.
        let errors = read_all(&*filesystem);
        assert!(errors.iter().all(|kind| *kind == ErrorKind::Unsupported), "{path}: {errors:?}");
        let files = filesystem.walk(filesystem.root()).filter(Result::is_ok).count();
        eprintln!("{path}: {found}, {files} files, {} refused", errors.len());
        assert!(files > 0 || path.contains("e2fsprogs"), "{path} is not empty");
    }
}
