//! A read-only disk whose equal units stand where a map says: what QED, qcow, Parallels, Bochs and cloop have in common.
//!
//! A format opens its header and hands over a [`UnitMap`]; this is the one place that moves the bytes, keeps what was
//! looked up, and checks that a place is inside the file. Tables are read in pages of bounded size when they are asked for.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Codec, EncodedRead, EncodedUnit, Error, ErrorKind, Extent,
    HostExtent, HostExtents, Result, check_extent, check_range,
};

use crate::{
    Access, DescribeFn, Format, ImageInfo, Layer, Match, OpenFn, OpenRequest, ParentReference, ProbeWindow, Source,
    Variant, codec,
};

/// Bytes of a table that are read at once.
const PAGE: u64 = 4096;
/// Pages that are kept at least.
const PAGES_MIN: usize = 16;

/// Where a unit of the disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its bytes stand here.
    File(u64),
    /// A compressed stream stands here, of at most so many bytes.
    Packed(u64, u64, Codec),
    /// Zeroes.
    Zero,
    /// Nothing: a backing file shows.
    Hole,
}

/// Says where units stand.
pub(crate) trait UnitMap: Send + Sync + Debug {
    /// Where unit `index` of the disk stands.
    fn place(&self, tables: &Tables, index: u64) -> Result<Place>;

    /// Where unit `index` stands, and how many from it on stand behind each other or nowhere as it does: one, unless the
    /// map can tell more at once.
    fn places(&self, tables: &Tables, index: u64) -> Result<(Place, u64)> {
        Ok((self.place(tables, index)?, 1))
    }
}

/// The tables of an image: big files' bytes, read a page at a time and kept while there is room.
#[derive(Debug)]
pub(crate) struct Tables {
    file: Arc<dyn BlockRead>,
    pages: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
    most: usize,
}

impl Tables {
    pub(crate) fn new(file: Arc<dyn BlockRead>, cache_bytes: usize) -> Self {
        Self { file, pages: Mutex::default(), most: (cache_bytes / 4300).max(PAGES_MIN) }
    }

    /// The `N` bytes at `offset` of the file.
    ///
    /// # Errors
    /// `Corrupt` when they are not all in it; what the file answers.
    pub(crate) fn bytes<const N: usize>(&self, offset: u64, what: &str) -> Result<[u8; N]> {
        let size = self.file.size();
        if check_range(offset, N as u64, size).is_err() {
            return Err(corrupt(format!("{what}: an entry at byte {offset} is behind the file's end at byte {size}")));
        }
        let mut found = [0; N];
        let within = usize::try_from(offset % PAGE).unwrap_or(0);
        if let Some(whole) = self.page(offset / PAGE)?.get(within..).and_then(|rest| rest.first_chunk()) {
            return Ok(*whole);
        }
        // It goes on in the next page.
        for (at, byte) in (offset..).zip(&mut found) {
            let page = self.page(at / PAGE)?;
            *byte = page.get(usize::try_from(at % PAGE).unwrap_or(0)).copied().unwrap_or(0);
        }
        Ok(found)
    }

