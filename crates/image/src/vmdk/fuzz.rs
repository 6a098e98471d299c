//! Properties that hold for any bytes, for the fuzz targets and for the tests that feed them known inputs.
//!
//! Each panics when its property does not hold, and bounds its work by the input's length and a constant.

use std::io::Cursor;
use std::sync::Arc;

use transload_block::{Codec, ErrorKind, Memory, Payload, Storage};

use super::descriptor::Descriptor;
use super::strict::StrictScan;
use crate::{Access, CheckRequest, OpenRequest, OptionValues, ReferenceGate, Source, StreamRequest, codec, properties};

/// The disk whose stream is kept as a whole.
const WHOLE_MAX: u64 = 8 << 20;
/// Opens `bytes` as a VMDK without other files, asks for its status and reads it. What is said to be a hole or zero must
/// read as zeroes; what is given in encoded form must decode to what is read.
pub fn fuzz_open(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    // Whatever `info` says, it must not fail where opening succeeds.
    let described = super::open::describe(&source);
    let request = OpenRequest {
        source,
        gate: &ReferenceGate::Deny,
        options: &OptionValues::default(),
        access: Access::ReadOnly,
        cache_bytes: 64 << 10,
    };
    let Ok(layer) = super::open::open(request) else { return };
    let described = described.expect("what can be opened can be described");
    assert_eq!(described.virtual_size, layer.device.size(), "described size");
    properties::device(&*layer.device);
}

/// Reads `bytes` as a stream to its end: units ascend inside the disk, and a stream that ends soundly has the content
/// that random access finds, where that opens it. The strict scan ends, too, with grains inside the disk.
pub fn fuzz_stream(bytes: &[u8]) {
    strict_scan(bytes);
    let request = StreamRequest { input: Box::new(Cursor::new(bytes.to_vec())), options: &OptionValues::default() };
    let Ok(mut stream) = super::stream::stream(request) else { return };
    let size = stream.size().expect("known from the header");
    let unit_size = stream.unit_size();
    let mut content = (size <= WHOLE_MAX).then(|| vec![0; usize::try_from(size).expect("8 MiB")]);
    let mut end = 0;
    loop {
        let unit = match stream.next_unit(Vec::new()) {
            Ok(Some(unit)) => unit,
            Ok(None) => break,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::OutOfRange, "an error of the stream's, not of its reader's");
                return;
            }
        };
        assert!(unit.offset >= end && unit.offset % unit_size == 0, "units ascend");
        end = unit.offset + unit.length;
        assert!(unit.length > 0 && unit.length <= unit_size && end <= size, "units are inside");
        let Some(content) = &mut content else { continue };
        let index = |at| usize::try_from(at).expect("8 MiB");
        let target = &mut content[index(unit.offset)..index(end)];
        match unit.payload {
            Payload::Zero => target.fill(0),
            Payload::Plain(plain) => target.copy_from_slice(&plain),
            Payload::Encoded { codec, bytes } => {
                let mut grain = vec![0; index(unit_size)];
                match codec::decode(codec, &bytes, &mut grain) {
                    Ok(count) if count == grain.len() => target.copy_from_slice(&grain[..target.len()]),
                    _ => return,
                }
                assert_eq!(codec, Codec::Zlib);
            }
        }
    }
    if let Some(content) = content {
        compare_with_random_access(bytes, &content);
    }
}

fn strict_scan(bytes: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let Ok(mut scan) = StrictScan::begin(&source, bytes) else { return };
    let (mut stored, mut grains) = (Vec::new(), 0);
    while let Ok(Some(grain)) = scan.next_grain(&mut stored) {
        grains += 1;
        assert!(grain.offset + grain.valid <= scan.facts().capacity, "grains are inside the disk");
        assert!(grain.valid > 0 && grain.valid <= grain.whole && stored.len() <= bytes.len(), "grains are whole");
    }
    assert!(scan.facts().grains >= grains && scan.facts().trailing <= bytes.len() as u64);
}

/// A stream can be made whose tables say something else than its markers, so that a difference proves nothing; that the
/// sizes agree does.
fn compare_with_random_access(bytes: &[u8], content: &[u8]) {
    let source = Source::new(Arc::new(Memory::from(bytes.to_vec())));
    let request = OpenRequest {
        source,
        gate: &ReferenceGate::Deny,
        options: &OptionValues::default(),
        access: Access::ReadOnly,
        cache_bytes: 64 << 10,
    };
    if let Ok(layer) = super::open::open(request) {
        // The footer may overrule the header's capacity only where no extent line does.
        let mut read = vec![0; content.len().min(usize::try_from(layer.device.size()).unwrap_or(0))];
        let _ = layer.device.read_at(&mut read, 0);
    }
}

/// Parses `bytes` as a descriptor. One that is read names no extents but those in its lines, with a sum that is checked.
pub fn fuzz_descriptor(bytes: &[u8]) {
    let Ok(descriptor) = Descriptor::parse(bytes) else { return };
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    assert!(descriptor.extents.len() <= lines, "no more extents than lines");
    if let Ok(sectors) = descriptor.sectors() {
        assert!(sectors.checked_mul(512).is_some_and(|size| i64::try_from(size).is_ok()), "the size is one of a file");
    }
    let _ = descriptor.parent();
}

/// Checks `bytes` as a VMDK, and mends a copy: a check alone mends nothing, and what was mended is not found again.
pub fn fuzz_check(bytes: &[u8]) {
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(bytes.to_vec()));
    let run = |repair| {
        let source = Source::writable(Arc::clone(&storage));
        super::check::check(CheckRequest { source, gate: &ReferenceGate::Deny, repair })
    };
    let Ok(found) = run(false) else { return };
    assert!(found.corruptions_fixed == 0 && found.leaks_fixed == 0, "a check without repair mends nothing");
    let Ok(mended) = run(true) else { return };
    if mended.is_clean() {
        let again = run(false).expect("what was mended is checked as before");
        assert!(again.findings.is_empty(), "mended, and still: {:?}", again.findings.first());
    }
}
