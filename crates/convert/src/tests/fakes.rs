//! Disks and formats that exist only here.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use transload_image::codec::Level;

use transload_block::{
    BlockEncoder, BlockLimits, BlockRead, BlockSink, BlockStatus, BlockStream, BlockWrite, Capabilities, Codec,
    EncodedRead, EncodedUnit, Error, ErrorKind, Extent, Form, Payload, Reserve, Result, Storage, StreamUnit, ZeroMode,
};
use transload_image::codec::{Encoder, decode};
use transload_image::{
    CreateRequest, Format, ImageInfo, ImageWrite, Layer, Match, Opened, OptionKind, OptionSpec, OptionValues,
    SinkOutput, SinkRequest, Source, Variant,
};

use crate::{Input, Settings};

pub(super) const UNIT: u64 = 64 << 10;
const UNIT_BYTES: usize = 64 << 10;

/// A disk of units, most of which are holes, that may be slow, fail, and have its units compressed.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) size: u64,
    pub(super) units: BTreeMap<u64, Vec<u8>>,
    pub(super) delays: bool,
    pub(super) encoded: bool,
    /// The operation that fails, counted from 1; 0 for none.
    pub(super) fail_at: u64,
    /// The read that panics, counted from 1; 0 for none.
    pub(super) panic_at: u64,
    pub(super) operations: AtomicU64,
}

/// Numbers that look random and are the same each time.
pub(super) fn noise(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn unit_of(index: u64) -> Vec<u8> {
    let mut unit = vec![0; UNIT_BYTES];
    for (place, chunk) in unit.chunks_mut(8).enumerate() {
        // A byte of noise in eight, so that it compresses.
        chunk[0] = noise(index * UNIT + place as u64).to_le_bytes()[0];
    }
    unit
}

impl Disk {
    /// A disk of `size` bytes of which about `share` of 8 units hold something; some of those are zeroes all the same.
    pub(super) fn mixed(size: u64, share: u64) -> Self {
        let mut units = BTreeMap::new();
        for index in 0..size.div_ceil(UNIT) {
            match noise(index) % 8 {
                0 if share > 1 => drop(units.insert(index, vec![0; UNIT_BYTES])),
                kind if kind < share => drop(units.insert(index, unit_of(index))),
                _ => {}
            }
        }
        Self { size, units, ..Self::default() }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap()];
        for (index, unit) in &self.units {
            let start = usize::try_from(index * UNIT).unwrap();
            let end = bytes.len().min(start + UNIT_BYTES);
            bytes[start..end].copy_from_slice(&unit[..end - start]);
        }
        bytes
    }

    fn operate(&self) -> Result<()> {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        if self.delays {
            std::thread::sleep(Duration::from_micros(noise(operation ^ 0x5555) % 300));
        }
        assert!(operation != self.panic_at, "the disk is on fire");
        if operation == self.fail_at {
            return Err(Error::new(ErrorKind::Io, "injected read error"));
        }
        Ok(())
    }
}

impl BlockRead for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: 512, preferred: 65536, granularity: 65536 }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.operate()?;
        transload_block::check_range(offset, buf.len() as u64, self.size)?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let within = usize::try_from(at % UNIT).unwrap();
            let step = (UNIT_BYTES - within).min(buf.len() - done);
            match self.units.get(&(at / UNIT)) {
                Some(unit) => buf[done..done + step].copy_from_slice(&unit[within..within + step]),
                None => buf[done..done + step].fill(0),
            }
            done += step;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.operate()?;
        let index = range.start / UNIT;
        let (status, end) = if self.units.contains_key(&index) {
            (BlockStatus::Data, (index + 1) * UNIT)
        } else {
            let next = self.units.range(index..).next().map_or(u64::MAX, |(next, _)| next * UNIT);
            (BlockStatus::Hole, next)
        };
        Ok(Extent { offset: range.start, length: end.min(range.end) - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        if self.encoded { Capabilities::none().with_encoded(self) } else { Capabilities::none() }
    }
}

impl EncodedRead for Disk {
    fn encoded_unit_size(&self) -> u64 {
        UNIT
    }

