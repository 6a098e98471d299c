//! Opening: the only file that sees what an untrusted header says.
//!
//! ```text
//! identifier ─► the header that counts ─► log (shown over the file when it is not empty) ─► region table ─► metadata
//! ```
//!
//! What is behind [`Image::read`] is checked: places are inside the file and do not overlap, sizes are what the
//! specification allows, and nothing is required that is not known.

use std::sync::Arc;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::error::Fault;
use super::guid::Guid;
use super::layout::{
    BAT_REGION, FILE_SIGNATURE, HEADER_BYTES, HEADER_SECTION, HEADER_SIGNATURE, HEADERS, LOG_VERSION, METADATA_REGION,
    MIB, REGION_SIGNATURE, REGION_TABLES, RawHeader, RawRegion, RawRegionHeader, TABLE_BYTES, TABLE_ENTRIES_MAX,
    VERSION, checksum,
};
use super::log::{self, LogPlace};
use super::metadata::{self, Metadata};
use super::overlay::Overlay;

/// A header whose checks hold.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub raw: RawHeader,
    /// Which of the two it is: 0 or 1.
    pub number: usize,
    /// What is wrong with the other one; an older one is not wrong.
    pub other: Option<Fault>,
}

/// A region of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub guid: Guid,
    pub offset: u64,
    pub length: u64,
    pub required: bool,
}

/// The regions, and what is wrong with one copy of their table.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    pub all: Vec<Region>,
    pub bat: Region,
    pub metadata: Region,
    /// The number of the table that is damaged or differs, and how.
    pub damaged: Option<(usize, String)>,
}

/// What a file says of itself, checked.
#[derive(Debug)]
pub(crate) struct Image {
    /// The file, with its log replayed over it when that is not empty.
    pub file: Arc<dyn BlockRead>,
    pub header: Header,
    /// The log holds changes that are not in the file.
    pub dirty: bool,
    /// The header names a log in which no entry counts.
    pub log_without_entries: bool,
    pub regions: Regions,
    pub metadata: Metadata,
    pub warnings: Vec<String>,
}

impl Image {
    /// Reads everything but the block allocation table.
    ///
    /// # Errors
    /// `NotThisFormat` without the signature; `Unsupported` for versions, regions and metadata items that are required and
    /// not known; `Corrupt` for what breaks a rule; what the storage answers.
    pub(crate) fn read(source: &Arc<dyn BlockRead>) -> Result<Self> {
        let header = read_header(&**source)?;
        let mut warnings: Vec<_> = header.other.iter().map(|fault| format!("{fault}; the other one is used")).collect();
        let mut file = Arc::clone(source);
        let place = header.log();
        let (mut dirty, mut log_without_entries) = (false, false);
        if place.guid != Guid::ZERO {
            check_place(&**source, "log", place.offset, place.length)?;
            if header.raw.log_version.get() != LOG_VERSION {
                return Err(Fault::LogVersion(header.raw.log_version.get()).into());
            }
            match log::find(&**source, place)? {
                Some(replay) => {
                    dirty = true;
                    file = Arc::new(Overlay::new(Arc::clone(source), replay));
                }
                None => {
                    log_without_entries = true;
                    warnings.push("the image was not closed, and no entry of its log counts".to_owned());
                }
            }
        }
        let regions = read_regions(&*file)?;
        if let Some((number, problem)) = &regions.damaged {
            warnings.push(format!("region table {}: {problem}; the other one is used", number + 1));
        }
        check_places(&*file, &place, &regions)?;
        let metadata = metadata::read(&*file, &regions.metadata)?;
        let (entries, bytes) = (metadata.geometry().bat_entries(), regions.bat.length);
        if entries > bytes / 8 {
            return Err(Fault::BatTooShort { entries, bytes }.into());
        }
        Ok(Self { file, header, dirty, log_without_entries, regions, metadata, warnings })
    }
}

impl Header {
    pub(crate) fn log(&self) -> LogPlace {
        LogPlace {
            offset: self.raw.log_offset.get(),
            length: self.raw.log_length.get().into(),
            guid: self.raw.log_guid,
        }
    }
}

/// Finds the header that counts (section 2.2.2): the sound one, and of two sound ones that with the larger number.
pub(crate) fn read_header(file: &dyn BlockRead) -> Result<Header> {
    let mut signature = [0; 8];
    if file.size() >= 8 {
        file.read_at(&mut signature, 0)?;
    }
    if signature != FILE_SIGNATURE {
        return Err(Fault::Magic.into());
    }
    if file.size() < HEADER_SECTION {
        return Err(Fault::TooShort { size: file.size(), needed: HEADER_SECTION }.into());
    }
    let sound = |number: usize| -> Result<Result<RawHeader, Fault>> {
        let mut bytes = vec![0; HEADER_BYTES];
        file.read_at(&mut bytes, HEADERS[number])?;
        Ok(check_header(&bytes, number + 1))
    };
    let header = match (sound(0)?, sound(1)?) {
        (Ok(one), Ok(two)) => {
            let (first, second) = (one.sequence_number.get(), two.sequence_number.get());
            if first == second && one != two {
                return Err(Fault::SameSequence(first).into());
            }
            let number = usize::from(second > first);
            Header { raw: if number == 0 { one } else { two }, number, other: None }
        }
        (Ok(raw), Err(other)) => Header { raw, number: 0, other: Some(other) },
        (Err(other), Ok(raw)) => Header { raw, number: 1, other: Some(other) },
        (Err(first), Err(second)) => {
            return Err(Fault::BothHeaders { first: Box::new(first), second: Box::new(second) }.into());
        }
    };
    if header.raw.version.get() != VERSION {
        return Err(Fault::Version(header.raw.version.get()).into());
    }
    Ok(header)
}

