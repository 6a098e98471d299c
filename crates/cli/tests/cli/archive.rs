//! Archives: the whole life of one, what a `kill -9` leaves, and what a flipped byte touches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::documents::expect_documented;
use crate::run::{complaint, document, fail, noise, run, succeed, transload};

/// A folder with a disk of two volumes, and a file with a password.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("password"), "secret\n").unwrap();
    succeed(path, &["create", "disk.raw", "48M"]);
    let parts = ["--add", "size=8M,type=esp,name=EFI", "--add", "rest,type=linux"];
    succeed(path, &[&["partitions", "disk.raw", "--init", "gpt"][..], &parts].concat());
    succeed(path, &["mkfs", "disk.raw#1", "--type", "fat", "--label", "ESP"]);
    succeed(path, &["mkfs", "disk.raw#2", "--type", "ext4", "--label", "root"]);
    fs::create_dir_all(path.join("tree/etc")).unwrap();
    fs::create_dir_all(path.join("tree/usr/lib")).unwrap();
    fs::write(path.join("tree/etc/fstab"), "LABEL=root / ext4 defaults 0 1\n").unwrap();
    fs::write(path.join("tree/usr/lib/libx.so"), noise(3 << 20)).unwrap();
    fs::write(path.join("tree/notes"), "words and more words\n".repeat(5000)).unwrap();
    std::os::unix::fs::symlink("../etc/fstab", path.join("tree/usr/link")).unwrap();
    succeed(path, &["cp", "-r", "tree", "disk.raw#2:/"]);
    succeed(path, &["cp", "tree/notes", "disk.raw#1:/NOTES"]);
    folder
}

/// Runs `transload archive COMMAND archive …` with the password, which has to succeed.
fn archive(folder: &Path, command: &str, rest: &[&str]) -> String {
    succeed(folder, &[&["archive", command, "archive", "--password-file", "password"], rest].concat())
}

fn create(folder: &Path, rest: &[&str]) -> String {
    succeed(folder, &[&["archive", "create", "-o", "archive", "--password-file", "password"], rest].concat())
}

/// The document of `transload archive COMMAND`, whose fields are those that docs/json.md lists.
fn archive_document(folder: &Path, command: &str, rest: &[&str]) -> Value {
    let found = document(folder, &[&["archive", command, "archive", "--password-file", "password"], rest].concat());
    expect_documented(&format!("archive {command}"), "", &found);
    found
}

