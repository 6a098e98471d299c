//! What must hold for any bytes at all, one function per parser: tests call them with made-up bytes, fuzz targets with
//! found ones. They panic when it does not hold.
//!
//! [`ALL`] is the one list of them: the fuzz targets, their seeds and the test that runs every property over every seed
//! come from it. A property bounds its work by its input's length and a constant; how much memory and time that may be
//! is watched by whoever drives it (`cargo xtask fuzz`).

mod conversion;
mod read_only;
mod seeds;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use transload_block::{BlockRead, Codec, ErrorKind, Memory, Payload, Property};

pub(crate) use conversion::Files;
pub use conversion::conversion;
pub use read_only::{bochs_open, cloop_open, parallels_open, qcow1_open, qed_open};

pub use crate::dmg::{fuzz_open as dmg_open, fuzz_unpack as dmg_chunk};
pub use crate::ewf::fuzz_open as ewf_open;
pub use crate::parallels::fuzz_description as parallels_description;
pub use crate::qcow2::{fuzz_check as qcow2_check, fuzz_open as qcow2_open};
pub use crate::vdi::fuzz::fuzz_open as vdi_open;
pub use crate::vhd::fuzz::fuzz_any as vhd_open;
pub use crate::vhdx::fuzz::fuzz_patched as vhdx_open;
pub use crate::vmdk::fuzz::{
    fuzz_check as vmdk_check, fuzz_descriptor as vmdk_descriptor, fuzz_open as vmdk_open, fuzz_stream as vmdk_stream,
};
use crate::{
    Access, Format, OpenSettings, OptionKind, OptionSpec, OptionValues, ProbeWindow, ReferenceGate, Source,
    StreamRequest, codec, detect, detect_window, open, parse_size,
};

/// Every property, by the name of its fuzz target.
pub const ALL: &[Property] = &[
    Property { name: "bochs_open", holds: bochs_open, seeds: read_only::bochs },
    Property { name: "cloop_open", holds: cloop_open, seeds: read_only::cloop },
    Property { name: "codec", holds: any_codec, seeds: seeds::units },
    Property { name: "conversion", holds: conversion, seeds: seeds::operations },
    Property { name: "detection", holds: detection, seeds: seeds::images },
    Property { name: "dmg_chunk", holds: dmg_chunk, seeds: seeds::chunks },
    Property { name: "dmg_open", holds: dmg_open, seeds: seeds::apple },
    Property { name: "ewf_open", holds: ewf_open, seeds: seeds::evidence },
    Property { name: "opening", holds: opening, seeds: seeds::images },
    Property { name: "options", holds: any_options, seeds: seeds::options },
    Property { name: "parallels_description", holds: parallels_description, seeds: seeds::bundles },
    Property { name: "parallels_open", holds: parallels_open, seeds: read_only::parallels },
    Property { name: "qcow1_open", holds: qcow1_open, seeds: read_only::qcow1 },
    Property { name: "qcow2_check", holds: qcow2_check, seeds: seeds::qcow2 },
    Property { name: "qcow2_open", holds: qcow2_open, seeds: seeds::qcow2 },
    Property { name: "qed_open", holds: qed_open, seeds: read_only::qed },
    Property { name: "raw_stream", holds: raw_stream, seeds: seeds::images },
    Property { name: "reference", holds: any_reference, seeds: seeds::names },
    Property { name: "vdi_open", holds: vdi_open, seeds: crate::vdi::fuzz::seeds },
    Property { name: "vhd_open", holds: vhd_open, seeds: crate::vhd::fuzz::seeds },
    Property { name: "vhdx_open", holds: vhdx_open, seeds: crate::vhdx::fuzz::seeds },
    Property { name: "vmdk_check", holds: vmdk_check, seeds: seeds::vmdk },
    Property { name: "vmdk_descriptor", holds: vmdk_descriptor, seeds: seeds::descriptors },
    Property { name: "vmdk_open", holds: vmdk_open, seeds: seeds::vmdk },
    Property { name: "vmdk_stream", holds: vmdk_stream, seeds: seeds::vmdk },
];

