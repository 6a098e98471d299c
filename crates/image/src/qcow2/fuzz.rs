//! The property that the fuzz target and a test share: any bytes are opened, described and walked without harm.

use std::sync::Arc;

use transload_block::{BlockRead, BlockWrite, Memory, Result, Storage, ZeroMode};

use super::device::Qcow2;
use super::layer;
use super::tables::index;
use crate::{Access, OpenRequest, OptionValues, ReferenceGate, Source, properties};

/// Bytes written at once.
const READ: u64 = 256 << 10;

/// Opens `bytes` as an image, describes it, walks its extents, reads a part of it, and writes to a copy.
///
/// # Panics
/// When an extent is empty or out of place, or says zero of what reads as something else; when an image that the driver
/// wrote to no longer opens.
#[doc(hidden)]
pub fn fuzz_open(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let described = layer::describe(&source);
    let gate = ReferenceGate::Deny;
    let options = OptionValues::default();
    let request =
        OpenRequest { source, gate: &gate, options: &options, access: Access::ReadOnly, cache_bytes: 1 << 20 };
    let Ok(layer) = layer::open(request) else { return };
    assert!(described.is_ok_and(|info| info.format == "qcow2"), "what opens can be described");
    properties::device(&*layer.device);
    write(bytes);
}

/// Writes to a copy; whatever comes of that, what was a header stays one.
fn write(bytes: &[u8]) {
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes.to_vec()));
    let Ok(device) = Qcow2::open_for_writing(Arc::clone(&storage), None, 1 << 20) else { return };
    let end = device.size().min(READ);
    let attempt = || -> Result<()> {
        device.write_at(&vec![0x77; index(end)], 0)?;
        device.write_zeroes_at(end / 3..end, ZeroMode::Unmap)?;
        device.flush()?;
        let last = device.size().saturating_sub(1);
        if last > 0 {
            device.write_at(&[1], last)?;
        }
        crate::ImageWrite::finish(&device)
    };
    if attempt().is_ok() {
        assert!(Qcow2::open_for_writing(storage, None, 1 << 20).is_ok(), "what was written no longer opens");
    }
}
