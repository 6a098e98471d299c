//! What is written here, judged by the filesystems' own checkers and by the kernel.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockWrite, FileBlock, Memory};
use transload_filesystem::{
    Attributes, Copier, CopySettings, Existing, ExtVersion, FatBits, FileSystemExt, Follow, Host, MakeKind,
    MakeSettings, Owner, Timestamp, make, open_writable,
};
use transload_testkit::witness::{must, run, said};

use crate::compare::{Rules, assert_same, open};
use crate::mount::{self, Mount};
use crate::tree::{self, Limits};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
const ALL: CopySettings = CopySettings { recursive: true, existing: Existing::Replace, steady: true };

fn settings() -> MakeSettings {
    MakeSettings { label: "NEW".into(), uuid: *b"0123456789abcdef", now: NOW, hidden_sectors: 0 }
}

fn device(image: &Path) -> Arc<dyn BlockWrite> {
    Arc::new(FileBlock::open(image, true).unwrap())
}

fn new_image(image: &Path, size: u64, kind: MakeKind) {
    fs::File::create(image).unwrap().set_len(size).unwrap();
    make(&device(image), kind, &settings()).unwrap();
}

fn copy_in(image: &Path, source: &Path) -> Vec<String> {
    let filesystem = open_writable(device(image), NOW).unwrap();
    let host = Host::new(source);
    let mut copier = Copier::new(&host, &*filesystem, ALL);
    copier.copy_contents(transload_filesystem::FileSystem::root(&host), filesystem.root()).unwrap();
    filesystem.flush().unwrap();
    copier.skipped().to_vec()
}

fn assert_clean_ext(image: &Path) {
    let output = run("e2fsck", ["-f".as_ref(), "-n".as_ref(), image.as_os_str()]);
    assert!(output.status.success(), "{}", said(&output));
}

fn assert_clean_fat(image: &Path) {
    let output = run("fsck.fat", ["-n".as_ref(), "-v".as_ref(), image.as_os_str()]);
    let said = said(&output);
    assert!(output.status.success() && !said.contains("rong") && !said.contains("orphan"), "{said}");
}

/// A tree is copied in, compared, changed in every way and taken out again.
fn put_through(image: &Path, source: &Path, rules: Rules) {
    copy_in(image, source);
    assert_clean_ext(image);
    assert_same(&*open(image), source, rules);
    if mount::is_root()
        && let Some(mount) = Mount::new(image, "ext4", "ro")
    {
        assert_same(&*open(image), &mount.folder, rules);
    }
    let filesystem = open_writable(device(image), NOW).unwrap();
    let at = |path: &str| filesystem.resolve(path.as_bytes(), Follow::AllButLast).unwrap().id;
    let many = at("/many");
    for index in (0..200).step_by(2) {
        let name = format!("a file with a rather long name, number {index:05}");
        filesystem.remove(many, name.as_bytes()).unwrap();
    }
    filesystem.remove(at("/"), b"hard-link").unwrap();
    filesystem.remove(at("/"), b"sparse").unwrap();
    filesystem.remove(at("/"), b"empty").unwrap();
    assert!(filesystem.remove(at("/"), b"sizes").is_err(), "it is not empty");
    assert!(filesystem.remove(at("/"), b"nothing").is_err());
    let changed = Attributes {
        permissions: Some(0o640),
        owner: Some(Owner { uid: 100_000, gid: 7 }),
        xattrs: Some(Vec::new()),
        ..Attributes::default()
    };
    filesystem.set_attributes(at("/sizes/512"), &changed).unwrap();
    let contents = Memory::from(b"contents".to_vec());
    let id = filesystem.create_file(at("/many"), b"new", &contents, &Attributes::default()).unwrap();
    let twice = filesystem.create_file(at("/many"), b"new", &contents, &Attributes::default());
    assert_eq!(twice.unwrap_err().kind(), transload_block::ErrorKind::Denied);
    filesystem.link(at("/"), b"newer", id).unwrap();
    filesystem.flush().unwrap();
    assert_clean_ext(image);
    let filesystem = open(image);
    let id = filesystem.resolve(b"/sizes/512", Follow::All).unwrap().id;
    let metadata = filesystem.stat(id).unwrap();
    assert_eq!((metadata.permissions, metadata.owner.uid, metadata.owner.gid), (0o640, 100_000, 7));
    assert!(filesystem.xattrs(id).unwrap().is_empty());
    assert_eq!(filesystem.stat(filesystem.resolve(b"/newer", Follow::All).unwrap().id).unwrap().links, 2);
}

#[test]
fn trees_in_ext_are_clean_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: true, attributes: true, many: 300 });
    for (version, size) in [
        (ExtVersion::Ext2, 40 << 20),
        (ExtVersion::Ext3, 60 << 20),
        (ExtVersion::Ext4, 64 << 20),
        (ExtVersion::Ext4, 600 << 20),
    ] {
        eprintln!("{version:?} of {size}");
        let image = folder.path().join("image");
        new_image(&image, size, MakeKind::Ext(version));
        assert_clean_ext(&image);
        put_through(&image, &source, Rules { unix: true, time: Some(1), attributes: true });
        fs::remove_file(image).unwrap();
    }
}

