//! The device against a flat model, against images made by QEMU, against lying headers, and against crashes.

mod corpus;
mod crash;
mod hostile;
mod model;
mod qemu;

use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockRead, BlockStatus, FileBlock};

use super::device::Qcow2;
use super::layer;
use super::witness::must_run;
use crate::{Access, Layer, OpenRequest, OptionValues, ReferenceGate, Source};

/// Numbers that look random, always the same for one seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }
}

pub(super) fn try_open(source: Source, access: Access, snapshot: Option<&str>) -> transload_block::Result<Layer> {
    let mut options = OptionValues::default();
    if let Some(snapshot) = snapshot {
        options.set(layer::OPEN_OPTIONS, "snapshot", snapshot)?;
    }
    let gate = ReferenceGate::SameDirectory;
    layer::open(OpenRequest { source, gate: &gate, options: &options, access, cache_bytes: 1 << 20 })
}

pub(super) fn source(path: &Path, writable: bool) -> Source {
    let file = Arc::new(FileBlock::open(path, writable).unwrap());
    let source = if writable { Source::writable(file) } else { Source::new(file) };
    source.with_path(path)
}

pub(super) fn open(path: &Path) -> Layer {
    try_open(source(path, false), Access::ReadOnly, None).unwrap()
}

/// All bytes of a device, read at odd places in odd lengths.
pub(super) fn read_all(device: &dyn BlockRead) -> Vec<u8> {
    let mut bytes = vec![0xaa; usize::try_from(device.size()).unwrap()];
    let (mut at, mut step) = (0, 70_001);
    while at < bytes.len() {
        let end = bytes.len().min(at + step);
        device.read_at(&mut bytes[at..end], at as u64).unwrap();
        at = end;
        step = step * 3 % 900_001 + 1;
    }
    bytes
}

/// Asserts that what the device says of its extents covers it and is true of `bytes`.
pub(super) fn assert_status_is_true(device: &dyn BlockRead, bytes: &[u8]) {
    let mut at = 0;
    while at < device.size() {
        let extent = device.block_status(at..device.size()).unwrap();
        assert!(extent.offset == at && extent.length > 0 && extent.end() <= device.size(), "{extent:?}");
        if extent.status != BlockStatus::Data {
            let range = usize::try_from(at).unwrap()..usize::try_from(extent.end()).unwrap();
            assert!(bytes[range].iter().all(|byte| *byte == 0), "{extent:?} is not zero");
        }
        at = extent.end();
    }
}

pub(super) fn qemu_img(arguments: &[&str]) -> String {
    must_run("qemu-img", arguments)
}
