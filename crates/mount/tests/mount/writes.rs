//! Disks that are written through the mount.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use transload_block::{BlockReadExt, BlockWrite, FileBlock, Memory};
use transload_mount::{Disk, Tree};
use transload_testkit::Random;
use transload_volume::ReadSettings;

use crate::support::{Mounted, run};

fn tree_of(disk: &Arc<dyn BlockWrite>) -> Tree {
    Tree::of_disk(&Disk::writable(Arc::clone(disk)), &[], ReadSettings::default()).expect("a tree").0
}

#[test]
fn random_writes_end_where_a_model_has_them() {
    let size = 8 << 20_u64;
    let disk: Arc<dyn BlockWrite> = Arc::new(Memory::new(8 << 20));
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let path = mounted.path().join("disk.raw");
    // Each thread has a part of its own, and a model of it.
    let models: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let part = usize::try_from(size / 4).expect("small");
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let path = &path;
                scope.spawn(move || {
                    let file = File::options().read(true).write(true).open(path).expect("the disk");
                    let mut random = Random::new(thread);
                    let mut model = vec![0; part];
                    let base = thread * part as u64;
                    for _ in 0..200 {
                        let at = usize::try_from(random.below(part as u64)).expect("small");
                        let length = usize::try_from(random.below(70_000)).expect("small").min(part - at);
                        let place = base + at as u64;
                        match random.below(4) {
                            0 => {
                                let flags =
                                    rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
                                if length > 0 {
                                    rustix::fs::fallocate(&file, flags, place, length as u64).expect("a hole");
                                    model[at..at + length].fill(0);
                                }
                            }
                            1 => {
                                let mut seen = vec![0; length];
                                file.read_exact_at(&mut seen, place).expect("bytes");
                                assert!(seen == model[at..at + length]);
                            }
                            _ => {
                                let bytes = random.bytes(length);
                                file.write_all_at(&bytes, place).expect("it is written");
                                model[at..at + length].copy_from_slice(&bytes);
                            }
                        }
                    }
                    file.sync_all().expect("it is flushed");
                    model
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let file = File::options().write(true).open(&path).expect("the disk");
    let behind = file.write_at(b"x", size).expect_err("it does not grow");
    assert_eq!(behind.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()));
    assert_eq!(file.write_at(b"1234567", size - 4).expect("what fits"), 4);
    assert!(file.set_len(5).is_err() && file.set_len(size).is_ok());
    drop(file);
    mounted.end();
    let mut expected = models.concat();
    let end = expected.len();
    expected[end - 4..].copy_from_slice(b"1234");
    assert!(disk.read_vec(0, size).expect("bytes") == expected);
}

#[test]
fn files_follow_what_is_written_below_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tree, image) = (folder.path().join("tree"), folder.path().join("ext4.img"));
    fs::create_dir(&tree).expect("a folder");
    fs::write(tree.join("old"), b"before").expect("a file");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    run("mke2fs", "e2fsprogs", &["-q", "-t", "ext4", "-d", &text(&tree), &text(&image), "16M"]);
    let disk: Arc<dyn BlockWrite> = Arc::new(FileBlock::open(&image, true).expect("the image"));
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let old = File::open(mounted.path().join("fs/whole/old")).expect("a file");
    assert_eq!(fs::read(mounted.path().join("fs/whole/old")).expect("a file"), b"before");
    // Another system's hand on the disk in the mount: `debugfs` writes through the file that shows it.
    fs::write(folder.path().join("new"), b"after").expect("a file");
    let command = format!("write {} new", text(&folder.path().join("new")));
    let shown = text(&mounted.path().join("disk.raw"));
    run("debugfs", "e2fsprogs", &["-w", "-R", &command, &shown]);
    assert_eq!(fs::read(mounted.path().join("fs/whole/new")).expect("a new file"), b"after");
    run("debugfs", "e2fsprogs", &["-w", "-R", "rm old", &shown]);
    assert!(!mounted.path().join("fs/whole/old").exists());
    drop(old);
    mounted.end();
    run("e2fsck", "e2fsprogs", &["-fn", &text(&image)]);
}

#[test]
fn what_is_read_of_a_written_disk_is_never_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("disk.raw");
    File::create(&image).expect("a file").set_len(16 << 20).expect("a length");
    run("sgdisk", "gdisk", &["-n", "1:2048:+8M", image.to_str().expect("text")]);
    let disk: Arc<dyn BlockWrite> = Arc::new(FileBlock::open(&image, true).expect("the image"));
    let Some(mounted) = Mounted::new(tree_of(&disk)) else { return };
    let open = |name: &str| File::options().read(true).write(true).open(mounted.path().join(name)).expect("a disk");
    let (whole, part) = (open("disk.raw"), open("partitions/1.raw"));
    let mut seen = [0; 8];
    for round in 0..20_u8 {
        part.write_all_at(&[round; 8], 4096).expect("it is written");
        whole.read_exact_at(&mut seen, (1 << 20) + 4096).expect("bytes");
        assert_eq!(seen, [round; 8]);
        whole.write_all_at(&[round + 100; 8], (1 << 20) + 8192).expect("it is written");
        part.read_exact_at(&mut seen, 8192).expect("bytes");
        assert_eq!(seen, [round + 100; 8]);
    }
    drop((whole, part));
    mounted.end();
    assert_eq!(disk.size(), 16 << 20);
}
