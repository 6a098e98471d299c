//! XFS, exFAT and ISO 9660, as the kernel and the tools of each make them.

use std::fs;
use std::process::Command;

use transload_testkit::witness::{must, run, said};

use crate::compare::{Rules, assert_same, open};
use crate::mount::{self, Mount};
use crate::tree::{self, Limits};

#[test]
fn trees_in_xfs_are_read() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sets: [(&str, &[&str]); 4] = [
        ("default", &[]),
        ("1k", &["-b", "size=1024", "-n", "size=4096"]),
        ("large inodes", &["-i", "size=1024", "-m", "bigtime=1,reflink=1"]),
        ("v4", &["-m", "crc=0", "-n", "ftype=0"]),
    ];
    for (name, options) in sets {
        eprintln!("{name}");
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let text = image.display().to_string();
        must("mkfs.xfs", ["-q", "-f", "-L", "a label"].iter().chain(options).chain([&text.as_str()]));
        {
            let Some(mount) = Mount::new(&image, "xfs", "rw") else { continue };
            tree::make(&mount.folder, Limits { unix: true, attributes: true, many: 1200 });
            let file = mount.folder.join("sizes/1");
            for number in 0..40 {
                let (name, value) = (format!("user.number-{number}"), "v".repeat(number * 40));
                must("setfattr", ["-n", &name, "-v", &value, file.to_str().unwrap()]);
            }
            fragment(&mount.folder);
        }
        let filesystem = open(&image);
        assert_eq!(filesystem.info().label, "a label");
        let Some(mount) = Mount::new(&image, "xfs", "ro") else { return };
        assert_same(&*filesystem, &mount.folder, Rules { unix: true, time: Some(1), attributes: true });
        drop(mount);
        fs::remove_file(image).unwrap();
    }
}

/// A file in so many pieces that its extents need a tree.
fn fragment(root: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(root.join("fragmented")).unwrap();
    for round in 0..400_u64 {
        file.write_all_at(&vec![u8::try_from(round % 251).unwrap(); 4096], round * 8192).unwrap();
    }
}

/// A log with changes in it is not passed over.
#[test]
fn an_xfs_that_is_mounted_is_refused() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, copy) = (folder.path().join("image"), folder.path().join("copy"));
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    must("mkfs.xfs", ["-q", image.to_str().unwrap()]);
    let Some(mount) = Mount::new(&image, "xfs", "rw") else { return };
    fs::write(mount.folder.join("file"), b"x").unwrap();
    fs::File::open(mount.folder.join("file")).unwrap().sync_all().unwrap();
    fs::copy(&image, &copy).unwrap();
    let device = std::sync::Arc::new(transload_block::FileBlock::open(&copy, false).unwrap());
    let error = transload_filesystem::open(device).unwrap_err();
    assert_eq!(error.kind(), transload_block::ErrorKind::Unsupported, "{error}");
}

#[test]
fn trees_in_iso_9660_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: true, attributes: false, many: 300 });
    // genisoimage cuts such a link off, as isoinfo shows.
    fs::remove_file(source.join("long-link")).unwrap();
    for (name, program, options) in [
        ("Rock Ridge by genisoimage", "genisoimage", vec!["-R", "-quiet", "-allow-limited-size"]),
        ("Rock Ridge and Joliet by xorriso", "xorriso", vec!["-as", "mkisofs", "-R", "-J", "-joliet-long", "-quiet"]),
    ] {
        eprintln!("{name}");
        let image = folder.path().join("image.iso");
        let output = Command::new(program).args(&options).arg("-o").arg(&image).arg(&source).output();
        let output = output.unwrap_or_else(|_| panic!("{program} is needed: install {program}"));
        assert!(output.status.success(), "{}", said(&output));
        // Times are whole seconds; genisoimage sets aside the number of links.
        assert_same(&*open(&image), &source, Rules { unix: program == "xorriso", time: Some(0), attributes: false });
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn trees_with_joliet_names_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("a folder")).unwrap();
    for name in ["grüße", "名前", "with blank", "Mixed.Case.txt", "a folder/file"] {
        fs::write(source.join(name), name).unwrap();
    }
    let image = folder.path().join("image.iso");
    let output = Command::new("genisoimage")
        .args(["-J", "-quiet", "-input-charset", "utf-8", "-o"])
        .args([&image, &source])
        .output()
        .expect("genisoimage is needed: install genisoimage");
    assert!(output.status.success(), "{}", said(&output));
    assert_same(&*open(&image), &source, Rules { unix: false, time: Some(0), attributes: false });
}

#[test]
fn an_exfat_of_its_own_tools_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    must("mkfs.exfat", ["-L", "LABEL", image.to_str().unwrap()]);
    let filesystem = open(&image);
    assert_eq!(filesystem.info().label, "LABEL");
    assert!(transload_filesystem::FileSystemExt::entries(&*filesystem, filesystem.root()).unwrap().is_empty());
    let output = run("fsck.exfat", ["-n", image.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn trees_in_squashfs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: true, attributes: true, many: 300 });
    for options in [
        vec!["-comp", "gzip"],
        vec!["-comp", "xz", "-b", "1M"],
        vec!["-comp", "lz4"],
        vec!["-comp", "zstd", "-b", "4096"],
        vec!["-noI", "-noD", "-noF", "-noX"],
        vec!["-no-fragments"],
    ] {
        eprintln!("{options:?}");
        let image = folder.path().join("image");
        let output =
            Command::new("mksquashfs").args([&source, &image]).args(&options).args(["-quiet", "-no-progress"]).output();
        let output = output.expect("mksquashfs is needed: install squashfs-tools");
        assert!(output.status.success(), "{}", said(&output));
        assert_same(&*open(&image), &source, Rules { unix: true, time: Some(0), attributes: true });
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn trees_in_btrfs_are_read() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("plain", "rw"),
        ("zstd", "compress-force=zstd"),
        ("zlib", "compress-force=zlib"),
        ("lzo", "compress-force=lzo"),
    ] {
        eprintln!("{name}");
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(300 << 20).unwrap();
        must("mkfs.btrfs", ["-q", "-f", "-L", "a label", image.to_str().unwrap()]);
        {
            let Some(mount) = Mount::new(&image, "btrfs", options) else { return };
            tree::make(&mount.folder, Limits { unix: true, attributes: true, many: 800 });
            must("btrfs", ["-q", "subvolume", "create", mount.folder.join("subvolume").to_str().unwrap()]);
            fs::write(mount.folder.join("subvolume/file"), b"in a subvolume").unwrap();
        }
        let filesystem = open(&image);
        assert_eq!(filesystem.info().label, "a label");
        let Some(mount) = Mount::new(&image, "btrfs", "ro") else { return };
        assert_same(&*filesystem, &mount.folder, Rules { unix: true, time: Some(1), attributes: true });
        drop(mount);
        fs::remove_file(image).unwrap();
    }
}
