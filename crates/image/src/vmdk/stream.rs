//! Reads a streamOptimized VMDK from front to back: from a pipe, a download, a member of an archive.
//!
//! "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents", and what the writers make of it:
//!
//! ```text
//! header · descriptor · [directory · tables] · padding to `overhead`         tables in front: open-vmdk, QEMU
//! grain · grain · … · [marker · table] · grain · …                           by markers, in ascending order
//! [marker · directory · marker · footer] · end of stream                     tables at the end: ovftool, VirtualBox
//! ```
//!
//! Grains come out as they are stored, so that they are inflated by many threads or passed on. Tables are not needed to
//! read, and are counted: a stream that lost grains and still ends well would otherwise be a disk with zeroes in it. QEMU
//! writes no end-of-stream marker; its files end soundly when as many grains came as the tables in front know.

use std::io::{self, BufReader, Read};

use transload_block::{BlockStream, Codec, Error, Payload, Result, StreamUnit};
use zerocopy::FromBytes;

use super::descriptor::Descriptor;
use super::error::Fault;
use super::header::{DirectoryPlace, HostedHeader};
use super::layout::{DESCRIPTOR_MAX, DIRECTORY_MAX, GrainMarker, Marker, SECTOR, marker};
use super::probe::{Front, front};
use crate::{StreamRequest, codec};

/// The largest directory that is held to count what its tables know: of a disk of 64 TiB in the usual geometry.
const COUNTED_DIRECTORY_MAX: u64 = 8 << 20;
/// How many zeroes may follow the end of the stream: what padding to whole blocks of a tape or target makes.
const TRAILING_MAX: u64 = 1 << 20;
/// Sectors that may follow a marker of progress.
const PROGRESS_SECTORS_MAX: u64 = 1 << 11;

/// Begins to read a stream.
pub(super) fn stream(request: StreamRequest<'_>) -> Result<Box<dyn BlockStream>> {
    let mut input = Input { reader: BufReader::with_capacity(256 << 10, request.input), offset: 0 };
    let mut sector = [0; 512];
    input.exact(&mut sector, "in the header")?;
    match front(&sector, None) {
        Some(Front::Hosted) => {}
        Some(_) => return Err(Fault::StreamUnsupported("a VMDK in several files cannot be read from a stream").into()),
        None => return Err(Fault::Magic { what: "VMDK" }.into()),
    }
    let header = HostedHeader::parse(&sector)?;
    if !header.compressed || !header.markers {
        return Err(Fault::StreamUnsupported("only a streamOptimized VMDK can be read from a stream").into());
    }
    let size = size_of_disk(&mut input, &header)?;
    let tables = count_in_front(&mut input, &header, size)?;
    input.skip_to(header.overhead.saturating_mul(SECTOR).max(input.offset), "in front of the first grain")?;
    Ok(Box::new(Stream { input, size, header, tables, grains: 0, last: None, footer: false, ended: false }))
}

/// Reads the embedded descriptor, and answers the bytes of the disk.
fn size_of_disk(input: &mut Input, header: &HostedHeader) -> Result<u64> {
    let Some((sector, sectors)) = header.descriptor else { return Err(Fault::BareExtent.into()) };
    let bytes = sectors.saturating_mul(SECTOR);
    if bytes > DESCRIPTOR_MAX {
        return Err(Fault::DescriptorTooLong { bytes, most: DESCRIPTOR_MAX }.into());
    }
    input.skip_to(sector.saturating_mul(SECTOR), "in front of the descriptor")?;
    let mut text = vec![0; usize::try_from(bytes).expect("at most a megabyte")];
    input.exact(&mut text, "in the descriptor")?;
    let descriptor = Descriptor::parse(&text)?;
    if descriptor.parent()?.is_some() {
        return Err(Fault::StreamUnsupported("a VMDK that hangs from a parent cannot be read from a stream").into());
    }
    let sectors = match descriptor.extents.as_slice() {
        [] => header.capacity,
        [_] => descriptor.sectors()?,
        _ => return Err(Fault::StreamUnsupported("a VMDK in several files cannot be read from a stream").into()),
    };
    if sectors > header.capacity.next_multiple_of(header.grain_sectors) {
        let name = descriptor.extents.into_iter().next().and_then(|extent| extent.name).unwrap_or_default();
        return Err(Fault::ExtentLargerThanHeader { index: 1, name, line: sectors, header: header.capacity }.into());
    }
    // Tables in front of the grains end where these begin, and so must those of a capacity that overrules nothing.
    let front = header.overhead.saturating_mul(SECTOR);
    let in_front = matches!(header.gd, DirectoryPlace::Sector(sector) if sector < header.overhead);
    if in_front && header.capacity > sectors.next_multiple_of(header.grain_sectors) && !header.directory_fits(front) {
        let name = descriptor.extents.into_iter().next().and_then(|extent| extent.name).unwrap_or_default();
        return Err(Fault::HeaderLargerThanFile { index: 1, name, line: sectors, header: header.capacity }.into());
    }
    Ok(sectors * SECTOR)
}

