//! Tables that we make, judged by `sfdisk`, `sgdisk` and `parted`.

use std::ffi::OsStr;

use transload_block::{BlockReadExt, ErrorKind, Memory};
use transload_testkit::{CrashStorage, witness};
use transload_volume::{ALIGNMENT, Change, Identifiers, Kind, NewPartition, Role, Scheme, Severity, Size, Table};

use crate::support::{Disk, findings, rows, sfdisk_rows, table};

const MIB: u64 = 1 << 20;

fn ids() -> Identifiers {
    Identifiers::from_material(b"a test")
}

fn new(scheme: Scheme, kind: &str, size: Size) -> NewPartition {
    NewPartition::new(Kind::parse(kind, scheme).expect("a type"), size)
}

fn exact(mebibytes: u64) -> Size {
    Size::Exact(mebibytes * MIB)
}

fn add(table: &mut Table, disk: &Disk, new: &NewPartition) -> u32 {
    table.add(disk.reader().size(), new, ALIGNMENT, &ids()).expect("room")
}

/// Our reader, sfdisk and sgdisk agree on the table, and find nothing wrong.
#[track_caller]
fn judge(disk: &Disk) -> Table {
    let read = table(disk.reader().as_ref());
    assert_eq!(rows(&read), sfdisk_rows(&disk.path));
    assert!(read.findings().is_empty(), "{:?}", read.findings());
    let verdict = witness::must("sfdisk", ["--verify".as_ref(), disk.path.as_os_str()]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
    if read.scheme() == Scheme::Gpt {
        let said = witness::must("sgdisk", ["--verify".as_ref(), disk.path.as_os_str()]);
        assert!(said.contains("No problems found"), "{said}");
    }
    read
}

#[test]
fn a_gpt_of_ours_is_sound_to_everybody() {
    let disk = Disk::new(256 * MIB);
    let mut table = Table::create(Scheme::Gpt, 256 * MIB, 512, &ids()).unwrap();
    let mut esp = new(Scheme::Gpt, "esp", exact(64));
    esp.name = String::from("EFI system");
    esp.active = true;
    assert_eq!(add(&mut table, &disk, &esp), 1);
    assert_eq!(add(&mut table, &disk, &new(Scheme::Gpt, "swap", exact(16))), 2);
    let root = NewPartition { name: String::from("Größe 𝔘"), ..new(Scheme::Gpt, "linux", Size::Rest) };
    assert_eq!(add(&mut table, &disk, &root), 3);
    table.initialise(disk.writer().as_ref()).unwrap();
    let read = judge(&disk);
    let rows = rows(&read);
    assert_eq!((rows[0].1, rows[0].2, rows[2].1), (2048, 64 * 2048, 81 * 2048));
    // The rest ends on the grid too, before the backup.
    assert_eq!(rows[2].1 + rows[2].2, 255 * 2048);
    let parted = witness::must("parted", ["-m", "-s", disk.path.to_str().unwrap(), "unit", "B", "print"]);
    assert!(parted.contains("1:1048576B:68157439B:67108864B::EFI system:boot, legacy_boot, esp;"), "{parted}");
    assert!(parted.contains(":gpt:"), "{parted}");
}

#[test]
fn an_mbr_with_logical_partitions_of_ours_is_sound_to_everybody() {
    let disk = Disk::new(512 * MIB);
    let mut table = Table::create(Scheme::Mbr, 512 * MIB, 512, &ids()).unwrap();
    let mut boot = new(Scheme::Mbr, "linux", exact(64));
    boot.active = true;
    assert_eq!(add(&mut table, &disk, &boot), 1);
    assert_eq!(add(&mut table, &disk, &new(Scheme::Mbr, "extended", Size::Rest)), 2);
    for (number, kind) in ["swap", "lvm", "fat32", "linux"].into_iter().enumerate() {
        let size = if kind == "linux" { Size::Rest } else { exact(32 + number as u64) };
        let logical = NewPartition { logical: true, ..new(Scheme::Mbr, kind, size) };
        assert_eq!(add(&mut table, &disk, &logical), 5 + u32::try_from(number).unwrap());
    }
    table.initialise(disk.writer().as_ref()).unwrap();
    let read = judge(&disk);
    assert_eq!(read.partitions().iter().filter(|partition| partition.role == Role::Logical).count(), 4);
    let parted = witness::must("parted", ["-m", "-s", disk.path.to_str().unwrap(), "unit", "MiB", "print"]);
    assert_eq!(parted.lines().filter(|line| line.ends_with(';') && line.contains("MiB:")).count(), 7, "{parted}");

    // Out of the middle, out of the front, and in again: the chain stays whole.
    let mut edited = read;
    edited.delete(7).unwrap();
    edited.delete(5).unwrap();
    edited.write(disk.writer().as_ref()).unwrap();
    let mut edited = judge(&disk);
    assert_eq!(edited.partitions().len(), 4);
    let logical = NewPartition { logical: true, ..new(Scheme::Mbr, "swap", exact(8)) };
    assert_eq!(add(&mut edited, &disk, &logical), 5);
    let active = Change { active: Some(true), kind: Some(Kind::Mbr(0x8e)), ..Change::default() };
    edited.change(6, &active).unwrap();
    edited.write(disk.writer().as_ref()).unwrap();
    let mut edited = judge(&disk);
    assert_eq!(
        edited
            .partitions()
            .iter()
            .filter(|partition| partition.active)
            .map(|partition| partition.number)
            .collect::<Vec<_>>(),
        [6]
    );
    assert_eq!(edited.delete(2).unwrap_err().kind(), ErrorKind::InvalidInput);
    for number in [7, 6, 5, 2] {
        edited.delete(number).unwrap();
    }
    edited.write(disk.writer().as_ref()).unwrap();
    assert_eq!(judge(&disk).partitions().len(), 1);
}

#[test]
fn chains_of_sfdisk_are_edited_and_stay_sound() {
    let disk = Disk::new(256 * MIB);
    disk.sfdisk("label: dos\nsize=10M\ntype=5\nsize=10M\nsize=20M\nsize=30M\n");
    let before = disk.reader().read_vec(0, 440).unwrap();
    let mut table = judge(&disk);
    table.delete(6).unwrap();
    let logical = NewPartition { logical: true, ..new(Scheme::Mbr, "swap", exact(5)) };
    assert_eq!(add(&mut table, &disk, &logical), 6);
    table.write(disk.writer().as_ref()).unwrap();
    judge(&disk);
    assert_eq!(disk.reader().read_vec(0, 440).unwrap(), before);
}

#[test]
fn tables_of_others_are_edited_and_keep_what_we_do_not_know() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: gpt\nsize=8M, name=one\nsize=8M, name=two\nsize=8M, name=three\n");
    // Boot code, and the bytes behind it that no table owns.
    disk.writer().write_at(&[0x90; 440], 0).unwrap();
    let uuid = table(disk.reader().as_ref()).partitions()[2].guid;
    let mut edited = table(disk.reader().as_ref());
    edited.delete(2).unwrap();
    let change = Change {
        name: Some(String::from("changed")),
        kind: Some(Kind::ESP),
        attributes: Some(1),
        active: Some(true),
        ..Change::default()
    };
    edited.change(1, &change).unwrap();
    let wanted = NewPartition { number: Some(7), start: Some(40 * MIB), ..new(Scheme::Gpt, "lvm", exact(4)) };
    assert_eq!(add(&mut edited, &disk, &wanted), 7);
    edited.write(disk.writer().as_ref()).unwrap();
    let read = judge(&disk);
    let partitions = read.partitions();
    assert_eq!(partitions.iter().map(|partition| partition.number).collect::<Vec<_>>(), [1, 3, 7]);
    assert_eq!((partitions[0].name.as_str(), partitions[0].attributes, partitions[1].guid), ("changed", 5, uuid));
    assert_eq!(disk.reader().read_vec(0, 440).unwrap(), [0x90; 440]);
}

