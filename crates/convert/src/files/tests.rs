use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn put(storage: &Arc<dyn Storage>, bytes: &[u8]) {
    storage.set_size(bytes.len() as u64).unwrap();
    storage.write_at(bytes, 0).unwrap();
}

#[test]
fn the_whole_set_appears_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = AtomicFiles::create(&folder.path().join("a.vmdk"), false, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"descriptor");
    put(&files.primary().unwrap(), b"DESCRIPTOR");
    put(&files.sibling("a-flat.vmdk").unwrap(), b"extent");
    assert_eq!(names(folder.path()).len(), 1);
    assert!(names(folder.path())[0].starts_with(".a.vmdk."));
    assert_eq!(names(files.staged_path().parent().unwrap()), ["a-flat.vmdk", "a.vmdk"]);
    assert_eq!(files.written(), 26);
    files.commit().unwrap();
    assert_eq!(names(folder.path()), ["a-flat.vmdk", "a.vmdk"]);
    assert_eq!(fs::read(folder.path().join("a.vmdk")).unwrap(), b"DESCRIPTOR");
    assert_eq!(fs::read(folder.path().join("a-flat.vmdk")).unwrap(), b"extent");
}

#[test]
fn dropping_removes_everything_while_unwinding_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    let files = AtomicFiles::create(&path, false, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"x");
    put(&files.sibling("b").unwrap(), b"x");
    drop(files);
    assert!(names(folder.path()).is_empty());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let files = AtomicFiles::create(&path, false, Vec::new()).unwrap();
        put(&files.primary().unwrap(), b"x");
        panic!("in the middle");
    }));
    assert!(panic.is_err());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.raw");
    fs::write(&path, "old").unwrap();
    let error = AtomicFiles::create(&path, false, Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.remedy().is_some());
    let files = AtomicFiles::create(&path, true, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"new");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    files.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["a.raw"]);
}

#[test]
fn a_name_taken_meanwhile_takes_back_what_was_placed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vmdk");
    let files = AtomicFiles::create(&path, false, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"new");
    put(&files.sibling("a-flat.vmdk").unwrap(), b"new");
    fs::write(&path, "somebody else's").unwrap();
    assert_eq!(files.commit().unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(names(folder.path()), ["a.vmdk"]);
    assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
}

#[test]
fn with_force_a_replaced_sibling_comes_back_when_the_primary_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vmdk");
    fs::write(folder.path().join("a-flat.vmdk"), "old").unwrap();
    let files = AtomicFiles::create(&path, true, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"new");
    put(&files.sibling("a-flat.vmdk").unwrap(), b"new");
    fs::create_dir(&path).unwrap();
    assert_eq!(files.commit().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(fs::read(folder.path().join("a-flat.vmdk")).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["a-flat.vmdk", "a.vmdk"]);
}

#[test]
fn files_of_the_source_are_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a-flat.vmdk");
    fs::write(&source, "source").unwrap();
    let avoid = vec![identity_of(&fs::metadata(&source).unwrap())];
    let error = AtomicFiles::create(&source, true, avoid.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let files = AtomicFiles::create(&folder.path().join("a.vmdk"), true, avoid).unwrap();
    assert_eq!(files.sibling("a-flat.vmdk").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = AtomicFiles::create(&folder.path().join("a"), false, Vec::new()).unwrap();
    for name in ["", ".", "..", "../b", "b/c", "/b", "b/", "a"] {
        assert_eq!(files.sibling(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    assert!(AtomicFiles::create(&folder.path().join(".."), false, Vec::new()).is_err());
    assert!(AtomicFiles::create(folder.path(), true, Vec::new()).is_err());
}

#[test]
fn a_link_to_a_file_stays_and_its_target_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert_eq!(AtomicFiles::create(&link, false, Vec::new()).unwrap_err().kind(), ErrorKind::Denied);
    let files = AtomicFiles::create(&link, true, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"new");
    files.commit().unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_long_name_still_gets_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let name = "é".repeat(127);
    let files = AtomicFiles::create(&folder.path().join(&name), false, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"x");
    files.commit().unwrap();
    assert_eq!(names(folder.path()), [name]);
}

#[test]
fn a_name_that_is_no_unicode_is_kept_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"a\xff.raw");
    let files = AtomicFiles::create(&folder.path().join(name), false, Vec::new()).unwrap();
    put(&files.primary().unwrap(), b"x");
    assert_eq!(files.name(), "a\u{fffd}.raw");
    assert_eq!(files.sibling("b").unwrap_err().kind(), ErrorKind::InvalidInput, "a descriptor could not name it");
    assert_eq!(fs::read(files.staged_path()).unwrap(), b"x");
    files.commit().unwrap();
    let found: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(found, [name]);
}