/// The same on filesystems that mke2fs made, with what it makes in them.
#[test]
fn trees_in_what_mke2fs_makes_are_clean_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: true, attributes: true, many: 300 });
    let sets: [(&str, &[&str]); 6] = [
        ("ext4", &["-t", "ext4"]),
        ("ext4 with 1k", &["-t", "ext4", "-b", "1024"]),
        ("ext4 with old checksums", &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"]),
        ("ext4 with meta groups", &["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"]),
        ("ext3", &["-t", "ext3"]),
        ("ext2 of revision 0", &["-t", "ext2", "-r", "0", "-b", "1024"]),
    ];
    for (name, options) in sets {
        eprintln!("{name}");
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(80 << 20).unwrap();
        let text = image.display().to_string();
        must("mke2fs", ["-q", "-F"].iter().chain(options).chain([&text.as_str()]));
        let old = name.contains("revision 0");
        let rules = Rules { unix: !old, time: Some(u32::from(!old)), attributes: !old };
        put_through(&image, &source, rules);
        fs::remove_file(image).unwrap();
    }
}

/// A folder with a hash tree that the kernel made becomes a list.
#[test]
fn a_folder_with_a_hash_tree_gets_new_names() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for options in [["-t", "ext4", "-b", "1024"], ["-t", "ext3", "-b", "1024"]] {
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let text = image.display().to_string();
        must("mke2fs", ["-q", "-F"].into_iter().chain(options).chain([text.as_str()]));
        {
            let Some(mount) = Mount::new(&image, "ext4", "rw") else { return };
            for index in 0..3000 {
                fs::write(mount.folder.join(format!("some name in a large folder {index}")), b"x").unwrap();
            }
        }
        let filesystem = open_writable(device(&image), NOW).unwrap();
        for index in 0..100 {
            let name = format!("new {index}");
            let contents = Memory::from(vec![7; index]);
            filesystem.create_file(filesystem.root(), name.as_bytes(), &contents, &Attributes::default()).unwrap();
            filesystem
                .remove(filesystem.root(), format!("some name in a large folder {}", index * 7).as_bytes())
                .unwrap();
        }
        filesystem.flush().unwrap();
        assert_clean_ext(&image);
        let Some(mount) = Mount::new(&image, "ext4", "ro") else { return };
        assert_same(&*open(&image), &mount.folder, Rules { unix: true, time: Some(0), attributes: false });
    }
}

#[test]
fn a_filesystem_that_has_to_be_checked_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    for (command, what) in [("ssv state 0", "not unmounted"), ("feature needs_recovery", "journal")] {
        new_image(&image, 32 << 20, MakeKind::Ext(ExtVersion::Ext4));
        must("debugfs", ["-w", "-R", command, image.to_str().unwrap()]);
        let error = open_writable(device(&image), NOW).unwrap_err();
        assert_eq!(error.kind(), transload_block::ErrorKind::Unsupported, "{what}: {error}");
    }
}

#[test]
fn trees_in_fat_are_clean_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: false, attributes: false, many: 500 });
    let rules = Rules { unix: false, time: None, attributes: false };
    for (bits, size) in [(FatBits::Twelve, 16 << 20), (FatBits::Sixteen, 64 << 20), (FatBits::ThirtyTwo, 64 << 20)] {
        eprintln!("{bits:?}");
        let image = folder.path().join("image");
        new_image(&image, size, MakeKind::Fat(Some(bits)));
        assert_clean_fat(&image);
        assert!(copy_in(&image, &source).is_empty());
        assert_clean_fat(&image);
        assert_same(&*open(&image), &source, rules);
        let filesystem = open_writable(device(&image), NOW).unwrap();
        let many = filesystem.resolve(b"/MANY", Follow::All).unwrap().id;
        for index in 0..300 {
            filesystem.remove(many, format!("a file with a rather long name, number {index:05}").as_bytes()).unwrap();
        }
        filesystem.remove(filesystem.root(), b"sparse").unwrap();
        filesystem.remove(filesystem.root(), b"empty").unwrap();
        let sub = filesystem.create_dir(many, b"sub", &Attributes::default()).unwrap();
        filesystem.create_file(sub, b"a+b.txt", &Memory::from(b"x".to_vec()), &Attributes::default()).unwrap();
        for wrong in ["a:b", "dot.", "", "..", "a/b"] {
            assert!(filesystem.create_dir(sub, wrong.as_bytes(), &Attributes::default()).is_err(), "{wrong}");
        }
        filesystem.flush().unwrap();
        assert_clean_fat(&image);
        let listed = must("mdir", ["-b", "-i", image.to_str().unwrap(), "::/many/sub"]);
        assert!(listed.contains("a+b.txt"), "{listed}");
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: false, attributes: false, many: 20 });
    for kind in [MakeKind::Ext(ExtVersion::Ext4), MakeKind::Fat(None)] {
        let images = ["one", "two"].map(|name| {
            let image = folder.path().join(name);
            new_image(&image, 48 << 20, kind);
            copy_in(&image, &source);
            fs::read(image).unwrap()
        });
        assert!(images[0] == images[1], "{kind:?}");
    }
}

/// What does not fit is refused, and leaves nothing behind.
#[test]
fn a_full_filesystem_says_so_and_stays_clean() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    for (kind, size) in [(MakeKind::Ext(ExtVersion::Ext4), 8 << 20), (MakeKind::Fat(None), 4 << 20)] {
        new_image(&image, size, kind);
        let filesystem = open_writable(device(&image), NOW).unwrap();
        let contents = Memory::from(vec![1; 16 << 20]);
        let error = filesystem.create_file(filesystem.root(), b"large", &contents, &Attributes::default()).unwrap_err();
        assert_eq!(error.kind(), transload_block::ErrorKind::NoSpace);
        let small = Memory::from(vec![1; 1 << 20]);
        filesystem.create_file(filesystem.root(), b"small", &small, &Attributes::default()).unwrap();
        filesystem.flush().unwrap();
        match kind {
            MakeKind::Fat(_) => assert_clean_fat(&image),
            _ => assert_clean_ext(&image),
        }
    }
}
