use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

const TIB: u64 = 1 << 40;

/// A folder on a memory file system, where files of 64 TiB are allowed; `None` where there is none.
fn memory_folder() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir_in("/dev/shm").ok();
    if folder.is_none() {
        eprintln!("SKIPPED: no memory file system at /dev/shm");
    }
    folder
}

fn new_file(folder: &tempfile::TempDir, size: u64) -> (PathBuf, FileBlock) {
    let path = folder.path().join("disk");
    File::create(&path).unwrap().set_len(size).unwrap();
    let file = FileBlock::open(&path, true).unwrap();
    (path, file)
}

fn statuses(device: &FileBlock) -> Vec<(u64, BlockStatus)> {
    let mut at = 0;
    let mut all: Vec<(u64, BlockStatus)> = Vec::new();
    while at < device.size() {
        let extent = device.block_status(at..device.size()).unwrap();
        assert_eq!(extent.offset, at);
        at = extent.end();
        match all.last_mut() {
            Some(last) if last.1 == extent.status => last.0 = at,
            _ => all.push((at, extent.status)),
        }
    }
    all
}

#[test]
fn holes_are_holes_for_readers_and_zeroes_for_writers() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = new_file(&folder, 1 << 20);
    file.write_at(&[7; 4096], 65536).unwrap();
    assert_eq!(statuses(&file), [(65536, BlockStatus::Zero), (69632, BlockStatus::Data), (1 << 20, BlockStatus::Zero)]);
    let reader = FileBlock::open(&path, false).unwrap();
    assert_eq!(
        statuses(&reader),
        [(65536, BlockStatus::Hole), (69632, BlockStatus::Data), (1 << 20, BlockStatus::Hole)]
    );
    assert_eq!(reader.block_status(65537..65540).unwrap().length, 3);
}

#[test]
fn a_punched_range_never_becomes_a_hole_again() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [ZeroMode::Unmap, ZeroMode::KeepAllocated] {
        let (_, file) = new_file(&folder, 1 << 20);
        file.write_at(&[7; 1 << 20], 0).unwrap();
        assert_eq!(statuses(&file), [(1 << 20, BlockStatus::Data)]);
        file.write_zeroes_at(1000..900_000, mode).unwrap();
        assert!(statuses(&file).iter().all(|(_, status)| *status != BlockStatus::Hole));
        let mut bytes = vec![1; 1 << 20];
        file.read_at(&mut bytes, 0).unwrap();
        assert!(bytes[..1000].iter().all(|byte| *byte == 7));
        assert!(bytes[1000..900_000].iter().all(|byte| *byte == 0));
        assert!(bytes[900_000..].iter().all(|byte| *byte == 7));
    }
}

/// The last rung, which no file system at hand needs.
#[test]
fn zeroes_are_written_where_the_kernel_has_no_call_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = new_file(&folder, 1 << 20);
    file.write_at(&[7; 1 << 20], 0).unwrap();
    file.cannot_punch.store(true, Ordering::Relaxed);
    file.cannot_zero_range.store(true, Ordering::Relaxed);
    file.write_zeroes_at(5..200_001, ZeroMode::Unmap).unwrap();
    let mut bytes = vec![1; 200_006];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..5], [7; 5]);
    assert!(bytes[5..200_001].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[200_001..], [7; 5]);
}

#[test]
fn a_hole_of_64_tib_is_one_extent() {
    let Some(folder) = memory_folder() else { return };
    let (path, file) = new_file(&folder, 64 * TIB);
    file.write_at(b"end", 64 * TIB - 3).unwrap();
    drop(file);
    let file = FileBlock::open(&path, false).unwrap();
    let extent = file.block_status(0..64 * TIB).unwrap();
    assert_eq!((extent.status, extent.length), (BlockStatus::Hole, 64 * TIB - 4096));
}

