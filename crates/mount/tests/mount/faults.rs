//! Disks that fail, and clients that vanish.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use transload_block::{BlockRead, ErrorKind, Memory};
use transload_mount::{Disk, Event, Mount, MountSettings, Tree};
use transload_testkit::{Counted, Misbehaving};

use crate::support::Mounted;

fn tree(disk: Arc<dyn BlockRead>) -> Tree {
    let mut tree = Tree::new();
    tree.disk(&["disk.raw"], Disk::read_only(disk)).expect("a free name");
    tree
}

#[test]
fn a_failing_disk_is_an_error_of_one_read() {
    let disk = Arc::new(Misbehaving::new(Arc::new(Memory::from(vec![5; 1 << 20]))));
    let Some(mounted) = Mounted::new(tree(Arc::clone(&disk) as Arc<dyn BlockRead>)) else { return };
    let file = File::open(mounted.path().join("disk.raw")).expect("the disk");
    disk.fail_from(Counted::Reads, 0, ErrorKind::Io);
    let mut buffer = [0; 100];
    assert!(file.read_exact_at(&mut buffer, 0).is_err());
    disk.behave();
    file.read_exact_at(&mut buffer, 0).expect("bytes");
    assert_eq!(buffer, [5; 100]);
    drop(file);
    let told = mounted.end();
    assert!(told.iter().any(|event| matches!(event, Event::Failed { .. })), "{told:?}");
}

#[test]
fn a_reader_that_is_killed_leaves_the_others_alone() {
    let disk: Arc<dyn BlockRead> = Arc::new(Memory::from(vec![6; 32 << 20]));
    let Some(mounted) = Mounted::new(tree(disk)) else { return };
    let path = mounted.path().join("disk.raw");
    for _ in 0..5 {
        let mut reader = Command::new("cat").arg(&path).stdout(Stdio::piped()).spawn().expect("cat is in every system");
        let mut first = [0; 65536];
        reader.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("bytes");
        reader.kill().expect("it runs");
        reader.wait().expect("it ends");
    }
    assert_eq!(std::fs::read(&path).expect("the disk"), vec![6; 32 << 20]);
    mounted.end();
}

#[test]
fn a_mount_in_use_is_ended_all_the_same() {
    let disk: Arc<dyn BlockRead> = Arc::new(Memory::from(vec![7; 1 << 20]));
    let Some(mut mounted) = Mounted::new(tree(disk)) else { return };
    let file = File::open(mounted.path().join("disk.raw")).expect("the disk");
    mounted.unmounter().unmount().expect("it is taken out of sight");
    assert!(!mounted.path().join("disk.raw").exists());
    let mut buffer = [0; 10];
    file.read_exact_at(&mut buffer, 5000).expect("who has it open may read on for a while");
    drop(file);
    mounted.join().expect("it ends when nobody has it open");
}

#[test]
fn what_is_no_folder_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"").expect("a file");
    let settings = MountSettings::default();
    for path in [file, folder.path().join("missing")] {
        let error = Mount::new(Tree::new(), &path, &settings, |_| {}).expect_err("nothing can be mounted there");
        assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
    }
}
