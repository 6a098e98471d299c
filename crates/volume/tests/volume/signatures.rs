//! Superblocks that the filesystems' own tools make, as `blkid` reads them.

use std::path::Path;

use transload_testkit::witness;
use transload_volume::signature;

use crate::support::{Disk, reader};

/// Type, label and UUID as `blkid` has them.
pub(crate) fn blkid(path: &Path) -> (String, Option<String>, Option<String>) {
    let field = |tag: &str| {
        let arguments = ["--probe", "--output", "value", "--match-tag", tag].map(std::ffi::OsStr::new);
        let output = witness::run("blkid", arguments.into_iter().chain([path.as_os_str()]));
        let text = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
        (!text.is_empty()).then_some(text)
    };
    (field("TYPE").unwrap_or_default(), field("LABEL"), field("UUID"))
}

#[track_caller]
fn agrees(size: u64, program: &str, arguments: &[&str]) {
    let disk = Disk::new(size);
    let arguments =
        arguments.iter().map(|argument| if *argument == "{}" { disk.path.as_os_str() } else { (*argument).as_ref() });
    witness::must(program, arguments);
    let found = signature::probe(reader(&disk.path).as_ref()).unwrap().expect(program);
    assert_eq!(blkid(&disk.path), (found.format.name().to_owned(), found.label, found.uuid), "{program}");
}

#[test]
fn superblocks_of_linux_are_recognised() {
    for kind in ["ext2", "ext3", "ext4"] {
        agrees(16 << 20, "mkfs.ext4", &["-q", "-t", kind, "-L", "a label", "{}"]);
    }
    agrees(16 << 20, "mkfs.ext4", &["-q", "-O", "inline_data,metadata_csum,64bit", "{}"]);
    agrees(320 << 20, "mkfs.xfs", &["-q", "-L", "xfs label", "{}"]);
    agrees(320 << 20, "mkfs.btrfs", &["-q", "-L", "btrfs label", "{}"]);
    agrees(1 << 20, "mkswap", &["-L", "swap label", "{}"]);
    agrees(1 << 20, "mkswap", &["-p", "65536", "{}"]);
}

#[test]
fn superblocks_of_microsoft_are_recognised() {
    agrees(2 << 20, "mkfs.fat", &["-F", "12", "-n", "TWELVE", "{}"]);
    agrees(16 << 20, "mkfs.fat", &["-F", "16", "-n", "SIXTEEN", "{}"]);
    agrees(64 << 20, "mkfs.fat", &["-F", "32", "-n", "THIRTYTWO", "{}"]);
    agrees(64 << 20, "mkfs.fat", &["-F", "32", "-S", "4096", "{}"]);
    // A table in the boot sector that leads back to itself.
    agrees(64 << 20, "mkfs.fat", &["-F", "32", "--mbr=y", "{}"]);
    agrees(16 << 20, "mkntfs", &["-q", "-F", "-f", "-L", "Système", "{}"]);
    agrees(16 << 20, "mkntfs", &["-q", "-F", "-f", "-c", "65536", "-L", "large clusters", "{}"]);
    agrees(16 << 20, "mkfs.exfat", &["-L", "exFAT label", "{}"]);
}

#[test]
fn encrypted_volumes_are_named() {
    for (kind, label) in [("luks1", &[][..]), ("luks2", &["--label", "secret"][..])] {
        let disk = Disk::new(20 << 20);
        let key = disk.folder.path().join("key");
        std::fs::write(&key, "0123456789abcdef").unwrap();
        let image = disk.path.to_str().unwrap();
        let fixed =
            ["luksFormat", "--batch-mode", "--type", kind, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
        let arguments = [&fixed[..], label, &["--key-file", key.to_str().unwrap(), image]].concat();
        witness::must("cryptsetup", arguments);
        let found = signature::probe(disk.reader().as_ref()).unwrap().unwrap();
        assert_eq!(
            blkid(&disk.path),
            (found.format.name().to_owned(), found.label.clone(), found.uuid.clone()),
            "{found:?}"
        );
        assert_eq!(found.format.usage(), transload_volume::Usage::Encrypted);
    }
}

#[test]
fn discs_and_packed_trees_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("a file"), "text").unwrap();
    let (iso, packed) = (folder.path().join("disc.iso"), folder.path().join("tree.squashfs"));
    let (tree, iso, packed) = (tree.to_str().unwrap(), iso.to_str().unwrap(), packed.to_str().unwrap());
    witness::must("xorriso", ["-as", "mkisofs", "-quiet", "-J", "-R", "-V", "A_Label_Of_A_Disc", "-o", iso, tree]);
    witness::must("mksquashfs", [tree, packed, "-quiet", "-no-progress"]);
    for path in [iso, packed] {
        let found = signature::probe(reader(Path::new(path)).as_ref()).unwrap().unwrap();
        assert_eq!(blkid(Path::new(path)), (found.format.name().to_owned(), found.label, found.uuid), "{path}");
    }
}