/// A memory file system walks all pages to find that there is no hole: that is to happen once, not once per question.
#[test]
fn status_of_a_file_without_holes_is_cheap() {
    let Some(folder) = memory_folder() else { return };
    let (_, file) = new_file(&folder, 64 << 20);
    let chunk = vec![1; 1 << 20];
    for index in 0..64 {
        file.write_at(&chunk, index << 20).unwrap();
    }
    let start = Instant::now();
    for at in (0..64 << 20).step_by(512) {
        assert_eq!(file.block_status(at..at + 512).unwrap().status, BlockStatus::Data);
    }
    // With a walk per question, 131072 of them need minutes.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[cfg(unix)]
#[test]
fn what_is_no_disk_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&pipe, &socket, folder.path(), Path::new("/dev/null")] {
        for writable in [false, true] {
            let error = FileBlock::open(path, writable).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
    let error = FileBlock::open(&folder.path().join("missing"), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn sizes_change_and_errors_name_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = new_file(&folder, 1000);
    file.write_at(&[1; 1000], 0).unwrap();
    file.set_size(500).unwrap();
    file.set_size(2000).unwrap();
    let mut bytes = [9; 2000];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[499..501], [1, 0]);
    assert!(bytes[500..].iter().all(|byte| *byte == 0));
    assert_eq!(file.set_size(u64::MAX).unwrap_err().kind(), ErrorKind::TooLarge);
    file.allocate(0..2000).unwrap();
    file.flush().unwrap();

    File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    let error = file.read_at(&mut bytes, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("disk: read of 2000 bytes at offset 0"), "{error}");
    // What is missing is not taken for a hole: reading it is an error.
    assert_eq!(file.block_status(1000..2000).unwrap().status, BlockStatus::Data);

    let reader = FileBlock::open(&path, false).unwrap();
    assert_eq!(reader.identity(), file.identity());
    for error in [reader.write_at(b"x", 0), reader.write_zeroes_at(0..1, ZeroMode::Unmap), reader.set_size(1)] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
}

/// A loop device, taken away again on drop.
#[cfg(target_os = "linux")]
struct LoopDevice(PathBuf);

#[cfg(target_os = "linux")]
impl LoopDevice {
    fn new(file: &Path) -> Option<Self> {
        let answer = std::process::Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        let node = answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
        if node.is_none() {
            eprintln!("SKIPPED: losetup cannot make a block device here");
        }
        node.map(|node| Self(PathBuf::from(String::from_utf8(node).unwrap().trim())))
    }
}

#[cfg(target_os = "linux")]
impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn block_devices_are_disks_of_fixed_size() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = new_file(&folder, 1 << 20);
    file.write_at(&vec![3; 1 << 20], 0).unwrap();
    drop(file);
    let Some(node) = LoopDevice::new(&path) else { return };
    let device = FileBlock::open(&node.0, true).unwrap();
    assert!(device.is_block_device());
    assert_eq!(device.size(), 1 << 20);
    assert_eq!(statuses(&device), [(1 << 20, BlockStatus::Data)]);
    for mode in [ZeroMode::Unmap, ZeroMode::KeepAllocated] {
        device.write_at(&vec![3; 1 << 20], 0).unwrap();
        device.write_zeroes_at(100..100_000, mode).unwrap();
        let mut bytes = vec![0; 1 << 20];
        device.read_at(&mut bytes, 0).unwrap();
        let wrong =
            bytes.iter().enumerate().find(|(at, byte)| **byte != if (100..100_000).contains(at) { 0 } else { 3 });
        assert_eq!(wrong, None);
    }
    assert_eq!(device.set_size((1 << 20) + 1).unwrap_err().kind(), ErrorKind::Unsupported);
    device.set_size(500_000).unwrap();
    device.set_size(1 << 20).unwrap();
    let mut bytes = vec![1; (1 << 20) - 500_000];
    device.read_at(&mut bytes, 500_000).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    device.flush().unwrap();
    let second = FileBlock::open(&node.0, true);
    assert!(second.is_err(), "a device that is being written was opened again for writing");
}