fn check_header(bytes: &[u8], number: usize) -> Result<RawHeader, Fault> {
    let Ok((raw, _)) = RawHeader::read_from_prefix(bytes) else {
        return Err(Fault::Header { number, problem: "it is cut off" });
    };
    if raw.signature != HEADER_SIGNATURE {
        return Err(Fault::Header { number, problem: "the signature is not 'head'" });
    }
    let computed = checksum(bytes);
    if computed != raw.checksum.get() {
        return Err(Fault::HeaderChecksum { number, found: raw.checksum.get(), computed });
    }
    Ok(raw)
}

/// Reads the first region table that is sound (section 2.2.3).
fn read_regions(file: &dyn BlockRead) -> Result<Regions> {
    let mut tables = Vec::new();
    for (index, at) in REGION_TABLES.into_iter().enumerate() {
        let mut bytes = vec![0; TABLE_BYTES];
        file.read_at(&mut bytes, at)?;
        tables.push(parse_regions(&bytes, index + 1));
    }
    let second = tables.pop().unwrap_or(Err(Fault::Region { number: 2, problem: "it is missing" }));
    let first = tables.pop().unwrap_or(Err(Fault::Region { number: 1, problem: "it is missing" }));
    let (all, damaged) = match (first, second) {
        (Ok(first), Ok(second)) if first == second => (first, None),
        (Ok(first), Ok(_)) => (first, Some((1, "it differs from the first one".to_owned()))),
        (Ok(first), Err(fault)) => (first, Some((1, fault.to_string()))),
        (Err(fault), Ok(second)) => (second, Some((0, fault.to_string()))),
        (Err(first), Err(second)) => {
            return Err(Fault::BothRegions { first: Box::new(first), second: Box::new(second) }.into());
        }
    };
    let (mut bat, mut metadata) = (None, None);
    for region in &all {
        let place = match region.guid {
            BAT_REGION => &mut bat,
            METADATA_REGION => &mut metadata,
            unknown if region.required => return Err(Fault::UnknownRegion(unknown).into()),
            _ => continue,
        };
        if place.replace(*region).is_some() {
            return Err(Fault::RegionTwice(region.guid).into());
        }
    }
    let bat = bat.ok_or(Fault::NoRegion("block allocation table"))?;
    let metadata = metadata.ok_or(Fault::NoRegion("metadata"))?;
    Ok(Regions { all, bat, metadata, damaged })
}

fn parse_regions(bytes: &[u8], number: usize) -> Result<Vec<Region>, Fault> {
    let Ok((head, rest)) = RawRegionHeader::read_from_prefix(bytes) else {
        return Err(Fault::Region { number, problem: "it is cut off" });
    };
    if head.signature != REGION_SIGNATURE {
        return Err(Fault::Region { number, problem: "the signature is not 'regi'" });
    }
    let computed = checksum(bytes);
    if computed != head.checksum.get() {
        return Err(Fault::RegionChecksum { number, found: head.checksum.get(), computed });
    }
    let count = head.entry_count.get();
    if count > TABLE_ENTRIES_MAX {
        return Err(Fault::RegionCount { number, count });
    }
    let raw = rest.chunks_exact(size_of::<RawRegion>()).filter_map(|raw| RawRegion::read_from_bytes(raw).ok());
    let regions = raw.take(usize::try_from(count).unwrap_or(0)).map(|raw| Region {
        guid: raw.guid,
        offset: raw.file_offset.get(),
        length: raw.length.get().into(),
        required: raw.required.get() & 1 != 0,
    });
    Ok(regions.collect())
}

/// Checks that log and regions stand in the file, on their grid, and beside each other.
fn check_places(file: &dyn BlockRead, log: &LogPlace, regions: &Regions) -> Result<(), Fault> {
    let log = ("log".to_owned(), log.offset, log.length);
    let named = regions.all.iter().map(|region| (region.name(), region.offset, region.length));
    let mut places: Vec<_> = std::iter::once(log).chain(named).filter(|(_, _, length)| *length > 0).collect();
    for (what, offset, length) in &places {
        check_place(file, what, *offset, *length)?;
    }
    places.sort_by_key(|(_, offset, _)| *offset);
    for pair in places.windows(2) {
        if let [(what, offset, length), (other, next, _)] = pair
            && offset + length > *next
        {
            return Err(Fault::Overlap { what: what.clone(), other: other.clone(), offset: *next });
        }
    }
    Ok(())
}

/// Checks that one of them stands in the file and on its grid.
fn check_place(file: &dyn BlockRead, what: &str, offset: u64, length: u64) -> Result<(), Fault> {
    let what = || what.to_owned();
    if !offset.is_multiple_of(MIB) || !length.is_multiple_of(MIB) || offset < HEADER_SECTION {
        return Err(Fault::Placement { what: what(), offset, length });
    }
    if offset.checked_add(length).is_none_or(|end| end > file.size()) {
        return Err(Fault::OutsideFile { what: what(), offset, length, file: file.size() });
    }
    Ok(())
}

impl Region {
    fn name(&self) -> String {
        match self.guid {
            BAT_REGION => "block allocation table".to_owned(),
            METADATA_REGION => "metadata region".to_owned(),
            other => format!("region {other}"),
        }
    }
}
