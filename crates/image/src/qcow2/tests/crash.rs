//! Power cuts: after each, the image opens, nothing in it is corrupt, and every byte is one that it had or was to have.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Error, ErrorKind, Extent, Memory, Result, Storage, ZeroMode,
};

use super::super::device::Qcow2;
use super::super::tables::index;
use super::super::witness::{Scratch, mixed_disk, qemu_check};
use super::model::any_range;
use super::{Dice, open, qemu_img, read_all, source, try_open};
use crate::{Access, ImageWrite};

/// A change that is not known to be durable.
#[derive(Clone, Debug)]
enum Op {
    Write(u64, Vec<u8>),
    Size(u64),
}

/// Storage that stops at its `limit`th change and gives back what a power cut would leave: everything before the last
/// flush, and of what came after it any part.
#[derive(Debug)]
struct Fragile {
    now: Memory,
    state: Mutex<(Vec<u8>, Vec<Op>, usize)>,
    limit: usize,
}

impl Fragile {
    fn new(bytes: Vec<u8>, limit: usize) -> Self {
        Self { now: Memory::from(bytes.clone()), state: Mutex::new((bytes, Vec::new(), 0)), limit }
    }

    fn note(&self, op: Option<Op>) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        state.2 += 1;
        if state.2 > self.limit {
            return Err(Error::new(ErrorKind::Io, "power cut"));
        }
        match op {
            Some(op) => state.1.push(op),
            None => {
                let pending = std::mem::take(&mut state.1);
                pending.iter().for_each(|op| apply(&mut state.0, op));
            }
        }
        Ok(())
    }

    fn after_the_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let mut bytes = state.0.clone();
        let bias = dice.below(3);
        for op in &state.1 {
            if dice.below(4) <= bias {
                apply(&mut bytes, op);
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => {
            let end = index(*offset) + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[index(*offset)..end].copy_from_slice(data);
        }
        Op::Size(size) => bytes.resize(index(*size), 0),
    }
}

impl BlockRead for Fragile {
    fn size(&self) -> u64 {
        self.now.size()
    }

