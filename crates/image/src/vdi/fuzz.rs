//! Properties that hold for any bytes, for the fuzz targets and for the tests that feed them known inputs.

use std::sync::Arc;

use transload_block::{Memory, Storage, ZeroMode};
use zerocopy::{FromZeros, IntoBytes};

use super::layout::{BLOCK_FREE, BLOCK_ZERO, FILE_INFO, Header0, Header1, PreHeader, SIGNATURE};
use crate::{Access, CheckRequest, OpenRequest, OptionValues, ReferenceGate, ResizeRequest, Source, properties};

/// The most blocks of a disk that is written and resized: both look at the whole map.
const BLOCKS_MAX: u64 = 1 << 20;

/// Opens `bytes` as a VDI, asks for its status and reads it, and checks it: what is said to be a hole or zero reads as
/// zeroes, and what can be opened can be described and checked. A copy is then repaired, written and resized, and what comes
/// out of that opens.
pub fn fuzz_open(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let described = super::open::describe(&source);
    let Ok(layer) = super::open::open(request(source.clone(), Access::ReadOnly)) else { return };
    let described = described.expect("what can be opened can be described");
    assert_eq!(described.virtual_size, layer.device.size());
    properties::device(&*layer.device);
    let check = CheckRequest { source, gate: &ReferenceGate::Deny, repair: false };
    super::check::check(check).expect("memory can be read");
    if described.cluster_size.is_none_or(|block| layer.device.size() / block.max(1) > BLOCKS_MAX) {
        return;
    }
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes.to_vec()));
    let copy = Source::writable(Arc::clone(&storage));
    let _ = super::check::check(CheckRequest { source: copy.clone(), gate: &ReferenceGate::Deny, repair: true });
    let size = layer.device.size();
    if write(copy.clone()).is_ok() {
        let again = super::open::open(request(copy.clone(), Access::ReadOnly)).expect("what was written opens");
        assert_eq!(again.device.size(), size);
        let larger = size.saturating_add(3 << 20);
        let grown = super::resize::resize(ResizeRequest {
            source: copy.clone(),
            gate: &ReferenceGate::Deny,
            size: larger,
            shrink: false,
        });
        if grown.is_ok() {
            let again = super::open::open(request(copy, Access::ReadOnly)).expect("what was resized opens");
            assert_eq!(Some(again.device.size()), larger.checked_next_multiple_of(512));
        }
    }
}

fn request(source: Source, access: Access) -> OpenRequest<'static> {
    static NONE: std::sync::LazyLock<OptionValues> = std::sync::LazyLock::new(OptionValues::default);
    OpenRequest { source, gate: &ReferenceGate::Deny, options: &NONE, access, cache_bytes: 64 << 10 }
}

/// Writes a little at the start, in the middle and at the end.
fn write(source: Source) -> transload_block::Result<()> {
    let writer = super::open::open(request(source, Access::ReadWrite))?.writer.expect("opened for writing");
    let size = writer.size();
    for at in [0, size / 2, size.saturating_sub(700)] {
        let length = (size - at).min(700);
        let bytes = vec![7; usize::try_from(length).expect("700 at most")];
        writer.write_at(&bytes, at)?;
        writer.write_zeroes_at(at..at + length / 2, ZeroMode::Unmap)?;
        let mut read = bytes.clone();
        writer.read_at(&mut read, at)?;
        let (zeroed, kept) = read.split_at(usize::try_from(length / 2).expect("350 at most"));
        assert!(zeroed.iter().all(|byte| *byte == 0) && kept.iter().all(|byte| *byte == 7), "what was written is read");
    }
    writer.finish()
}

/// Inputs to start from, in blocks of 4 KiB, which are smaller than VirtualBox's: dynamic, fixed, a child, and the header of
/// version 0.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let pre = |major: u16, minor: u16| {
        let mut pre = PreHeader::new_zeroed();
        pre.file_info[..FILE_INFO.len()].copy_from_slice(FILE_INFO);
        (pre.signature, pre.major, pre.minor) = (SIGNATURE.into(), major.into(), minor.into());
        pre
    };
    let of_kind = |kind: u32, map: [u32; 3]| {
        let mut header = Header1::new_zeroed();
        (header.header_size, header.kind) = (400.into(), kind.into());
        (header.map_offset, header.data_offset) = (512.into(), 1024.into());
        (header.size, header.block_size, header.blocks) = (8704.into(), 4096.into(), 3.into());
        header.allocated = u32::from(kind == 2).wrapping_mul(2).wrapping_add(1).into();
        header.uuid = [1; 16];
        header.modification_uuid = [2; 16];
        if kind > 2 {
            header.parent_uuid = [3; 16];
            header.parent_modification_uuid = [4; 16];
        }
        let mut image = [pre(1, 1).as_bytes(), header.as_bytes()].concat();
        image.resize(512, 0);
        image.extend(map.map(u32::to_le_bytes).concat());
        image.resize(1024, 0);
        image.resize(1024 + 4096 * if kind == 2 { 3 } else { 1 }, 0x5a);
        image
    };
    let mut old = Header0::new_zeroed();
    (old.kind, old.size, old.block_size, old.blocks) = (1.into(), 8192.into(), 4096.into(), 2.into());
    old.allocated = 1.into();
    let mut version0 = [pre(0, 1).as_bytes(), old.as_bytes()].concat();
    version0.extend([0, BLOCK_FREE].map(u32::to_le_bytes).concat());
    version0.extend([0x77; 4096]);
    vec![
        of_kind(1, [BLOCK_FREE, BLOCK_ZERO, 0]),
        of_kind(2, [0, 1, 2]),
        of_kind(3, [BLOCK_FREE, 0, BLOCK_ZERO]),
        of_kind(4, [0, BLOCK_ZERO, BLOCK_FREE]),
        version0,
    ]
}
