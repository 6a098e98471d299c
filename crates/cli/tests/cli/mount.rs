//! `transload mount`: what the program does around a mount. What is in one is the business of the crate `transload-mount`.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{complaint, disk, fail, qemu_img, run, succeed, transload};

/// A mount by the program, taken away again however the test ends.
struct Mounted {
    child: Option<Child>,
    folder: PathBuf,
}

impl Mounted {
    /// Mounts on `at` in `folder`. `None` where mounting is not possible, which is said on standard error.
    fn start(folder: &Path, arguments: &[&str]) -> Option<Self> {
        let at = folder.join("mnt");
        fs::create_dir_all(&at).expect("a folder");
        // Tests may run under nohup, whose children ignore the signal that a closed terminal sends.
        let program = env!("CARGO_BIN_EXE_transload");
        let mut child = Command::new("env")
            .args(["--default-signal=HUP", program, "mount"])
            .args(arguments)
            .arg("mnt")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the folder");
        if line.is_empty() {
            let output = child.wait_with_output().expect("an end");
            let said = complaint(&output);
            assert!(matches!(output.status.code(), Some(5 | 6)), "{said}");
            assert!(said.contains("hint:"), "{said}");
            eprintln!("SKIPPED: nothing can be mounted here: {said}");
            return None;
        }
        assert_eq!(line, "mnt\n");
        Some(Self { child: Some(child), folder: at })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Ends it with a signal, as an operator would, and returns what it said.
    fn end(mut self, signal: &str) -> String {
        let mut child = self.child.take().expect("it runs");
        kill(signal, child.id());
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert_eq!(child.wait().expect("an end").code(), Some(0), "{said}");
        assert!(!is_mounted(&self.folder));
        said
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.kill());
        drop(child.wait());
        drop(Command::new("fusermount3").args(["-u", "-z"]).arg(&self.folder).output());
    }
}

fn kill(signal: &str, process: u32) {
    let killed = Command::new("kill").args([signal, &process.to_string()]).status().expect("kill");
    assert!(killed.success());
}

fn is_mounted(folder: &Path) -> bool {
    let parent = fs::metadata(folder.parent().expect("a parent")).expect("a folder").dev();
    // A mount whose server is gone answers nothing at all.
    fs::metadata(folder).map_or(true, |metadata| metadata.dev() != parent)
}

#[test]
fn every_format_is_a_flat_disk_until_a_signal_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut bytes = disk();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    fs::write(folder.join("disk.raw"), &bytes).expect("a file");
    for (name, signal) in
        [("disk.raw", "-TERM"), ("a.qcow2", "-INT"), ("a.vmdk", "-HUP"), ("a.vhdx", "-TERM"), ("a.vdi", "-TERM")]
    {
        if name != "disk.raw" {
            succeed(folder, &["convert", "-q", "disk.raw", name]);
        }
        let Some(mounted) = Mounted::start(folder, &[name]) else { return };
        assert!(is_mounted(&mounted.folder));
        let shown = fs::read(mounted.path("disk.raw")).expect("the disk");
        assert!(shown[..bytes.len()] == bytes && shown[bytes.len()..].iter().all(|byte| *byte == 0), "{name}");
        assert!(File::options().write(true).open(mounted.path("disk.raw")).is_err(), "{name}");
        let said = mounted.end(signal);
        assert!(said.contains("read-only"), "{said}");
    }
}

#[test]
fn an_overlay_takes_what_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut model = disk();
    model.resize(4 << 20, 0);
    fs::write(folder.join("disk.raw"), &model).expect("a file");
    let before = model.clone();
    for round in 0..2_u8 {
        let Some(mounted) = Mounted::start(folder, &["--overlay", "changes.qcow2", "disk.raw"]) else { return };
        let file = File::options().read(true).write(true).open(mounted.path("disk.raw")).expect("the disk");
        for step in 0..40_u64 {
            let place = usize::try_from((step * 7_777_777 + u64::from(round) * 99_991) % (4 << 20)).expect("small");
            let length = usize::try_from(step * 1999).expect("small").min(model.len() - place);
            let bytes = vec![round * 40 + u8::try_from(step).expect("small"); length];
            file.write_all_at(&bytes, place as u64).expect("it is written");
            model[place..place + length].copy_from_slice(&bytes);
        }
        file.sync_all().expect("it is flushed");
        drop(file);
        assert!(fs::read(mounted.path("disk.raw")).expect("the disk") == model);
        let said = mounted.end("-TERM");
        assert!(said.contains("writes go to changes.qcow2"), "{said}");
    }
    assert!(fs::read(folder.join("disk.raw")).expect("the disk") == before, "the image stays as it is");
    assert!(qemu_img(folder, &["check", "changes.qcow2"]).status.success());
    fs::write(folder.join("model.raw"), &model).expect("a file");
    let same = qemu_img(folder, &["compare", "-f", "raw", "-F", "qcow2", "model.raw", "changes.qcow2"]);
    assert!(same.status.success(), "{}", complaint(&same));
}

