//! What the tests of several formats share: real images with known content, and outside tools.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use transload_block::BlockRead;

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
    let root = corpus_folder()?;
    let manifest = fs::read_to_string(root.join("MANIFEST.tsv")).expect("the corpus has a manifest");
    let samples = manifest.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        let content = fields[4].parse().ok().map(|size| (size, fields[5].to_owned()));
        Sample {
            path: root.join(fields[0]),
            name: fields[0].to_owned(),
            format: fields[2].to_owned(),
            variant: fields[3].to_owned(),
            content: content.filter(|(_, digest)| digest.len() == 64),
        }
    });
    Some(samples.collect())
}

/// The unpacked corpus in the build folder.
fn corpus_folder() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a workspace");
            let packed = workspace.join("../shared/corpus");
            if !packed.join("visible.tar.zst").is_file() {
                eprintln!("SKIPPED: no corpus of real images at {}", packed.display());
                return None;
            }
            Some(unpack(&packed, Path::new(env!("CARGO_TARGET_TMPDIR"))))
        })
        .clone()
}

fn unpack(packed: &Path, target: &Path) -> PathBuf {
    let folder = target.join("corpus");
    if folder.is_dir() {
        return folder;
    }
    // Several test programs may be first: each unpacks into a place of its own, and one of them wins.
    let own = target.join(format!("corpus.{}", std::process::id()));
    fs::create_dir_all(&own).expect("the build folder is writable");
    run(Command::new("tar").arg("--zstd").arg("-xf").arg(packed.join("visible.tar.zst")).current_dir(&own));
    fs::copy(packed.join("MANIFEST.tsv"), own.join("MANIFEST.tsv")).expect("the manifest can be copied");
    if fs::rename(&own, &folder).is_err() {
        fs::remove_dir_all(&own).expect("our own folder");
    }
    folder
}

/// Runs a tool that must be there and succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; is the tool installed?"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {errors}", output.status);
    output
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
