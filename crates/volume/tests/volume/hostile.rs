//! Tables that lie: each ends in what it says here, quickly and in little memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, BlockReadExt, BlockWrite, ErrorKind, Memory};
use transload_volume::{Contents, ReadSettings, Severity, Table, Volumes};

use crate::support::{Disk, findings};

const MIB: u64 = 1 << 20;

/// A change to the header of a GPT, of which both CRCs are made right again.
fn with_header(bytes: &[u8], change: impl Fn(&mut [u8])) -> Memory {
    let mut bytes = bytes.to_vec();
    let crc = |header: &mut [u8]| {
        header[16..20].fill(0);
        let size = u32::from_le_bytes(header[12..16].try_into().expect("a disk in memory")) as usize;
        let crc = crc32fast::hash(&header[..size.clamp(92, 512)]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
    };
    let end = bytes.len();
    change(&mut bytes[512..1024]);
    crc(&mut bytes[512..1024]);
    // The backup must not save it.
    bytes[end - 512..].fill(0);
    Memory::from(bytes)
}

fn read(device: Memory) -> Result<Table, transload_block::Error> {
    let device: Arc<dyn BlockRead> = Arc::new(device);
    let begun = Instant::now();
    let found = Contents::read(device.as_ref(), ReadSettings::default());
    if found.is_ok() {
        let volumes = Volumes::scan(&device, &[], ReadSettings::default()).expect("a disk in memory");
        assert!(volumes.iter().count() < 40_000);
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    match found? {
        Contents::Table(table) => Ok(table),
        Contents::Whole(found) => {
            assert!(found.is_some(), "a table was lost");
            Err(transload_block::Error::new(ErrorKind::NotThisFormat, "no table"))
        }
    }
}

#[test]
fn lying_headers_of_a_gpt_are_refused() {
    use ErrorKind::{Corrupt, TooLarge, Unsupported};
    let disk = Disk::new(4 * MIB);
    disk.sfdisk("label: gpt\nsize=1M\n");
    let bytes = disk.reader().read_vec(0, 4 * MIB).unwrap();
    type Lie = (&'static str, ErrorKind, usize, Vec<u8>);
    let long = |value: u64| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    let lies: Vec<Lie> = vec![
        ("2^32 entries", TooLarge, 80, word(u32::MAX)),
        ("entries of 2 GiB", TooLarge, 84, word(1 << 31)),
        ("entries of no bytes", Corrupt, 84, word(0)),
        ("entries of 100 bytes", Corrupt, 84, word(100)),
        ("entries of 384 bytes", Corrupt, 84, word(384)),
        ("entries behind the disk", Corrupt, 72, long(1 << 40)),
        ("entries at the end of 64 bits", Corrupt, 72, long(u64::MAX)),
        ("entries in the header", Corrupt, 72, long(1)),
        ("a header of 4 GiB", Corrupt, 12, word(u32::MAX)),
        ("a header of nothing", Corrupt, 12, word(0)),
        ("another place", Corrupt, 24, long(7)),
        ("usable sectors that end before they begin", Corrupt, 48, long(3)),
        ("usable sectors from the first on", Corrupt, 40, long(0)),
        ("revision 2", Unsupported, 8, word(0x0002_0000)),
    ];
    for (name, kind, at, value) in lies {
        let device = with_header(&bytes, |header| header[at..at + value.len()].copy_from_slice(&value));
        let error = read(device).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

#[test]
fn lying_entries_of_a_gpt_are_findings() {
    let disk = Disk::new(4 * MIB);
    disk.sfdisk("label: gpt\nsize=1M\nsize=1M\n");
    let bytes = disk.reader().read_vec(0, 4 * MIB).unwrap();
    let entry = |at: usize, value: u64| {
        let mut bytes = bytes.clone();
        bytes[1024 + at..1032 + at].copy_from_slice(&value.to_le_bytes());
        let crc = crc32fast::hash(&bytes[1024..1024 + 128 * 128]);
        with_header(&bytes, |header| header[88..92].copy_from_slice(&crc.to_le_bytes()))
    };
    let cases = [
        ("it ends before it begins", 40, 5, "no range"),
        ("it ends behind 64 bits", 40, u64::MAX, "no range"),
        ("it ends behind the disk", 40, 1 << 40, "the disk ends"),
        ("it begins in the table", 32, 1, "may be used"),
        ("it overlaps", 40, 5000, "overlap"),
    ];
    for (name, at, value, said) in cases {
        let damage = findings(&read(entry(at, value)).unwrap(), Severity::Damage).concat();
        assert!(damage.contains(said), "{name}: {damage}");
    }
}

#[test]
fn entries_of_many_sizes_are_read() {
    let disk = Disk::new(4 * MIB);
    disk.sfdisk("label: gpt\nsize=1M, name=kept\n");
    let sound = disk.reader().read_vec(0, 4 * MIB).unwrap();
    for size in [256_usize, 512, 4096] {
        let mut bytes = sound.clone();
        let entry: Vec<u8> = bytes[1024..1152].to_vec();
        let count = 16_384 / size;
        bytes[1024..1024 + 16_384].fill(0);
        // The second entry: its place depends on the size.
        bytes[1024 + size..1152 + size].copy_from_slice(&entry);
        let crc = crc32fast::hash(&bytes[1024..1024 + 16_384]);
        let device = with_header(&bytes, |header| {
            header[80..84].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
            header[84..88].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
            header[88..92].copy_from_slice(&crc.to_le_bytes());
        });
        let partitions = read(device).unwrap().partitions();
        assert_eq!((partitions[0].number, partitions[0].name.as_str()), (2, "kept"), "{size}");
    }
}

#[test]
fn thirty_two_thousand_overlapping_entries_are_told_of_quickly() {
    let disk = Disk::new(16 * MIB);
    disk.sfdisk("label: gpt\nsize=1M\n");
    let mut bytes = disk.reader().read_vec(0, 16 * MIB).unwrap();
    let entry: Vec<u8> = bytes[1024..1152].to_vec();
    let (count, at) = (32_768_usize, 8 << 20);
    for number in 0..count {
        bytes[at + number * 128..at + (number + 1) * 128].copy_from_slice(&entry);
    }
    let crc = crc32fast::hash(&bytes[at..at + count * 128]);
    let device = with_header(&bytes, |header| {
        header[72..80].copy_from_slice(&(at as u64 / 512).to_le_bytes());
        header[80..84].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        header[88..92].copy_from_slice(&crc.to_le_bytes());
    });
    let table = read(device).unwrap();
    let damage = findings(&table, Severity::Damage);
    assert!(damage.len() < 150 && damage.last().is_some_and(|last| last.ends_with(" more")), "{damage:?}");
}

/// The disk of sfdisk with one extended partition from 1 MiB on and two logical ones, and its first sectors.
fn chained() -> Vec<u8> {
    let disk = Disk::new(32 * MIB);
    disk.sfdisk("label: dos\nstart=2048, type=5\nsize=4M\nsize=4M\n");
    disk.reader().read_vec(0, 32 * MIB).expect("a disk in memory")
}

#[test]
fn chains_that_do_not_end_are_cut() {
    let bytes = chained();
    let link = |sector: usize, to: u32| {
        let device = Memory::from(bytes.clone());
        device.write_at(&to.to_le_bytes(), (sector * 512 + 446 + 16 + 8) as u64).unwrap();
        // The second record has no link: give it one.
        device.write_at(&[5], (sector * 512 + 446 + 16 + 4) as u64).unwrap();
        device.write_at(&100_u32.to_le_bytes(), (sector * 512 + 446 + 16 + 12) as u64).unwrap();
        device
    };
    // The second record, as the first one's link says.
    let first = 2048;
    let second = first + u32::from_le_bytes(bytes[first * 512 + 470..first * 512 + 474].try_into().unwrap()) as usize;
    let cases = [
        ("a link to itself", link(second, u32::try_from(second - first).unwrap()), "comes back"),
        ("a link to the first", link(second, 0), "comes back"),
        ("a link behind the extended partition", link(second, 1 << 30), "behind the extended"),
        ("a link to what is no record", link(second, 50), "55 AA"),
    ];
    for (name, device, said) in cases {
        let mut table = read(device).unwrap();
        let damage = findings(&table, Severity::Damage).concat();
        assert!(damage.contains(said), "{name}: {damage}");
        // What is before the fault is there, and the table is not written again.
        assert_eq!(table.partitions().len(), 3, "{name}");
        assert_eq!(table.delete(5).unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
    }
}

#[test]
fn a_chain_of_a_hundred_thousand_records_is_cut() {
    let disk = Memory::new(0);
    transload_block::Storage::set_size(&disk, 200 * MIB).unwrap();
    let mut record = [0; 512];
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    let entry = |record: &mut [u8; 512], slot: usize, kind: u8, start: u32, sectors: u32| {
        let at = 446 + slot * 16;
        record[at + 4] = kind;
        record[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        record[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    };
    let mut first = record;
    entry(&mut first, 0, 5, 1, 400_000);
    disk.write_at(&first, 0).unwrap();
    for number in 0..100_000_u32 {
        let mut link = record;
        entry(&mut link, 0, 0x83, 1, 1);
        entry(&mut link, 1, 5, (number + 1) * 2, 2);
        disk.write_at(&link, u64::from(1 + number * 2) * 512).unwrap();
    }
    let damage = findings(&read(disk).unwrap(), Severity::Damage).concat();
    assert!(damage.contains("more than 1024 links"), "{damage}");
}

#[test]
fn entries_of_an_mbr_may_say_anything() {
    for fill in [0x80_u8, 0xff, 0x7f] {
        let mut sector = vec![fill; 512];
        for slot in 0..4 {
            sector[446 + slot * 16] = 0x80;
            sector[446 + slot * 16 + 4] = [0x83, 0x05, 0x0f, 0x85][slot];
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector.resize(1 << 20, fill);
        let table = read(Memory::from(sector)).unwrap();
        assert!(findings(&table, Severity::Damage).concat().contains("the disk ends"));
    }
}

#[test]
fn tiny_disks_are_no_disks() {
    for size in [0, 1, 511, 512, 513, 1023, 1024, 4096] {
        let device: Arc<dyn BlockRead> = Arc::new(Memory::new(size));
        let volumes = Volumes::scan(&device, &[], ReadSettings::default()).unwrap();
        assert!(matches!(volumes.contents(), Contents::Whole(None)), "{size}");
    }
}
