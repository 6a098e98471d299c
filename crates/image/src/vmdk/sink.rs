//! Writes a streamOptimized VMDK from front to back: compressed grains in ascending order, each behind its marker.
//!
//! Two layouts, because no single one satisfies every importer ("Virtual Disk Format 5.0", section "Stream-Optimized
//! Compressed Sparse Extents"; the exact rules are those of open-vmdk's and VirtualBox's readers and writers):
//!
//! ```text
//! front    header │ descriptor │ GD │ GTs │ marker+grain … │ EOS            files, OpenStack; no table markers
//! footer   header │ descriptor │ pad │ (marker+grain … │ GT marker │ GT) … │ GD marker │ GD │ footer marker │ footer │ EOS
//! ```
//!
//! In both the end-of-stream sector is the last of the file and the only sector of zeroes where a marker is expected:
//! VMware's stream reader stops at the first one, and a digest over anything behind it never matches a manifest. The
//! last grain is a whole one, which VirtualBox demands. Grains of zeroes are left out; a group of 512 grains without data
//! has no grain table.
//!
//! On a file the header is written last. Until then it says `kdmv`, so that what a crash leaves is no VMDK.

use std::collections::BTreeMap;
use std::sync::Arc;

use transload_block::{BlockEncoder, BlockSink, BlockStatus, Error, ErrorKind, Extent, Form, Result, Storage};
use zerocopy::{FromZeros, IntoBytes};

use super::describe::{ContentIdentity, Description, ExtentLine, own_name};
use super::grain_encoder::{GRAIN_BYTES, GrainEncoder};
use super::layout::{
    COMPRESSED_GRAIN_MAX, COMPRESSION_DEFLATE, GD_AT_END, GrainMarker, Marker, NEWLINE_TEST, SECTOR, SPARSE_MAGIC,
    SparseHeader, flag, marker,
};
use super::options::{CreateOptions, Subformat, TableLayout};
use super::sequential::{Destination, Sequential};
use crate::{SinkOutput, SinkRequest};

/// Sectors of a grain.
const GRAIN_SECTORS: u64 = GRAIN_BYTES as u64 / SECTOR;
/// Entries of a grain table.
const GTES: usize = 512;
/// Sectors of the disk that one grain table covers.
const GROUP_SECTORS: u64 = GRAIN_SECTORS * GTES as u64;
/// Sectors of a grain table in the file.
const GT_SECTORS: u64 = GTES as u64 * 4 / SECTOR;
/// Where the descriptor stands and how many sectors it has: what every writer that importers trust uses.
const DESCRIPTOR_OFFSET: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;
/// Where the grain directory stands in the front layout.
const FRONT_GD_OFFSET: u64 = DESCRIPTOR_OFFSET + DESCRIPTOR_SECTORS;
/// The magic of a file that is not finished.
const UNFINISHED_MAGIC: [u8; 4] = *b"kdmv";

/// Makes the sink for a request: streamOptimized is the one kind that is written from front to back.
///
/// # Errors
/// `InvalidInput` for options that do not fit; `Unsupported` for another kind; `TooLarge` for a disk whose tables alone
/// exceed the format; what the output answers.
pub(crate) fn sink(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let options = CreateOptions::new(request.options)?;
    let subformat = options.subformat_or(Subformat::StreamOptimized)?;
    if subformat != Subformat::StreamOptimized {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("VMDK: subformat={} cannot be written from front to back", subformat.name()),
        )
        .with_remedy("write to a file, or choose subformat=streamOptimized"));
    }
    let capacity = options.capacity(request.size)?;
    let (destination, default_layout) = match request.output {
        SinkOutput::Files(files) => (Destination::File(files.primary()?), TableLayout::Front),
        SinkOutput::Pipe(pipe) => (Destination::Pipe(pipe), TableLayout::Footer),
    };
    let layout = options.layout.unwrap_or(default_layout);
    if layout == TableLayout::Front && matches!(destination, Destination::Pipe(_)) {
        return Err(Error::new(ErrorKind::InvalidInput, "VMDK options: layout=front needs an output that can seek")
            .with_remedy("write to a file, or choose layout=footer"));
    }
    let descriptor = Description {
        create_type: subformat.name(),
        capacity,
        identity: &ContentIdentity::derive(request.ids, "vmdk content"),
        parent: None,
        extents: &[ExtentLine { sectors: capacity, kind: "SPARSE", file: own_name(request.name), offset: None }],
        options: &options,
    }
    .text();
    let encoder = Arc::new(GrainEncoder::new(request.level.unwrap_or_default())?);
    let sink = StreamSink::new(destination, layout, capacity, &descriptor, request.extents, encoder)?;
    Ok(Box::new(sink))
}

