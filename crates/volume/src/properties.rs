//! What must hold for any bytes on a disk, one function per parser: tests call them with made-up bytes, fuzz targets with
//! found ones. They panic when it does not hold.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockWrite, ErrorKind, Memory, Property};

use crate::lvm::{self, Groups};
use crate::{
    Contents, Finding, Identifiers, Kind, NewPartition, Partition, ReadSettings, Scheme, Severity, Size, Table,
    Volumes, signature,
};

/// Every property, by the name of its fuzz target.
pub const ALL: &[Property] = &[
    Property { name: "volume_group", holds: volume_group, seeds: groups },
    Property { name: "volume_group_text", holds: volume_group_text, seeds: groups },
    Property { name: "volume_signature", holds: volume_signature, seeds: tables },
    Property { name: "volume_table", holds: volume_table, seeds: tables },
];

/// Any bytes are a table or none, with and without checksums that are right; what is read of it lies where it says; and a
/// table that is sound can be written, and added to, and is then read as it was meant.
pub fn volume_table(bytes: &[u8]) {
    any_table(Memory::from(bytes.to_vec()));
    let mut repaired = bytes.to_vec();
    repair(&mut repaired);
    any_table(Memory::from(repaired));
}

fn any_table(disk: Memory) {
    let disk = Arc::new(disk);
    let reader = Arc::clone(&disk) as Arc<dyn BlockRead>;
    let table = match Contents::read(reader.as_ref(), ReadSettings::default()) {
        Ok(Contents::Table(table)) => table,
        Ok(Contents::Whole(_)) => return,
        Err(error) => {
            let kinds = [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::TooLarge];
            assert!(kinds.contains(&error.kind()), "{error}");
            return;
        }
    };
    let partitions = table.partitions();
    assert!(partitions.windows(2).all(|pair| pair[0].number < pair[1].number), "{partitions:?}");
    assert!(partitions.iter().all(|partition| partition.range.start < partition.range.end), "{partitions:?}");
    // A volume costs a few reads: of very many a sample is enough.
    if partitions.len() <= 256 {
        let volumes = Volumes::scan(&reader, &[], ReadSettings::default()).expect("a disk that was read before");
        for volume in volumes.iter() {
            match volume.device() {
                Ok(device) => assert_eq!(device.size(), volume.size),
                Err(error) => assert_ne!(error.kind(), ErrorKind::Io, "{error}"),
            }
        }
    }
    if !is_damaged(table.findings()) {
        edit(table, &disk);
    }
}

fn is_damaged(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Damage)
}

/// Writes a sound table back, then with a partition more.
fn edit(mut table: Table, disk: &Arc<Memory>) {
    if table.fit(disk.size()).is_err() || table.write(disk.as_ref()).is_err() {
        return;
    }
    let before = table.partitions();
    let read = || match Contents::read(disk.as_ref(), ReadSettings::default()) {
        Ok(Contents::Table(table)) => Some(table),
        _ => None,
    };
    // An empty MBR beside another thing's magic is no table any more.
    let Some(written) = read() else {
        assert!(before.is_empty(), "{before:?}");
        return;
    };
    assert_eq!(written.partitions(), before);
    let kind = if table.scheme() == Scheme::Mbr { Kind::Mbr(0x83) } else { Kind::ESP };
    let unit = u64::from(table.sector_size());
    let ids = Identifiers::from_material(b"");
    for new in [
        NewPartition::new(kind, Size::Exact(1)),
        NewPartition { logical: true, ..NewPartition::new(kind, Size::Exact(1)) },
    ] {
        let Ok(number) = table.add(disk.size(), &new, unit, &ids) else { continue };
        table.write(disk.as_ref()).expect("memory can be written");
        let written = read().expect("a table with a partition");
        assert_eq!(written.partitions(), table.partitions());
        assert!(written.partitions().iter().any(|partition: &Partition| partition.number == number));
        assert!(!is_damaged(written.findings()), "{:?}", written.findings());
    }
}

