//! What must hold for any bytes that are opened as a VHD: tests call it with made-up bytes, fuzz targets with found ones.

use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, ErrorKind, Memory, Storage, ZeroMode};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::create::new_footer;
use super::layout::{DynamicHeader, Footer, HEADER_COOKIE, NOWHERE, UNUSED, VERSION, disk_type, platform};
use super::open::{Image, open};
use super::parent::to_utf16;
use crate::{Access, CheckRequest, IdSource, OpenRequest, OptionValues, ReferenceGate, ResizeRequest, Source};

/// Extents that are asked for; a disk may have more than there is time for.
const STEPS: usize = 300;
/// The most that is read or written at once.
const READ: u64 = 1 << 16;

/// [`fuzz_open`] of `bytes` as they are, and with the checksums of the structures made right that stand where they usually
/// do, so that what is behind them is reached.
pub fn fuzz_any(bytes: &[u8]) {
    fuzz_open(bytes);
    let mut sealed = bytes.to_vec();
    let end = bytes.len().saturating_sub(FOOTER);
    for at in [0, end] {
        if let Some(part) = sealed.get_mut(at..at + FOOTER)
            && let Ok(footer) = Footer::read_from_bytes(part)
        {
            part.copy_from_slice(footer.sealed().as_bytes());
        }
    }
    if let Some(part) = sealed.get_mut(FOOTER..FOOTER + HEADER)
        && let Ok(header) = DynamicHeader::read_from_bytes(part)
    {
        part.copy_from_slice(header.sealed().as_bytes());
    }
    if sealed != bytes {
        fuzz_open(&sealed);
    }
}

/// Bytes of a footer.
const FOOTER: usize = size_of::<Footer>();
/// Bytes of a dynamic header.
const HEADER: usize = size_of::<DynamicHeader>();

/// Inputs to start from: a fixed image, a dynamic one and a child, in blocks of 4 KiB, which are smaller than those of any
/// writer.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let ids = IdSource::from_material(b"fuzz");
    let fixed = [&[5; 2048][..], new_footer(disk_type::FIXED, 2048, &ids).as_bytes()].concat();
    let mut virtual_pc = new_footer(disk_type::FIXED, 4 * 4 * 17 * 512, &ids);
    virtual_pc.creator_application = *b"vpc ";
    let by_geometry = [&[6; 4 * 4 * 17 * 512][..], virtual_pc.sealed().as_bytes()].concat();
    vec![fixed, by_geometry, in_blocks(disk_type::DYNAMIC, &ids), in_blocks(disk_type::DIFFERENCING, &ids)]
}

/// An image of three blocks, of which the last is cut off by the disk's end and the second has no place.
fn in_blocks(kind: u32, ids: &IdSource) -> Vec<u8> {
    const BLOCK: usize = 4096;
    const TABLE: usize = FOOTER + HEADER;
    let footer = new_footer(kind, 2 * BLOCK as u64 + 512, ids);
    let name = to_utf16(".\\parent.vhd", false);
    let mut header = DynamicHeader::new_zeroed();
    header.cookie = HEADER_COOKIE;
    header.data_offset = NOWHERE.into();
    header.table_offset = (TABLE as u64).into();
    header.version = VERSION.into();
    header.max_table_entries = 3.into();
    header.block_size = 4096.into();
    if kind == disk_type::DIFFERENCING {
        header.parent_unique_id = [3; 16];
        header.parent_name[..name.len()].copy_from_slice(&to_utf16(".\\parent.vhd", true));
        header.locators[0].platform_code = platform::W2RU;
        header.locators[0].data_length = u32::try_from(name.len()).expect("short").into();
        header.locators[0].data_offset = (TABLE as u64 + 512).into();
    }
    let sector = |at: usize| u32::try_from(at / 512).expect("a few sectors");
    let (first, stride) = (TABLE + 1024, BLOCK + 512);
    let mut image = [footer.as_bytes(), header.sealed().as_bytes()].concat();
    for entry in [sector(first), UNUSED, sector(first + stride)] {
        image.extend(entry.to_be_bytes());
    }
    image.resize(TABLE + 512, 0xff);
    image.extend(name);
    for bits in [0xa5, 0x80] {
        image.resize(image.len().next_multiple_of(512), 0);
        image.push(bits);
        image.resize(image.len().next_multiple_of(512), 0);
        image.extend([bits; BLOCK]);
    }
    image.extend(footer.as_bytes());
    image
}

/// Opens `bytes`, asks and reads, checks, and writes to a copy: nothing panics, status is true, and an image that was
/// written to opens again.
pub fn fuzz_open(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let gate = ReferenceGate::Deny;
    let options = OptionValues::default();
    let request =
        |source: Source, access| OpenRequest { source, gate: &gate, options: &options, access, cache_bytes: 4096 };
    let _ = super::check::check(CheckRequest { source: source.clone(), gate: &gate, repair: false });
    match open(request(source, Access::ReadOnly)) {
        Ok(layer) => walk(&*layer.device),
        Err(error) => {
            let kind = error.kind();
            assert!(
                matches!(
                    kind,
                    ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotThisFormat | ErrorKind::TooLarge
                ),
                "{error}"
            );
            return;
        }
    }
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes.to_vec()));
    let copy = Source::writable(Arc::clone(&storage));
    let Ok(layer) = open(request(copy.clone(), Access::ReadWrite)) else { return };
    let writer = layer.writer.expect("opened for writing");
    let end = writer.size().min(READ);
    let attempt = || -> transload_block::Result<()> {
        writer.write_at(&vec![0x77; index(end)], 0)?;
        writer.write_zeroes_at(end / 3..end, ZeroMode::Unmap)?;
        writer.flush()?;
        if writer.size() > 0 {
            writer.write_at(&[1], writer.size() - 1)?;
        }
        writer.finish()
    };
    if attempt().is_ok() {
        let image = Image::read(&*storage).expect("what was written opens");
        let larger = image.size.saturating_add(10 << 20);
        let grown = super::resize::resize(ResizeRequest { source: copy, gate: &gate, size: larger, shrink: false });
        if grown.is_ok() {
            // In whole sectors; those of a fixed disk may have been cut off before.
            let image = Image::read(&*storage).expect("what was resized opens");
            assert_eq!(Some(image.size), larger.checked_next_multiple_of(512));
        }
    }
}

fn walk(device: &dyn BlockRead) {
    let (mut buffer, mut at) = (Vec::new(), 0);
    for _ in 0..STEPS {
        if at == device.size() {
            break;
        }
        let Ok(extent) = device.block_status(at..device.size()) else { break };
        assert!(extent.offset == at && extent.length > 0 && extent.end() <= device.size(), "{extent:?}");
        buffer.resize(index(extent.length.min(READ)), 0xaa);
        let read = device.read_at(&mut buffer, at);
        if extent.status != BlockStatus::Data {
            assert!(read.is_ok() && buffer.iter().all(|byte| *byte == 0), "{extent:?} does not read as zeroes");
        }
        at = extent.end();
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("at most 64 KiB")
}
