//! Compressed loop images, as Knoppix used: a shell script that would load the kernel module, a table, deflated blocks.
//!
//! Described by the `cloop` kernel module's `compressed_loop.h`, version 2.0. All integers big-endian. Read only.

use transload_block::{BlockRead, Codec, Error, ErrorKind, Result};

use crate::mapped::{Place, Tables, UnitMap, corrupt, field, head, info, layer, row, variant};
use crate::{Format, ImageInfo, Layer, Match, OpenRequest, ProbeWindow, Source, Variant};

/// The row of cloop in the table of formats.
pub const FORMAT: Format = row(("cloop", &[], "compressed loop (cloop)"), &["cloop"], VARIANTS, probe, describe, open);

const VARIANTS: &[Variant] = &[variant("v2", "blocks that are deflated one by one")];

/// The script and two numbers, behind which the table stands.
const HEADER: usize = 136;
const MAGIC: &[u8] = b"#!/bin/sh\n#V2.0 Format\n";
/// The largest block: QEMU's bound, so that one fits in memory.
const BLOCK_MAX: u64 = 64 << 20;

fn probe(window: &ProbeWindow<'_>) -> Match {
    if window.head_has(0, MAGIC) { Match::Yes } else { Match::No }
}

/// A header that was found sound, and the map of the image.
#[derive(Debug)]
struct Header {
    block: u64,
    blocks: u64,
}

impl Header {
    fn read(file: &dyn BlockRead) -> Result<Self> {
        let head = head(file, HEADER, "cloop header")?;
        if !head.starts_with(MAGIC) {
            return Err(Error::new(ErrorKind::NotThisFormat, "cloop header: the script of version 2.0 is missing"));
        }
        let [block, blocks] = [128, 132].map(|offset| u64::from(u32::from_be_bytes(field(&head, offset))));
        if block == 0 || !block.is_multiple_of(512) || block > BLOCK_MAX {
            return Err(corrupt(format!(
                "cloop header: a block of {block} bytes, must be whole sectors, at most 64 MiB"
            )));
        }
        let end = HEADER as u64 + (blocks + 1) * 8;
        if end > file.size() {
            return Err(corrupt(format!("cloop table: it ends at byte {end}, and the file at byte {}", file.size())));
        }
        Ok(Self { block, blocks })
    }

    fn info(&self, source: &Source) -> ImageInfo {
        let size = self.blocks * self.block;
        ImageInfo { compression: Some("zlib".to_owned()), ..info(&FORMAT, source, size, self.block) }
    }
}

impl UnitMap for Header {
    fn place(&self, tables: &Tables, index: u64) -> Result<Place> {
        let entry = |index: u64| -> Result<u64> {
            Ok(u64::from_be_bytes(tables.bytes(HEADER as u64 + index * 8, "cloop table")?))
        };
        let (start, end) = (entry(index)?, entry(index + 1)?);
        // Deflate makes nothing longer by more than a little.
        let most = self.block * 2 + 4096;
        match end.checked_sub(start).filter(|length| (1..=most).contains(length)) {
            Some(length) => Ok(Place::Packed(start, length, Codec::Zlib)),
            None => Err(corrupt(format!("cloop table: block {index} stands from byte {start} to byte {end}"))),
        }
    }
}

fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Header::read(&**source.bytes())?.info(source))
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let header = Header::read(&**request.source.bytes())?;
    let (info, block) = (header.info(&request.source), header.block);
    layer(&FORMAT, request, header, block, info, None)
}