    fn page(&self, index: u64) -> Result<Arc<Vec<u8>>> {
        let pages = || self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = pages().get(&index) {
            return Ok(Arc::clone(page));
        }
        let start = index * PAGE;
        let mut bytes = vec![0; usize::try_from(PAGE.min(self.file.size() - start)).unwrap_or(0)];
        self.file.read_at(&mut bytes, start)?;
        let page = Arc::new(bytes);
        let mut kept = pages();
        if kept.len() >= self.most {
            kept.clear();
        }
        kept.insert(index, Arc::clone(&page));
        Ok(page)
    }
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Mapped<M> {
    tables: Tables,
    map: M,
    size: u64,
    unit: u64,
    /// The unit that was unpacked last.
    unpacked: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

impl<M: UnitMap> Mapped<M> {
    /// A disk of `size` bytes in units of `unit` bytes, which is a multiple of 512 and at most 64 MiB.
    pub(crate) fn new(file: Arc<dyn BlockRead>, map: M, size: u64, unit: u64, cache_bytes: usize) -> Self {
        Self { tables: Tables::new(file, cache_bytes), map, size, unit, unpacked: Mutex::default() }
    }

    fn file(&self) -> &dyn BlockRead {
        &*self.tables.file
    }

    /// The bytes of the disk in unit `index`.
    fn bytes_in(&self, index: u64) -> u64 {
        (self.size - index * self.unit).min(self.unit)
    }

    /// Where unit `index` stands, which is inside the file.
    fn place(&self, index: u64) -> Result<Place> {
        let place = self.map.place(&self.tables, index)?;
        self.checked(index, place, 1)
    }

    /// The same of as many units as the map tells of at once.
    fn places(&self, index: u64) -> Result<(Place, u64)> {
        let (place, count) = self.map.places(&self.tables, index)?;
        match self.checked(index, place, count) {
            Ok(place) => Ok((place, count)),
            // The file may end behind some of them.
            Err(_) => Ok((self.place(index)?, 1)),
        }
    }

    /// Makes sure that `count` units from `index` on, which stand at `place`, are inside the file.
    fn checked(&self, index: u64, place: Place, count: u64) -> Result<Place> {
        let (start, length) = match place {
            Place::File(start) => (start, (self.size - index * self.unit).min(self.unit.saturating_mul(count))),
            Place::Packed(start, length, _) => (start, length),
            Place::Zero | Place::Hole => return Ok(place),
        };
        let size = self.file().size();
        check_range(start, length, size).map(|_| place).map_err(|_| {
            corrupt(format!(
                "unit {index} of the disk: {length} bytes at byte {start} reach behind the file's end at byte {size}; the \
                 file is cut off or damaged"
            ))
        })
    }

    /// The first run of `range`: its length and its place, which is at the byte where the range starts unless packed.
    fn run(&self, range: Range<u64>) -> Result<(u64, Place)> {
        /// How often the map is asked for one answer.
        const MOST: u64 = 1024;
        let first = range.start / self.unit;
        let (place, count) = self.places(first)?;
        let end = |index: u64| (index + 1).saturating_mul(self.unit).min(range.end);
        let (mut index, mut lookups) = (first + (count - 1), 1);
        while end(index) < range.end && lookups < MOST {
            let (next, count) = self.places(index + 1)?;
            let joined = match (place, next) {
                (Place::File(start), Place::File(next)) => start + (index + 1 - first) * self.unit == next,
                (Place::Zero, Place::Zero) | (Place::Hole, Place::Hole) => true,
                _ => false,
            };
            if !joined {
                break;
            }
            index += count;
            lookups += 1;
        }
        let place = match place {
            Place::File(start) => Place::File(start + range.start % self.unit),
            other => other,
        };
        Ok((end(index) - range.start, place))
    }

    fn stored(&self, start: u64, length: u64, stored: &mut Vec<u8>) -> Result<()> {
        stored.resize(usize::try_from(length).unwrap_or(0), 0);
        self.file().read_at(stored, start)
    }

    fn unpack(&self, index: u64, start: u64, length: u64, codec: Codec) -> Result<Arc<Vec<u8>>> {
        let slot = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, unit)) = slot().as_ref().filter(|(kept, _)| *kept == index) {
            return Ok(Arc::clone(unit));
        }
        let mut stored = Vec::new();
        self.stored(start, length, &mut stored)?;
        let mut unit = vec![0; usize::try_from(self.unit).unwrap_or(0)];
        let found = codec::decode(codec, &stored, &mut unit).map_err(|error| error.context(format!("unit {index}")))?;
        if (found as u64) < self.bytes_in(index) {
            return Err(corrupt(format!("unit {index}: it unpacks to {found} bytes, not {}", self.bytes_in(index))));
        }
        let unit = Arc::new(unit);
        *slot() = Some((index, Arc::clone(&unit)));
        Ok(unit)
    }
}

impl<M: UnitMap> BlockRead for Mapped<M> {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        let granularity = u32::try_from(1_u64 << self.unit.trailing_zeros()).unwrap_or(512);
        BlockLimits { alignment: 1, preferred: granularity.max(1 << 20), granularity }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size)?;
        let (mut at, mut buf) = (offset, buf);
        while at < end {
            let (length, place) = self.run(at..end)?;
            let (piece, rest) = buf.split_at_mut(usize::try_from(length).unwrap_or(buf.len()));
            match place {
                Place::File(start) => self.file().read_at(piece, start)?,
                Place::Packed(start, length, codec) => {
                    let unit = self.unpack(at / self.unit, start, length, codec)?;
                    let from = usize::try_from(at % self.unit).unwrap_or(0);
                    piece.copy_from_slice(&unit[from..from + piece.len()]);
                }
                Place::Zero | Place::Hole => piece.fill(0),
            }
            at += length;
            buf = rest;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let (length, place) = self.run(range.clone())?;
        let status = match place {
            Place::File(_) | Place::Packed(..) => BlockStatus::Data,
            Place::Zero => BlockStatus::Zero,
            Place::Hole => BlockStatus::Hole,
        };
        Ok(Extent { offset: range.start, length, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none().with_host_extents(self).with_encoded(self)
    }
}

impl<M: UnitMap> HostExtents for Mapped<M> {
    fn host_extent(&self, range: Range<u64>) -> Result<HostExtent<'_>> {
        check_extent(&range, self.size)?;
        let (length, place) = self.run(range)?;
        match (place, self.file().capabilities().host_extents) {
            (Place::File(start), Some(below)) => below.host_extent(start..start + length),
            _ => Ok(HostExtent { length, location: None }),
        }
    }
}