/// The serial half: markers, grains, tables.
#[derive(Debug)]
struct StreamSink {
    output: Sequential,
    encoder: Arc<GrainEncoder>,
    capacity: u64,
    tables: Tables,
    /// The grain that the next one must stand behind, and the directory so far.
    next_grain: u64,
    directory: Directory,
    /// The table of the group that is being written.
    group: u64,
    group_table: Box<[u32; GTES]>,
    group_has_data: bool,
}

/// Where tables go.
#[derive(Debug)]
enum Tables {
    /// Written at the end into the room that was left for them.
    Front { overhead: u64, places: FrontPlaces, file: Arc<dyn Storage> },
    /// Written as the data goes by.
    Footer { overhead: u64 },
}

impl StreamSink {
    fn new(
        destination: Destination,
        layout: TableLayout,
        capacity: u64,
        descriptor: &str,
        extents: Option<&[Extent]>,
        encoder: Arc<GrainEncoder>,
    ) -> Result<Self> {
        let groups = capacity.div_ceil(GROUP_SECTORS);
        let tables = match (&destination, layout) {
            (Destination::File(file), TableLayout::Front) => {
                let places = FrontPlaces::new(groups, extents);
                let overhead = FRONT_GD_OFFSET + directory_sectors(groups) + places.count() * GT_SECTORS;
                Tables::Front { overhead, places, file: Arc::clone(file) }
            }
            _ => Tables::Footer { overhead: (DESCRIPTOR_OFFSET + DESCRIPTOR_SECTORS).next_multiple_of(GRAIN_SECTORS) },
        };
        let mut sink = Self {
            output: Sequential::new(destination),
            encoder,
            capacity,
            tables,
            next_grain: 0,
            directory: Directory::default(),
            group: 0,
            group_table: Box::new([0; GTES]),
            group_has_data: false,
        };
        // A directory that does not fit behind the data would be found out only at the end.
        if directory_sectors(groups).saturating_add(sink.overhead()) > u64::from(u32::MAX) {
            return Err(too_large(&format!("a disk of {capacity} sectors needs tables of")));
        }
        sink.write_front(descriptor)?;
        Ok(sink)
    }

    fn overhead(&self) -> u64 {
        match self.tables {
            Tables::Front { overhead, .. } | Tables::Footer { overhead } => overhead,
        }
    }

