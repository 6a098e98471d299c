//! Debian's restic as the outside witness: what it writes is read here, and what is written here it checks and restores.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail a test by panicking, as the tests themselves do"
)]

mod support;

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use support::{PASSWORD, Strictness, compare, password_file, restic, tree};
use transload_archive::{CreateSettings, DiskSource, OpenSettings, Repository, Unwatched, create};
use transload_block::{BlockRead, FileBlock, Result};
use transload_filesystem::{FileId, FileSystem, FileSystemExt, Follow, Host};
use transload_volume::{ReadSettings, Volumes};

#[test]
fn what_restic_wrote_is_read_entry_by_entry() {
    let folder = tempfile::tempdir().unwrap();
    let (files, repository) = (folder.path().join("files"), folder.path().join("repository"));
    tree(&files);
    // This version of restic keeps targets that are no text only as far as they are text.
    std::fs::remove_file(files.join("home/user/dangling")).unwrap();
    let password = password_file(folder.path());
    for version in ["1", "2"] {
        let repository = repository.join(version);
        restic(&repository, &password, &["init", "--repository-version", version].map(AsRef::as_ref));
        restic(&repository, &password, &["backup".as_ref(), "--with-atime".as_ref(), files.as_os_str()]);
        let archive = Repository::open(&repository, PASSWORD.as_bytes(), OpenSettings::default()).unwrap();
        assert_eq!(archive.version().to_string(), version);
        assert_eq!(archive.notes(), [""; 0]);
        let snapshot = archive.find_snapshot("latest").unwrap();
        let view = archive.files(&snapshot).unwrap();
        let inner = view.resolve(files.as_os_str().as_encoded_bytes(), Follow::All).unwrap();
        assert_eq!(view.entries(inner.id).unwrap().len(), 5);
        let restored = folder.path().join("copy").join(version);
        std::fs::create_dir_all(&restored).unwrap();
        copy(&*view, inner.id, &restored);
        compare(&Host::new(&files), &Host::new(&restored), Strictness::default());
    }
    let wrong = Repository::open(&repository.join("2"), b"battery staple", OpenSettings::default()).unwrap_err();
    assert_eq!(wrong.kind(), transload_block::ErrorKind::Denied);
}

fn copy(from: &dyn FileSystem, id: FileId, to: &Path) {
    use transload_filesystem::{Copier, CopySettings, Existing};
    let host = Host::new(to);
    let settings = CopySettings { recursive: true, existing: Existing::Refuse, steady: false };
    Copier::new(from, &host, settings).copy_contents(id, host.root()).unwrap();
}

