//! Internal snapshots: the table that lists them, and finding one by name.

use transload_block::{BlockRead, Error, ErrorKind, Result};
use zerocopy::FromBytes;

use super::error::Qcow2Error;
use super::layout::{SNAPSHOT_TABLE_BYTES_MAX, SnapshotHead};
use super::open::{ParsedHeader, TableLocation, check_l1_location};
use super::tables::index;
use crate::SnapshotInfo;

/// Offset of the 64-bit size of the machine state in an entry's extra data.
const EXTRA_VM_STATE_SIZE: usize = 0;
/// Offset of the disk's size in an entry's extra data.
const EXTRA_DISK_SIZE: usize = 8;
/// What of the extra data is looked at; the rest is skipped.
const EXTRA_USED: u64 = 16;

/// One entry of the snapshot table.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub id: String,
    pub name: String,
    /// Not checked: [`Snapshot::view`] does.
    pub l1: TableLocation,
    /// The disk's size when it was taken.
    pub size: u64,
    pub vm_state_size: u64,
    pub date_seconds: u32,
    pub vm_clock_nanoseconds: u64,
}

/// Reads the snapshot table.
///
/// # Errors
/// `Corrupt` when an entry reaches behind the file; `TooLarge` when the table is larger than any with sensible names.
pub(crate) fn read_table(file: &dyn BlockRead, header: &ParsedHeader) -> Result<Vec<Snapshot>> {
    read_table_and_end(file, header).map(|(snapshots, _)| snapshots)
}

/// Reads the snapshot table, and answers the byte behind it too.
///
/// # Errors
/// As [`read_table`].
pub(crate) fn read_table_and_end(file: &dyn BlockRead, header: &ParsedHeader) -> Result<(Vec<Snapshot>, u64)> {
    let mut snapshots = Vec::new();
    let mut at = header.snapshots_offset;
    let limit = SNAPSHOT_TABLE_BYTES_MAX;
    for number in 0..header.nb_snapshots {
        let cut_off = Qcow2Error::SnapshotCutOff { index: number, offset: at };
        let (snapshot, length) = read_entry(file, header, at, &cut_off)?;
        at += length;
        if at - header.snapshots_offset > limit {
            let snapshots = header.nb_snapshots;
            return Err(Qcow2Error::SnapshotTableTooLarge { snapshots, end: at, limit }.into());
        }
        snapshots.push(snapshot);
    }
    Ok((snapshots, at))
}

/// Reads the entry at `at`, and says how long it is with its padding.
fn read_entry(file: &dyn BlockRead, header: &ParsedHeader, at: u64, cut_off: &Qcow2Error) -> Result<(Snapshot, u64)> {
    let read = |offset: u64, length: u64| -> Result<Vec<u8>> {
        if offset.checked_add(length).is_none_or(|end| end > file.size()) {
            return Err(cut_off.clone().into());
        }
        let mut bytes = vec![0; index(length)];
        file.read_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    let head_length = size_of::<SnapshotHead>() as u64;
    let head = read(at, head_length)?;
    let head = SnapshotHead::read_from_bytes(&head).expect("as long as the structure");
    let extra_length = u64::from(head.extra_length.get());
    let extra = read(at + head_length, extra_length.min(EXTRA_USED))?;
    let strings = at + head_length + extra_length;
    let (id_length, name_length) = (u64::from(head.id_length.get()), u64::from(head.name_length.get()));
    let text = read(strings, id_length + name_length)?;
    let (id, name) = text.split_at(index(id_length));
    let extra_number = |offset: usize| {
        let bytes = extra.get(offset..offset + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let snapshot = Snapshot {
        id: String::from_utf8_lossy(id).into_owned(),
        name: String::from_utf8_lossy(name).into_owned(),
        l1: TableLocation { offset: head.l1_table_offset.get(), entries: head.l1_size.get().into() },
        size: extra_number(EXTRA_DISK_SIZE).unwrap_or(header.size),
        vm_state_size: extra_number(EXTRA_VM_STATE_SIZE).unwrap_or_else(|| head.vm_state_size.get().into()),
        date_seconds: head.date_seconds.get(),
        vm_clock_nanoseconds: head.vm_clock_nanoseconds.get(),
    };
    let length = head_length + extra_length + id_length + name_length;
    Ok((snapshot, length.next_multiple_of(8)))
}

/// The one snapshot whose id is `wanted`, else the one whose name it is.
///
/// # Errors
/// `InvalidInput` when there is none, or several of that name.
pub(crate) fn find<'a>(snapshots: &'a [Snapshot], wanted: &str) -> Result<&'a Snapshot> {
    if let Some(found) = snapshots.iter().find(|snapshot| snapshot.id == wanted) {
        return Ok(found);
    }
    let mut named = snapshots.iter().filter(|snapshot| snapshot.name == wanted);
    match (named.next(), named.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("several snapshots are called '{wanted}'"))
                .with_remedy("name it by its id"))
        }
        (None, _) => {
            let known: Vec<_> =
                snapshots.iter().take(20).map(|known| format!("{} ({})", known.name, known.id)).collect();
            let known = if known.is_empty() { "the image has none".to_owned() } else { known.join(", ") };
            Err(Error::new(ErrorKind::InvalidInput, format!("no snapshot '{wanted}'; there are: {known}")))
        }
    }
}

impl Snapshot {
    /// What the device needs to read it: the L1 table, checked as the active one is, and the size.
    pub(crate) fn view(&self, file: &dyn BlockRead, header: &ParsedHeader) -> Result<(TableLocation, u64), Qcow2Error> {
        check_l1_location(self.l1, self.size, header.geometry, file.size())
            .map_err(|source| Qcow2Error::Snapshot { name: self.name.clone(), source: Box::new(source) })?;
        Ok((self.l1, self.size))
    }

    /// What `info` shows.
    pub(crate) fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            id: self.id.clone(),
            name: self.name.clone(),
            virtual_size: self.size,
            vm_state_size: self.vm_state_size,
            date_seconds: self.date_seconds.into(),
            vm_clock_nanoseconds: self.vm_clock_nanoseconds,
        }
    }
}
