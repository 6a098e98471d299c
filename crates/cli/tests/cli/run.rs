//! Running the program, and making disks for it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program with `arguments`, in `folder`.
pub(crate) fn transload<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transload"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program and returns what it said.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    transload(folder, arguments).output().unwrap()
}

/// Runs the program with `input` on a pipe.
pub(crate) fn run_with_input(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = transload(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that fails early does not read everything.
        scope.spawn(move || drop(pipe.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

/// Runs the program, which has to succeed, and returns its standard output.
#[track_caller]
pub(crate) fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program with `--json`, which has to succeed, and returns its document.
#[track_caller]
pub(crate) fn document(folder: &Path, arguments: &[&str]) -> Value {
    let all = [arguments, &["--json"]].concat();
    serde_json::from_str(&succeed(folder, &all)).unwrap()
}

/// Runs the program, which has to fail with `code`, and returns its standard error.
#[track_caller]
pub(crate) fn fail(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", complaint(&output));
    complaint(&output)
}

/// Standard error as text.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Bytes that do not compress and are no image of any format.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// A disk of 3 MiB and a bit, with data, zeroes and an end in the middle of a sector.
pub(crate) fn disk() -> Vec<u8> {
    let mut bytes = vec![0; (3 << 20) + 700];
    let data = noise(300_000);
    bytes[..100_000].copy_from_slice(&data[..100_000]);
    bytes[(1 << 20) + 5..][..200_000].copy_from_slice(&data[100_000..]);
    let end = bytes.len();
    bytes[end - 3..].copy_from_slice(b"end");
    bytes
}

/// Whether `found` is `wanted` as a format keeps it that counts in sectors: with zeroes up to the next one.
pub(crate) fn is_in_sectors(found: &[u8], wanted: &[u8]) -> bool {
    let (head, tail) = found.split_at(wanted.len().min(found.len()));
    head == wanted && tail.len() < 512 && tail.iter().all(|byte| *byte == 0)
}

/// Writes [`disk`] as `disk.raw` into a new folder.
pub(crate) fn folder_with_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk.raw"), disk()).unwrap();
    folder
}

/// The names in `folder`, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The VMDK that is in the repository, made by VMware.
pub(crate) fn vmware_disk() -> PathBuf {
    workspace().join("testdata/vmware-streamoptimized.vmdk")
}

/// The digest of what a guest sees on it.
pub(crate) const VMWARE_DIGEST: &str = "a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727";

/// Runs `qemu-img`, which has to be installed: it is the witness that is not ours.
pub(crate) fn qemu_img<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Output {
    let output = Command::new("qemu-img").current_dir(folder).args(arguments).output();
    output.expect("qemu-img is a witness of these tests: install qemu-utils")
}