/// Detection finds at least one format, finds the same from the file and from its two ends, and calls nothing raw that
/// another format is sure of.
pub fn detection(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(ProbeWindow::HEAD)];
    let tail = &bytes[bytes.len().saturating_sub(ProbeWindow::TAIL)..];
    let found = detect_window(&ProbeWindow { head, tail, size: Some(bytes.len() as u64) }).candidates;
    assert!(!found.is_empty());
    assert!(found.len() == 1 || found.iter().all(|format| format.name != "raw"));
    let memory: Arc<dyn BlockRead> = Arc::new(Memory::from(bytes.to_vec()));
    assert_eq!(detect(&memory).expect("memory can be read").candidates, found);
    let stream = detect_window(&ProbeWindow { head, tail: &[], size: None }).candidates;
    assert!(!stream.is_empty());
}

/// Opening any bytes without leave to follow references ends in a disk of some size or in an error of a kind that says
/// something about the bytes.
pub fn opening(bytes: &[u8]) {
    let settings = OpenSettings { gate: ReferenceGate::Deny, cache_bytes: 1 << 20, ..OpenSettings::default() };
    match open(Source::new(Arc::new(Memory::from(bytes.to_vec()))), &settings) {
        Ok(opened) => assert!(!opened.layers.is_empty()),
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::Corrupt
                    | ErrorKind::Unsupported
                    | ErrorKind::InvalidInput
                    | ErrorKind::Denied
                    | ErrorKind::TooLarge
            ),
            "{error}"
        ),
    }
}

/// The disk that is read as a whole; of larger ones a sample is.
const WHOLE_MAX: u64 = 8 << 20;
/// How many answers about status are asked for.
const STATUS_MAX: usize = 4096;

/// What a device says of its status is true of what it reads, in one piece or in parts; zeroes and holes can be read; what
/// it hands out in encoded form decodes to the same. Work is bounded by a constant.
pub fn device(device: &dyn BlockRead) {
    let size = device.size();
    let mut at = 0;
    for _ in 0..STATUS_MAX {
        if at == size {
            break;
        }
        let Ok(extent) = device.block_status(at..size) else { break };
        assert_eq!(extent.offset, at, "an extent begins where it was asked for");
        assert!(extent.length > 0 && extent.end() <= size, "an extent is inside");
        let length = usize::try_from(extent.length.min(256 << 10)).expect("a quarter of a megabyte");
        let mut buf = vec![0xaa; length];
        let read = device.read_at(&mut buf, at);
        if extent.status.reads_zero() {
            // Nothing is stored there, so there is nothing that could be broken.
            assert!(read.is_ok(), "{extent:?} is not readable: {read:?}");
            assert!(buf.iter().all(|byte| *byte == 0), "{extent:?} does not read as zeroes");
        }
        check_encoded(device, at);
        at = extent.end();
    }
    if size <= WHOLE_MAX {
        // Whole or in odd parts, the bytes are the same.
        let mut whole = vec![0; usize::try_from(size).expect("8 MiB")];
        if device.read_at(&mut whole, 0).is_ok() {
            for (index, part) in whole.chunks(77_777).enumerate() {
                let mut again = vec![0; part.len()];
                device.read_at(&mut again, index as u64 * 77_777).expect("a part of what was read");
                assert!(again == part, "the same bytes in part {index}");
            }
        }
    }
}

fn check_encoded(device: &dyn BlockRead, at: u64) {
    let Some(encoded) = device.capabilities().encoded else { return };
    let mut stored = Vec::new();
    let Ok(Some(unit)) = encoded.read_encoded(at, &mut stored) else { return };
    assert!(unit.range.contains(&at), "the unit holds the byte");
    let length = usize::try_from(unit.range.end - unit.range.start).expect("a grain");
    let (mut read, mut decoded) = (vec![0; length], vec![0; length]);
    if device.read_at(&mut read, unit.range.start).is_ok() {
        let count = codec::decode(unit.codec, &stored, &mut decoded).expect("what is read decodes");
        assert!(count == length && read == decoded, "the unit decodes to what is read");
    }
}

/// Any bytes decode into the room there is, or are corrupt, in every codec; what was decoded can be encoded again.
pub fn codec(stored: &[u8], room: usize) {
    for codec in [Codec::Deflate, Codec::Zlib, Codec::Zstd] {
        let (mut unit, mut other) = (vec![0; room], vec![0; room]);
        let mut trimmed = stored.to_vec();
        let twice = codec::decode_and_trim(codec, &mut trimmed, &mut other);
        match codec::decode(codec, stored, &mut unit) {
            Ok(length) => {
                assert!(length <= room);
                assert_eq!(twice.expect("two decoders of one mind"), length);
                assert_eq!(unit[..length], other[..length], "two decoders of one mind");
                assert!(stored.starts_with(&trimmed));
                assert_eq!(codec::decode(codec, &trimmed, &mut other).expect("nothing of it was cut off"), length);
                encoded_again(codec, &unit);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                assert_eq!(twice.expect_err("two decoders of one mind").kind(), ErrorKind::Corrupt, "{error}");
            }
        }
    }
}