/// Counts the grains in tables that stand between the descriptor and the first grain; `None` when they do not.
fn count_in_front(input: &mut Input, header: &HostedHeader, size: u64) -> Result<Option<u64>> {
    let DirectoryPlace::Sector(sector) = header.gd else { return Ok(None) };
    let end = header.overhead.saturating_mul(SECTOR);
    let entries = size.div_ceil(header.grain_bytes()).div_ceil(header.gtes_per_gt);
    let (at, length) = (sector.saturating_mul(SECTOR), entries * 4);
    if at < input.offset || length > COUNTED_DIRECTORY_MAX || at.saturating_add(length) > end {
        return Ok(None);
    }
    input.skip_to(at, "in front of the grain directory")?;
    let mut directory = Vec::new();
    input.append(&mut directory, length, "in the grain directory")?;
    let entries = directory.chunks_exact(4).map(|entry| u32::from_le_bytes(entry.try_into().expect("four bytes")));
    let mut places: Vec<u64> = entries.filter(|sector| *sector != 0).map(|sector| u64::from(sector) * SECTOR).collect();
    places.sort_unstable();
    let mut table = vec![0; usize::try_from(header.gt_bytes()).expect("a table fits memory")];
    let mut grains = 0;
    for place in places {
        if place < input.offset || place + header.gt_bytes() > end {
            return Ok(None);
        }
        input.skip_to(place, "in front of a grain table")?;
        input.exact(&mut table, "in a grain table")?;
        grains += count(&table, header);
    }
    Ok(Some(grains))
}

/// How many grains a table knows.
fn count(table: &[u8], header: &HostedHeader) -> u64 {
    let entries = table.chunks_exact(4).map(|entry| u32::from_le_bytes(entry.try_into().expect("four bytes")));
    entries.filter(|entry| *entry > u32::from(header.zeroed_grains)).count() as u64
}

/// The stream.
#[derive(Debug)]
struct Stream {
    input: Input,
    /// Bytes of the disk.
    size: u64,
    header: HostedHeader,
    /// The grains that the tables met so far know.
    tables: Option<u64>,
    /// The grains that came.
    grains: u64,
    /// The sector of the last one.
    last: Option<u64>,
    footer: bool,
    ended: bool,
}

impl BlockStream for Stream {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn unit_size(&self) -> u64 {
        self.header.grain_bytes()
    }

    fn next_unit(&mut self, buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        if self.ended {
            return Ok(None);
        }
        let unit = self.advance(buffer);
        self.ended = !matches!(unit, Ok(Some(_)));
        unit
    }
}

