//! What the tests of writing share: targets, contents, and qemu-img as the judge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use transload_block::{
    BlockLimits, BlockRead, BlockSink, BlockWrite, Capabilities, Error, ErrorKind, Extent, FileBlock, Form, Memory,
    Result, Storage, ZeroMode,
};

pub(crate) use transload_testkit::witness::{must as must_run, run};

use super::options::CREATE_OPTIONS;
use crate::{OptionValues, Source, TargetFiles};

/// A file in a folder of its own.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new empty file.
    pub(crate) fn target(&self, name: &str) -> OneFile {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap();
        OneFile(Arc::new(FileBlock::open(&path, true).unwrap()))
    }

    /// An existing file, for reading and writing.
    pub(crate) fn source(&self, name: &str) -> Source {
        let path = self.path(name);
        Source::writable(Arc::new(FileBlock::open(&path, true).unwrap())).with_path(path)
    }
}

/// A target, and new files beside it.
#[derive(Debug)]
pub(crate) struct OneFile(pub Arc<FileBlock>);

impl TargetFiles for OneFile {
    fn name(&self) -> &'static str {
        "test.qcow2"
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Storage>)
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        let path = self.0.path().with_file_name(name);
        std::fs::File::create(&path).unwrap();
        Ok(Arc::new(FileBlock::open(&path, true)?))
    }
}

pub(crate) fn options(text: &str) -> OptionValues {
    OptionValues::parse(CREATE_OPTIONS, [text]).unwrap()
}

/// What `qemu-img check` says of a file.
pub(crate) fn qemu_check(path: &Path) -> Value {
    let output = run("qemu-img", ["check", "--output=json", "-f", "qcow2", path.to_str().unwrap()]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{}: {error}: {output:?}", path.display()))
}

/// Fails unless `qemu-img check` finds neither errors nor leaks.
pub(crate) fn assert_sound(path: &Path) {
    transload_testkit::witness::assert_sound(path, "qcow2");
}

/// The guest's bytes as QEMU reads them.
pub(crate) fn qemu_read(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("qemu.raw");
    must_run("qemu-img", ["convert", "-O", "raw", path.to_str().unwrap(), raw.to_str().unwrap()]);
    let bytes = std::fs::read(&raw).unwrap();
    std::fs::remove_file(raw).unwrap();
    bytes
}

/// Bytes that no codec shrinks, always the same for one seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[3];
    }
    bytes
}

/// A disk of `size` bytes in which zero, compressible and incompressible stretches take turns; the stretches' length is no
/// multiple of any cluster size.
pub(crate) fn mixed_disk(size: usize) -> Vec<u8> {
    let mut disk = Vec::with_capacity(size);
    let mut turn = 0;
    while disk.len() < size {
        let length = (37_000 + turn * 8_191 % 150_000).min(size - disk.len());
        match turn % 3 {
            0 => disk.extend(std::iter::repeat_n(b"transload ", length / 10 + 1).flatten().take(length)),
            1 => disk.extend(std::iter::repeat_n(0, length)),
            _ => disk.extend(noise(length, turn as u64)),
        }
        turn += 1;
    }
    disk
}

/// Puts `disk` into `sink`, leaving out units of zeroes, as the engine does on one thread.
pub(crate) fn fill(mut sink: Box<dyn BlockSink>, disk: &[u8]) {
    let encoder = sink.encoder();
    let unit_size = usize::try_from(encoder.unit_size()).unwrap();
    let mut stored = Vec::new();
    for (index, chunk) in disk.chunks(unit_size).enumerate() {
        if chunk.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut unit = chunk.to_vec();
        unit.resize(unit_size, 0);
        let offset = (index * unit_size) as u64;
        match encoder.encode(&unit, &mut stored).unwrap() {
            Form::Plain => sink.append(offset, Form::Plain, &unit).unwrap(),
            Form::Encoded => sink.append(offset, Form::Encoded, &stored).unwrap(),
        }
    }
    sink.finish().unwrap();
}

/// Asserts that `found` is `disk`, with nothing but zeroes behind it.
pub(crate) fn assert_same_disk(found: &[u8], disk: &[u8], what: &str) {
    assert!(found.len() >= disk.len() && found.len() < disk.len() + 512, "{what}: {} bytes", found.len());
    let same = &found[..disk.len()] == disk && found[disk.len()..].iter().all(|byte| *byte == 0);
    assert!(same, "{what}: the contents differ");
}

/// Storage that fails after some writes.
#[derive(Debug)]
pub(crate) struct Failing {
    pub inner: Memory,
    left: std::sync::atomic::AtomicUsize,
}

impl Failing {
    pub(crate) fn after(writes: usize, bytes: Vec<u8>) -> Self {
        Self { inner: Memory::from(bytes), left: writes.into() }
    }
}

impl BlockRead for Failing {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn limits(&self) -> BlockLimits {
        self.inner.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.inner.read_at(buf, offset)
    }

    fn block_status(&self, range: std::ops::Range<u64>) -> Result<Extent> {
        self.inner.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        self.inner.capabilities()
    }
}

impl BlockWrite for Failing {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(Error::new(ErrorKind::Io, "no more writes"));
        }
        self.inner.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: std::ops::Range<u64>, mode: ZeroMode) -> Result<()> {
        self.inner.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Storage for Failing {
    fn set_size(&self, size: u64) -> Result<()> {
        self.inner.set_size(size)
    }

    fn allocate(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.inner.allocate(range)
    }
}