#[test]
fn the_backup_follows_the_end_of_the_disk() {
    let disk = Disk::new(64 * MIB);
    disk.sfdisk("label: gpt\nsize=8M, name=one\nsize=8M\n");
    for size in [96 * MIB, 40 * MIB, 40 * MIB + 512] {
        disk.resize(size);
        let mut table = table(disk.reader().as_ref());
        table.fit(size).unwrap();
        table.write(disk.writer().as_ref()).unwrap();
        judge(&disk);
        assert_eq!(disk.reader().read_vec(size - 512, 8).unwrap(), b"EFI PART");
        // Nothing is left of the former one.
        let former = disk.reader().read_vec(40 * MIB - 512, 8).unwrap();
        assert_eq!(former == b"EFI PART", size == 40 * MIB);
    }
    let mut table = table(disk.reader().as_ref());
    assert_eq!(table.fit(16 * MIB).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_restored_primary_is_as_it_was() {
    let disk = Disk::new(8 * MIB);
    disk.sfdisk("label: gpt\nsize=2M, name=one\nsize=2M\n");
    let sound = disk.reader().read_vec(0, 8 * MIB).unwrap();
    disk.writer().write_at(&[0; 40 * 512], 512).unwrap();
    let read = table(disk.reader().as_ref());
    assert!(findings(&read, Severity::Warning).concat().contains("is used"));
    read.write(disk.writer().as_ref()).unwrap();
    judge(&disk);
    assert!(disk.reader().read_vec(0, 8 * MIB).unwrap() == sound);
}

#[test]
fn sectors_of_4096_bytes_are_written() {
    let disk = Disk::new(64 * MIB);
    let mut table = Table::create(Scheme::Gpt, 64 * MIB, 4096, &ids()).unwrap();
    add(&mut table, &disk, &new(Scheme::Gpt, "linux", exact(8)));
    add(&mut table, &disk, &new(Scheme::Gpt, "esp", Size::Rest));
    table.initialise(disk.writer().as_ref()).unwrap();
    let read = crate::support::table(disk.reader().as_ref());
    assert_eq!((read.sector_size(), read.findings().len()), (4096, 0));
    let listed = witness::must("fdisk", ["-b", "4096", "-o", "Start,Sectors,Type", "-l", disk.path.to_str().unwrap()]);
    let lines: Vec<_> =
        listed.lines().filter(|line| line.contains("Linux filesystem") || line.contains("EFI System")).collect();
    let numbers: Vec<Vec<&str>> = lines.iter().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(numbers, [["256", "2048"], ["2304", "13824"]], "{listed}");
}

#[test]
fn the_same_wishes_make_the_same_bytes() {
    let make = |seed: &[u8]| {
        let disk = Disk::new(8 * MIB);
        let ids = Identifiers::from_material(seed);
        let mut table = Table::create(Scheme::Gpt, 8 * MIB, 512, &ids).unwrap();
        for _ in 0..2 {
            table.add(8 * MIB, &new(Scheme::Gpt, "linux", exact(2)), ALIGNMENT, &ids).unwrap();
        }
        table.initialise(disk.writer().as_ref()).unwrap();
        disk.reader().read_vec(0, 8 * MIB).unwrap()
    };
    assert!(make(b"one") == make(b"one"));
    assert!(make(b"one") != make(b"two"));
}

#[test]
fn a_new_table_leaves_nothing_of_the_old_contents() {
    let disk = Disk::new(64 * MIB);
    witness::must("mkfs.ext4", [OsStr::new("-q"), OsStr::new("-F"), disk.path.as_os_str()]);
    Table::create(Scheme::Gpt, 64 * MIB, 512, &ids()).unwrap().initialise(disk.writer().as_ref()).unwrap();
    assert!(sfdisk_rows(&disk.path).is_empty());
    Table::create(Scheme::Mbr, 64 * MIB, 512, &ids()).unwrap().initialise(disk.writer().as_ref()).unwrap();
    let said = witness::must(
        "blkid",
        [OsStr::new("--probe"), OsStr::new("--output"), OsStr::new("export"), disk.path.as_os_str()],
    );
    assert!(said.contains("PTTYPE=dos") && !said.contains("TYPE=ext4"), "{said}");
    assert!(witness::must("wipefs", [disk.path.as_os_str()]).lines().skip(1).all(|line| line.contains("dos")));
}

#[test]
fn what_there_is_no_room_for_is_refused() {
    let disk = Disk::new(16 * MIB);
    let mut gpt = Table::create(Scheme::Gpt, 16 * MIB, 512, &ids()).unwrap();
    let refused = |table: &mut Table, new: &NewPartition| {
        let error = table.add(16 * MIB, new, ALIGNMENT, &ids()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    };
    refused(&mut gpt, &new(Scheme::Gpt, "linux", exact(15)));
    refused(&mut gpt, &new(Scheme::Gpt, "linux", Size::Exact(0)));
    refused(&mut gpt, &new(Scheme::Gpt, "linux", Size::Exact(u64::MAX)));
    refused(&mut gpt, &NewPartition { start: Some(0), ..new(Scheme::Gpt, "linux", exact(1)) });
    refused(&mut gpt, &NewPartition { start: Some(MIB + 1), ..new(Scheme::Gpt, "linux", exact(1)) });
    refused(&mut gpt, &NewPartition { number: Some(129), ..new(Scheme::Gpt, "linux", exact(1)) });
    refused(&mut gpt, &NewPartition { name: "x".repeat(37), ..new(Scheme::Gpt, "linux", exact(1)) });
    refused(&mut gpt, &NewPartition { logical: true, ..new(Scheme::Gpt, "linux", exact(1)) });
    let mut mbr = Table::create(Scheme::Mbr, 16 * MIB, 512, &ids()).unwrap();
    refused(&mut mbr, &NewPartition { logical: true, ..new(Scheme::Mbr, "linux", exact(1)) });
    refused(&mut mbr, &NewPartition { name: String::from("x"), ..new(Scheme::Mbr, "linux", exact(1)) });
    refused(&mut mbr, &NewPartition::new(Kind::Mbr(0xee), exact(1)));
    for _ in 0..4 {
        add(&mut mbr, &disk, &new(Scheme::Mbr, "linux", exact(1)));
    }
    refused(&mut mbr, &new(Scheme::Mbr, "linux", exact(1)));
    assert_eq!(Table::create(Scheme::Gpt, 30 << 10, 512, &ids()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Table::create(Scheme::Mbr, MIB, 1024, &ids()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_crash_leaves_the_old_table_or_the_new_one() {
    let size = 128 << 10;
    let storage = CrashStorage::new(Memory::new(size));
    let mut table = Table::create(Scheme::Gpt, size as u64, 512, &ids()).unwrap();
    let partition = new(Scheme::Gpt, "linux", Size::Exact(4096));
    table.add(size as u64, &partition, 512, &ids()).unwrap();
    table.initialise(&storage).unwrap();
    storage.settle();
    let before = table.partitions();
    table.add(size as u64, &partition, 512, &ids()).unwrap();
    table.change(1, &Change { name: Some(String::from("renamed")), ..Change::default() }).unwrap();
    table.write(&storage).unwrap();
    let after = table.partitions();
    let mut seen = [0; 2];
    for crash in storage.every_crash() {
        let found = crate::support::table(&crash.file);
        assert!(findings(&found, Severity::Damage).is_empty(), "{:?}", found.findings());
        let partitions = found.partitions();
        assert!(partitions == before || partitions == after, "after {} events: {partitions:?}", crash.events);
        seen[usize::from(partitions == after)] += 1;
    }
    assert!(seen[0] > 2 && seen[1] > 2, "{seen:?}");
}