    fn read_encoded(&self, offset: u64, stored: &mut Vec<u8>) -> Result<Option<EncodedUnit>> {
        self.operate()?;
        let index = offset / UNIT;
        // Every other unit is compressed.
        let Some(unit) = self.units.get(&index).filter(|_| index.is_multiple_of(2)) else { return Ok(None) };
        assert!(Encoder::new(Codec::Deflate, Level::MAX)?.encode(unit, unit.len(), stored)?);
        Ok(Some(EncodedUnit { codec: Codec::Deflate, range: index * UNIT..self.size.min((index + 1) * UNIT) }))
    }
}

/// The same disk, read once.
#[derive(Debug)]
pub(super) struct DiskStream {
    pub(super) disk: Disk,
    pub(super) knows_size: bool,
}

impl BlockStream for DiskStream {
    fn size(&self) -> Option<u64> {
        self.knows_size.then_some(self.disk.size)
    }

    fn unit_size(&self) -> u64 {
        UNIT
    }

    fn next_unit(&mut self, mut buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        self.disk.operate()?;
        let Some((index, unit)) = self.disk.units.pop_first() else { return Ok(None) };
        let offset = index * UNIT;
        let length = UNIT.min(self.disk.size - offset);
        let payload = match index % 3 {
            0 if unit.iter().all(|byte| *byte == 0) => Payload::Zero,
            1 => {
                assert!(Encoder::new(Codec::Deflate, Level::MAX)?.encode(&unit, unit.len(), &mut buffer)?);
                Payload::Encoded { codec: Codec::Deflate, bytes: buffer }
            }
            _ => Payload::Plain(unit[..usize::try_from(length).unwrap()].to_vec()),
        };
        Ok(Some(StreamUnit { offset, length, payload }))
    }
}

const fn fake(name: &'static str) -> Format {
    Format {
        name,
        aliases: &[],
        title: "made up",
        extensions: &[],
        variants: &[],
        open_options: &[],
        create_options: &[
            OptionSpec { name: "fail_at", kind: OptionKind::Number, default: "", help: "write that fails" },
            OptionSpec { name: "reserve", kind: OptionKind::Flag, default: "on", help: "can reserve" },
            OptionSpec { name: "dirty", kind: OptionKind::Flag, default: "off", help: "starts full of ones" },
            OptionSpec { name: "backing_file", kind: OptionKind::Text, default: "", help: "dirty" },
            OptionSpec { name: "compression_type", kind: OptionKind::Text, default: "", help: "" },
        ],
        probe: |_| Match::No,
        describe: None,
        open: None,
        stream: None,
        create: None,
        sink: None,
        measure: None,
        check: None,
        resize: None,
    }
}

/// Bytes at their places.
pub(super) static FLAT: Format = Format { create: Some(|request| create(&request, false)), ..fake("flat") };
/// Units in the order of their allocation, and a table.
pub(super) static LOG: Format =
    Format { create: Some(|request| create(&request, true)), sink: Some(sink), ..fake("log") };
/// What `FLAT` says when it is asked for a variant.
pub(super) static STREAM_ONLY: Format = Format {
    variants: &[Variant { name: "s", summary: "", read: false, write: false, stream_read: false, stream_write: true }],
    sink: Some(sink),
    ..fake("stream-only")
};

pub(super) fn settings(format: &'static Format, options: &str, threads: usize) -> Settings {
    let mut settings = Settings::new(format);
    settings.options = OptionValues::parse(format.create_options, [options]).unwrap();
    settings.threads = std::num::NonZeroUsize::new(threads);
    settings
}

pub(super) fn image(disk: Disk) -> Input {
    Input::Image(opened(Arc::new(disk)))
}

pub(super) fn opened(device: Arc<dyn BlockRead>) -> Opened {
    Opened { layers: vec![layer(Arc::clone(&device))], device }
}

pub(super) fn layer(device: Arc<dyn BlockRead>) -> Layer {
    Layer {
        format: &FLAT,
        source: Source::new(Arc::clone(&device)),
        device,
        writer: None,
        info: ImageInfo::default(),
        parent: None,
        content_ids: Vec::new(),
    }
}

