//! Trees with everything that a POSIX filesystem has, and their comparison entry by entry.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use transload_block::{BlockRead, BlockReadExt};
use transload_filesystem::{FileKind, FileSystem, FileSystemExt};
use transload_testkit::witness;

pub(crate) const PASSWORD: &str = "correct horse";

/// Bytes that no compression makes shorter, the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..length).map(|_| next()).collect()
}

/// A tree with every kind of file that can be made without being root.
pub(crate) fn tree(root: &Path) {
    let at = |name: &str| root.join(name);
    for folder in ["etc", "usr/lib", "usr/bin", "var/log", "home/user", "empty"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("etc/fstab"), "UUID=1 / ext4 defaults 0 1\n").unwrap();
    fs::write(at("etc/nothing"), "").unwrap();
    fs::write(at("usr/lib/libx.so.1"), noise(3 << 20, 5)).unwrap();
    fs::write(at("usr/bin/tool"), vec![b'x'; 700_000]).unwrap();
    fs::set_permissions(at("usr/bin/tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(at("home/user"), fs::Permissions::from_mode(0o1770)).unwrap();
    fs::hard_link(at("usr/bin/tool"), at("usr/bin/same-tool")).unwrap();
    symlink("../usr/bin/tool", at("home/user/link")).unwrap();
    symlink(OsStr::from_bytes(b"no\xffwhere"), at("home/user/dangling")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"home/user/\xff\xfe \"name\"\n\\")), "odd").unwrap();
    let sparse = File::create(at("var/log/lastlog")).unwrap();
    sparse.set_len((40 << 20) + 5).unwrap();
    sparse.write_all_at(&noise(100_000, 9), 20 << 20).unwrap();
    witness::must("mkfifo", [at("home/user/pipe")]);
    witness::must(
        "setfattr",
        ["-n".as_ref(), "user.note".as_ref(), "-v".as_ref(), "0x00ff41".as_ref(), at("etc/fstab").as_os_str()],
    );
    witness::must(
        "touch",
        ["-h".as_ref(), "-d".as_ref(), "2001-02-03T04:05:06.123456789Z".as_ref(), at("home/user/link").as_os_str()],
    );
    witness::must("touch", ["-d".as_ref(), "1969-12-31T23:59:58.5Z".as_ref(), at("etc/fstab").as_os_str()]);
}

/// What is compared besides what every tree is compared by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strictness {
    pub(crate) holes: bool,
    pub(crate) access: bool,
}

/// Compares two trees entry by entry, and answers how many there were.
pub(crate) fn compare(one: &dyn FileSystem, other: &dyn FileSystem, strict: Strictness) -> usize {
    let list = |filesystem: &dyn FileSystem| -> Vec<_> {
        filesystem.walk(filesystem.root()).map(|visit| visit.unwrap()).collect()
    };
    let (first, second) = (list(one), list(other));
    let names = |visits: &[transload_filesystem::Visit]| -> Vec<String> {
        visits.iter().map(|visit| visit.path.escape_ascii().to_string()).collect()
    };
    assert_eq!(names(&first), names(&second));
    let mut links: std::collections::HashMap<_, _> = std::collections::HashMap::new();
    for (a, b) in first.iter().zip(&second) {
        let name = a.path.escape_ascii().to_string();
        let (m, n) = (&a.metadata, &b.metadata);
        let kind = m.kind;
        assert_eq!((kind, m.owner, m.device), (n.kind, n.owner, n.device), "{name}");
        if kind != FileKind::Symlink {
            assert_eq!(m.permissions, n.permissions, "{name}");
        }
        if kind != FileKind::Directory {
            assert_eq!((m.size, m.links), (n.size, n.links), "{name}");
        }
        assert_eq!(m.modified, n.modified, "{name}");
        if strict.access {
            assert_eq!(m.accessed, n.accessed, "{name}");
        }
        assert_eq!(one.xattrs(a.id).unwrap(), other.xattrs(b.id).unwrap(), "{name}");
        if m.links > 1 && kind != FileKind::Directory {
            assert_eq!(*links.entry(a.id).or_insert(b.id), b.id, "{name}: a hard link");
        }
        match kind {
            FileKind::Symlink => assert_eq!(one.read_link(a.id).unwrap(), other.read_link(b.id).unwrap(), "{name}"),
            FileKind::Regular => {
                let (a, b) = (one.open(a.id).unwrap(), other.open(b.id).unwrap());
                assert_eq!(transload_testkit::disks::first_difference(&*a, &*b), None, "{name}");
                if strict.holes {
                    assert_eq!(long_holes(&*a), long_holes(&*b), "{name}");
                }
            }
            _ => {}
        }
    }
    first.len()
}

/// The holes of a file that are long enough to be kept.
fn long_holes(file: &dyn BlockRead) -> Vec<(u64, u64)> {
    let holes =
        file.extents().map(Result::unwrap).filter(|extent| extent.status.reads_zero() && extent.length >= 64 << 10);
    holes.map(|extent| (extent.offset, extent.length)).collect()
}

/// A file that holds the password.
pub(crate) fn password_file(folder: &Path) -> PathBuf {
    let path = folder.join("password");
    fs::write(&path, PASSWORD).unwrap();
    path
}

/// Runs restic on a repository, which has to succeed.
pub(crate) fn restic(repository: &Path, password: &Path, arguments: &[&OsStr]) -> String {
    let first = [
        "--no-cache".as_ref(),
        "-r".as_ref(),
        repository.as_os_str(),
        "--password-file".as_ref(),
        password.as_os_str(),
    ];
    witness::must("restic", first.iter().chain(arguments))
}
