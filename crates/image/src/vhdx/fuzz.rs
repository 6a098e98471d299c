//! Properties that hold for any bytes, for the fuzz targets and for the tests that feed them known inputs.
//!
//! Each panics when its property does not hold, and bounds its work by the input's length and a constant.

use std::sync::Arc;

use transload_block::{Memory, ZeroMode};

use super::layout::{HEADER_BYTES, HEADERS, REGION_TABLES, TABLE_BYTES, checksum};
use crate::{Access, CheckRequest, OpenRequest, OptionValues, ReferenceGate, Source};

/// The disk that is checked as a whole; a sparse table of more blocks takes too long for a property.
const CHECK_MAX: u64 = 1 << 40;

/// Opens `bytes` as a VHDX, asks for its status and reads it; what is said to be a hole or zero must read as zeroes. Then
/// checks, repairs and writes a copy.
pub fn fuzz_open(bytes: &[u8]) {
    let memory = || Arc::new(Memory::from(bytes.to_vec()));
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
    let headers = HEADERS.map(|at| (at, HEADER_BYTES));
    let tables = REGION_TABLES.map(|at| (at, TABLE_BYTES));
    for (at, length) in headers.into_iter().chain(tables) {
        let start = usize::try_from(at).expect("small");
        if let Some(part) = bytes.get_mut(start..start + length) {
            let sum = checksum(part);
            part[4..8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    fuzz_open(&bytes);
}

fn request(source: Source, access: Access) -> OpenRequest<'static> {
    static NONE: std::sync::LazyLock<OptionValues> = std::sync::LazyLock::new(OptionValues::default);
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
