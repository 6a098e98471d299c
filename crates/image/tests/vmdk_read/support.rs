//! What the tests of reading share: real images with known content, and made-up ones.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use transload_block::BlockRead;
use transload_testkit::Corpus;

/// An image of the corpus.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub path: PathBuf,
    /// The path in the corpus.
    pub name: String,
    pub format: String,
    pub variant: String,
    /// Size and SHA-256 of the guest's bytes, where a reader finds any.
    pub content: Option<(u64, String)>,
}

/// The images of the corpus, or `None`, said aloud, where it is not there.
pub(crate) fn corpus() -> Option<Vec<Sample>> {
    let corpus = Corpus::get()?;
    let samples = corpus.entries.iter().map(|entry| Sample {
        path: corpus.file(entry),
        name: entry.path.clone(),
        format: entry.format.clone(),
        variant: entry.variant.clone(),
        content: entry.virtual_size.zip(entry.sha256.clone()),
    });
    Some(samples.collect())
}

/// The SHA-256 of all bytes of a device, read in steps of `step`, holes skipped as zeroes.
pub(crate) fn digest(device: &dyn BlockRead, step: usize) -> transload_block::Result<String> {
    let mut hash = Sha256::new();
    let zeroes = vec![0; 1 << 20];
    let mut buf = vec![0; step];
    let mut at = 0;
    while at < device.size() {
        let extent = device.block_status(at..device.size())?;
        let mut left = extent.length;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(step).min(zeroes.len());
            if extent.status.reads_zero() {
                hash.update(&zeroes[..count]);
            } else {
                device.read_at(&mut buf[..count], extent.end() - left)?;
                hash.update(&buf[..count]);
            }
            left -= count as u64;
        }
        at = extent.end();
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes a sparse file of `size` bytes with a pattern in some of it.
pub(crate) fn patterned_file(path: &Path, size: u64, seed: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::create(path).expect("a scratch file");
    file.set_len(size).expect("a sparse file");
    let mut state = seed | 1;
    let mut at = 0;
    while at < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = (state >> 40) % 300_000 + 1;
        let end = (at + length).min(size);
        if state >> 33 & 1 == 0 {
            let bytes: Vec<u8> = (at..end).map(|place| (place.wrapping_mul(state) >> 11 & 0x3f) as u8).collect();
            file.write_all_at(&bytes, at).expect("a scratch file");
        }
        at = end;
    }
}