    fn write_front(&mut self, descriptor: &str) -> Result<()> {
        let room = DESCRIPTOR_SECTORS * SECTOR;
        if descriptor.len() as u64 > room {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("VMDK descriptor of {} bytes, room for {room}", descriptor.len()),
            ));
        }
        let mut header = self.final_header();
        if self.output.is_file() {
            header.magic = UNFINISHED_MAGIC;
        }
        self.output.append(header.as_bytes())?;
        self.output.append(descriptor.as_bytes())?;
        let overhead = self.overhead() * SECTOR;
        match self.tables {
            Tables::Front { .. } => self.output.skip_to(overhead),
            Tables::Footer { .. } => self.output.pad(overhead),
        }
    }

    /// The header as it stands in the finished image.
    fn final_header(&self) -> SparseHeader {
        match self.tables {
            Tables::Front { .. } => self.header(FRONT_GD_OFFSET),
            Tables::Footer { .. } => self.header(GD_AT_END),
        }
    }

    fn header(&self, gd_offset: u64) -> SparseHeader {
        SparseHeader {
            magic: SPARSE_MAGIC,
            version: 3.into(),
            flags: (flag::NEWLINE_TEST | flag::COMPRESSED | flag::MARKERS).into(),
            capacity: self.capacity.into(),
            grain_size: GRAIN_SECTORS.into(),
            descriptor_offset: DESCRIPTOR_OFFSET.into(),
            descriptor_size: DESCRIPTOR_SECTORS.into(),
            gtes_per_gt: 512.into(),
            rgd_offset: 0.into(),
            gd_offset: gd_offset.into(),
            overhead: self.overhead().into(),
            unclean_shutdown: 0,
            newline_test: NEWLINE_TEST,
            compress_algorithm: COMPRESSION_DEFLATE.into(),
            padding: [0; 433],
        }
    }

    /// The sector at which the output stands, as tables store it.
    fn sector(&self) -> Result<u32> {
        u32::try_from(self.output.position() / SECTOR).map_err(|_| too_large("the compressed image reaches"))
    }

    /// Closes the group that is being written and turns to the one of `grain`.
    fn enter_group(&mut self, grain: u64) -> Result<()> {
        let group = grain / GTES as u64;
        if group == self.group {
            return Ok(());
        }
        self.close_group()?;
        self.group = group;
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        if !self.group_has_data {
            return Ok(());
        }
        let mut bytes = [0; GTES * 4];
        for (place, entry) in bytes.chunks_exact_mut(4).zip(self.group_table.iter()) {
            place.copy_from_slice(&entry.to_le_bytes());
        }
        let sector = match &self.tables {
            Tables::Front { overhead, places, file } => {
                let first = overhead - places.count() * GT_SECTORS;
                let sector = first + places.place_of(self.group)? * GT_SECTORS;
                file.write_at(&bytes, sector * SECTOR)?;
                u32::try_from(sector).map_err(|_| too_large("the grain tables reach"))?
            }
            Tables::Footer { .. } => {
                self.append_marker(GT_SECTORS, marker::GRAIN_TABLE)?;
                let sector = self.sector()?;
                self.output.append(&bytes)?;
                sector
            }
        };
        self.directory.set(self.group, sector);
        self.group_table.fill(0);
        self.group_has_data = false;
        Ok(())
    }

    fn append_marker(&mut self, sectors: u64, kind: u32) -> Result<()> {
        let mut marker = Marker::new_zeroed();
        marker.sectors = sectors.into();
        marker.kind = kind.into();
        self.output.append(marker.as_bytes())
    }

    fn append_grain(&mut self, grain: u64, stored: &[u8]) -> Result<()> {
        let size = u32::try_from(stored.len())
            .ok()
            .filter(|size| (1..=COMPRESSED_GRAIN_MAX as u64).contains(&u64::from(*size)));
        let size = size.ok_or_else(|| {
            let length = stored.len();
            Error::new(ErrorKind::InvalidInput, format!("VMDK grain {grain}: {length} compressed bytes"))
        })?;
        self.enter_group(grain)?;
        let sector = self.sector()?;
        let marker = GrainMarker { lba: (grain * GRAIN_SECTORS).into(), size: size.into() };
        self.output.append(marker.as_bytes())?;
        self.output.append(stored)?;
        self.output.pad(SECTOR)?;
        let entry = usize::try_from(grain % GTES as u64).expect("less than a table's entries");
        self.group_table[entry] = sector;
        self.group_has_data = true;
        Ok(())
    }

    fn write_footer(mut self, groups: u64) -> Result<()> {
        self.append_marker(directory_sectors(groups), marker::GRAIN_DIRECTORY)?;
        let gd_offset = u64::from(self.sector()?);
        for chunk in 0..groups.div_ceil(Directory::CHUNK) {
            self.output.append(&self.directory.chunk_bytes(chunk, groups))?;
        }
        if groups == 0 {
            // An empty disk has no entries; its directory is a sector of zeroes.
            self.output.append(&[0; 512])?;
        }
        self.output.pad(SECTOR)?;
        self.append_marker(1, marker::FOOTER)?;
        let footer = self.header(gd_offset);
        self.output.append(footer.as_bytes())?;
        self.append_marker(0, marker::EOS)?;
        self.complete()
    }

    fn write_directory_in_front(mut self, groups: u64, file: &dyn Storage) -> Result<()> {
        self.append_marker(0, marker::EOS)?;
        for chunk in self.directory.chunks() {
            let offset = FRONT_GD_OFFSET * SECTOR + chunk * Directory::CHUNK * 4;
            file.write_at(&self.directory.chunk_bytes(chunk, groups), offset)?;
        }
        self.complete()
    }

    /// Makes everything durable and, on a file, only then puts the header's magic in.
    fn complete(self) -> Result<()> {
        let header = self.final_header();
        if let Some(file) = self.output.into_file()? {
            file.flush()?;
            file.write_at(header.as_bytes(), 0)?;
            file.flush()?;
        }
        Ok(())
    }
}

