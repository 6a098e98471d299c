//! Formats that are only read: what must hold for any bytes, and small images to start from.

use std::sync::Arc;

use transload_block::{Codec, ErrorKind, Memory};

use super::device;
use crate::{Access, Format, OpenRequest, OptionValues, ReferenceGate, Source, codec};

/// A Bochs image of any bytes is a disk or an error that says what is wrong.
pub fn bochs_open(bytes: &[u8]) {
    read_only("bochs", bytes);
}

/// The same of cloop.
pub fn cloop_open(bytes: &[u8]) {
    read_only("cloop", bytes);
}

/// The same of Parallels.
pub fn parallels_open(bytes: &[u8]) {
    read_only("parallels", bytes);
}

/// The same of qcow, version 1.
pub fn qcow1_open(bytes: &[u8]) {
    read_only("qcow", bytes);
}

/// The same of QED.
pub fn qed_open(bytes: &[u8]) {
    read_only("qed", bytes);
}

/// Opens `bytes` as an image of the format without leave to follow references, and holds the disk against [`device`]. What
/// can be opened can be described, as a disk of the same size.
fn read_only(format: &str, bytes: &[u8]) {
    let format = Format::by_name(format).expect("in the table of formats");
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let described = format.describe.map(|describe| describe(&source));
    let (gate, options) = (&ReferenceGate::Deny, &OptionValues::default());
    let request = OpenRequest { source, gate, options, access: Access::ReadOnly, cache_bytes: 64 << 10 };
    match (format.open.expect("a format that is read"))(request) {
        Ok(layer) => {
            if let Some(described) = described {
                let described = described.expect("what can be opened can be described");
                assert_eq!(described.virtual_size, layer.device.size());
            }
            device(&*layer.device);
        }
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::Corrupt
                    | ErrorKind::Unsupported
                    | ErrorKind::NotThisFormat
                    | ErrorKind::TooLarge
                    | ErrorKind::Denied
            ),
            "{error}"
        ),
    }
}

/// A growing image of two extents, the second of which has a place.
pub(super) fn bochs() -> Vec<Vec<u8>> {
    [0x0001_0000_u32, 0x0002_0000].map(bochs_of).to_vec()
}

fn bochs_of(version: u32) -> Vec<u8> {
    let mut image = b"Bochs Virtual HD Image\0".to_vec();
    image.resize(32, 0);
    image.extend(b"Redolog\0");
    image.resize(48, 0);
    image.extend(b"Growing\0");
    image.resize(64, 0);
    for number in [version, 512, 2, 512, 4096] {
        image.extend(number.to_le_bytes());
    }
    if version == 0x0002_0000 {
        image.extend([0; 4]);
    }
    image.extend(8192_u64.to_le_bytes());
    image.resize(512, 0);
    image.extend([u32::MAX.to_le_bytes(), 0_u32.to_le_bytes()].concat());
    image.extend([0x0f; 512]);
    image.extend([8; 4096]);
    image
}

/// Two blocks of 4 KiB.
pub(super) fn cloop() -> Vec<Vec<u8>> {
    let mut image = b"#!/bin/sh\n#V2.0 Format\n".to_vec();
    image.resize(128, b'#');
    image.extend([4096_u32.to_be_bytes(), 2_u32.to_be_bytes()].concat());
    let units: Vec<_> = [3, 4].into_iter().filter_map(|fill| packed(Codec::Zlib, fill)).collect();
    let mut at = image.len() as u64 + 24;
    let mut table = at.to_be_bytes().to_vec();
    for unit in &units {
        at += unit.len() as u64;
        table.extend(at.to_be_bytes());
    }
    vec![[image, table, units.concat()].concat()]
}

fn packed(codec: Codec, fill: u8) -> Option<Vec<u8>> {
    let mut stored = Vec::new();
    let mut encoder = codec::Encoder::new(codec, codec::Level::BALANCED).ok()?;
    encoder.encode(&[fill; 4096], 4096, &mut stored).ok()?;
    Some(stored)
}

/// Two blocks of 8 sectors, the second of which has a place, with either magic.
pub(super) fn parallels() -> Vec<Vec<u8>> {
    [&b"WithoutFreeSpace"[..], b"WithouFreSpacExt"].map(parallels_of).to_vec()
}

fn parallels_of(magic: &[u8]) -> Vec<u8> {
    // Version, heads, cylinders, sectors of a block, entries, sectors of the disk (8 bytes), in use, where data begins.
    let (tracks, place) = if magic == b"WithoutFreeSpace" { (8_u32, 8_u32) } else { (8, 1) };
    let mut image = magic.to_vec();
    for number in [2, 16, 1, tracks, 2, 16, 0, 0, 8, 0, 0, 0] {
        image.extend(u32::to_le_bytes(number));
    }
    image.extend([0_u32.to_le_bytes(), place.to_le_bytes()].concat());
    image.resize(4096, 0);
    image.extend([7; 4096]);
    image
}

/// Three clusters of 4 KiB: deflated, plain, nowhere; and an image with the name of a backing file.
pub(super) fn qcow1() -> Vec<Vec<u8>> {
    let deflated = packed(Codec::Deflate, 5).unwrap_or_default();
    let image = |backing: &[u8]| {
        let name = if backing.is_empty() { 0 } else { 56_u64 };
        let length = u32::try_from(backing.len()).unwrap_or(0);
        let mut image = b"QFI\xfb\0\0\0\x01".to_vec();
        image.extend(name.to_be_bytes());
        image.extend([length.to_be_bytes(), [0; 4]].concat());
        image.extend((3 * 4096_u64).to_be_bytes());
        image.extend([12, 9, 0, 0, 0, 0, 0, 0]);
        image.extend(512_u64.to_be_bytes());
        image.resize(56, 0);
        image.extend(backing);
        image.resize(512, 0);
        image.extend(1024_u64.to_be_bytes());
        image.resize(1024, 0);
        let compressed = 1 << 63 | (deflated.len() as u64) << 51 | 8192;
        image.extend([compressed.to_be_bytes(), 12_288_u64.to_be_bytes()].concat());
        image.resize(8192, 0);
        image.extend(&deflated);
        image.resize(12_288, 0);
        image.extend([6; 4096]);
        image
    };
    vec![image(b""), image(b"base.raw")]
}

/// Three clusters of 4 KiB: one with a place, one of zeroes, one nowhere; and an image with the name of a backing file.
pub(super) fn qed() -> Vec<Vec<u8>> {
    let image = |features: u64, backing: &[u8]| {
        let mut image = b"QED\0".to_vec();
        image.extend([4096_u32, 1, 1].map(u32::to_le_bytes).concat());
        image.extend([features, 0, 0, 4096, 3 * 4096].map(u64::to_le_bytes).concat());
        image.extend([72, u32::try_from(backing.len()).unwrap_or(0)].map(u32::to_le_bytes).concat());
        image.resize(72, 0);
        image.extend(backing);
        image.resize(4096, 0);
        image.extend(8192_u64.to_le_bytes());
        image.resize(8192, 0);
        image.extend([12_288_u64, 1, 0].map(u64::to_le_bytes).concat());
        image.resize(12_288, 0);
        image.extend([9; 4096]);
        image
    };
    vec![image(0, b""), image(2, b""), image(5, b"base.raw")]
}
