//! A tree of files on the host with everything that people have in theirs.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use transload_testkit::Random;

/// How much a tree may ask of the filesystem that it is put into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Links, pipes, owners, permissions.
    pub(crate) unix: bool,
    /// Extended attributes.
    pub(crate) attributes: bool,
    /// Files of one large folder.
    pub(crate) many: usize,
}

/// Makes the tree below `root`, the same every time.
pub(crate) fn make(root: &Path, limits: Limits) {
    let mut random = Random::new(7);
    let mut bytes = |length: usize| random.bytes(length);
    fs::create_dir_all(root.join("sizes")).unwrap();
    for size in [0, 1, 59, 60, 61, 150, 511, 512, 1023, 1024, 4095, 4096, 4097, 65_536, 300_001] {
        fs::write(root.join(format!("sizes/{size}")), bytes(size)).unwrap();
    }
    fs::create_dir(root.join("many")).unwrap();
    for index in 0..limits.many {
        let name = format!("many/a file with a rather long name, number {index:05}");
        fs::write(root.join(name), bytes(index % 700)).unwrap();
    }
    let mut deep = root.join("deep");
    for level in 0..20 {
        deep.push(format!("level-{level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"the bottom\n").unwrap();
    fs::create_dir(root.join("names")).unwrap();
    for name in ["grüße", "名前", "with blank", "UPPER", "Mixed.Case.txt", "x.tar.gz", "~tilde", &"n".repeat(120)] {
        fs::write(root.join("names").join(name), name).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(&bytes(5000), 1 << 20).unwrap();
    sparse.write_all_at(&bytes(100), (3 << 20) + 777).unwrap();
    fs::write(root.join("large"), bytes(3 << 20)).unwrap();
    let sparse = File::open(root.join("sparse")).unwrap();
    let early = SystemTime::UNIX_EPOCH + Duration::new(981_173_106, 123_456_700);
    sparse.set_times(FileTimes::new().set_modified(early).set_accessed(early)).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    if limits.unix {
        make_unix(root);
    }
    if limits.attributes {
        let file = root.join("sizes/512");
        set_attribute(&file, "user.short", "value");
        set_attribute(&file, "user.long", &"v".repeat(600));
        set_attribute(&root.join("empty"), "user.on-folder", "x");
    }
}

fn make_unix(root: &Path) {
    symlink("sizes/1", root.join("short-link")).unwrap();
    symlink("x".repeat(59), root.join("link-59")).unwrap();
    symlink("y".repeat(60), root.join("link-60")).unwrap();
    symlink("z/".repeat(300), root.join("long-link")).unwrap();
    fs::hard_link(root.join("large"), root.join("hard-link")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
    fs::set_permissions(root.join("sizes/1"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    if crate::mount::is_root() {
        std::os::unix::fs::chown(root.join("sizes/60"), Some(70_000), Some(1234)).unwrap();
        let status = Command::new("mknod").arg(root.join("device")).args(["b", "259", "70000"]).status();
        assert!(status.unwrap().success());
    }
}

fn set_attribute(path: &Path, name: &str, value: &str) {
    let status = Command::new("setfattr").args(["-n", name, "-v", value]).arg(path).status();
    assert!(status.expect("setfattr is needed: install attr").success(), "{name} on {}", path.display());
}