/// A disk with a GPT, an ESP and an ext4 with `files` in it.
fn disk(folder: &Path, files: &Path) -> std::path::PathBuf {
    use transload_testkit::witness::must;
    let (image, ext, fat) = (folder.join("disk.raw"), folder.join("ext.raw"), folder.join("fat.raw"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    must("mke2fs", ["-q", "-t", "ext4", "-L", "root", "-d", &text(files), &text(&ext), "64M"]);
    must("mkfs.fat", ["-C", "-n", "ESP", &text(&fat), "8192"]);
    must("mcopy", ["-i", &text(&fat), &text(&files.join("usr/lib/libx.so.1")), "::"]);
    must("qemu-img", ["create", "-q", "-f", "raw", &text(&image), "80M"]);
    let table = folder.join("table");
    std::fs::write(&table, "label: gpt\nstart=2048, size=16384, type=uefi\nstart=18432, size=131072, type=linux\n")
        .unwrap();
    must("sh", ["-c", &format!("sfdisk -q {} < {}", text(&image), text(&table))]);
    for (part, at) in [(&fat, "2048"), (&ext, "18432")] {
        let (from, to) = (format!("if={}", text(part)), format!("of={}", text(&image)));
        must("dd", [&from, &to, "bs=512", &format!("seek={at}"), "conv=notrunc,sparse", "status=none"]);
    }
    image
}

fn source(image: &Path, name: &str) -> DiskSource {
    let device: Arc<dyn BlockRead> = Arc::new(FileBlock::open(image, false).unwrap());
    let volumes = Volumes::scan(&device, &[], ReadSettings::default()).unwrap();
    DiskSource { name: name.to_owned(), origin: image.display().to_string(), format: "raw".to_owned(), device, volumes }
}

fn root_of(image: &Path) -> Arc<dyn FileSystem> {
    let source = source(image, "x");
    transload_filesystem::open(source.volumes.find(&"2".parse().unwrap()).unwrap().device().unwrap()).unwrap()
}

#[test]
fn restic_checks_and_restores_what_was_archived() {
    let folder = tempfile::tempdir().unwrap();
    let (files, repository) = (folder.path().join("files"), folder.path().join("repository"));
    tree(&files);
    let image = disk(folder.path(), &files);
    let password = password_file(folder.path());
    Repository::create(&repository, PASSWORD.as_bytes()).unwrap();
    let archive = Repository::open(&repository, PASSWORD.as_bytes(), OpenSettings::default()).unwrap();
    let report = create(&archive, &[source(&image, "web")], &CreateSettings::default(), &Unwatched).unwrap();
    assert_eq!((report.warnings.clone(), report.left_out), (Vec::<String>::new(), 0));
    restic(&repository, &password, &["check", "--read-data"].map(AsRef::as_ref));

    // As a view, hole by hole.
    let view = archive.files(report.snapshot.as_ref().unwrap()).unwrap();
    let inner = Below { files: Arc::clone(&view), root: view.resolve(b"/web/volumes/2", Follow::All).unwrap().id };
    let original = root_of(&image);
    let strict = Strictness { holes: true, access: true };
    assert!(compare(&*original, &inner, strict) > 15);

    // As restic restores it.
    let target = folder.path().join("restored");
    restic(&repository, &password, &["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), target.as_os_str()]);
    let restored = target.join("web/volumes/2");
    std::fs::remove_file(restored.join("home/user/dangling")).unwrap();
    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(b"no\xffwhere"), restored.join("home/user/dangling"))
        .unwrap();
    let date = original
        .stat(original.resolve(b"/home/user/dangling", Follow::AllButLast).unwrap().id)
        .unwrap()
        .modified
        .unwrap();
    let date = format!("@{}.{:09}", date.seconds, date.nanos);
    transload_testkit::witness::must(
        "touch",
        ["-h".as_ref(), "-d".as_ref(), date.as_ref(), restored.join("home/user/dangling").as_os_str()],
    );
    // What was put into the folder by hand changed its time.
    let time = original.stat(original.resolve(b"home/user", Follow::All).unwrap().id).unwrap().modified.unwrap();
    let date = format!("@{}.{:09}", time.seconds, time.nanos);
    let user = restored.join("home/user");
    transload_testkit::witness::must("touch", ["-d".as_ref(), date.as_ref(), user.as_os_str()]);
    compare(&*original, &Host::new(&restored), Strictness::default());

    // What restic stores of the same files is stored already.
    let said =
        restic(&repository, &password, &["backup".as_ref(), "--json".as_ref(), files.join("usr/lib").as_os_str()]);
    assert!(said.contains("\"data_blobs\":0"), "{said}");

    // Nothing has changed: nothing is read again, and nothing is added but the snapshot.
    let archive = Repository::open(&repository, PASSWORD.as_bytes(), OpenSettings::default()).unwrap();
    let again = create(&archive, &[source(&image, "web")], &CreateSettings::default(), &Unwatched).unwrap();
    assert_eq!(
        (again.new_blobs, again.files - again.unchanged),
        (0, 2),
        "the ESP has no times to rely on, and one file has two names"
    );
}

/// The files below a folder as a filesystem.
#[derive(Debug)]
struct Below {
    files: Arc<dyn FileSystem>,
    root: FileId,
}

impl FileSystem for Below {
    fn info(&self) -> &transload_filesystem::Info {
        self.files.info()
    }

    fn root(&self) -> FileId {
        self.root
    }

    fn stat(&self, id: FileId) -> Result<transload_filesystem::Metadata> {
        self.files.stat(id)
    }

    fn read_dir(
        &self,
        dir: FileId,
        each: &mut dyn FnMut(transload_filesystem::Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        self.files.read_dir(dir, each)
    }

    fn lookup(&self, dir: FileId, name: &[u8]) -> Result<Option<FileId>> {
        self.files.lookup(dir, name)
    }

    fn open(&self, id: FileId) -> Result<Arc<dyn BlockRead>> {
        self.files.open(id)
    }

    fn read_link(&self, id: FileId) -> Result<Vec<u8>> {
        self.files.read_link(id)
    }

    fn xattrs(&self, id: FileId) -> Result<Vec<transload_filesystem::Xattr>> {
        self.files.xattrs(id)
    }

    fn streams(&self, id: FileId) -> Result<Vec<transload_filesystem::Stream>> {
        self.files.streams(id)
    }

    fn open_stream(&self, id: FileId, name: &[u8]) -> Result<Arc<dyn BlockRead>> {
        self.files.open_stream(id, name)
    }
}

#[test]
fn what_a_stopped_run_stored_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (files, repository) = (folder.path().join("files"), folder.path().join("repository"));
    tree(&files);
    let image = disk(folder.path(), &files);
    let password = password_file(folder.path());
    Repository::create(&repository, PASSWORD.as_bytes()).unwrap();
    let open = || Repository::open(&repository, PASSWORD.as_bytes(), OpenSettings::default()).unwrap();
    let first = create(&open(), &[source(&image, "web")], &CreateSettings::default(), &Unwatched).unwrap();
    assert!(first.stored > 3 << 20);
    // As if it had been killed after its packs were written.
    for kind in ["index", "snapshots"] {
        for entry in std::fs::read_dir(repository.join(kind)).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let again = create(&open(), &[source(&image, "web")], &CreateSettings::default(), &Unwatched).unwrap();
    assert_eq!((again.stored, again.unchanged), (0, 0));
    restic(&repository, &password, &["check", "--read-data"].map(AsRef::as_ref));
}
