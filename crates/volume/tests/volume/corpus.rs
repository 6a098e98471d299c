//! Real tables of other makers, read as `sfdisk` reads them; real superblocks, as `blkid` does.

use transload_block::ErrorKind;
use transload_testkit::Corpus;
use transload_volume::{Contents, ReadSettings, Severity, VolumeName, Volumes, signature};

use crate::signatures::blkid;
use crate::support::{findings, reader, rows, sfdisk_rows, table};

/// Tables of sectors of 512 bytes.
const TABLES: &[&str] = &[
    "crate-gptman/tests/fixtures/disk1.img",
    "crate-gptman/tests/fixtures/disk3.img",
    "crate-gptman/tests/fixtures/disk5.img",
    "crate-mbrman/tests/fixtures/disk1.img",
    "crate-mbrman/tests/fixtures/disk2.img",
    "util-linux/ts/blkid/images-pt/gpt.img",
    "util-linux/ts/blkid/images-pt/dos+bsd.img",
    "dfvfs/mbr.raw",
    "dfvfs/gpt.raw",
    "dfvfs/gpt_empty_with_mbr.raw",
    "dfvfs/gpt_non_sequential.raw",
    "libguestfs/mbr-ext2-empty.img",
    "plaso/tsk_volume_system.raw",
];

#[test]
fn tables_are_read_as_sfdisk_reads_them() {
    let Some(corpus) = Corpus::get() else { return };
    for name in TABLES {
        let path = corpus.folder.join(name);
        let found = table(reader(&path).as_ref());
        assert_eq!(rows(&found), sfdisk_rows(&path), "{name}");
        assert_eq!(findings(&found, Severity::Damage), [""; 0], "{name}");
    }
}

#[test]
fn a_damaged_primary_gives_way_to_the_backup_and_says_so() {
    let Some(corpus) = Corpus::get() else { return };
    let folder = corpus.folder.join("crate-gptman/tests/fixtures");
    let (sound, damaged) =
        (table(reader(&folder.join("disk1.img")).as_ref()), table(reader(&folder.join("disk5.img")).as_ref()));
    assert_eq!(rows(&sound), rows(&damaged));
    assert_eq!(findings(&sound, Severity::Warning), [""; 0]);
    let said = findings(&damaged, Severity::Warning).concat();
    assert!(said.starts_with("primary GPT: the CRC of the entries") && said.contains("is used"), "{said}");
}

#[test]
fn sectors_of_4096_bytes_are_found_out() {
    let Some(corpus) = Corpus::get() else { return };
    for (name, expected) in
        [("disk2.img", [(24_576, 40_960), (286_720, 40_960)]), ("disk4.img", [(24_576, 180_224), (204_800, 180_224)])]
    {
        let table = table(reader(&corpus.folder.join("crate-gptman/tests/fixtures").join(name)).as_ref());
        assert_eq!(table.sector_size(), 4096);
        let places: Vec<_> =
            table.partitions().iter().map(|partition| (partition.range.start, partition.size())).collect();
        assert_eq!(places, expected, "{name}");
    }
}

#[test]
fn tables_of_other_machines_are_named_and_refused() {
    let Some(corpus) = Corpus::get() else { return };
    let cases = [("bsd.img", "BSD disklabel"), ("sgi.img", "SGI volume header"), ("sun.img", "Sun disklabel")];
    for (name, title) in cases {
        let path = corpus.folder.join("util-linux/ts/blkid/images-pt").join(name);
        let error = Contents::read(reader(&path).as_ref(), ReadSettings::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(title), "{error}");
    }
    // A slice of FreeBSD beside others is listed, and that its own partitions are not read is said.
    let path = corpus.folder.join("util-linux/ts/blkid/images-pt/dos+bsd.img");
    assert!(findings(&table(reader(&path).as_ref()), Severity::Warning).concat().contains("slice of freebsd"));
}

#[test]
fn superblocks_are_those_that_blkid_finds() {
    let Some(corpus) = Corpus::get() else { return };
    let folder = corpus.folder.join("util-linux/ts/blkid/images-fs");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // blkid cannot decide on the first, and the second is a log that no volume of ours is.
        if name == "erofs-minix-magic.img" || name == "xfs-log.img" {
            continue;
        }
        let found = signature::probe(reader(&path).as_ref()).unwrap().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(blkid(&path), (found.format.name().to_owned(), found.label, found.uuid), "{name}");
        seen += 1;
    }
    assert!(seen >= 24, "{seen}");
}

#[test]
fn filesystems_without_a_table_have_the_disk_to_themselves() {
    let Some(corpus) = Corpus::get() else { return };
    // Each of them ends its first sector with 55 AA, or has a table's worth of bytes before it.
    for name in [
        "dfvfs/fat12.raw",
        "dfvfs/ntfs.raw",
        "crate-ntfs/testdata/testfs1",
        "ext4-view/test_disk1.bin",
        "dfvfs/xfs.raw",
    ] {
        let contents = Contents::read(reader(&corpus.folder.join(name)).as_ref(), ReadSettings::default()).unwrap();
        assert!(matches!(&contents, Contents::Whole(Some(_))), "{name}: {contents:?}");
    }
}

#[test]
fn logical_volumes_of_another_maker_are_read() {
    let Some(corpus) = Corpus::get() else { return };
    let volumes = Volumes::scan(&reader(&corpus.folder.join("dfvfs/lvm.raw")), &[], ReadSettings::default()).unwrap();
    let name: VolumeName = "test_volume_group/test_logical_volume1".parse().unwrap();
    let found = volumes.find(&name).unwrap().signature().unwrap().unwrap();
    assert_eq!((found.format.name(), found.label.as_deref()), ("ext2", Some("ext2_test")));
    // The volume of dfvfs's own test of this image: an ext2 filesystem of 4 MiB.
    assert_eq!(volumes.find(&name).unwrap().size, 4 << 20);
}
