//! The conversion oracle: an image that was made by any operations reads as a flat model says, and so does every image
//! that is made from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{BlockRead, BlockStatus, Form, Memory, Payload, Result, Storage, ZeroMode, is_all_zero};

use crate::{
    Access, CheckRequest, CreateRequest, Format, IdSource, OpenSettings, Opened, OptionValues, ReferenceGate,
    SinkOutput, SinkRequest, Source, StreamRequest, TargetFiles, open,
};

/// Kinds of images that are made by random writing.
pub(super) const RANDOM: &[(&str, &str)] = &[
    ("qcow2", "cluster_size=512"),
    ("qcow2", "cluster_size=4k,compat=v2"),
    ("qcow2", "cluster_size=16k,extended_l2=on"),
    ("qcow2", "cluster_size=512,refcount_bits=1"),
    ("qcow2", "cluster_size=1k,refcount_bits=64,lazy_refcounts=on"),
    ("qcow2", "cluster_size=2k,preallocation=metadata"),
    ("vmdk", "subformat=monolithicSparse"),
    ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
    ("raw", ""),
    ("vhd", "block_size=512k"),
    ("vhd", "subformat=fixed"),
    ("vhdx", "block_size=1M"),
    ("vhdx", "block_size=1M,subformat=fixed"),
    ("vdi", ""),
    ("vdi", "subformat=fixed"),
];

/// Kinds of images that are made from front to back.
pub(super) const ORDERED: &[(&str, &str)] = &[
    ("qcow2", "cluster_size=512"),
    ("qcow2", "cluster_size=64k"),
    ("qcow2", "cluster_size=64k,compression_type=zstd"),
    ("vmdk", "subformat=streamOptimized,layout=front"),
    ("vmdk", "subformat=streamOptimized,layout=footer"),
    ("raw", ""),
    ("vhd", "subformat=fixed"),
];

/// Bytes of one operation in the input.
pub(super) const OPERATION: usize = 6;
/// Operations that are done; the rest of the input means nothing.
const OPERATIONS_MAX: usize = 64;

/// The files of an image in memory.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<BTreeMap<String, Arc<Memory>>>);

impl TargetFiles for Files {
    fn name(&self) -> &'static str {
        "image"
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        self.sibling(self.name())
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(files.entry(name.to_owned()).or_default()) as Arc<dyn Storage>)
    }
}

/// A kind of image, from a row of [`RANDOM`] or [`ORDERED`].
struct Kind {
    format: &'static Format,
    options: OptionValues,
}

impl Kind {
    fn of(table: &[(&str, &str)], choice: u8) -> Self {
        let (format, options) = table[usize::from(choice) % table.len()];
        let format = Format::by_name(format).expect("in the table of formats");
        let options = OptionValues::parse(format.create_options, Some(options).filter(|text| !text.is_empty()));
        Self { format, options: options.expect("options of the format") }
    }

    fn open(&self, storage: &Arc<dyn Storage>, access: Access) -> Opened {
        let settings = OpenSettings {
            format: Some(self.format),
            gate: ReferenceGate::Deny,
            access,
            cache_bytes: 64 << 10,
            ..OpenSettings::default()
        };
        open(Source::writable(Arc::clone(storage)), &settings).expect("an own image opens")
    }
}

/// Makes an image by the operations that `bytes` spell, converts it to another kind, and compares both with a model that
/// is nothing but bytes: read at random, read as a stream, and by what they say is zero. Both pass their own check.
///
/// ```text
/// kind, kind of the copy, size (3 bytes, little-endian), then operations: what, fill, place (2 bytes), length (2 bytes)
/// ```
pub fn conversion(bytes: &[u8]) {
    let Some((&[kind, copy, a, b, c], operations)) = bytes.split_first_chunk::<5>() else { return };
    let mut model = vec![0; place(size_of_disk([a, b, c]))];
    let original = Kind::of(RANDOM, kind);
    let storage = make(&original, &mut model, operations);
    compare(&original, &storage, &model, true);

    let target = Kind::of(ORDERED, copy);
    let opened = original.open(&storage, Access::ReadOnly);
    let copy = append_all(&target, &*opened.device);
    compare(&target, &copy, &model, false);
    // And once more from the copy, whose units may be compressed and are then handed over as they are.
    let again = Kind::of(ORDERED, kind);
    let opened = target.open(&copy, Access::ReadOnly);
    let copy = append_all(&again, &*opened.device);
    compare(&again, &copy, &model, false);
}