#[test]
fn it_serves_in_the_background_until_it_is_unmounted() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("disk.raw"), disk()).expect("a file");
    fs::create_dir(folder.join("mnt")).expect("a folder");
    // A mistake is told in the foreground, with its own exit code.
    fail(folder, &["mount", "--background", "missing.raw", "mnt"], 1);
    let output = run(folder, &["mount", "--background", "disk.raw", "mnt"]);
    let said = complaint(&output);
    if matches!(output.status.code(), Some(5 | 6)) {
        eprintln!("SKIPPED: nothing can be mounted here: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(output.stdout, b"mnt\n");
    let process = said.split_whitespace().skip_while(|word| *word != "process").nth(1).expect("its number");
    let shown = fs::read(folder.join("mnt/disk.raw")).expect("the disk");
    let status = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let unmounted = Command::new("umount").arg(folder.join("mnt")).output().expect("umount");
    if !unmounted.status.success() {
        // An ordinary user has this one.
        let freed = Command::new("fusermount3").arg("-u").arg(folder.join("mnt")).status();
        assert!(freed.expect("fusermount3 is needed: install fuse3").success());
    }
    assert!(shown == disk(), "{status}");
    let patience = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < patience, "it ends when it is unmounted");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!is_mounted(&folder.join("mnt")));
}

#[test]
fn files_are_open_and_their_users_vanish() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("disk.raw"), disk()).expect("a file");
    let Some(mounted) = Mounted::start(folder, &["--overlay", "changes.qcow2", "disk.raw"]) else { return };
    let writer = File::options().write(true).open(mounted.path("disk.raw")).expect("the disk");
    writer.write_all_at(b"last words", 77).expect("it is written");
    let begun = Instant::now();
    // The file stays open: it is not waited for for ever.
    let said = mounted.end("-TERM");
    assert!(said.contains("files are open"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(writer.write_all_at(b"too late", 0).is_err());
    assert!(qemu_img(folder, &["check", "changes.qcow2"]).status.success());
    let found = succeed(folder, &["digest", "changes.qcow2"]);
    let mut expected = disk();
    expected[77..87].copy_from_slice(b"last words");
    expected.resize(expected.len().next_multiple_of(512), 0);
    fs::write(folder.join("expected.raw"), expected).expect("a file");
    let wanted = succeed(folder, &["digest", "expected.raw"]);
    assert_eq!(found[..64], wanted[..64]);
}

#[test]
fn what_is_missing_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("disk.raw"), disk()).expect("a file");
    let said = fail(folder, &["mount", "disk.raw", "missing"], 1);
    assert!(said.contains("missing"), "{said}");
    let said = fail(folder, &["mount", "disk.raw", "disk.raw"], 2);
    assert!(said.contains("is no folder"), "{said}");
    // Without root's rights the kernel leaves it to a program, which is not there.
    fs::create_dir(folder.join("mnt")).expect("a folder");
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("everybody may look in");
    let arguments = ["mount", "disk.raw", "mnt"];
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).current_dir(folder);
        command.arg(env!("CARGO_BIN_EXE_transload")).args(arguments);
        command
    } else {
        transload(folder, &arguments)
    };
    let output = command.env("FUSERMOUNT_PATH", "/nowhere/fusermount3").output().expect("the program");
    let said = complaint(&output);
    assert!(matches!(output.status.code(), Some(5 | 6)), "{said}");
    assert!(said.contains("fuse3") || said.contains("/dev/fuse"), "{said}");
}

#[test]
fn the_snapshots_of_an_archive_are_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::create_dir(folder.join("tree")).expect("a folder");
    fs::write(folder.join("tree/file"), b"kept").expect("a file");
    succeed(folder, &["create", "-O", "raw", "disk.raw", "20M"]);
    succeed(folder, &["mkfs", "--type", "ext4", "disk.raw#whole"]);
    succeed(folder, &["cp", "tree/file", "disk.raw#whole:/file"]);
    succeed(folder, &["archive", "create", "--insecure-no-password", "disk.raw", "-o", "store"]);
    let Some(mounted) = Mounted::start(folder, &["--insecure-no-password", "store"]) else { return };
    for (top, snapshots) in [("ids", 1), ("snapshots", 1)] {
        assert_eq!(fs::read_dir(mounted.path(top)).expect("a folder").count(), snapshots);
    }
    let mut found = Vec::new();
    find(&mounted.path("latest"), "file", &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(fs::read(&found[0]).expect("a file"), b"kept");
    mounted.end("-TERM");
    fail(folder, &["mount", "--insecure-no-password", "--overlay", "o", "store", "mnt"], 2);
}

/// Everything below `folder` that is called `name`.
fn find(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a kind").is_dir() {
            find(&entry.path(), name, found);
        } else if entry.file_name() == name {
            found.push(entry.path());
        }
    }
}
