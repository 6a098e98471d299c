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
    let found = signature::probe(reader(&disk.path).as_ref()).expect("a disk that can be read").expect(program);
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

#[test]
fn superblocks_that_no_tool_here_makes_are_those_that_blkid_knows() {
    const MIB: usize = 1 << 20;
    let fve = b"-FVE-FS-";
    let metadata = [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
    let long = |value: u64| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    let numbers: Vec<u8> = (1..17).collect();
    type Pieces = Vec<(usize, Vec<u8>)>;
    let raid = |minor: u32| [word(0xa92b_4efc), word(minor)].concat();
    let old_raid = 4 * MIB - 65_536;
    let cases: Vec<(&str, Pieces)> = vec![
        (
            "BitLocker",
            vec![
                (0, b"\xeb\x58\x90".to_vec()),
                (3, fve.to_vec()),
                (11, vec![0, 2]),
                (160, metadata.to_vec()),
                (176, long(MIB as u64)),
                (510, vec![0x55, 0xaa]),
                (MIB, [&fve[..], &[64, 0, 2, 0]].concat()),
            ],
        ),
        (
            "linux_raid_member",
            vec![(4096, raid(1)), (4112, numbers.clone()), (4128, b"host:md0".to_vec()), (4240, long(8))],
        ),
        (
            "linux_raid_member",
            vec![
                (old_raid, [raid(0), word(90)].concat()),
                (old_raid + 20, word(0x0102_0304)),
                (old_raid + 52, [word(5), word(6), word(7)].concat()),
            ],
        ),
        ("ReFS", vec![(3, b"ReFS".to_vec()), (16, b"FSRS".to_vec())]),
        (
            "apfs",
            vec![
                (8, long(1)),
                (24, word(0x8000_0001)),
                (32, b"NXSB".to_vec()),
                (36, word(4096)),
                (72, numbers.clone()),
            ],
        ),
        ("VMFS_volume_member", vec![(MIB, word(0xc001_d00d))]),
        ("hfsplus", vec![(1024, b"H+\0\x04".to_vec()), (1064, vec![0, 0, 16, 0])]),
        (
            "f2fs",
            vec![(1024, word(0xf2f5_2010)), (1028, vec![1, 0, 14, 0]), (1132, numbers), (1148, b"f\0l\0".to_vec())],
        ),
    ];
    for (name, pieces) in cases {
        let disk = Disk::new(4 * MIB as u64);
        for (at, bytes) in pieces {
            disk.writer().write_at(&bytes, at as u64).unwrap();
        }
        let found = signature::probe(disk.reader().as_ref()).unwrap().unwrap();
        assert_eq!(found.format.name(), name);
        assert_eq!(blkid(&disk.path), (name.to_owned(), found.label, found.uuid), "{name}");
    }
}
