//! ext2, ext3 and ext4, by `mke2fs -d` and by the kernel.

use std::fs;
use std::io::Write;
use std::path::Path;

use transload_testkit::witness::must;

use crate::compare::{Rules, assert_same, open};
use crate::mount::{self, Mount};
use crate::tree::{self, Limits};

const SETS: &[(&str, &[&str])] = &[
    ("ext2-1k", &["-t", "ext2", "-b", "1024"]),
    ("ext2-128", &["-t", "ext2", "-I", "128", "-b", "4096", "-O", "^dir_index"]),
    ("ext3", &["-t", "ext3", "-b", "2048"]),
    ("ext4", &["-t", "ext4"]),
    ("ext4-1k", &["-t", "ext4", "-b", "1024"]),
    ("ext4-inline", &["-t", "ext4", "-O", "inline_data,metadata_csum_seed", "-I", "256"]),
    ("ext4-inode-1k", &["-t", "ext4", "-I", "1024", "-O", "inline_data,ea_inode"]),
    ("ext4-meta-bg", &["-t", "ext4", "-O", "meta_bg,^resize_inode,^flex_bg", "-b", "1024"]),
    ("ext4-old", &["-t", "ext4", "-O", "^64bit,^metadata_csum,^extents,^has_journal"]),
];

/// Times by `mke2fs -d` are whole seconds before version 1.47.1.
const RULES: Rules = Rules { unix: true, time: Some(0), attributes: true };

fn make(image: &Path, options: &[&str], source: Option<&Path>) {
    fs::File::create(image).unwrap().set_len(96 << 20).unwrap();
    let mut arguments: Vec<String> = ["-q", "-F", "-L", "a label"].map(String::from).to_vec();
    arguments.extend(options.iter().map(|option| (*option).to_owned()));
    if let Some(source) = source {
        arguments.extend(["-d".to_owned(), source.display().to_string()]);
    }
    arguments.push(image.display().to_string());
    must("mke2fs", arguments);
}

#[test]
fn trees_by_mke2fs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: true, attributes: true, many: 300 });
    // mke2fs 1.47.0 loses a hole at the end of a file where it makes inline data.
    fs::OpenOptions::new().append(true).open(source.join("sparse")).unwrap().write_all(b"end").unwrap();
    for (name, options) in SETS {
        eprintln!("{name}");
        let image = folder.path().join(name);
        make(&image, options, Some(&source));
        let filesystem = open(&image);
        assert_eq!(filesystem.info().label, "a label");
        assert_same(&*filesystem, &source, RULES);
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn trees_by_the_kernel_are_read() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in SETS {
        eprintln!("{name}");
        let image = folder.path().join(name);
        make(&image, options, None);
        {
            let Some(mount) = Mount::new(&image, "ext4", "user_xattr,acl") else { return };
            tree::make(&mount.folder, Limits { unix: true, attributes: true, many: 900 });
            let file = mount.folder.join("sizes/1");
            must("setfacl", ["-m", "u:1234:rw", file.to_str().unwrap()]);
        }
        let Some(mount) = Mount::new(&image, "ext4", "ro") else { return };
        let time = if name.contains("128") { Some(0) } else { Some(1) };
        assert_same(&*open(&image), &mount.folder, Rules { time, ..RULES });
        drop(mount);
        fs::remove_file(image).unwrap();
    }
}

/// The image of a filesystem that is mounted and was written to: its journal holds what its blocks do not yet have.
#[test]
fn a_journal_is_played_back() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [("ext3", ["-t", "ext3"]), ("ext4", ["-t", "ext4"])] {
        let (image, copy) = (folder.path().join(name), folder.path().join("copy"));
        make(&image, &options, None);
        let Some(mount) = Mount::new(&image, "ext4", "commit=1") else { return };
        tree::make(&mount.folder, Limits { unix: true, attributes: true, many: 300 });
        must("sync", ["-f", mount.folder.to_str().unwrap()]);
        for round in 0..40 {
            fs::write(mount.folder.join(format!("many/late {round}")), vec![b'x'; round * 100]).unwrap();
            fs::remove_file(mount.folder.join(format!("many/a file with a rather long name, number {round:05}")))
                .unwrap();
        }
        fs::File::open(mount.folder.join("many")).unwrap().sync_all().unwrap();
        for round in 0..40 {
            fs::File::open(mount.folder.join(format!("many/late {round}"))).unwrap().sync_all().unwrap();
        }
        fs::copy(&image, &copy).unwrap();
        let filesystem = open(&copy);
        let notes = &filesystem.info().notes;
        assert!(notes.iter().any(|note| note.contains("played back")), "{name}: {notes:?}");
        assert_same(&*filesystem, &mount.folder, Rules { time: Some(0), ..RULES });
    }
}