#[test]
fn the_life_of_an_archive() {
    let folder = folder();
    let path = folder.path();
    let made = document(path, &["archive", "create", "disk.raw", "-o", "archive", "--password-file", "password"]);
    expect_documented("archive create", "", &made);
    assert_eq!((made["files"].as_u64(), made["left-out"].as_u64()), (Some(4), Some(0)));
    let first = made["snapshot"].as_str().unwrap()[..8].to_owned();

    let listed = archive_document(path, "list", &[]);
    assert_eq!(listed["snapshots"][0]["paths"][0], "/disk");
    assert!(archive(path, "list", &[]).contains(&first));
    assert_eq!(archive(path, "list", &["latest:/disk"]), "boot\ndisk.json\ngaps\nvolumes\n");
    assert_eq!(archive(path, "cat", &["/disk/volumes/2/tree/etc/fstab"]), "LABEL=root / ext4 defaults 0 1\n");
    let info = archive_document(path, "info", &["latest"]);
    let volumes = &info["disks"][0]["volumes"];
    assert_eq!((&volumes[0]["label"], &volumes[1]["label"]), (&Value::from("ESP"), &Value::from("root")));

    // Changed, added, removed; what is not is not read again.
    fs::write(path.join("fstab"), "LABEL=root / ext4 ro 0 1\n").unwrap();
    succeed(path, &["cp", "fstab", "disk.raw#2:/tree/etc/fstab"]);
    succeed(path, &["cp", "fstab", "disk.raw#2:/new"]);
    succeed(path, &["rm", "disk.raw#2:/tree/notes"]);
    let again = document(path, &["archive", "create", "disk.raw", "-o", "archive", "--password-file", "password"]);
    assert_eq!(again["unchanged"].as_u64(), Some(1), "{again}");
    assert!(again["stored"].as_u64().unwrap() < 20_000, "{again}");
    let output = run(path, &["archive", "diff", "archive", &first, "latest", "--password-file", "password"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout).unwrap();
    for line in ["+ /disk/volumes/2/new", "- /disk/volumes/2/tree/notes", "M /disk/volumes/2/tree/etc/fstab"] {
        assert!(said.lines().any(|found| found == line), "{line} in {said}");
    }
    let similar = archive_document(path, "similar", &[&first, "latest"]);
    assert!(similar["share-of-second"].as_f64().unwrap() > 0.9, "{similar}");
    let same = archive_document(path, "diff", &["latest", "latest"]);
    assert_eq!(same["changes"].as_array().unwrap().len(), 0);

    archive_document(path, "extract", &["latest:/disk/volumes/2/tree", "-C", "out"]);
    assert_eq!(fs::read(path.join("out/usr/lib/libx.so")).unwrap(), noise(3 << 20));
    assert_eq!(fs::read_link(path.join("out/usr/link")).unwrap(), Path::new("../etc/fstab"));
    let refused =
        ["archive", "extract", "archive", "latest:/disk/volumes/2/tree", "-C", "out", "--password-file", "password"];
    assert!(fail(path, &refused, 4).contains("it exists already"));

    // The disk again, and its filesystems by those who made the formats.
    let restored = archive_document(path, "restore", &["-o", "restored.raw"]);
    assert_eq!(restored["volumes"].as_array().unwrap().len(), 2, "{restored}");
    witnesses(path);
    archive(path, "restore", &["-o", "restored.qcow2"]);
    assert_eq!(succeed(path, &["cat", "restored.qcow2#2:/tree/etc/fstab"]), "LABEL=root / ext4 ro 0 1\n");

    archive_document(path, "export", &["latest:/disk/volumes/2", "-o", "root.squashfs"]);
    let unpacked =
        Command::new("unsquashfs").args(["-q", "-n", "-d", "unsquashed", "root.squashfs"]).current_dir(path).output();
    let unpacked = unpacked.expect("unsquashfs is a witness of these tests: install squashfs-tools");
    assert!(unpacked.status.success(), "{}", complaint(&unpacked));
    assert_eq!(fs::read(path.join("unsquashed/tree/usr/lib/libx.so")).unwrap(), noise(3 << 20));
    assert_eq!(fs::read_link(path.join("unsquashed/tree/usr/link")).unwrap(), Path::new("../etc/fstab"));
    assert_eq!(succeed(path, &["cat", "root.squashfs:/tree/etc/fstab"]), "LABEL=root / ext4 ro 0 1\n");

    let forgotten = archive_document(path, "forget", &["--keep-last", "1"]);
    assert_eq!(forgotten["forgotten"].as_array().unwrap().len(), 1);
    let compacted = archive_document(path, "compact", &["--max-unused", "0"]);
    assert!(compacted["freed"].as_u64().unwrap() > 0, "{compacted}");
    let verified = archive_document(path, "verify", &[]);
    assert_eq!((&verified["sound"], &verified["snapshots"]), (&Value::from(true), &Value::from(1)));
    assert_eq!(archive(path, "cat", &["/disk/volumes/2/new"]), "LABEL=root / ext4 ro 0 1\n");
    restic(path, &["check", "--read-data"]);
}

/// What other programs say of the restored disk.
fn witnesses(path: &Path) {
    let must = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(path).output();
        let output = output.expect("the tools of filesystems are witnesses: install fdisk, e2fsprogs and dosfstools");
        assert!(
            output.status.success(),
            "{program}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            complaint(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let table = |disk: &str| must("/usr/sbin/sfdisk", &["--dump", disk]).replace(disk, "disk");
    assert_eq!(table("restored.raw"), table("disk.raw"));
    must("dd", &["if=restored.raw", "of=two.raw", "bs=1M", "skip=9", "count=38", "status=none"]);
    must("dd", &["if=restored.raw", "of=one.raw", "bs=1M", "skip=1", "count=8", "status=none"]);
    must("/usr/sbin/fsck.fat", &["-n", "one.raw"]);
    must("/usr/sbin/e2fsck", &["-fn", "two.raw"]);
    let described = |disk: &str| document(path, &["partitions", disk])["partitions"].clone();
    assert_eq!(described("restored.raw"), described("disk.raw"));
    assert_eq!(succeed(path, &["find", "restored.raw#2:/"]), succeed(path, &["find", "disk.raw#2:/"]));
}

fn restic(path: &Path, arguments: &[&str]) -> String {
    let first = ["--no-cache", "-r", "archive", "--password-file", "password"];
    let output = Command::new("restic").args(first).args(arguments).current_dir(path).output();
    let output = output.expect("restic is a witness of these tests: install restic");
    assert!(output.status.success(), "restic {arguments:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn passwords_come_from_where_users_of_restic_expect_them() {
    let folder = folder();
    let path = folder.path();
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let output = transload(path, arguments).env(name, value).output().unwrap();
        assert!(output.status.success(), "{name}: {}", complaint(&output));
    };
    with("RESTIC_PASSWORD", "secret", &["archive", "create", "disk.raw", "-o", "archive", "-q"]);
    with("RESTIC_PASSWORD_FILE", "password", &["archive", "list", "archive"]);
    with("RESTIC_PASSWORD_COMMAND", "cat password", &["archive", "list", "archive"]);
    assert!(fail(path, &["archive", "list", "archive"], 2).contains("RESTIC_PASSWORD"));
    fs::write(path.join("wrong"), "wrong").unwrap();
    let said = fail(path, &["archive", "list", "archive", "--password-file", "wrong"], 6);
    assert!(said.contains("opens none of its 1 keys"), "{said}");
    fs::write(path.join("wrong"), "\n").unwrap();
    assert!(fail(path, &["archive", "list", "archive", "--password-file", "wrong"], 2).contains("empty"));
    succeed(path, &["archive", "create", "disk.raw", "-o", "open", "--insecure-no-password"]);
    succeed(path, &["archive", "list", "open", "--insecure-no-password"]);
    assert!(fail(path, &["archive", "list", "disk.raw"], 1).contains("no archive"));
}

/// The files of an archive that make up what was stored.
fn stored(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.join("archive")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() { pending.push(entry) } else { found.push(entry) }
        }
    }
    found.sort();
    found
}