    fn limits(&self) -> BlockLimits {
        self.now.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.now.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.now.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for Fragile {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        // A power cut may come in the middle of a large write.
        for (number, part) in buf.chunks(4096).enumerate() {
            let at = offset + number as u64 * 4096;
            self.note(Some(Op::Write(at, part.to_vec())))?;
            self.now.write_at(part, at)?;
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, _mode: ZeroMode) -> Result<()> {
        self.write_at(&vec![0; index(range.end - range.start)], range.start)
    }

    fn flush(&self) -> Result<()> {
        self.note(None)
    }
}

impl Storage for Fragile {
    fn set_size(&self, size: u64) -> Result<()> {
        self.note(Some(Op::Size(size)))?;
        self.now.set_size(size)
    }

    fn allocate(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
}

/// What each byte may be: what it was at the last flush, or what was written since.
struct Candidates {
    durable: Vec<u8>,
    now: Vec<u8>,
    since: Vec<(Range<usize>, u8)>,
}

impl Candidates {
    fn change(&mut self, range: Range<usize>, byte: u8) {
        self.now[range.clone()].fill(byte);
        self.since.push((range, byte));
    }

    fn flushed(&mut self) {
        self.durable.clone_from(&self.now);
        self.since.clear();
    }

    fn assert_allow(&self, found: &[u8], what: &str) {
        for (at, byte) in found.iter().enumerate() {
            let allowed = *byte == self.durable[at]
                || self.since.iter().any(|(range, value)| value == byte && range.contains(&at));
            assert!(allowed, "{what}: byte {at:#x} is {byte}, was {} when last flushed", self.durable[at]);
        }
    }
}

/// Writes to the image until the power is cut.
fn run_until_cut(storage: &Arc<Fragile>, candidates: &mut Candidates, dice: &mut Dice) -> Result<()> {
    let device = Qcow2::open_for_writing(Arc::clone(storage) as Arc<dyn Storage>, None, 16 << 10)?;
    let size = device.size();
    loop {
        let range = any_range(dice, size, u64::from(device.limits().granularity));
        let place = index(range.start)..index(range.end);
        let byte = u8::try_from(dice.below(255)).unwrap() + 1;
        match dice.below(8) {
            0..=3 => {
                candidates.change(place.clone(), byte);
                device.write_at(&vec![byte; place.len()], range.start)?;
            }
            4 | 5 => {
                candidates.change(place, 0);
                let mode = if dice.below(2) == 0 { ZeroMode::Unmap } else { ZeroMode::KeepAllocated };
                device.write_zeroes_at(range, mode)?;
            }
            6 => {
                device.flush()?;
                candidates.flushed();
            }
            _ => {
                device.finish()?;
                candidates.flushed();
            }
        }
    }
}

/// Cuts the power at many places of the same work on the image at `path`, whose snapshot, if it has one, is to outlive it.
fn cut_everywhere(scratch: &Scratch, path: &Path, cuts: u64, snapshot: Option<&str>) {
    let original = std::fs::read(path).unwrap();
    let disk = read_all(&*open(path).device);
    let kept =
        snapshot.map(|name| read_all(&*try_open(source(path, false), Access::ReadOnly, Some(name)).unwrap().device));
    let after = scratch.path("after.qcow2");
    for cut in 0..cuts {
        let mut dice = Dice::new(cut);
        let limit = index(5 + cut * 7 + dice.below(7));
        let storage = Arc::new(Fragile::new(original.clone(), limit));
        let mut candidates = Candidates { durable: disk.clone(), now: disk.clone(), since: Vec::new() };
        let error = run_until_cut(&storage, &mut candidates, &mut Dice::new(cut / 10)).unwrap_err();
        assert!(error.to_string().contains("power cut"), "cut {cut}: {error}");
        std::fs::write(&after, storage.after_the_cut(&mut dice)).unwrap();
        let what = format!("{}: cut {cut} at change {limit}", path.display());
        let layer = open(&after);
        candidates.assert_allow(&read_all(&*layer.device), &what);
        if !layer.info.dirty {
            let verdict = qemu_check(&after);
            assert!(
                verdict.get("corruptions").is_none() && verdict.get("check-errors").is_none_or(|n| n == 0),
                "{what}: {verdict}"
            );
        }
        if let Some(kept) = &kept {
            let layer = try_open(source(&after, false), Access::ReadOnly, snapshot).unwrap();
            assert!(read_all(&*layer.device) == *kept, "{what}: the snapshot changed");
        }
    }
}

#[test]
fn power_cuts_leave_leaks_at_worst() {
    let scratch = Scratch::new();
    for (number, options) in
        ["cluster_size=4k", "cluster_size=512,refcount_bits=64", "extended_l2=on,cluster_size=16k", "compat=0.10"]
            .iter()
            .enumerate()
    {
        let path = scratch.path(&format!("{number}.qcow2"));
        qemu_img(&["create", "-f", "qcow2", "-o", options, path.to_str().unwrap(), "1M"]);
        cut_everywhere(&scratch, &path, 60, None);
    }
}

#[test]
fn power_cuts_with_lazy_refcounts_leave_a_dirty_image_at_worst() {
    let scratch = Scratch::new();
    let path = scratch.path("lazy.qcow2");
    qemu_img(&["create", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=4k", path.to_str().unwrap(), "1M"]);
    cut_everywhere(&scratch, &path, 60, None);
}

#[test]
fn power_cuts_leave_snapshots_and_compressed_clusters_alone() {
    let scratch = Scratch::new();
    let raw = scratch.path("disk.raw");
    std::fs::write(&raw, mixed_disk(1 << 20)).unwrap();
    let path = scratch.path("image.qcow2");
    let (raw, name) = (raw.to_str().unwrap(), path.to_str().unwrap());
    qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", raw, name]);
    qemu_img(&["snapshot", "-c", "kept", name]);
    cut_everywhere(&scratch, &path, 80, Some("kept"));
}
