//! What these tests share.

use std::sync::Arc;

use transload_block::{BlockRead, Memory, Result, Storage};
use transload_image::{
    Access, CheckReport, CheckRequest, CreateRequest, Format, IdSource, ImageWrite, Layer, OpenRequest, OpenSettings,
    Opened, OptionValues, ReferenceGate, ResizeRequest, Source, vhd,
};
use transload_testkit::MemoryTarget;

pub(crate) const FORMAT: &Format = &vhd::FORMAT;
pub(crate) const NAME: &str = "disk.vhd";
pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn options(text: &str) -> OptionValues {
    OptionValues::parse(FORMAT.create_options, [text]).unwrap()
}

pub(crate) fn try_create(
    target: &MemoryTarget,
    size: u64,
    text: &str,
    backing: Option<&Layer>,
) -> Result<Arc<dyn ImageWrite>> {
    let ids = IdSource::from_material(text.as_bytes());
    let options = OptionValues::parse(FORMAT.create_options, [text])?;
    let create = FORMAT.create.unwrap();
    create(CreateRequest { files: target, size, options: &options, ids: &ids, backing, cache_bytes: 1 << 20 })
}

pub(crate) fn create(size: u64, text: &str) -> (MemoryTarget, Arc<dyn ImageWrite>) {
    let target = MemoryTarget::new(NAME);
    let image = try_create(&target, size, text, None).unwrap();
    (target, image)
}

pub(crate) fn layer(source: Source, access: Access) -> Result<Layer> {
    let (gate, options) = (ReferenceGate::Deny, OptionValues::default());
    FORMAT.open.unwrap()(OpenRequest { source, gate: &gate, options: &options, access, cache_bytes: 1 << 20 })
}

pub(crate) fn writable(storage: &Arc<dyn Storage>) -> Layer {
    layer(Source::writable(Arc::clone(storage)), Access::ReadWrite).unwrap()
}

pub(crate) fn open_bytes(bytes: Vec<u8>) -> Result<Opened> {
    let settings = OpenSettings { gate: ReferenceGate::Deny, chain: false, ..OpenSettings::default() };
    transload_image::open(Source::new(Arc::new(Memory::from(bytes))), &settings)
}

pub(crate) fn check(storage: &Arc<dyn Storage>, repair: bool) -> Result<CheckReport> {
    let source = Source::writable(Arc::clone(storage));
    FORMAT.check.unwrap()(CheckRequest { source, gate: &ReferenceGate::Deny, repair })
}

pub(crate) fn resize(storage: &Arc<dyn Storage>, size: u64, shrink: bool) -> Result<()> {
    let source = Source::writable(Arc::clone(storage));
    FORMAT.resize.unwrap()(ResizeRequest { source, gate: &ReferenceGate::Deny, size, shrink })
}

/// All bytes of a file or disk that is small.
pub(crate) fn bytes(device: &dyn BlockRead) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size()).unwrap()];
    device.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Puts the right checksum into a footer (`field` 64) or dynamic header (36).
pub(crate) fn seal(structure: &mut [u8], field: usize) {
    structure[field..field + 4].fill(0);
    let sum: u32 = structure.iter().map(|byte| u32::from(*byte)).sum();
    structure[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// A dynamic image of `size` bytes with the first MiB of each second block written.
pub(crate) fn sample(size: u64, text: &str) -> Vec<u8> {
    let (target, image) = create(size, text);
    let mut at = 0;
    while at < size {
        let length = usize::try_from(MIB.min(size - at)).unwrap();
        image.write_at(&vec![u8::try_from(at / MIB % 251).unwrap() | 1; length], at).unwrap();
        at += 4 * MIB;
    }
    image.finish().unwrap();
    bytes(&*target.storage(NAME).unwrap())
}