impl Stream {
    /// Goes on to the next grain.
    fn advance(&mut self, buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        let mut sector = [0; 512];
        loop {
            let at = self.input.offset;
            if !self.input.sector(&mut sector)? {
                return self.end_of_input();
            }
            let found = Marker::read_from_bytes(&sector).expect("a sector");
            if found.size.get() != 0 {
                return self.grain(&sector, buffer).map(Some);
            }
            let (kind, sectors) = (found.kind.get(), found.sectors.get());
            match kind {
                marker::EOS if sector == [0; 512] => return self.end_of_stream(at),
                marker::GRAIN_TABLE => self.grain_table(at, sectors)?,
                marker::GRAIN_DIRECTORY if sectors <= DIRECTORY_MAX / SECTOR => self.skip(sectors)?,
                marker::FOOTER if sectors == 1 => self.footer()?,
                marker::PROGRESS if sectors <= PROGRESS_SECTORS_MAX => self.skip(sectors)?,
                marker::EOS | marker::GRAIN_DIRECTORY | marker::FOOTER | marker::PROGRESS => {
                    return Err(Fault::MarkerLength { kind, offset: at, sectors }.into());
                }
                _ => return Err(Fault::MarkerKind { kind, offset: at }.into()),
            }
        }
    }

    /// Takes the grain whose marker and first bytes are `sector`.
    fn grain(&mut self, sector: &[u8; 512], mut buffer: Vec<u8>) -> Result<StreamUnit> {
        let (found, front) = GrainMarker::read_from_prefix(sector).expect("a sector is longer");
        let (lba, stored) = (found.lba.get(), u64::from(found.size.get()));
        let (grain, whole) = (self.header.grain_sectors, self.header.grain_bytes());
        let offset = lba.checked_mul(SECTOR).filter(|offset| *offset < self.size && offset % whole == 0);
        let Some(offset) = offset else {
            return Err(Fault::StreamPlace { lba, grain, capacity: self.size / SECTOR }.into());
        };
        match self.last {
            Some(previous) if previous == lba => return Err(Fault::StreamTwice { lba }.into()),
            Some(previous) if previous > lba => return Err(Fault::StreamOrder { lba, previous }.into()),
            _ => self.last = Some(lba),
        }
        let most = whole * 2;
        if stored > most {
            return Err(Fault::GrainMarkerSize { grain: lba / grain, size: stored, most }.into());
        }
        let here = front.len().min(usize::try_from(stored).expect("two grains fit memory"));
        buffer.clear();
        buffer.extend_from_slice(&front[..here]);
        self.input.append(&mut buffer, stored - here as u64, "in a grain")?;
        self.input.skip_to(self.input.offset.next_multiple_of(SECTOR), "behind a grain")?;
        self.grains += 1;
        let length = whole.min(self.size - offset);
        let payload = if length == whole {
            Payload::Encoded { codec: Codec::Zlib, bytes: buffer }
        } else {
            self.last_grain(lba / grain, &buffer, length)?
        };
        Ok(StreamUnit { offset, length, payload })
    }

    /// Inflates the disk's last grain, which is not whole and may be stored as short as it is.
    fn last_grain(&self, grain: u64, stored: &[u8], valid: u64) -> Result<Payload> {
        let mut unit = vec![0; usize::try_from(self.header.grain_bytes()).expect("a compressed grain fits memory")];
        let length = codec::decode(Codec::Zlib, stored, &mut unit)
            .map_err(|error| error.context(format!("grain {grain}")))? as u64;
        if length < valid {
            return Err(Fault::GrainLength { grain, length, expected: valid }.into());
        }
        unit.truncate(usize::try_from(valid).expect("inside a grain"));
        Ok(Payload::Plain(unit))
    }

    fn grain_table(&mut self, at: u64, sectors: u64) -> Result<()> {
        let bytes = self.header.gt_bytes();
        if sectors != bytes.div_ceil(SECTOR) {
            return Err(Fault::MarkerLength { kind: marker::GRAIN_TABLE, offset: at, sectors }.into());
        }
        let mut table = Vec::new();
        self.input.append(&mut table, sectors * SECTOR, "in a grain table")?;
        table.truncate(usize::try_from(bytes).expect("a table fits memory"));
        self.tables = Some(self.tables.unwrap_or(0) + count(&table, &self.header));
        Ok(())
    }

