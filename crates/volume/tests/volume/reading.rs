//! Tables that `sfdisk` makes, in all their shapes, and what happens to them on damaged and enlarged disks.

use transload_block::{BlockReadExt, ErrorKind, Memory};
use transload_testkit::witness;
use transload_volume::{Contents, ReadSettings, Role, Severity, VolumeName, Volumes};

use crate::support::{Disk, findings, rows, sfdisk_rows, table};

const MIB: u64 = 1 << 20;

#[test]
fn chains_of_logical_partitions_are_followed_to_their_end() {
    let disk = Disk::new(512 * MIB);
    let mut script = String::from("label: dos\nsize=20M, type=83\nsize=20M, type=7, bootable\ntype=f\n");
    for number in 0..50 {
        script.push_str(if number % 2 == 0 { "size=3M, type=83\n" } else { "size=2M, type=82\n" });
    }
    disk.sfdisk(&script);
    let found = table(disk.reader().as_ref());
    assert_eq!(rows(&found), sfdisk_rows(&disk.path));
    assert_eq!(found.partitions().len(), 53);
    assert_eq!(found.partitions()[2].role, Role::Extended);
    assert_eq!(found.partitions().iter().filter(|partition| partition.role == Role::Logical).count(), 50);
    assert!(found.findings().is_empty(), "{:?}", found.findings());
}

#[test]
fn a_chain_with_holes_in_it_is_numbered_as_linux_does() {
    let disk = Disk::new(256 * MIB);
    disk.sfdisk("label: dos\ntype=5\nsize=10M\nsize=20M\nsize=30M\nsize=40M\n");
    witness::must("sfdisk", ["--quiet".as_ref(), "--delete".as_ref(), disk.path.as_os_str(), "5".as_ref()]);
    witness::must("sfdisk", ["--quiet".as_ref(), "--delete".as_ref(), disk.path.as_os_str(), "6".as_ref()]);
    let found = table(disk.reader().as_ref());
    assert_eq!(rows(&found), sfdisk_rows(&disk.path));
    assert_eq!(found.partitions().len(), 3);
}

#[test]
fn an_empty_extended_partition_is_no_damage() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: dos\nsize=8M\ntype=5\n");
    let found = table(disk.reader().as_ref());
    assert_eq!((found.partitions().len(), found.findings().len()), (2, 0));
    assert_eq!(rows(&found), sfdisk_rows(&disk.path));
}

#[test]
fn names_types_and_attributes_of_a_gpt_are_read() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk(
        "label: gpt\ntable-length: 16\nsize=8M, type=U, name=\"Système EFI\", attrs=\"LegacyBIOSBootable\"\n\
         9: size=8M, type=L, name=\"𝔘𝔫𝔦𝔠𝔬𝔡𝔢\", attrs=\"RequiredPartition,GUID:60,63\"\n",
    );
    let found = table(disk.reader().as_ref());
    assert_eq!(rows(&found), sfdisk_rows(&disk.path));
    let last = found.partitions().pop().unwrap();
    assert_eq!((last.number, last.attributes), (9, 1 | 1 << 60 | 1 << 63));
}