/// The file that the first half of [`conversion`] makes, or with `copied` the second half: what seeds are.
pub(super) fn image_of(bytes: &[u8], copied: bool) -> Vec<u8> {
    let Some((&[kind, copy, a, b, c], operations)) = bytes.split_first_chunk::<5>() else { return Vec::new() };
    let mut model = vec![0; place(size_of_disk([a, b, c]))];
    let original = Kind::of(RANDOM, kind);
    let mut storage = make(&original, &mut model, operations);
    if copied {
        let opened = original.open(&storage, Access::ReadOnly);
        storage = append_all(&Kind::of(ORDERED, copy), &*opened.device);
    }
    bytes_of(&*storage)
}

fn bytes_of(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; place(storage.size())];
    storage.read_at(&mut bytes, 0).expect("inside");
    bytes
}

/// Up to a megabyte, in sectors: VMDK knows no other sizes.
fn size_of_disk([a, b, c]: [u8; 3]) -> u64 {
    (u64::from(u32::from_le_bytes([a, b, c, 0])) % 2048 + 1) * 512
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a disk of a megabyte")
}

/// Makes an image and runs the operations on it and on the model.
fn make(kind: &Kind, model: &mut [u8], operations: &[u8]) -> Arc<dyn Storage> {
    let files = Files::default();
    let create = kind.format.create.expect("written at random places");
    let ids = IdSource::from_material(b"conversion");
    let size = model.len() as u64;
    let request =
        CreateRequest { files: &files, size, options: &kind.options, ids: &ids, backing: None, cache_bytes: 64 << 10 };
    let mut image = create(request).expect("sound options");
    let storage = files.primary().expect("memory");
    for operation in operations.chunks_exact(OPERATION).take(OPERATIONS_MAX) {
        let number = |at: usize| u64::from(u16::from_le_bytes([operation[at], operation[at + 1]]));
        // Places in steps of 16 bytes reach over a megabyte.
        let start = number(2) * 16 % size;
        let length = (number(4) << (operation[0] >> 5)).min(size - start);
        let range = start..start + length;
        let part = &mut model[place(range.start)..place(range.end)];
        match operation[0] & 31 {
            0..=11 => {
                pattern(part, operation[1]);
                image.write_at(part, start).expect("memory has room");
            }
            12..=15 => {
                part.fill(0);
                image.write_at(part, start).expect("memory has room");
            }
            code @ 16..=21 => {
                part.fill(0);
                let mode = if code % 2 == 0 { ZeroMode::Unmap } else { ZeroMode::KeepAllocated };
                image.write_zeroes_at(range, mode).expect("memory has room");
            }
            22..=25 => {
                let mut read = vec![0xaa; place(length)];
                image.read_at(&mut read, start).expect("inside");
                assert!(read == part, "what was written at {start} is read");
            }
            26..=28 => image.flush().expect("memory"),
            _ => {
                image.finish().expect("memory has room");
                drop(image);
                let mut opened = kind.open(&storage, Access::ReadWrite);
                image = opened.layers.remove(0).writer.expect("opened for writing");
            }
        }
    }
    image.finish().expect("memory has room");
    storage
}

/// Fills with bytes of which the top bits of `fill` say how well they compress.
fn pattern(part: &mut [u8], fill: u8) {
    let mut state = u32::from(fill) | 0x9E00;
    for byte in part {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = if fill & 0x80 == 0 { fill } else { state.to_be_bytes()[0] };
    }
}