    fn footer(&mut self) -> Result<()> {
        let mut sector = [0; 512];
        self.input.exact(&mut sector, "in the footer")?;
        let found = HostedHeader::parse_footer(&sector).map_err(|fault| Error::from(fault).context("footer"))?;
        for (what, footer, header) in [
            ("the grain size", found.grain_sectors, self.header.grain_sectors),
            ("the number of entries per grain table", found.gtes_per_gt, self.header.gtes_per_gt),
        ] {
            if footer != header {
                return Err(Fault::FooterDiffers { what, footer, header }.into());
            }
        }
        self.footer = true;
        Ok(())
    }

    fn skip(&mut self, sectors: u64) -> Result<()> {
        self.input.skip_to(self.input.offset + sectors * SECTOR, "behind a marker")
    }

    /// The end-of-stream marker at byte `at`.
    fn end_of_stream(&mut self, at: u64) -> Result<Option<StreamUnit>> {
        if self.header.gd == DirectoryPlace::Footer && !self.footer {
            return Err(Fault::NoFooterInStream.into());
        }
        self.check_count()?;
        if !self.input.only_zeroes(TRAILING_MAX)? {
            return Err(Fault::AfterEnd { offset: at }.into());
        }
        Ok(None)
    }

    /// The end of the input without an end-of-stream marker.
    fn end_of_input(&self) -> Result<Option<StreamUnit>> {
        match self.tables {
            Some(tables) if self.header.gd != DirectoryPlace::Footer && tables == self.grains => Ok(None),
            _ => Err(Fault::StreamCut("without an end-of-stream marker").into()),
        }
    }

    fn check_count(&self) -> Result<()> {
        match self.tables {
            Some(tables) if tables != self.grains => Err(Fault::StreamCount { tables, grains: self.grains }.into()),
            _ => Ok(()),
        }
    }
}

/// The bytes, and how many of them were read.
struct Input {
    reader: BufReader<Box<dyn Read + Send>>,
    offset: u64,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Input {
    /// Fills `buf`, or says where the stream breaks off.
    fn exact(&mut self, buf: &mut [u8], whither: &'static str) -> Result<()> {
        self.reader.read_exact(buf).map_err(|error| cut(error, whither))?;
        self.offset += buf.len() as u64;
        Ok(())
    }

    /// Fills `sector`; `false` when the input is at its end.
    fn sector(&mut self, sector: &mut [u8; 512]) -> Result<bool> {
        let mut have = 0;
        while have < sector.len() {
            match self.reader.read(&mut sector[have..]) {
                Ok(0) if have == 0 => return Ok(false),
                Ok(0) => return Err(Fault::StreamCut("in a marker").into()),
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", error)),
            }
        }
        self.offset += 512;
        Ok(true)
    }

    /// Appends `length` bytes to `buffer`. It grows as they come, whatever the length claims.
    fn append(&mut self, buffer: &mut Vec<u8>, length: u64, whither: &'static str) -> Result<()> {
        let count = self.reader.by_ref().take(length).read_to_end(buffer).map_err(|error| cut(error, whither))? as u64;
        self.offset += count;
        if count < length { Err(Fault::StreamCut(whither).into()) } else { Ok(()) }
    }

    /// Reads on to byte `to`, which must not be behind.
    fn skip_to(&mut self, to: u64, whither: &'static str) -> Result<()> {
        let Some(length) = to.checked_sub(self.offset) else {
            return Err(Fault::OutsideFile {
                what: "a structure of the stream",
                sector: to / SECTOR,
                bytes: 0,
                file: self.offset,
            }
            .into());
        };
        let count = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink()).map_err(|e| cut(e, whither))?;
        self.offset += count;
        if count < length { Err(Fault::StreamCut(whither).into()) } else { Ok(()) }
    }

    /// Whether nothing but zeroes follows, and at most `most` of them.
    fn only_zeroes(&mut self, most: u64) -> Result<bool> {
        let mut left = most + 1;
        let mut block = [0; 4096];
        while left > 0 {
            let count = match self.reader.read(&mut block) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", error)),
            };
            if block[..count].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            left = left.saturating_sub(count as u64);
        }
        Ok(false)
    }
}

fn cut(error: io::Error, whither: &'static str) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Fault::StreamCut(whither).into()
    } else {
        Error::io("read", error)
    }
}