fn create(request: &CreateRequest<'_>, log: bool) -> Result<Arc<dyn ImageWrite>> {
    let storage = request.files.primary()?;
    if !log {
        storage.set_size(request.size)?;
    }
    Ok(Arc::new(Image {
        storage,
        size: request.size,
        table: log.then(Mutex::default),
        reserves: request.options.flag("reserve").unwrap_or(true),
        zeroed: (request.options.text("backing_file").is_some()).then(Mutex::default),
        fail_at: request.options.number("fail_at").unwrap_or(0),
        writes: AtomicU64::new(0),
    }))
}

/// A target, flat or in the order of allocation.
#[derive(Debug)]
struct Image {
    storage: Arc<dyn Storage>,
    size: u64,
    /// Where the units are, if not in their places.
    table: Option<Mutex<BTreeMap<u64, u64>>>,
    reserves: bool,
    /// For a target that something shows through: what was zeroed.
    zeroed: Option<Mutex<Vec<Range<u64>>>>,
    fail_at: u64,
    writes: AtomicU64,
}

impl Image {
    fn slot(&self, unit: u64) -> Result<u64> {
        let Some(table) = &self.table else { return Ok(unit) };
        let mut table = table.lock().unwrap();
        let next = table.len() as u64;
        if let Some(slot) = table.get(&unit) {
            return Ok(*slot);
        }
        self.storage.set_size((next + 1) * UNIT)?;
        table.insert(unit, next);
        Ok(next)
    }

    fn operate(&self) -> Result<()> {
        if self.writes.fetch_add(1, Ordering::Relaxed) + 1 == self.fail_at {
            return Err(Error::new(ErrorKind::NoSpace, "injected full disk"));
        }
        Ok(())
    }
}

impl BlockRead for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        let granularity = if self.table.is_some() { 65536 } else { 4096 };
        BlockLimits { alignment: 512, preferred: 65536, granularity }
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "write only"))
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let status = if self.zeroed.is_some() { BlockStatus::Data } else { BlockStatus::Hole };
        Ok(Extent { offset: range.start, length: range.end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        if self.table.is_some() && self.reserves {
            Capabilities::none().with_reserve(self)
        } else {
            Capabilities::none()
        }
    }
}

impl BlockWrite for Image {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.operate()?;
        if self.table.is_none() {
            return self.storage.write_at(buf, offset);
        }
        assert!(offset.is_multiple_of(UNIT), "writes of an allocating target start at its units");
        for (index, piece) in buf.chunks(UNIT_BYTES).enumerate() {
            let slot = self.slot(offset / UNIT + index as u64)?;
            self.storage.write_at(piece, slot * UNIT)?;
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, _mode: ZeroMode) -> Result<()> {
        self.operate()?;
        if let Some(zeroed) = &self.zeroed {
            zeroed.lock().unwrap().push(range);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.storage.flush()
    }
}

impl Reserve for Image {
    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.operate()?;
        (range.start / UNIT..range.end.div_ceil(UNIT)).try_for_each(|unit| self.slot(unit).map(drop))
    }
}

impl ImageWrite for Image {
    fn finish(&self) -> Result<()> {
        self.operate()?;
        let mut tail = Vec::new();
        if let Some(table) = &self.table {
            for (unit, slot) in table.lock().unwrap().iter() {
                tail.extend(unit.to_le_bytes());
                tail.extend(slot.to_le_bytes());
            }
        }
        if let Some(zeroed) = &self.zeroed {
            for range in zeroed.lock().unwrap().iter() {
                tail.extend(range.start.to_le_bytes());
                tail.extend(range.end.to_le_bytes());
            }
        }
        let end = self.storage.size();
        self.storage.set_size(end + tail.len() as u64)?;
        self.storage.write_at(&tail, end)
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks(16).map(move |pair| (number(&pair[..8]), number(&pair[8..])))
}

/// The guest's bytes in a file of [`LOG`] that was written at random, which holds `units` units.
pub(super) fn read_log(file: &[u8], size: u64, units: usize) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let (data, table) = file.split_at(units * UNIT_BYTES);
    for (unit, slot) in pairs(table) {
        let (from, to) = (usize::try_from(slot * UNIT).unwrap(), usize::try_from(unit * UNIT).unwrap());
        let length = UNIT_BYTES.min(bytes.len() - to);
        bytes[to..to + length].copy_from_slice(&data[from..from + length]);
    }
    bytes
}

