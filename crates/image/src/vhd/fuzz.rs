//! What must hold for any bytes that are opened as a VHD: tests call it with made-up bytes, fuzz targets with found ones.

use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, ErrorKind, Memory, Storage, ZeroMode};

use super::open::{Image, open};
use crate::{Access, CheckRequest, OpenRequest, OptionValues, ReferenceGate, ResizeRequest, Source};

/// Extents that are asked for; a disk may have more than there is time for.
const STEPS: usize = 300;
/// The most that is read or written at once.
const READ: u64 = 1 << 16;

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
            assert!(Image::read(&*storage).is_ok_and(|image| image.size == larger), "what was resized opens");
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