impl BlockSink for StreamSink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::clone(&self.encoder) as Arc<dyn BlockEncoder>
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let unit = GRAIN_BYTES as u64;
        let grain = offset / unit;
        if !offset.is_multiple_of(unit) || grain < self.next_grain || grain * GRAIN_SECTORS >= self.capacity {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "VMDK grain at byte {offset}: must be a multiple of {unit}, at least {} and inside {} sectors",
                    self.next_grain * unit,
                    self.capacity
                ),
            ));
        }
        self.next_grain = grain + 1;
        let mut stored = Vec::new();
        let stored = match form {
            Form::Encoded => bytes,
            Form::Plain => {
                self.encoder.encode(bytes, &mut stored)?;
                stored.as_slice()
            }
        };
        if self.encoder.is_zero_grain(stored) {
            return Ok(());
        }
        self.append_grain(grain, stored)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.close_group()?;
        let groups = self.capacity.div_ceil(GROUP_SECTORS);
        match &self.tables {
            Tables::Footer { .. } => self.write_footer(groups),
            Tables::Front { file, .. } => {
                let file = Arc::clone(file);
                self.write_directory_in_front(groups, &*file)
            }
        }
    }
}

/// Sectors of the grain directory of a disk with `groups` grain tables.
pub(super) const fn directory_sectors(groups: u64) -> u64 {
    // Four bytes to an entry; an empty disk still has a directory of one sector.
    let sectors = groups.saturating_mul(4).div_ceil(SECTOR);
    if sectors == 0 { 1 } else { sectors }
}

fn too_large(what: &str) -> Error {
    Error::new(ErrorKind::TooLarge, format!("VMDK: {what} 2 TiB, and the tables can only name sectors below that"))
        .with_remedy("choose another format, or split the disk")
}

/// The groups of grains that get room for a table in front of the data.
#[derive(Debug)]
enum FrontPlaces {
    /// All: nobody knows what is to come.
    All(u64),
    /// Those in which the source has data: runs of groups, and how many tables stand before each.
    Runs { runs: Vec<(std::ops::Range<u64>, u64)>, count: u64 },
}

impl FrontPlaces {
    fn new(groups: u64, extents: Option<&[Extent]>) -> Self {
        let Some(extents) = extents else { return Self::All(groups) };
        let (mut runs, mut count) = (Vec::<(std::ops::Range<u64>, u64)>::new(), 0);
        let group_bytes = GROUP_SECTORS * SECTOR;
        for extent in extents.iter().filter(|extent| extent.status == BlockStatus::Data && extent.length > 0) {
            let last = runs.last().map_or(0, |(run, _)| run.end);
            let start = (extent.offset / group_bytes).max(last);
            let end = extent.end().div_ceil(group_bytes).min(groups);
            if start >= end {
                continue;
            }
            match runs.last_mut() {
                Some((run, _)) if run.end == start => run.end = end,
                _ => runs.push((start..end, count)),
            }
            count += end - start;
        }
        Self::Runs { runs, count }
    }

    fn count(&self) -> u64 {
        match self {
            Self::All(groups) => *groups,
            Self::Runs { count, .. } => *count,
        }
    }

    /// Which of the tables is that of `group`.
    fn place_of(&self, group: u64) -> Result<u64> {
        match self {
            Self::All(_) => Some(group),
            Self::Runs { runs, .. } => runs
                .get(runs.partition_point(|(run, _)| run.end <= group))
                .filter(|(run, _)| run.contains(&group))
                .map(|(run, before)| before + (group - run.start)),
        }
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("VMDK: data in the group of grains {group}, where the source was said to have none"),
            )
        })
    }
}

/// The grain directory, of which only the parts with data are kept.
#[derive(Debug, Default)]
struct Directory(BTreeMap<u64, Box<[u32]>>);

impl Directory {
    /// Entries of a part.
    const CHUNK: u64 = 1024;

    fn set(&mut self, group: u64, sector: u32) {
        let chunk = self.0.entry(group / Self::CHUNK).or_insert_with(|| vec![0; 1024].into_boxed_slice());
        chunk[usize::try_from(group % Self::CHUNK).expect("less than a part's entries")] = sector;
    }

    /// The parts with data.
    fn chunks(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// The bytes of part `chunk` of a directory of `groups` entries, which the last part ends with.
    fn chunk_bytes(&self, chunk: u64, groups: u64) -> Vec<u8> {
        let entries = usize::try_from((groups - chunk * Self::CHUNK).min(Self::CHUNK)).unwrap_or(1024);
        match self.0.get(&chunk) {
            Some(part) => part[..entries].iter().flat_map(|entry| entry.to_le_bytes()).collect(),
            None => vec![0; entries * 4],
        }
    }
}
