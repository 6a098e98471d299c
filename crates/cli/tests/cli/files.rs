//! Files in images, from the command line.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::run::{document, fail, run, succeed, transload};

const SCRIPT: &str = "\
# A disk with two partitions.
create 200M
partitions --init gpt --add size=64M,type=esp --add rest,type=linux
mkfs #1 --type fat32 --label ESP
mkfs #2 --type ext4 --label root
cp -r boot/. #1:/
cp -r root/. #2:/
mkdir -p #2:/a/b/c
ln -s ../etc/os-release #2:/a/link
chmod 600 #2:/etc/os-release
chown -R 5:6 #2:/a
cp #2:/etc/os-release '#1:/a copy.txt'
rm -r #2:/a/b
";

/// A folder with a script and the trees that it copies.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["boot/EFI/BOOT", "root/etc", "root/empty"] {
        fs::create_dir_all(path.join(name)).unwrap();
    }
    fs::write(path.join("boot/EFI/BOOT/BOOTX64.EFI"), vec![7; 70_000]).unwrap();
    fs::write(path.join("root/etc/os-release"), "ID=test\n").unwrap();
    fs::set_permissions(path.join("root/etc"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("/etc/os-release", path.join("root/absolute")).unwrap();
    fs::write(path.join("script.txt"), SCRIPT).unwrap();
    folder
}

#[test]
fn a_script_makes_the_same_image_every_time_and_in_every_format() {
    let folder = folder();
    let path = folder.path();
    for name in ["one.qcow2", "two.qcow2", "three.raw", "four.vmdk"] {
        succeed(path, &["script", "script.txt", name, "--seed", "1"]);
    }
    assert!(fs::read(path.join("one.qcow2")).unwrap() == fs::read(path.join("two.qcow2")).unwrap());
    for name in ["three.raw", "four.vmdk"] {
        succeed(path, &["compare", "one.qcow2", name]);
    }
    let listed = succeed(path, &["find", "one.qcow2:/"]);
    let names = "/\n/a\n/a/link\n/absolute\n/empty\n/etc\n/etc/os-release\n/lost+found\n";
    assert_eq!(listed, names);
    assert_eq!(succeed(path, &["cat", "four.vmdk#2:/a/link"]), "ID=test\n");
    assert_eq!(succeed(path, &["cat", "one.qcow2#1:/A COPY.TXT"]), "ID=test\n");
    let file = document(path, &["stat", "one.qcow2:/etc/os-release"]);
    assert_eq!((file["files"][0]["mode"].as_str(), file["files"][0]["size"].as_u64()), (Some("0600"), Some(8)));
    let link = document(path, &["ls", "-d", "one.qcow2:/a/link"]);
    assert_eq!((link["files"][0]["uid"].as_u64(), link["files"][0]["gid"].as_u64()), (Some(5), Some(6)));
    assert_sound(&path.join("three.raw"));
}

/// The filesystems of the raw image, as their own checkers see them.
fn assert_sound(image: &Path) {
    let disk = fs::read(image).unwrap();
    let (esp, root) = (image.with_extension("esp"), image.with_extension("root"));
    fs::write(&esp, &disk[1 << 20..65 << 20]).unwrap();
    // The last mebibyte holds the second copy of the table.
    fs::write(&root, &disk[65 << 20..disk.len() - (1 << 20)]).unwrap();
    for (program, arguments) in [("fsck.fat", vec!["-n"]), ("e2fsck", vec!["-f", "-n"])] {
        let file = if program == "e2fsck" { &root } else { &esp };
        let output = Command::new(program).args(arguments).arg(file).output();
        let output = output.expect("the checkers are needed: install dosfstools and e2fsprogs");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_script_that_fails_leaves_nothing_and_names_its_line() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("script.txt"), format!("{SCRIPT}rm #2:/nothing\n")).unwrap();
    let said = fail(path, &["script", "script.txt", "disk.qcow2"], 1);
    assert!(said.contains("script.txt:14: rm #2:/nothing") && said.contains("no such file"), "{said}");
    let left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    // A line that cannot be understood is found before anything is done.
    fs::write(path.join("script.txt"), "create 10M\nmkfs #1 --type nonsense\n").unwrap();
    assert!(fail(path, &["script", "script.txt", "disk.qcow2"], 2).contains("script.txt:2"));
    fs::write(path.join("script.txt"), "mkdir :/x\ncreate 10M\n").unwrap();
    assert!(fail(path, &["script", "script.txt", "disk.qcow2"], 2).contains("create is the first command"));
    fs::write(path.join("disk.raw"), b"mine").unwrap();
    fs::write(path.join("script.txt"), "create 10M\n").unwrap();
    fail(path, &["script", "script.txt", "disk.raw"], 6);
    assert_eq!(fs::read(path.join("disk.raw")).unwrap(), b"mine");
}

#[test]
fn files_are_copied_in_every_direction() {
    let folder = folder();
    let path = folder.path();
    succeed(path, &["script", "script.txt", "one.qcow2"]);
    succeed(path, &["script", "script.txt", "two.vmdk"]);
    succeed(path, &["cp", "one.qcow2#1:/EFI/BOOT/BOOTX64.EFI", "two.vmdk#2:/a/"]);
    succeed(path, &["cp", "two.vmdk#2:/a/BOOTX64.EFI", "back"]);
    assert!(fs::read(path.join("back")).unwrap() == vec![7; 70_000]);
    succeed(path, &["cp", "-r", "one.qcow2#2:/etc", "out"]);
    assert_eq!(fs::metadata(path.join("out")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read(path.join("out/os-release")).unwrap(), b"ID=test\n");
    assert!(fail(path, &["cp", "one.qcow2#2:/etc", "again"], 2).contains("copy folders with -r"));
    fail(path, &["cp", "-n", "back", "two.vmdk#2:/a/BOOTX64.EFI"], 6);
    // A link has no place in FAT: the rest is copied, and it is told.
    let said = fail(path, &["cp", "-r", "root/.", "one.qcow2#1:/"], 5);
    assert!(said.contains("absolute") && said.contains("1 files"), "{said}");
    assert_eq!(succeed(path, &["cat", "one.qcow2#1:/etc/os-release"]), "ID=test\n");
}

#[test]
fn what_is_missing_or_ambiguous_is_told() {
    let folder = folder();
    let path = folder.path();
    succeed(path, &["script", "script.txt", "disk.raw"]);
    assert!(fail(path, &["cat", "disk.raw:/nothing"], 1).contains("no such file"));
    assert!(fail(path, &["cat", "disk.raw:/etc"], 2).contains("no regular file"));
    assert!(fail(path, &["ls", "disk.raw#9:/"], 2).contains("no volume"));
    assert!(fail(path, &["mkfs", "disk.raw", "--type", "ext4"], 2).contains("#1"));
    assert!(fail(path, &["mkfs", "disk.raw#1", "--type", "ext4"], 6).contains("--force"));
    assert!(fail(path, &["rm", "disk.raw:/etc"], 2).contains("-r"));
    assert!(fail(path, &["mkdir", "disk.raw:/etc"], 6).contains("exists"));
    succeed(path, &["rm", "--force", "disk.raw:/none/at/all"]);
    succeed(path, &["rm", "disk.raw:/etc/os-release"]);
    let said = fail(path, &["ls", "disk.raw:/"], 2);
    assert!(said.contains("no volume holds a root filesystem") && said.contains("#1 (vfat), #2 (ext4)"), "{said}");
}

/// GNU tar finds in the archive what went into the image.
#[test]
fn gnu_tar_unpacks_a_tree_with_everything() {
    let folder = folder();
    let path = folder.path();
    let sparse = fs::File::create(path.join("root/sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 1 << 20).unwrap();
    fs::hard_link(path.join("root/sparse"), path.join("root/linked")).unwrap();
    fs::write(path.join("root").join("ü".repeat(60)), "long name").unwrap();
    succeed(path, &["script", "script.txt", "disk.qcow2"]);
    let archive = fs::File::create(path.join("tree.tar")).unwrap();
    let status = transload(path, &["tar", "disk.qcow2#2"]).stdout(archive).status().unwrap();
    assert!(status.success());
    fs::create_dir(path.join("unpacked")).unwrap();
    let output = Command::new("tar").args(["-xf", "tree.tar", "-C", "unpacked"]).current_dir(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let unpacked = path.join("unpacked");
    assert_eq!(fs::read(unpacked.join("sparse")).unwrap(), fs::read(path.join("root/sparse")).unwrap());
    assert_eq!(fs::read(unpacked.join("ü".repeat(60))).unwrap(), b"long name");
    assert_eq!(fs::read_link(unpacked.join("absolute")).unwrap(), Path::new("/etc/os-release"));
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(unpacked.join(name)).unwrap());
    assert_eq!(inode("sparse"), inode("linked"));
    let archive = fs::metadata(path.join("tree.tar")).unwrap().len();
    assert!(archive < 1 << 20, "the archive of a file with holes has {archive} bytes");
    let output = run(path, &["tar", "disk.qcow2#2:/nothing"]);
    assert_eq!(output.status.code(), Some(1));
}

/// All of a real system, out of four kinds of images, against what the kernel sees: every byte and all metadata.
#[test]
#[ignore = "takes minutes, and needs a disk that TRANSLOAD_REAL_DISK names (made by xtask/disks/make-disk.sh), and root"]
fn a_real_system_is_the_same_to_gnu_tar_on_the_kernels_mount() {
    let Some(disk) = std::env::var_os("TRANSLOAD_REAL_DISK").map(std::path::PathBuf::from) else {
        eprintln!("SKIPPED: TRANSLOAD_REAL_DISK names no disk");
        return;
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path();
    symlink(&disk, path.join("real.raw")).unwrap();
    let partitions = document(path, &["partitions", "real.raw"]);
    let root = partitions["partitions"].as_array().unwrap().iter().find(|part| part["number"] == 2).unwrap();
    let start = root["start"].as_u64().unwrap();
    let mounted = path.join("mounted");
    fs::create_dir(&mounted).unwrap();
    let options = format!("ro,loop,noload,offset={start}");
    let mount = Command::new("mount").args(["-o", &options]).arg(&disk).arg(&mounted).status().unwrap();
    if !mount.success() {
        eprintln!("SKIPPED: mounting is not possible here");
        return;
    }
    succeed(path, &["convert", "-c", "real.raw", "base.qcow2"]);
    succeed(path, &["create", "-o", "backing_file=base.qcow2,backing_fmt=qcow2", "chained.qcow2"]);
    succeed(path, &["convert", "real.raw", "real.vmdk"]);
    let mut wrong = Vec::new();
    for image in ["real.raw", "base.qcow2", "chained.qcow2", "real.vmdk"] {
        let mut archive = transload(path, &["tar", image]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let output = Command::new("tar")
            .args(["--diff", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-f", "-", "-C"])
            .arg(&mounted)
            .stdin(archive.stdout.take().unwrap())
            .output()
            .unwrap();
        if !archive.wait().unwrap().success() || !output.status.success() {
            wrong.push(format!("{image}: {}", String::from_utf8_lossy(&output.stdout)));
        }
    }
    assert!(Command::new("umount").arg(&mounted).status().unwrap().success());
    assert!(wrong.is_empty(), "{wrong:?}");
}
