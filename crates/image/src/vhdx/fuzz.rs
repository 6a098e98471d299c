//! Properties that hold for any bytes, for the fuzz targets and for the tests that feed them known inputs.
//!
//! Each panics when its property does not hold, and bounds its work by the input's length and a constant.
//!
//! A VHDX takes megabytes, of which a few thousand bytes say something. [`fuzz_patched`] therefore takes an input that is no
//! file, but says what to change in a sound one:
//!
//! ```text
//! base (1 byte), then records: part of the file (1 byte), place in it (2 bytes, little-endian), length (1 byte), bytes
//! ```

use std::sync::{Arc, LazyLock};

use transload_block::{BlockRead, Memory, Storage, ZeroMode};

use super::layout::{HEADER_BYTES, HEADERS, LOG_SECTOR, MIB, REGION_TABLES, TABLE_BYTES, checksum};
use super::options;
use crate::properties::Files;
use crate::{
    Access, CheckRequest, CreateRequest, IdSource, OpenRequest, OptionValues, ReferenceGate, Source, TargetFiles,
};

/// The disk that is checked as a whole; a sparse table of more blocks takes too long for a property.
const CHECK_MAX: u64 = 1 << 40;

/// Opens `bytes` as a VHDX, asks for its status and reads it; what is said to be a hole or zero must read as zeroes. Then
/// checks, repairs and writes a copy.
pub fn fuzz_open(bytes: &[u8]) {
    // A copy of what is mostly zeroes is made of the rest.
    let whole = Memory::from(bytes.to_vec());
    let memory = || Arc::new(whole.clone());
    let source = Source::new(memory());
    let described = super::layer::describe(&source);
    let Ok(layer) = super::layer::open(request(source.clone(), Access::ReadOnly)) else { return };
    let described = described.expect("what can be opened can be described");
    assert_eq!(described.virtual_size, layer.device.size(), "described size");
    crate::properties::device(&*layer.device);
    if layer.device.size() > CHECK_MAX {
        return;
    }
    let _ = super::check::check(CheckRequest { source, gate: &ReferenceGate::Deny, repair: false });
    let copy = Source::writable(memory());
    let _ = super::check::check(CheckRequest { source: copy, gate: &ReferenceGate::Deny, repair: true });
    write(Source::writable(memory()));
}

/// The same with checksums of headers and region tables made right first, so that what is behind them is reached.
pub fn fuzz_behind_checksums(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal_front(&mut bytes);
    fuzz_open(&bytes);
}

fn seal_front(bytes: &mut [u8]) {
    let headers = HEADERS.map(|at| (at, HEADER_BYTES));
    let tables = REGION_TABLES.map(|at| (at, TABLE_BYTES));
    for (at, length) in headers.into_iter().chain(tables) {
        seal(bytes, index(at), length);
    }
}