#[test]
fn any_flipped_byte_is_found_and_the_rest_comes_out() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path();
    create(path, &["disk.raw"]);
    let verify = ["archive", "verify", "archive", "--password-file", "password", "--json"];
    for file in stored(path) {
        let sound = fs::read(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for at in [1, sound.len() / 2, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, &bytes).unwrap();
            let output = run(path, &verify);
            assert_eq!(output.status.code(), Some(4), "byte {at} of {}: {}", file.display(), complaint(&output));
        }
        fs::write(&file, &sound).unwrap();
    }
    assert!(run(path, &verify).status.success());

    // The largest pack: the library is touched, and all that is not comes out.
    let pack = stored(path).into_iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let found: Value = serde_json::from_slice(&run(path, &verify).stdout).unwrap();
    expect_documented("archive verify", "", &found);
    let touched: Vec<&str> =
        found["affected"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(touched, ["/disk/volumes/2/tree/usr/lib/libx.so"]);
    let extract = ["archive", "extract", "archive", "-C", "out", "--password-file", "password"];
    assert!(fail(path, &extract, 4).contains("libx.so"));
    assert_eq!(
        fs::read(path.join("out/disk/volumes/2/tree/notes")).unwrap(),
        fs::read(path.join("tree/notes")).unwrap()
    );
    assert!(!path.join("out/disk/volumes/2/tree/usr/lib/libx.so").exists());
}

/// Starts the program and kills it after so many milliseconds; says whether it was still there.
fn killed(folder: &Path, arguments: &[&str], after: u64) -> bool {
    let mut child = transload(folder, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(after));
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    alive
}

#[test]
fn a_kill_loses_no_earlier_snapshot() {
    let folder = folder();
    let path = folder.path();
    create(path, &["disk.raw"]);
    let first =
        document(path, &["archive", "list", "archive", "--password-file", "password"])["snapshots"][0]["id"].clone();
    let first = first.as_str().unwrap().to_owned();
    let expected = fs::read(path.join("tree/usr/lib/libx.so")).unwrap();
    let whole = |what: &str| {
        let library = format!("{first}:/disk/volumes/2/tree/usr/lib/libx.so");
        let output = run(path, &["archive", "cat", "archive", &library, "--password-file", "password"]);
        assert!(output.status.success() && output.stdout == expected, "{what}: {}", complaint(&output));
        let output = run(path, &["archive", "verify", "archive", "--password-file", "password"]);
        assert!(output.status.success(), "{what}: {}{}", String::from_utf8_lossy(&output.stdout), complaint(&output));
    };
    let mut alive = 0;
    for (round, after) in [350, 450, 600, 800, 1100].into_iter().enumerate() {
        fs::write(path.join("more"), noise((2 << 20) + round)).unwrap();
        succeed(path, &["cp", "more", "disk.raw#2:/more"]);
        let making = ["archive", "create", "disk.raw", "-o", "archive", "--password-file", "password", "--reread"];
        alive += u32::from(killed(path, &making, after));
        whole(&format!("create, {after} ms"));
    }
    // Something that goes, in packs that are rewritten.
    create(path, &["disk.raw"]);
    let names = document(path, &["archive", "list", "archive", "--password-file", "password"])["snapshots"].clone();
    let others: Vec<String> =
        names.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).filter(|id| *id != first).collect();
    archive(path, "forget", &others);
    let compacting = ["archive", "compact", "archive", "--max-unused", "0", "--password-file", "password"];
    for after in [250, 350, 450, 600] {
        alive += u32::from(killed(path, &compacting, after));
        whole(&format!("compact, {after} ms"));
    }
    assert!(alive > 0, "all of them had ended before");
    // Locks of the dead stand in nobody's way.
    archive(path, "compact", &["--max-unused", "0"]);
    whole("in the end");
    restic(path, &["check", "--read-data"]);
}
