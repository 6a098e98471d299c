//! A streamOptimized VMDK as its strictest readers see it: from front to back in one pass, without mercy for what the
//! lenient ones overlook.
//!
//! ```text
//! StrictScan::begin(file, input) ──► next_grain(buffer) … ──► None ──► facts()
//! ```
//!
//! `input` is where the bytes are taken from, each of them once and in order, so that a caller can hash them on the way;
//! `file` is only asked for tables. Grains are handed out as they are stored: whoever inflates them, on as many threads as
//! there are, compares their length with [`StrictGrain::whole`].
//!
//! The rules are those of open-vmdk's and VirtualBox's readers and of the specification ("Virtual Disk Format 5.0",
//! section "Stream-Optimized Compressed Sparse Extents"). This does not read a disk, it judges its file; [`super`] reads.

use std::io::{self, Read};

use transload_block::{BlockRead, Error, ErrorKind, Result};
use zerocopy::FromBytes;

use super::directory;
use super::hosted::{self, Hosted};
use super::image::Image;
use super::layout::{GrainMarker, Marker, SECTOR, marker};
use super::map::Dialect;
use crate::Source;

/// Bytes of a grain's marker.
const MARKER: u64 = size_of::<GrainMarker>() as u64;

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamFacts {
    /// The header's version.
    pub version: u32,
    /// The kind that the descriptor names.
    pub create_type: String,
    /// The disk's size in bytes.
    pub capacity: u64,
    /// Bytes of a grain.
    pub grain_bytes: u64,
    /// Entries of a grain table.
    pub table_entries: u64,
    /// The grain directory is named by a footer behind the data.
    pub footer: bool,
    /// Grains that are stored.
    pub grains: u64,
    /// The longest stored grain, without its marker.
    pub longest_grain: u64,
    /// There is an end-of-stream marker.
    pub end_marker: bool,
    /// Bytes behind the end-of-stream marker.
    pub trailing: u64,
    /// What is wrong with the structure, at most some; empty for a sound file.
    pub faults: Vec<String>,
}

impl StreamFacts {
    /// Faults that are kept one by one.
    const MAX_FAULTS: usize = 20;

    fn fault(&mut self, text: String) {
        if self.faults.len() < Self::MAX_FAULTS {
            self.faults.push(text);
        }
    }
}

/// A grain as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrictGrain {
    /// The guest's byte that it begins with.
    pub offset: u64,
    /// Bytes that it must inflate to.
    pub whole: u64,
    /// Bytes of it that are inside the disk: what some writers store of the last one.
    pub valid: u64,
}

/// A scan under way.
#[derive(Debug)]
pub struct StrictScan<'a, R> {
    file: &'a dyn BlockRead,
    input: R,
    /// Bytes taken from the input.
    at: u64,
    header: Hosted,
    directory: u64,
    /// The table that was asked for last, and its group.
    table: Option<(u64, Vec<u32>)>,
    last: Option<u64>,
    facts: StreamFacts,
}