fn seal(bytes: &mut [u8], start: usize, length: usize) {
    if let Some(part) = bytes.get_mut(start..start.saturating_add(length)).filter(|part| part.len() >= 8) {
        let sum = checksum(part);
        part[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Makes the checksums of log entries right that begin in the first sectors of the log.
fn seal_log(bytes: &mut [u8]) {
    for sector in 0..LOG_SECTORS {
        let at = index(MIB + sector * LOG_SECTOR);
        if bytes.get(at..at + 4) == Some(b"loge") {
            let length = bytes.get(at + 8..at + 12).and_then(|field| field.first_chunk());
            let length = length.map_or(0, |field| u32::from_le_bytes(*field));
            // One that goes around the ring keeps its wrong checksum.
            seal(bytes, at, usize::try_from(length).unwrap_or(0).min(index(MIB)));
        }
    }
}

/// Sectors of the log that records reach.
const LOG_SECTORS: u64 = 8;
/// Where the parts of an image stand that say something: headers, region tables, metadata table and items, the block
/// allocation table with the entry of the first sector bitmap, that bitmap, and the first sectors of the log.
const PARTS: [u64; 9] = [
    HEADERS[0],
    HEADERS[1],
    REGION_TABLES[0],
    REGION_TABLES[1],
    2 * MIB,
    2 * MIB + TABLE_BYTES as u64,
    3 * MIB,
    6 * MIB,
    MIB,
];
/// The bit of an input's first byte by which checksums stay as they are.
const UNSEALED: u8 = 0x80;

/// Changes one of a few sound images as `bytes` say, makes its checksums right unless it is told not to, and holds it
/// against [`fuzz_open`].
pub fn fuzz_patched(bytes: &[u8]) {
    static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(bases);
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    let mut image = BASES[usize::from(kind & !UNSEALED) % BASES.len()].clone();
    while let [part, low, high, length, tail @ ..] = rest {
        let at = index(PARTS[usize::from(*part) % PARTS.len()]) + usize::from(u16::from_le_bytes([*low, *high]));
        let (new, behind) = tail.split_at(usize::from(*length).min(tail.len()));
        if let Some(place) = image.get_mut(at..at + new.len()) {
            place.copy_from_slice(new);
        }
        rest = behind;
    }
    if kind & UNSEALED == 0 {
        seal_front(&mut image);
        seal_log(&mut image);
    }
    fuzz_open(&image);
}

/// A record that puts `new` at `place` of part `part`.
fn record(part: u8, place: u16, new: &[u8]) -> Vec<u8> {
    let length = u8::try_from(new.len()).expect("a short change");
    [&[part][..], &place.to_le_bytes(), &[length], new].concat()
}

/// Inputs of [`fuzz_patched`] to start from: each base as it is, and with changes that lead elsewhere.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..4).map(|base| vec![base]).collect();
    for base in 0..4 {
        let mut seed = |records: &[Vec<u8>]| seeds.push([&[base][..], &records.concat()].concat());
        // States of blocks.
        seed(&[0, 1, 2, 3, 6, 7].map(|state| record(6, u16::from(state) * 8, &[state, 0, 0x40, 0, 0, 0, 0, 0])));
        // A block size of 2 MiB, a size of 2 MiB and 512 bytes, sectors of 4 KiB.
        seed(&[record(5, 0, &[0, 0, 0x20, 0]), record(5, 8, &[0, 2, 0x20, 0]), record(5, 32, &[0, 0x10, 0, 0])]);
        // A region and an item of which nothing is known.
        seed(&[record(2, 16, &[7; 16]), record(3, 16, &[7; 16]), record(2, 44, &[0])]);
        seed(&[record(4, 32, &[9; 16]), record(4, 56, &[0; 4])]);
        // A descriptor of zeroes, and entries with another number, tail and length.
        seed(&[record(8, 64, b"zero"), record(8, 72, &[0, 0x10, 0, 0, 0, 0, 0, 0])]);
        seed(&[record(8, 12, &[0, 0x10]), record(8, 16, &[9])]);
        seed(&[record(8, 8, &[0, 0x20]), record(8, 24, &[2])]);
        seed(&[record(8, 48, &[0xff; 8]), record(8, 56, &[0xff; 4])]);
    }
    seeds
}

/// A dynamic image, a fixed one, one whose log was not replayed, and a child.
fn bases() -> Vec<Vec<u8>> {
    let dynamic = small("block_size=1M");
    vec![dynamic.clone(), small("block_size=1M,subformat=fixed"), with_log(dynamic.clone()), child(dynamic)]
}

fn small(text: &str) -> Vec<u8> {
    let files = Files::default();
    let options = OptionValues::parse(options::CREATE_OPTIONS, [text]).expect("options of the format");
    let ids = IdSource::from_material(b"fuzz");
    let request = CreateRequest {
        files: &files,
        size: 2 * MIB + 512,
        options: &options,
        ids: &ids,
        backing: None,
        cache_bytes: 0,
    };
    let image = super::create::create(request).expect("memory has room");
    image.write_at(&[7; 3000], MIB - 1000).expect("memory has room");
    image.finish().expect("memory has room");
    whole(&*files.primary().expect("memory"))
}

fn whole(memory: &dyn BlockRead) -> Vec<u8> {
    let mut bytes = vec![0; index(memory.size())];
    memory.read_at(&mut bytes, 0).expect("inside");
    bytes
}

/// The image with two entries in its log, of which the newest is still to be applied.
fn with_log(image: Vec<u8>) -> Vec<u8> {
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(image));
    let layer = super::layer::open(request(Source::writable(Arc::clone(&storage)), Access::ReadWrite));
    let writer = layer.expect("an own image").writer.expect("opened for writing");
    for block in [2, 0] {
        writer.write_at(&[9; 100], block * MIB).expect("memory has room");
        writer.flush().expect("memory has room");
    }
    drop(writer);
    whole(&*storage)
}

/// The image with a parent locator, a sector bitmap behind its blocks, and a first block that is partially present.
fn child(mut image: Vec<u8>) -> Vec<u8> {
    let mut put = |at: u64, new: &[u8]| {
        if image.len() < index(at) + new.len() {
            image.resize(index(at) + new.len(), 0);
        }
        image[index(at)..index(at) + new.len()].copy_from_slice(new);
    };
    let (table, items) = (2 * MIB, 2 * MIB + TABLE_BYTES as u64);
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let pairs = [
        ("parent_linkage", "{01234567-89ab-cdef-0123-456789abcdef}"),
        ("relative_path", ".\\parent.vhdx"),
        ("absolute_win32_path", "C:\\parent.vhdx"),
    ];
    let (mut entries, mut text) = (Vec::new(), Vec::new());
    for (key, value) in pairs {
        let (key, value) = (utf16(key), utf16(value));
        let at = u32::try_from(20 + pairs.len() * 12 + text.len()).expect("short");
        let short = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short");
        entries.extend([at.to_le_bytes(), (at + short(&key)).to_le_bytes()].concat());
        entries.extend((short(&key) | short(&value) << 16).to_le_bytes());
        text.extend([key, value].concat());
    }
    let count = [0, 0, 3, 0];
    let kind = zerocopy::IntoBytes::as_bytes(&super::layout::LOCATOR_VHDX).to_vec();
    let locator = [kind, count.to_vec(), entries, text].concat();
    put(items + 4096, &locator);
    let id = zerocopy::IntoBytes::as_bytes(&super::layout::PARENT_LOCATOR).to_vec();
    let length = u32::try_from(locator.len()).expect("short");
    let numbers = [u32::try_from(TABLE_BYTES + 4096).expect("short"), length, 4, 0].map(u32::to_le_bytes).concat();
    put(table + 32 + 5 * 32, &[id, numbers].concat());
    put(table + 10, &[6]);
    put(items + 4, &[2]);
    // The blocks stand at 4 and 5 MiB.
    put(3 * MIB, &[&[7, 0, 0x40, 0, 0, 0, 0, 0][..], &[6, 0, 0x50, 0, 0, 0, 0, 0]].concat());
    put(3 * MIB + 4096 * 8, &[6, 0, 0x60, 0, 0, 0, 0, 0]);
    put(6 * MIB, &[0xff; 16]);
    put(7 * MIB - 1, &[0]);
    image
}

fn request(source: Source, access: Access) -> OpenRequest<'static> {
    static NONE: LazyLock<OptionValues> = LazyLock::new(OptionValues::default);
    OpenRequest { source, gate: &ReferenceGate::Deny, options: &NONE, access, cache_bytes: 64 << 10 }
}

fn write(source: Source) {
    let Ok(layer) = super::layer::open(request(source, Access::ReadWrite)) else { return };
    let Some(writer) = layer.writer else { return };
    let size = writer.size();
    for at in [0, size / 2, size.saturating_sub(700)] {
        let length = usize::try_from((size - at).min(700)).expect("small");
        let _ = writer.write_at(&vec![7; length], at);
        let _ = writer.write_zeroes_at(at..at + length as u64 / 2, ZeroMode::Unmap);
    }
    let _ = writer.finish();
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("an image of some megabytes")
}
