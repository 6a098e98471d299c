//! Reading a GUID partition table: the only file that sees its numbers unchecked.

use std::fmt;

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};
use zerocopy::FromBytes;

use super::Gpt;
use super::layout::{ENTRY_SIZE, HEADER_SIZE, Header, MAX_ARRAY, REVISION, SIGNATURE, header_crc};
use crate::Finding;
use crate::table::read_sector;

/// The sizes of sectors that disks have.
const SECTOR_SIZES: [u32; 2] = [512, 4096];

/// What guards the table, in the disk's first sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// A record with an entry for it.
    Protective,
    /// No boot record, or an empty one.
    None,
}

/// What was found where a GPT would be.
#[derive(Debug)]
pub(crate) enum Read {
    /// No trace of it.
    Absent,
    /// A table.
    Found(Gpt),
    /// Two copies, and something wrong with both.
    Broken(Error),
}

/// Which copy of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    Primary,
    Backup,
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// A copy of the table, as it was found.
struct Found {
    header: Header,
    array: Vec<u8>,
}

/// Why a copy cannot be used.
enum Fault {
    /// There is no header at all.
    Absent,
    /// There is one, and this is wrong with it.
    Broken(Error),
}

impl Fault {
    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    fn into_error(self, copy: Copy) -> Error {
        let error = match self {
            Self::Absent => Error::new(ErrorKind::Corrupt, "there is no header"),
            Self::Broken(error) => error,
        };
        error.context(format_args!("{copy} GPT"))
    }
}

/// Whether the disk has the header of a GPT where the first copy of it stands.
pub(crate) fn has_header(device: &dyn BlockRead) -> Result<bool> {
    for size in SECTOR_SIZES {
        if read_sector(device, size, 1)?.is_some_and(|sector| sector.starts_with(&SIGNATURE)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the table from the first copy that is sound. `sector_size` is tried alone where it is given.
///
/// The backup is looked for only behind a `guard`, or where a broken primary stands: at the end of a disk that was made
/// anew there may be a table of its former life.
pub(crate) fn read(device: &dyn BlockRead, sector_size: Option<u32>, guard: Guard) -> Result<Read> {
    let sizes: &[u32] = match &sector_size {
        Some(size) => std::slice::from_ref(size),
        None => &SECTOR_SIZES,
    };
    let mut faults = Vec::new();
    for size in sizes {
        match read_copy(device, *size, 1)? {
            Ok(found) => return with_primary(device, *size, found).map(Read::Found),
            Err(fault) => faults.push((*size, fault)),
        }
    }
    let is_expected = guard == Guard::Protective || faults.iter().any(|(_, fault)| !fault.is_absent());
    if !is_expected {
        return Ok(Read::Absent);
    }
    let mut backup_fault = Fault::Absent;
    for at in 0..faults.len() {
        let size = faults[at].0;
        let Some(last) = (device.size() / u64::from(size)).checked_sub(1) else { continue };
        match read_copy(device, size, last)? {
            Ok(found) => {
                let (_, fault) = faults.swap_remove(at);
                return Ok(Read::Found(with_backup(device, size, found, fault)));
            }
            Err(fault) if !fault.is_absent() => backup_fault = fault,
            Err(_) => {}
        }
    }
    // Of several sizes the one speaks that has something to say.
    let told = faults.iter().position(|(_, fault)| !fault.is_absent()).unwrap_or(0);
    let primary = faults.swap_remove(told).1.into_error(Copy::Primary);
    Ok(Read::Broken(primary.with_source(backup_fault.into_error(Copy::Backup))))
}

/// The table of a sound primary copy, with what there is to say of the backup.
fn with_primary(device: &dyn BlockRead, sector_size: u32, found: Found) -> Result<Gpt> {
    let last = (device.size() / u64::from(sector_size)).saturating_sub(1);
    let named = found.header.other_lba.get();
    let mut findings = Vec::new();
    if found.header.last_usable.get() > last {
        findings.push(Finding::damage(format!(
            "the table is for a disk whose last usable sector is {}, and this one ends with sector {last}: it was cut off",
            found.header.last_usable.get()
        )));
    } else {
        match read_copy(device, sector_size, named)? {
            Err(fault) => findings.push(Finding::warning(format!("{}", Plain(&fault.into_error(Copy::Backup))))),
            Ok(backup) if !agree(&found, &backup) => {
                findings.push(Finding::warning("the backup GPT differs from the primary one, which is used"));
            }
            Ok(_) if named < last => findings.push(Finding::warning(format!(
                "the backup GPT stands at sector {named}, and the disk ends with sector {last}: the disk was enlarged \
                 (resize --fix-gpt moves it)"
            ))),
            Ok(_) => {}
        }
    }
    Ok(assemble(device, sector_size, found, findings))
}

/// The table of the backup copy, when the primary one is damaged.
fn with_backup(device: &dyn BlockRead, sector_size: u32, found: Found, fault: Fault) -> Gpt {
    let primary = fault.into_error(Copy::Primary);
    let text = format!("{}; the backup at the end of the disk is sound, and is used", Plain(&primary));
    assemble(device, sector_size, found, vec![Finding::warning(text)])
}

fn assemble(device: &dyn BlockRead, sector_size: u32, found: Found, findings: Vec<Finding>) -> Gpt {
    let Found { header, array } = found;
    let former = vec![header.own_lba.get(), header.other_lba.get()];
    let mut gpt = Gpt { sector_size, header, former, array, findings };
    gpt.check(device.size());
    gpt
}

/// Whether both copies say the same.
fn agree(one: &Found, other: &Found) -> bool {
    let fields = |header: &Header| {
        let Header { first_usable, last_usable, disk_guid, entry_count, entry_size, .. } = *header;
        (first_usable, last_usable, disk_guid, entry_count, entry_size)
    };
    fields(&one.header) == fields(&other.header) && one.array == other.array
}

/// An error without the word for its kind, for a finding that is none.
struct Plain<'a>(&'a Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest))
    }
}