/// Makes the checksums right of every header of a GPT for sectors of 512 bytes that is near the start, where a search would not
/// find them.
fn repair(disk: &mut [u8]) {
    let number = |disk: &[u8], at: usize| {
        disk.get(at..at + 4).and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    let last = (disk.len() / 512).saturating_sub(1) * 512;
    for header in [512, last] {
        if disk.get(header..header + 512).is_none_or(|sector| !sector.starts_with(b"EFI PART")) {
            continue;
        }
        let field = |at: usize| number(disk, header + at).map_or(0, |number| number as usize);
        let array = field(72).saturating_mul(512);
        let length = field(80).saturating_mul(field(84));
        if let Some(entries) = disk.get(array..array.saturating_add(length)) {
            let crc = crc32fast::hash(entries).to_le_bytes();
            disk[header + 88..header + 92].copy_from_slice(&crc);
        }
        let size = number(disk, header + 12).map_or(92, |size| size as usize).clamp(92, 512);
        disk[header + 16..header + 20].fill(0);
        let crc = crc32fast::hash(&disk[header..header + size]).to_le_bytes();
        disk[header + 16..header + 20].copy_from_slice(&crc);
    }
}

/// Any bytes have a superblock or none, and are no failure.
pub fn volume_signature(bytes: &[u8]) {
    let disk = Memory::from(bytes.to_vec());
    signature::probe(&disk).expect("memory can be read");
    // The formats' places are far apart: the same bytes at each of them.
    for at in [1024_u64, 4096, 16 << 10, 32 << 10, 64 << 10] {
        let far = Memory::new(160 << 10);
        let length = bytes.len().min(64 << 10);
        far.write_at(&bytes[..length], at).expect("memory can be written");
        signature::probe(&far).expect("memory can be read");
    }
}

/// Any bytes are the text of a group, or corrupt, or too much of it.
pub fn volume_group_text(bytes: &[u8]) {
    lvm::fuzz_text(bytes);
}

/// Bytes of the physical volume that texts are put on.
const PHYSICAL: usize = 2 << 20;
/// Its UUID, as the label has it.
const UUID: [u8; 32] = [b'A'; 32];
/// Where its text begins.
const TEXT: usize = 4096 + 512;

/// Any text of a group, on a physical volume with right checksums, has volumes that can be read as far as they say, or tells
/// why not.
pub fn volume_group(text: &[u8]) {
    let text = &text[..text.len().min(PHYSICAL / 2)];
    let disk: Arc<dyn BlockRead> = Arc::new(Memory::from(physical_volume(text)));
    let groups = Groups::find(&[disk]).expect("memory can be read");
    for error in &groups.failures {
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooLarge), "{error}");
    }
    for volume in groups.groups.iter().flat_map(|group| &group.volumes) {
        let Ok(device) = volume.device() else { continue };
        assert_eq!(device.size(), volume.size, "{}", volume.name);
        let mut at = 0;
        // A few pieces: a volume may be made of zeroes without end.
        for _ in 0..16 {
            if at == device.size() {
                break;
            }
            let extent = device.block_status(at..device.size()).expect("a volume in memory");
            assert!(extent.offset == at && extent.length > 0 && extent.end() <= device.size());
            device.read_vec(at, extent.length.min(4096)).expect("a volume in memory");
            at = extent.end();
        }
    }
}