/// The ranges that a backed flat file of a `size`-byte disk was zeroed in.
pub(super) fn read_zeroed(file: &[u8], size: u64) -> Vec<Range<u64>> {
    pairs(&file[usize::try_from(size).unwrap()..]).map(|(start, end)| start..end).collect()
}

fn sink(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let output = match request.output {
        SinkOutput::Files(files) => Out::File(files.primary()?),
        SinkOutput::Pipe(pipe) => Out::Pipe(pipe),
    };
    let fail_at = request.options.number("fail_at").unwrap_or(0);
    let codec = Arc::new(Deflating { level: request.level });
    Ok(Box::new(Sink { output, codec, next: 0, fail_at, appended: 0 }))
}

enum Out {
    File(Arc<dyn Storage>),
    Pipe(Box<dyn Write + Send>),
}

impl Out {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(storage) => {
                let end = storage.size();
                storage.set_size(end + bytes.len() as u64)?;
                storage.write_at(bytes, end)
            }
            Self::Pipe(pipe) => pipe.write_all(bytes).map_err(|error| Error::io("pipe", error)),
        }
    }
}

struct Sink {
    output: Out,
    codec: Arc<Deflating>,
    next: u64,
    fail_at: u64,
    appended: u64,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Deflating {
    level: Option<Level>,
}

impl BlockEncoder for Deflating {
    fn unit_size(&self) -> u64 {
        UNIT
    }

    fn encode(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<Form> {
        assert_eq!(unit.len(), UNIT_BYTES);
        let Some(level) = self.level else { return Ok(Form::Plain) };
        stored.clear();
        let fits = Encoder::new(Codec::Deflate, level)?.encode(unit, unit.len() - 1, stored)?;
        stored.insert(0, b'e');
        Ok(if fits { Form::Encoded } else { Form::Plain })
    }

    fn adopt(&self, codec: Codec, encoded: &[u8], unit: Option<&[u8]>, stored: &mut Vec<u8>) -> Result<bool> {
        assert_eq!((codec, unit.map_or(UNIT_BYTES, <[u8]>::len)), (Codec::Deflate, UNIT_BYTES));
        stored.clear();
        stored.push(b'a');
        stored.extend(encoded);
        Ok(self.level.is_some())
    }
}

impl BlockSink for Sink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::clone(&self.codec) as Arc<dyn BlockEncoder>
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        assert!(offset >= self.next && offset.is_multiple_of(UNIT));
        self.next = offset + UNIT;
        self.appended += 1;
        if self.appended == self.fail_at {
            return Err(Error::new(ErrorKind::NoSpace, "injected full disk"));
        }
        self.output.put(&offset.to_le_bytes())?;
        let (plain, length) = (u64::from(form == Form::Plain), bytes.len() as u64);
        self.output.put(&(length << 1 | plain).to_le_bytes())?;
        self.output.put(bytes)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.output.put(b"end")
    }
}

/// The guest's bytes in a file of [`LOG`] that was written in order, and how many units were taken over.
pub(super) fn read_records(mut file: &[u8], size: u64) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; usize::try_from(size.next_multiple_of(UNIT)).unwrap()];
    let mut adopted = 0;
    while file != b"end" {
        let (offset, head) = pairs(&file[..16]).next().unwrap();
        let (stored, rest) = file[16..].split_at(usize::try_from(head >> 1).unwrap());
        let place = &mut bytes[usize::try_from(offset).unwrap()..][..UNIT_BYTES];
        if head & 1 == 1 {
            place.copy_from_slice(stored);
        } else {
            adopted += usize::from(stored[0] == b'a');
            assert_eq!(decode(Codec::Deflate, &stored[1..], place).unwrap(), UNIT_BYTES);
        }
        file = rest;
    }
    bytes.truncate(usize::try_from(size).unwrap());
    (bytes, adopted)
}