impl<M: UnitMap> EncodedRead for Mapped<M> {
    fn encoded_unit_size(&self) -> u64 {
        self.unit
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        check_range(offset, 1, self.size)?;
        let index = offset / self.unit;
        let Place::Packed(start, length, codec) = self.place(index)? else { return Ok(None) };
        self.stored(start, length, stored)?;
        let first = index * self.unit;
        Ok(Some(EncodedUnit { codec, range: first..first + self.bytes_in(index) }))
    }
}

/// A row of the table of formats for one of these.
pub(crate) const fn row(
    names: (&'static str, &'static [&'static str], &'static str),
    extensions: &'static [&'static str],
    variants: &'static [Variant],
    probe: fn(&ProbeWindow<'_>) -> Match,
    describe: DescribeFn,
    open: OpenFn,
) -> Format {
    Format {
        name: names.0,
        aliases: names.1,
        title: names.2,
        extensions,
        variants,
        open_options: &[],
        create_options: &[],
        probe,
        describe: Some(describe),
        open: Some(open),
        stream: None,
        create: None,
        sink: None,
        measure: None,
        check: None,
        resize: None,
    }
}

/// A kind of a format that is only read.
pub(crate) const fn variant(name: &'static str, summary: &'static str) -> Variant {
    Variant { name, summary, read: true, write: false, stream_read: false, stream_write: false }
}

/// The layer that a request asked for.
///
/// # Errors
/// `Unsupported` when it is to be written.
pub(crate) fn layer<M: UnitMap + 'static>(
    format: &'static Format,
    request: OpenRequest<'_>,
    map: M,
    unit: u64,
    info: ImageInfo,
    parent: Option<ParentReference>,
) -> Result<Layer> {
    let OpenRequest { source, access, cache_bytes, .. } = request;
    if access == Access::ReadWrite {
        let error = Error::new(ErrorKind::Unsupported, format!("{} is only read", format.title));
        return Err(error.with_remedy("convert it to qcow2"));
    }
    let device = Mapped::new(Arc::clone(source.bytes()), map, info.virtual_size, unit, cache_bytes);
    Ok(Layer { format, source, device: Arc::new(device), writer: None, info, parent, content_ids: Vec::new() })
}

/// What every image says of itself.
pub(crate) fn info(format: &Format, source: &Source, size: u64, unit: u64) -> ImageInfo {
    ImageInfo {
        format: format.name.to_owned(),
        virtual_size: size,
        file_size: Some(source.bytes().size()),
        allocated_size: source.allocated_size(),
        cluster_size: Some(unit),
        ..ImageInfo::default()
    }
}

/// The name of a backing file of `length` bytes at `offset`.
///
/// # Errors
/// `Corrupt` when it is too long, outside the file or no text.
pub(crate) fn backing_name(file: &dyn BlockRead, offset: u64, length: u32, what: &str) -> Result<String> {
    /// QEMU's limit.
    const NAME_MAX: u32 = 1023;
    if length == 0 || length > NAME_MAX || check_range(offset, u64::from(length), file.size()).is_err() {
        return Err(corrupt(format!("{what}: a backing file's name of {length} bytes at byte {offset}")));
    }
    let mut name = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_at(&mut name, offset)?;
    String::from_utf8(name).map_err(|_| corrupt(format!("{what}: the backing file's name is not UTF-8")))
}

/// An error that says that a rule of the format is broken.
pub(crate) fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// The first `length` bytes of `file`.
///
/// # Errors
/// `Corrupt` when there are fewer.
pub(crate) fn head(file: &dyn BlockRead, length: usize, what: &str) -> Result<Vec<u8>> {
    let size = file.size();
    if size < length as u64 {
        return Err(corrupt(format!("{what}: a file of {size} bytes is shorter than its header of {length}")));
    }
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A number at `offset` of a header that was read whole.
pub(crate) fn field<const N: usize>(head: &[u8], offset: usize) -> [u8; N] {
    head.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