/// Converts a disk by the writer from front to back.
fn append_all(kind: &Kind, disk: &dyn BlockRead) -> Arc<dyn Storage> {
    let files = Files::default();
    let begin = kind.format.sink.expect("written from front to back");
    let request = SinkRequest {
        output: SinkOutput::Files(&files),
        name: "image",
        size: disk.size(),
        options: &kind.options,
        level: Some(crate::codec::Level::default()),
        ids: &IdSource::from_material(b"conversion"),
        extents: None,
    };
    let mut sink = begin(request).expect("sound options");
    let encoder = sink.encoder();
    let (unit_size, mut stored) = (encoder.unit_size(), Vec::new());
    let mut offset = 0;
    while offset < disk.size() {
        let mut unit = vec![0; place(unit_size)];
        let length = unit_size.min(disk.size() - offset);
        disk.read_at(&mut unit[..place(length)], offset).expect("inside");
        if !is_all_zero(&unit) {
            if adopt(disk, offset, &*encoder, &unit, &mut stored) {
                sink.append(offset, Form::Encoded, &stored).expect("memory has room");
            } else {
                let form = encoder.encode(&unit, &mut stored).expect("there is memory");
                let bytes = if form == Form::Plain { &unit } else { &stored };
                sink.append(offset, form, bytes).expect("memory has room");
            }
        }
        offset += unit_size;
    }
    sink.finish().expect("memory has room");
    files.primary().expect("memory")
}

/// Hands the unit over as it is stored, where it has the same bounds and the target takes it.
fn adopt(
    disk: &dyn BlockRead,
    offset: u64,
    encoder: &dyn transload_block::BlockEncoder,
    unit: &[u8],
    stored: &mut Vec<u8>,
) -> bool {
    let Some(source) = disk.capabilities().encoded else { return false };
    let mut encoded = Vec::new();
    let found = source.read_encoded(offset, &mut encoded).expect("inside");
    let Some(found) = found.filter(|found| found.range.start == offset) else { return false };
    // A unit that the disk's end cuts off may hold anything behind it.
    let whole = found.range.end - offset == encoder.unit_size() && source.encoded_unit_size() == encoder.unit_size();
    if !whole {
        return false;
    }
    let mut decoded = vec![0; unit.len()];
    let held = crate::codec::decode_and_trim(found.codec, &mut encoded, &mut decoded).expect("an own unit");
    assert!((held, &*decoded) == (unit.len(), unit), "the unit as stored is the unit as read");
    encoder.adopt(found.codec, &encoded, Some(unit), stored).expect("there is memory")
}

/// Compares an image with the model, in every way that it can be read, and has it checked.
fn compare(kind: &Kind, storage: &Arc<dyn Storage>, model: &[u8], random: bool) {
    let opened = kind.open(storage, Access::ReadOnly);
    let device = &*opened.device;
    assert_eq!(device.size(), model.len() as u64, "size");
    let mut read = vec![0xaa; model.len()];
    device.read_at(&mut read, 0).expect("inside");
    let wrong = read.iter().zip(model).position(|(read, model)| read != model);
    assert!(wrong.is_none(), "byte {wrong:?} differs");
    let mut at = 0;
    while at < device.size() {
        let extent = device.block_status(at..device.size()).expect("inside");
        assert!(extent.offset == at && extent.length > 0 && extent.end() <= device.size(), "{extent:?}");
        if extent.status != BlockStatus::Data {
            assert!(is_all_zero(&model[place(at)..place(extent.end())]), "{extent:?} is not zero");
        }
        at = extent.end();
    }
    if let Some(check) = kind.format.check {
        let source = Source::new(Arc::clone(storage) as Arc<dyn BlockRead>);
        let report = check(CheckRequest { source, gate: &ReferenceGate::Deny, repair: false }).expect("an own image");
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
    if let (Some(stream), false) = (kind.format.stream, random) {
        compare_stream(stream, storage, model);
    }
}

fn compare_stream(stream: crate::StreamFn, storage: &Arc<dyn Storage>, model: &[u8]) {
    let input = Box::new(std::io::Cursor::new(bytes_of(&**storage)));
    let mut stream = stream(StreamRequest { input, options: &OptionValues::default() }).expect("an own stream");
    let mut read = vec![0; model.len()];
    while let Some(unit) = stream.next_unit(Vec::new()).expect("an own stream") {
        let target = &mut read[place(unit.offset)..place(unit.offset + unit.length)];
        match unit.payload {
            Payload::Zero => target.fill(0),
            Payload::Plain(bytes) => target.copy_from_slice(&bytes),
            Payload::Encoded { codec, bytes } => {
                let mut whole = vec![0; place(stream.unit_size())];
                crate::codec::decode(codec, &bytes, &mut whole).expect("an own unit");
                let length = target.len();
                target.copy_from_slice(&whole[..length]);
            }
        }
    }
    assert!(read == model, "the stream differs");
}
