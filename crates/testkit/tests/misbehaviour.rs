//! Storage misbehaves exactly as it is told, and the files in memory are those that were asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, BlockWrite, ErrorKind, Memory, Storage, ZeroMode};
use transload_image::TargetFiles;
use transload_testkit::{Counted, MemoryTarget, Misbehaving, Operation, witness};

fn storage() -> Misbehaving {
    Misbehaving::new(Arc::new(Memory::new(4096)))
}

#[test]
fn the_operation_with_the_number_fails_and_those_behind_it_succeed() {
    let disk = storage();
    disk.fail_at(Counted::Writes, 2, ErrorKind::Io);
    disk.write_at(&[1], 0).unwrap();
    disk.read_at(&mut [0], 0).unwrap();
    disk.flush().unwrap();
    assert_eq!(disk.write_at(&[2], 0).unwrap_err().kind(), ErrorKind::Io);
    disk.write_at(&[3], 0).unwrap();
    let mut byte = [0];
    disk.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [3]);
}

#[test]
fn from_a_number_on_everything_of_the_sort_fails_until_it_behaves() {
    let disk = storage();
    disk.fail_from(Counted::Only(Operation::Flush), 1, ErrorKind::NoSpace);
    disk.flush().unwrap();
    for _ in 0..3 {
        assert_eq!(disk.flush().unwrap_err().kind(), ErrorKind::NoSpace);
        disk.write_at(&[1], 0).unwrap();
    }
    disk.behave();
    disk.flush().unwrap();
    assert_eq!((disk.counts().writes, disk.counts().flushes), (8, 5));
}

#[test]
fn a_full_storage_takes_what_fits() {
    let disk = storage();
    disk.run_full_after(10);
    disk.write_at(&[1; 4], 0).unwrap();
    assert_eq!(disk.write_at(&[2; 8], 100).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(disk.write_at(&[3], 200).unwrap_err().kind(), ErrorKind::NoSpace);
    disk.write_at(&[], 0).unwrap();
    let mut bytes = [9; 8];
    disk.inner().read_at(&mut bytes, 100).unwrap();
    assert_eq!(bytes, [2, 2, 2, 2, 2, 2, 0, 0]);
    assert_eq!(disk.allocate(0..4096).unwrap_err().kind(), ErrorKind::NoSpace);
    disk.write_zeroes_at(0..4, ZeroMode::Unmap).unwrap();
    assert_eq!(disk.counts().bytes_written, 10);
}

#[test]
fn held_operations_stand_still_until_it_behaves_and_others_do_not() {
    let disk = storage();
    disk.hold(Counted::Reads);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| disk.read_at(&mut [0; 4], 0))).collect();
        let start = Instant::now();
        while disk.held() < 3 {
            assert!(start.elapsed() < Duration::from_secs(20), "the readers do not arrive");
            std::thread::yield_now();
        }
        disk.write_at(&[1], 0).unwrap();
        assert!(readers.iter().all(|reader| !reader.is_finished()));
        disk.behave();
        for reader in readers {
            reader.join().unwrap().unwrap();
        }
    });
    assert_eq!(disk.held(), 0);
}

#[test]
fn a_delay_is_at_least_as_long_as_was_said() {
    let disk = storage();
    disk.delay(Duration::from_millis(20));
    let start = Instant::now();
    disk.flush().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn files_in_memory_are_made_once_and_stay_in_their_folder() {
    let own: Arc<dyn Storage> = Arc::new(storage());
    let files = MemoryTarget::new("disk").with_storage("own", Arc::clone(&own));
    assert_eq!(files.name(), "disk");
    let primary = files.primary().unwrap();
    primary.set_size(10).unwrap();
    assert_eq!(files.primary().unwrap().size(), 10, "asking twice gives the same file");
    files.sibling("extent").unwrap().set_size(20).unwrap();
    assert_eq!(files.sibling("extent").unwrap_err().kind(), ErrorKind::Denied, "it exists");
    assert!(Arc::ptr_eq(&files.sibling("own").unwrap(), &own));
    for name in ["", ".", "..", "a/b", "a\\b", "a\0b", "disk"] {
        assert_eq!(files.sibling(name).unwrap_err().kind(), ErrorKind::Denied, "{name:?}");
    }
    assert_eq!(files.names(), ["disk", "extent", "own"]);
    assert_eq!((files.memory("extent").unwrap().size(), files.memory("own").is_none()), (20, true));
    let folder = tempfile::tempdir().unwrap();
    files.save(folder.path());
    assert_eq!(std::fs::read(folder.path().join("extent")).unwrap(), [0; 20]);
}

#[test]
fn witnesses_tell_images_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("one"), [7; 65536]).unwrap();
    std::fs::write(path("other"), [8; 65536]).unwrap();
    witness::convert(&path("one"), "raw", &path("one.qcow2"), "qcow2", "");
    witness::assert_sound(&path("one.qcow2"), "qcow2");
    witness::assert_same_guest(&path("one"), "raw", &path("one.qcow2"), "qcow2");
    assert_eq!(witness::check_code(&path("one.qcow2"), "qcow2"), 0);
    let differs = || witness::assert_same_guest(&path("other"), "raw", &path("one.qcow2"), "qcow2");
    assert!(std::panic::catch_unwind(differs).is_err(), "a difference is found");
}
