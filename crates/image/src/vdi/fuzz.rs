//! Properties that hold for any bytes, for the fuzz targets and for the tests that feed them known inputs.

use std::sync::Arc;

use transload_block::Memory;

use crate::{Access, CheckRequest, OpenRequest, OptionValues, ReferenceGate, Source, properties};

/// Opens `bytes` as a VDI, asks for its status and reads it, and checks it: what is said to be a hole or zero reads as
/// zeroes, and what can be opened can be described and checked.
pub fn fuzz_open(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let described = super::open::describe(&source);
    let request = OpenRequest {
        source: source.clone(),
        gate: &ReferenceGate::Deny,
        options: &OptionValues::default(),
        access: Access::ReadOnly,
        cache_bytes: 64 << 10,
    };
    let Ok(layer) = super::open::open(request) else { return };
    assert_eq!(described.expect("what can be opened can be described").virtual_size, layer.device.size());
    properties::device(&*layer.device);
    let check = CheckRequest { source, gate: &ReferenceGate::Deny, repair: false };
    super::check::check(check).expect("memory can be read");
}
