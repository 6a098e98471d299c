//! Names that lead out, and names that do not.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A root with a file and a folder in it, a secret beside it, and links of all kinds between them.
fn house() -> (TempDir, Root) {
    let house = tempfile::tempdir().unwrap();
    let root = house.path().join("root");
    fs::create_dir_all(root.join("vm/sub")).unwrap();
    fs::create_dir(root.join(".transload-uploads")).unwrap();
    fs::write(root.join(".transload-uploads/other"), "another's upload").unwrap();
    fs::write(root.join("vm/disk.raw"), "disk").unwrap();
    fs::write(house.path().join("secret"), "secret").unwrap();
    symlink("disk.raw", root.join("vm/inside")).unwrap();
    symlink("vm", root.join("machines")).unwrap();
    symlink("../../secret", root.join("vm/relative")).unwrap();
    symlink(house.path().join("secret"), root.join("vm/absolute")).unwrap();
    symlink(house.path(), root.join("up")).unwrap();
    symlink("..", root.join("vm/sub/one-up")).unwrap();
    symlink("../../..", root.join("vm/sub/three-up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
    symlink(".transload-uploads", root.join("uploads")).unwrap();
    let root = Root::new(&root).unwrap();
    (house, root)
}

#[test]
fn names_inside_are_found_with_their_links_resolved() {
    let (_house, root) = house();
    for name in
        ["vm/disk.raw", "./vm//disk.raw", "vm/./disk.raw", "vm/inside", "machines/inside", "vm/sub/one-up/disk.raw"]
    {
        assert_eq!(root.resolve_existing(name).unwrap(), root.path().join("vm/disk.raw"), "{name}");
    }
    assert_eq!(root.name_of(&root.resolve_existing("machines/inside").unwrap()).unwrap(), "vm/disk.raw");
    assert_eq!(root.resolve_new("machines/new.raw").unwrap(), root.path().join("vm/new.raw"));
    assert_eq!(root.resolve_new("vm/disk.raw").unwrap(), root.path().join("vm/disk.raw"));
    assert_eq!(io::read_to_string(root.open_existing("machines/inside").unwrap()).unwrap(), "disk");
}

#[test]
fn names_that_lead_out_are_denied() {
    let (_house, root) = house();
    for name in [
        "/etc/passwd",
        "//etc/passwd",
        "..",
        "../secret",
        "vm/../../secret",
        "vm/../vm/disk.raw",
        "vm/relative",
        "vm/absolute",
        "up/secret",
        "up/root/vm/disk.raw",
        "vm/sub/three-up/secret",
        "loop",
        "magic",
        ".transload-uploads/other",
        "vm/.transload-job",
        ".disk.qcow2.0123456789abcdef.partial/disk.qcow2",
        "uploads/other",
    ] {
        let denied = |result: Result<PathBuf>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied, "{name}");
        denied(root.resolve_existing(name));
        assert!(root.open_existing(name).is_err() || name == "uploads/other", "{name}");
        if name != "loop" {
            denied(root.resolve_new(name));
        }
    }
    for name in ["up/new", "vm/sub/three-up/new", "../new", "/tmp/new", "vm/../../new", "uploads/new"] {
        assert_eq!(root.resolve_new(name).unwrap_err().kind(), ErrorKind::Denied, "{name}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let (_house, root) = house();
    let (long_part, long_name) = ("x".repeat(256), "x/".repeat(4000));
    for name in ["", ".", "./", "vm\0/disk.raw", "\0", &long_part, &long_name, &"y".repeat(1 << 20)] {
        assert_eq!(root.resolve_existing(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:.20}");
        assert_eq!(root.resolve_new(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:.20}");
        assert!(root.resolve_new(name).unwrap_err().to_string().len() < 2000);
    }
    assert_eq!(root.resolve_new("vm/new/").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_is_missing_is_said_to_be_missing() {
    let (_house, root) = house();
    for name in ["nothing", "dangling", "vm/nothing", "nothing/new"] {
        let error = root.resolve_existing(name).unwrap_err();
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::NotFound), "{name}");
    }
    assert_eq!(root.resolve_new("nothing/new").unwrap_err().kind(), ErrorKind::Io);
    // The engine would follow the link and write what it leads to.
    assert_eq!(root.resolve_new("dangling").unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(root.resolve_new("vm/inside").unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn folders_are_made_inside_alone() {
    let (house, root) = house();
    root.create_parents("out/a/b/disk.qcow2").unwrap();
    assert!(root.path().join("out/a/b").is_dir());
    root.create_parents("machines/c/disk.qcow2").unwrap();
    assert!(root.path().join("vm/c").is_dir());
    for name in ["up/new/disk", "../new/disk", "/new/disk", "vm/sub/three-up/new/disk", "dangling/x/disk"] {
        assert!(root.create_parents(name).is_err(), "{name}");
    }
    assert_eq!(fs::read_dir(house.path()).unwrap().count(), 2);
}

#[test]
fn a_link_that_is_exchanged_all_the_time_never_leads_out() {
    let (_house, root) = house();
    let (place, other) = (root.path().join("flips"), root.path().join("other"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for target in ["vm", "../"] {
                    symlink(target, &other).unwrap();
                    fs::rename(&other, &place).unwrap();
                }
            }
        });
        for _ in 0..2000 {
            if let Ok(file) = root.open_existing("flips/disk.raw") {
                assert_eq!(io::read_to_string(file).unwrap(), "disk");
            }
            assert!(root.open_existing("flips/secret").is_err());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