/// A unit comes back from every library that encodes it.
fn encoded_again(codec: Codec, unit: &[u8]) {
    let one = codec::Level::number(1).expect("1 is on the scale");
    for level in [one, codec::Level::FAST, codec::Level::BALANCED] {
        let mut again = Vec::new();
        let mut encoder = codec::Encoder::new(codec, level).expect("a codec that is written");
        assert!(encoder.encode(unit, 2 * unit.len() + 1000, &mut again).expect("there is memory"));
        let mut back = vec![0; unit.len()];
        assert_eq!(codec::decode(codec, &again, &mut back).expect("own stream"), unit.len());
        assert_eq!(back, unit, "{codec:?} at {level}");
        let fits = encoder.encode(unit, unit.len() / 2, &mut again).expect("there is memory");
        assert!(!fits || again.len() <= unit.len() / 2, "{codec:?} at {level} keeps to the limit");
    }
}

/// [`codec`], with the room for the unit in the first byte.
pub fn any_codec(bytes: &[u8]) {
    if let Some((room, stored)) = bytes.split_first() {
        codec(stored, usize::from(*room) << 8);
    }
}

/// A reference of any name from an image in `folder` leads to a file directly in it, or to an error.
///
/// # Errors
/// What reading `folder` answers, which is not the name's fault.
pub fn reference(folder: &std::path::Path, name: &str) -> std::io::Result<()> {
    let image = Source::new(Arc::new(Memory::new(0))).with_path(folder.join("image"));
    match ReferenceGate::SameDirectory.open(&image, name, Access::ReadOnly) {
        Ok(source) => {
            let path = source.path().map(std::fs::canonicalize).transpose()?;
            let found = path.as_deref().and_then(std::path::Path::parent);
            assert_eq!(found, Some(std::fs::canonicalize(folder)?.as_path()), "{name:?}");
        }
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Io), "{name:?}: {error}"),
    }
    Ok(())
}

/// [`reference`] from a folder of this process's own, which has a file, a folder, and links that lead out of it.
pub fn any_reference(bytes: &[u8]) {
    static FOLDER: LazyLock<PathBuf> =
        LazyLock::new(|| seeds::folder_with_traps().expect("the temporary folder can be written"));
    reference(&FOLDER, &String::from_utf8_lossy(bytes)).expect("the folder can be read");
}

/// [`options`] of any bytes.
pub fn any_options(bytes: &[u8]) {
    options(&String::from_utf8_lossy(bytes));
}

/// Options are taken as they are specified or refused as the caller's mistake; a value that is taken has its type.
pub fn options(text: &str) {
    const SPECS: &[OptionSpec] = &[
        OptionSpec { name: "flag", kind: OptionKind::Flag, default: "", help: "" },
        OptionSpec { name: "number", kind: OptionKind::Number, default: "", help: "" },
        OptionSpec { name: "size", kind: OptionKind::Size, default: "", help: "" },
        OptionSpec { name: "text", kind: OptionKind::Text, default: "", help: "" },
    ];
    let _ = parse_size(text);
    match OptionValues::parse(SPECS, [text]) {
        Ok(values) => {
            for (key, _) in values.iter() {
                let typed = match key {
                    "flag" => values.flag(key).is_some(),
                    "number" => values.number(key).is_some(),
                    "size" => values.size(key).is_some(),
                    _ => values.text(key).is_some(),
                };
                assert!(typed, "{key} in {text:?}");
            }
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
    }
}

/// A raw stream gives back its input, whatever it is.
pub fn raw_stream(bytes: &[u8]) {
    let stream = Format::by_name("raw").and_then(|raw| raw.stream).expect("raw streams");
    let input: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let mut stream = stream(StreamRequest { input, options: &OptionValues::default() }).expect("any input is raw");
    let mut seen = Vec::new();
    while let Some(unit) = stream.next_unit(Vec::new()).expect("memory can be read") {
        assert_eq!(unit.offset, seen.len() as u64);
        match unit.payload {
            Payload::Plain(bytes) => seen.extend_from_slice(&bytes),
            _ => seen.resize(seen.len() + usize::try_from(unit.length).expect("a unit fits in memory"), 0),
        }
    }
    assert_eq!(seen, bytes);
}