/// Reads the copy whose header stands at `lba`.
fn read_copy(device: &dyn BlockRead, sector_size: u32, lba: u64) -> Result<Result<Found, Fault>> {
    let Some(sector) = read_sector(device, sector_size, lba)?.filter(|sector| sector.starts_with(&SIGNATURE)) else {
        return Ok(Err(Fault::Absent));
    };
    let sectors = device.size() / u64::from(sector_size);
    let (header, place) = match check_header(&sector, lba, sectors) {
        Ok(checked) => checked,
        Err(error) => return Ok(Err(Fault::Broken(error))),
    };
    let array = device.read_vec(place.start, place.end - place.start)?;
    let (computed, stored) = (crc32fast::hash(&array), header.entries_crc.get());
    if computed != stored {
        let text = format!("the CRC of the entries is {computed:08x}, and the header says {stored:08x}");
        return Ok(Err(Fault::Broken(Error::new(ErrorKind::Corrupt, text))));
    }
    Ok(Ok(Found { header, array }))
}

/// Checks the header in `sector`, which is number `lba` of `sectors`, and answers it with the bytes of its array.
fn check_header(sector: &[u8], lba: u64, sectors: u64) -> Result<(Header, std::ops::Range<u64>)> {
    let corrupt = |text: String| Err(Error::new(ErrorKind::Corrupt, text));
    let Ok((header, _)) = Header::read_from_prefix(sector) else {
        return corrupt(String::from("the header is cut off"));
    };
    let size = header.header_size.get();
    if !(HEADER_SIZE as usize..=sector.len()).contains(&(size as usize)) {
        return corrupt(format!("the header has {size} bytes, must have {HEADER_SIZE} to {}", sector.len()));
    }
    let (computed, stored) = (header_crc(sector, size as usize), header.header_crc.get());
    if computed != stored {
        return corrupt(format!("the CRC of the header is {computed:08x}, and the header says {stored:08x}"));
    }
    if header.revision.get() >> 16 != REVISION >> 16 {
        let text = format!("the header has revision {:08x}, and {REVISION:08x} is known", header.revision.get());
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    if header.own_lba.get() != lba {
        return corrupt(format!(
            "the header says that it stands at sector {}, and it stands at {lba}",
            header.own_lba.get()
        ));
    }
    let (first, last) = (header.first_usable.get(), header.last_usable.get());
    // No sector may be usable: the last one is then the one before the first.
    if first > last.saturating_add(1) || first < 2 {
        return corrupt(format!("the usable sectors are {first} to {last}"));
    }
    Ok((header, array_place(&header, sector.len() as u64, lba, sectors)?))
}

/// Where the entries stand, in bytes.
fn array_place(header: &Header, sector_size: u64, lba: u64, sectors: u64) -> Result<std::ops::Range<u64>> {
    let (count, size) = (header.entry_count.get(), header.entry_size.get());
    let corrupt = |text: String| Error::new(ErrorKind::Corrupt, text);
    if !size.is_multiple_of(ENTRY_SIZE) || !size.is_power_of_two() {
        return Err(corrupt(format!("entries have {size} bytes, must have {ENTRY_SIZE} times a power of two")));
    }
    let bytes = u64::from(count) * u64::from(size);
    if bytes > MAX_ARRAY {
        let text = format!("{count} entries of {size} bytes take {bytes} bytes, and {MAX_ARRAY} are allowed");
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    let first = header.entries_lba.get();
    let end = first.checked_add(bytes.div_ceil(sector_size)).filter(|end| *end <= sectors);
    if end.is_none_or(|end| first < 2 || (first..end).contains(&lba)) {
        let text = format!("{bytes} bytes of entries at sector {first} of {sectors}, with the header at {lba}");
        return Err(corrupt(text));
    }
    let start = first * sector_size;
    Ok(start..start + bytes)
}