impl<'a, R: Read> StrictScan<'a, R> {
    /// Begins a scan of the whole of `file`, whose bytes also come from `input`.
    ///
    /// # Errors
    /// `Unsupported` for a VMDK that is no streamOptimized one; what opening answers for one that cannot be read at all.
    pub fn begin(source: &'a Source, mut input: R) -> Result<Self> {
        let file = &**source.bytes();
        let image = Image::read(source)?;
        // A disk that claims more than one can have goes no further.
        image.descriptor.sectors()?;
        let create_type = image.descriptor.create_type.clone().unwrap_or_default();
        let Some(header) = image.hosted.filter(|hosted| hosted.header.compressed && hosted.header.markers) else {
            let text = format!("VMDK of kind '{create_type}', not streamOptimized");
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let [line] = image.descriptor.extents.as_slice() else {
            let text = format!("VMDK of {} extents, not streamOptimized", image.descriptor.extents.len());
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let sectors = line.sectors;
        let inner = &header.header;
        let dialect = Dialect::Hosted { zeroed_grains: inner.zeroed_grains, compressed: true };
        let entries = sectors.div_ceil(inner.grain_sectors).div_ceil(inner.gtes_per_gt);
        let directory = directory::choose(file, inner, dialect, entries)?.at;
        let mut facts = StreamFacts {
            version: inner.version,
            create_type,
            capacity: sectors * SECTOR,
            grain_bytes: inner.grain_bytes(),
            table_entries: inner.gtes_per_gt,
            footer: is_footer(file)?,
            ..StreamFacts::default()
        };
        header.warnings.iter().for_each(|text| facts.fault(text.clone()));
        let overhead = inner.overhead.saturating_mul(SECTOR);
        let skipped = skip(&mut input, overhead)?;
        Ok(Self { file, input, at: skipped, header, directory, table: None, last: None, facts })
    }

    /// What was found. Complete once [`next_grain`](Self::next_grain) has answered `None`.
    #[must_use]
    pub fn facts(&self) -> &StreamFacts {
        &self.facts
    }

    /// The next grain, its stored bytes in `stored`; `None` at the end, when all of the input was read.
    ///
    /// # Errors
    /// What the input and the file answer.
    pub fn next_grain(&mut self, stored: &mut Vec<u8>) -> Result<Option<StrictGrain>> {
        loop {
            let place = self.at;
            let mut sector = [0; 512];
            if !self.sector(&mut sector)? {
                self.facts.fault("the end-of-stream marker is missing".to_owned());
                return self.finish();
            }
            let (found, front) = GrainMarker::read_from_prefix(&sector).expect("a sector is longer");
            if found.size.get() > 0 {
                return self.grain(place, &found, front, stored);
            }
            let marker = Marker::read_from_bytes(&sector).expect("a sector is a marker");
            let (kind, sectors) = (marker.kind.get(), marker.sectors.get());
            match kind {
                marker::EOS if sector == [0; 512] => {
                    self.facts.end_marker = true;
                    return self.finish();
                }
                marker::GRAIN_TABLE | marker::GRAIN_DIRECTORY | marker::FOOTER | marker::PROGRESS => {
                    let wanted = sectors.saturating_mul(SECTOR);
                    let skipped = skip(&mut self.input, wanted)?;
                    self.at += skipped;
                    if skipped < wanted {
                        self.facts.fault(format!("the marker at byte {place} announces more than the file has"));
                    }
                }
                _ => {
                    self.facts.fault(format!("the marker at byte {place} is of type {kind}, which there is not"));
                    return self.finish();
                }
            }
        }
    }

    fn grain(
        &mut self,
        place: u64,
        marker: &GrainMarker,
        front: &[u8],
        stored: &mut Vec<u8>,
    ) -> Result<Option<StrictGrain>> {
        let (lba, length) = (marker.lba.get(), u64::from(marker.size.get()));
        let whole = self.facts.grain_bytes;
        let sectors = self.facts.capacity / SECTOR;
        // The strictest readers' buffer: the grain and a sector, less the marker.
        let most = whole + SECTOR - MARKER;
        if length > most || lba >= sectors || !lba.is_multiple_of(whole / SECTOR) {
            self.facts.fault(format!(
                "the marker at byte {place} is of sector {lba} and {length} bytes; a grain has at most {most}, and the \
                 disk {sectors} sectors"
            ));
            return self.finish();
        }
        if self.last.is_some_and(|last| lba <= last) {
            self.facts.fault(format!("the grain of sector {lba} does not follow the one before it"));
        }
        self.last = Some(lba);
        self.facts.grains += 1;
        self.facts.longest_grain = self.facts.longest_grain.max(length);
        let here = front.len().min(usize::try_from(length).unwrap_or(0));
        stored.clear();
        stored.extend_from_slice(&front[..here]);
        let rest = (MARKER + length).next_multiple_of(SECTOR).saturating_sub(SECTOR);
        let had = self.input.by_ref().take(rest).read_to_end(stored).map_err(read_error)? as u64;
        self.at += had;
        stored.truncate(usize::try_from(length).unwrap_or(0));
        if had < rest {
            self.facts.fault(format!("the file breaks off in the grain at byte {place}"));
            return self.finish();
        }
        let entry = self.entry(lba / (whole / SECTOR))?;
        if u64::from(entry) * SECTOR != place {
            let told = u64::from(entry) * SECTOR;
            self.facts.fault(format!("the grain of sector {lba} is at byte {place}, and the tables say {told}"));
        }
        let offset = lba * SECTOR;
        Ok(Some(StrictGrain { offset, whole, valid: whole.min(self.facts.capacity - offset) }))
    }

    /// The table entry of a grain, in sectors.
    fn entry(&mut self, grain: u64) -> Result<u32> {
        let (group, index) = (grain / self.facts.table_entries, grain % self.facts.table_entries);
        if self.table.as_ref().is_none_or(|(known, _)| *known != group) {
            let table = self.load(group)?;
            self.table = Some((group, table));
        }
        let table = self.table.as_ref().map_or(&[][..], |(_, table)| table);
        Ok(usize::try_from(index).ok().and_then(|index| table.get(index)).copied().unwrap_or(0))
    }

    /// The table of a group; empty where it has none.
    fn load(&mut self, group: u64) -> Result<Vec<u32>> {
        let mut word = [0; 4];
        self.file.read_at(&mut word, self.directory + group * 4)?;
        let at = u64::from(u32::from_le_bytes(word)) * SECTOR;
        let length = self.header.header.gt_bytes();
        if at == 0 {
            return Ok(Vec::new());
        }
        if at.checked_add(length).is_none_or(|end| end > self.file.size()) {
            self.facts.fault(format!("the grain table {group} is said to be at byte {at}, outside the file"));
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_at(&mut bytes, at)?;
        let (words, _) = bytes.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// Reads what is left, and compares the number of grains with that of the tables.
    fn finish(&mut self) -> Result<Option<StrictGrain>> {
        let rest = io::copy(&mut self.input, &mut io::sink()).map_err(read_error)?;
        self.at += rest;
        if self.facts.end_marker {
            self.facts.trailing = rest;
        }
        let grains = self.facts.capacity.div_ceil(self.facts.grain_bytes);
        let mut named = 0;
        for group in 0..grains.div_ceil(self.facts.table_entries) {
            // An entry of 1 is a grain of zeroes where the header says so, and none where it does not.
            named += self.load(group)?.iter().filter(|entry| **entry > 1).count() as u64;
        }
        if named != self.facts.grains {
            let found = self.facts.grains;
            self.facts.fault(format!("the tables name {named} grains, and the stream has {found}"));
        }
        Ok(None)
    }

    /// Fills `sector`; `false` when less than one is left.
    fn sector(&mut self, sector: &mut [u8; 512]) -> Result<bool> {
        let mut have = 0;
        while have < sector.len() {
            match self.input.read(&mut sector[have..]) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        self.at += have as u64;
        Ok(have == sector.len())
    }
}

/// Whether the header sends its readers to a footer.
fn is_footer(file: &dyn BlockRead) -> Result<bool> {
    let mut sector = [0; 512];
    hosted::read_within(file, "header", 0, &mut sector)?;
    let header = super::header::HostedHeader::parse(&sector)?;
    Ok(header.gd == super::header::DirectoryPlace::Footer)
}

fn skip(input: &mut impl Read, bytes: u64) -> Result<u64> {
    io::copy(&mut input.by_ref().take(bytes), &mut io::sink()).map_err(read_error)
}

fn read_error(error: io::Error) -> Error {
    Error::io("read", error)
}