#[test]
fn either_copy_of_a_gpt_is_enough() {
    let disk = Disk::new(4 * MIB);
    disk.sfdisk("label: gpt\nsize=1M, name=one\nsize=1M, name=two\n");
    let sound = rows(&table(disk.reader().as_ref()));
    let bytes = disk.reader().read_vec(0, 4 * MIB).unwrap();
    let last = 4 * MIB - 512;
    // The header, its CRC, the array, its place, the size of an entry, the disk's GUID, all of it; and what then is said.
    for (at, length) in [(512, 512), (528, 4), (1100, 1), (584, 8), (596, 4), (568, 16), (512, 34 * 512)] {
        let damaged = Memory::from(bytes.clone());
        let zeroes = vec![0xa5; length];
        transload_block::BlockWrite::write_at(&damaged, &zeroes, at).unwrap();
        let found = table(&damaged);
        assert_eq!(rows(&found), sound, "{at}");
        let said = findings(&found, Severity::Warning).concat();
        assert!(said.contains("primary GPT") && said.contains("is used"), "{at}: {said}");
        transload_block::BlockWrite::write_at(&damaged, &zeroes[..length.min(512)], last + at.min(560) - 512).unwrap();
        let error = Contents::read(&damaged, ReadSettings::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
    }
    for at in [last, last + 20, last - 100 * 128] {
        let damaged = Memory::from(bytes.clone());
        transload_block::BlockWrite::write_at(&damaged, &[0x5a; 4], at).unwrap();
        let found = table(&damaged);
        assert_eq!(rows(&found), sound, "{at}");
        assert!(findings(&found, Severity::Warning).concat().contains("backup GPT"), "{at}: {:?}", found.findings());
    }
}

#[test]
fn a_disk_that_was_cut_off_is_damaged_and_one_that_grew_is_not() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: gpt\nsize=8M\n- \n");
    disk.resize(96 * MIB);
    let grown = table(disk.reader().as_ref());
    assert_eq!(findings(&grown, Severity::Damage), [""; 0]);
    assert!(findings(&grown, Severity::Warning).concat().contains("enlarged"));
    disk.resize(32 * MIB);
    let cut = table(disk.reader().as_ref());
    assert!(findings(&cut, Severity::Damage).concat().contains("cut off"));
    let volumes = Volumes::scan(&disk.reader(), &[], ReadSettings::default()).unwrap();
    assert!(volumes.find(&VolumeName::Partition(1)).unwrap().device().is_ok());
    let last = volumes.find(&VolumeName::Partition(2)).unwrap();
    assert_eq!(last.device().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_hybrid_table_is_a_gpt_and_a_lost_guard_is_missed() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: gpt\nsize=8M\nsize=8M\n");
    let sound = rows(&table(disk.reader().as_ref()));
    witness::must("sgdisk", ["--hybrid=1".as_ref(), disk.path.as_os_str()]);
    let hybrid = table(disk.reader().as_ref());
    assert_eq!(rows(&hybrid), sound);
    assert!(findings(&hybrid, Severity::Warning).concat().contains("hybrid"), "{:?}", hybrid.findings());
    disk.writer().write_at(&[0; 512], 0).unwrap();
    let unguarded = table(disk.reader().as_ref());
    assert_eq!(rows(&unguarded), sound);
    assert!(findings(&unguarded, Severity::Warning).concat().contains("protective MBR"));
}

#[test]
fn a_table_of_a_former_life_is_not_brought_back() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: gpt\nsize=8M\n");
    // What overwrites the start of a disk: a filesystem, with the old backup still at the end.
    witness::must("mkfs.fat", ["-F".as_ref(), "32".as_ref(), "-I".as_ref(), disk.path.as_os_str()]);
    let backup = disk.reader().read_vec(64 * MIB - 512, 8).unwrap();
    assert_eq!(backup, b"EFI PART");
    let contents = Contents::read(disk.reader().as_ref(), ReadSettings::default()).unwrap();
    assert!(matches!(&contents, Contents::Whole(Some(found)) if found.format.name() == "vfat"), "{contents:?}");
}

#[test]
fn a_volume_is_the_bytes_of_its_partition() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: gpt\nsize=8M\nsize=8M\n");
    disk.writer().write_at(b"here", 9 * MIB).unwrap();
    let volumes = Volumes::scan(&disk.reader(), &[], ReadSettings::default()).unwrap();
    let device = volumes.find(&VolumeName::Partition(2)).unwrap().device().unwrap();
    assert_eq!((device.size(), device.read_vec(0, 4).unwrap()), (8 * MIB, b"here".to_vec()));
    let writer =
        transload_volume::writable(&disk.writer(), &VolumeName::Partition(2), ReadSettings::default()).unwrap();
    writer.write_at(b"there", 0).unwrap();
    assert_eq!(disk.reader().read_vec(9 * MIB, 5).unwrap(), b"there");
    assert_eq!(writer.write_at(b"x", 8 * MIB).unwrap_err().kind(), ErrorKind::OutOfRange);
    let error = volumes.find(&VolumeName::Partition(3)).unwrap_err();
    assert!(error.to_string().contains("it has 1, 2"), "{error}");
}