/// A physical volume that has one area of metadata, with `text` in it.
fn physical_volume(text: &[u8]) -> Vec<u8> {
    const AREA: usize = 4096;
    let mut disk = vec![0; PHYSICAL];
    let long =
        |disk: &mut [u8], at: usize, value: usize| disk[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
    let (label, header) = (512, 544);
    disk[label..label + 8].copy_from_slice(b"LABELONE");
    long(&mut disk, label + 8, 1);
    disk[label + 20] = 32;
    disk[label + 24..label + 32].copy_from_slice(b"LVM2 001");
    disk[header..header + 32].copy_from_slice(&UUID);
    long(&mut disk, header + 32, PHYSICAL);
    long(&mut disk, header + 40, PHYSICAL / 2);
    long(&mut disk, header + 72, AREA);
    long(&mut disk, header + 80, PHYSICAL / 2 + 512);
    let crc = lvm::crc(&disk[label + 20..1024]).to_le_bytes();
    disk[label + 16..label + 20].copy_from_slice(&crc);
    disk[AREA + 4..AREA + 20].copy_from_slice(b"\x20LVM2\x20x[5A%r0N*>");
    disk[AREA + 20] = 1;
    long(&mut disk, AREA + 24, AREA);
    long(&mut disk, AREA + 32, PHYSICAL / 2 + 512);
    long(&mut disk, AREA + 40, TEXT - AREA);
    long(&mut disk, AREA + 48, text.len());
    disk[AREA + 56..AREA + 60].copy_from_slice(&lvm::crc(text).to_le_bytes());
    let crc = lvm::crc(&disk[AREA + 4..AREA + 512]).to_le_bytes();
    disk[AREA..AREA + 4].copy_from_slice(&crc);
    disk[TEXT..TEXT + text.len()].copy_from_slice(text);
    disk
}

/// Texts of groups on the physical volume above.
fn groups() -> Vec<Vec<u8>> {
    let group = |volumes: &str| {
        format!(
            "vg {{ id = \"G\" seqno = 1 status = [\"READ\"] extent_size = 8 physical_volumes {{ pv0 {{ id = \
             \"AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA\" pe_start = 3000 pe_count = 64 }} }} logical_volumes {{ {volumes} }} }}"
        )
        .into_bytes()
    };
    let volume =
        |name: &str, segments: &str| format!("{name} {{ id = \"V\" status = [\"READ\", \"VISIBLE\"] {segments} }} ");
    let segment = |start: u32, count: u32, rest: &str| {
        format!("segment1 {{ start_extent = {start} extent_count = {count} {rest} }} ")
    };
    let linear = segment(0, 4, "type = \"striped\" stripe_count = 1 stripes = [\"pv0\", 0]");
    let striped =
        segment(4, 8, "type = \"striped\" stripe_count = 2 stripe_size = 2 stripes = [\"pv0\", 8, \"pv0\", 16]");
    let zero = segment(12, 5, "type = \"zero\"");
    let raid = segment(0, 1, "type = \"raid1\" device_count = 2 raids = [\"a\", \"b\"]");
    vec![
        group(&[volume("a", &linear), volume("b", &raid)].concat()),
        group(&volume("c", &[linear, striped, zero].concat())),
        b"# comment\nvg { list = [1, \"a\\\"\", -5, 1.5] }\n".to_vec(),
    ]
}

/// Small disks with tables, and without.
fn tables() -> Vec<Vec<u8>> {
    let ids = Identifiers::from_material(b"a seed");
    let disk = |scheme: Scheme, unit: u32, size: usize, kinds: &[(u8, bool)]| {
        let memory = Memory::new(size);
        let mut table = Table::create(scheme, size as u64, unit, &ids).expect("a disk with room for a table");
        for (code, logical) in kinds {
            let kind = if scheme == Scheme::Mbr { Kind::Mbr(*code) } else { Kind::ESP };
            let length = if *code == 5 { Size::Rest } else { Size::Exact(2048) };
            let new = NewPartition { logical: *logical, ..NewPartition::new(kind, length) };
            // The seeds are what there is room for.
            let _ = table.add(size as u64, &new, u64::from(unit), &ids);
        }
        table.initialise(&memory).expect("memory can be written");
        memory.to_vec()
    };
    let logical = [(0x83, false), (5, false), (0x82, true), (0x8e, true), (7, true)];
    vec![
        disk(Scheme::Gpt, 512, 48 << 10, &[(0, false); 3]),
        disk(Scheme::Gpt, 4096, 128 << 10, &[(0, false); 2]),
        disk(Scheme::Mbr, 512, 32 << 10, &logical),
        disk(Scheme::Mbr, 512, 32 << 10, &[]),
        vec![0x55; 2048],
    ]
}
