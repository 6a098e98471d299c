//! Debian's restic as the outside witness: what it writes is read here, and what is written here it checks and restores.

mod support;

use std::path::Path;

use support::{PASSWORD, Strictness, compare, password_file, restic, tree};
use transload_archive::{OpenSettings, Repository};
use transload_filesystem::{FileSystemExt, Follow, Host};

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

fn copy(from: &dyn transload_filesystem::FileSystem, id: transload_filesystem::FileId, to: &Path) {
    use transload_filesystem::{Copier, CopySettings, Existing, FileSystem};
    let host = Host::new(to);
    let settings = CopySettings { recursive: true, existing: Existing::Refuse, steady: false };
    Copier::new(from, &host, settings).copy_contents(id, host.root()).unwrap();
}
