//! One timed run: wall time until the target is on stable storage, CPU time and peak memory of the process.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use wait4::Wait4;

use super::cases::Contender;

/// What one run took.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub wall: Duration,
    pub cpu: Duration,
    /// Bytes resident at the most.
    pub peak_memory: u64,
    /// Bytes that the target occupies.
    pub output: u64,
}

/// Takes `bytes` of memory in `folder`, which is on a memory filesystem, and gives them back. The host of a virtual
/// machine takes pages away that are free for a while, and whoever touches them next pays for that: after this, nobody.
pub(crate) fn prime(folder: &Path, bytes: u64) -> Result<()> {
    let path = folder.join("prime");
    let mut file = File::create(&path)?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(1 << 20) {
        file.write_all(&zeroes)?;
    }
    drop(file);
    std::fs::remove_file(path).with_context(|| folder.display().to_string())
}

/// Runs the contender on a target that is not there before. The target is flushed inside the timed span for everybody
/// alike, whether or not the program did so itself.
pub(crate) fn run(contender: &Contender, source: &Path, target: &Path, work: &Path) -> Result<Sample> {
    if target.exists() {
        std::fs::remove_file(target)?;
    }
    File::open(work)?.sync_all()?;
    let mut command = Command::new(&contender.program);
    let files = if contender.target_first { [target, source] } else { [source, target] };
    command.args(&contender.arguments).args(files).stdout(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().with_context(|| contender.name.clone())?;
    let usage = child.wait4()?;
    if !usage.status.success() {
        bail!("{} ended with {}", contender.name, usage.status);
    }
    File::open(target).with_context(|| format!("{} left no target", contender.name))?.sync_all()?;
    let wall = start.elapsed();
    Ok(Sample {
        wall,
        cpu: usage.rusage.utime + usage.rusage.stime,
        peak_memory: usage.rusage.maxrss,
        output: std::fs::metadata(target)?.blocks() * 512,
    })
}
