//! The service beside the command line: the same conversion, once from an upload over the loopback device and once from the
//! file; and the memory of a hundred uploads at once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::run;

/// Uploads at once, and the bytes of each.
const CROWD: usize = 100;
const CROWD_BYTES: u64 = 16 << 20;
/// The most that the service may have resident with all of them: what conversions share, and a connection's buffers for each.
const CROWD_MEMORY: u64 = 384 << 20;
/// What is expected of an upload, as a share of the command line's rate.
const GOAL_PERCENT: u128 = 85;

/// Measures in `memory`, a folder on a memory filesystem, with what the raw disk `real` begins with.
pub(super) fn measure(program: &Path, real: &Path, memory: &Path, runs: usize) -> Result<()> {
    let folder = memory.join("service");
    fs::create_dir_all(&folder)?;
    let plain = folder.join("disk.raw");
    dense(real, &plain, 1 << 30)?;
    let packed = folder.join("disk.vmdk");
    let (from, to) = (plain.as_os_str(), packed.as_os_str());
    let options = ["convert", "-q", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"];
    run(Command::new(program).args(options).args([from, to]))?;
    let service = Running::start(program, &folder)?;
    println!("| upload | command line | over HTTP | share |\n|---|--:|--:|--:|");
    for (name, source, format, target) in [
        ("raw to raw", &plain, "raw", "raw"),
        ("raw to qcow2", &plain, "raw", "qcow2"),
        ("streamOptimized VMDK to qcow2", &packed, "vmdk", "qcow2"),
    ] {
        let (mut alone, mut served) = (Vec::new(), Vec::new());
        for _ in 0..runs.max(1) {
            alone.push(convert(program, source, format, &folder.join("alone"), target)?);
            served.push(service.upload(source, format, "served", target)?);
            fs::remove_file(service.root.join("served"))?;
        }
        let (alone, served) = (median(alone), median(served));
        let share = alone.as_nanos() * 100 / served.as_nanos().max(1);
        let goal = if share < GOAL_PERCENT { " (less than the goal)" } else { "" };
        println!("| {name} | {:.3} s | {:.3} s | {share} %{goal} |", alone.as_secs_f64(), served.as_secs_f64());
    }
    let peak = service.crowd(&plain, &folder)?;
    println!("\n{CROWD} uploads of {} MiB at once: {} MiB resident at the most", CROWD_BYTES >> 20, peak >> 20);
    if peak > CROWD_MEMORY {
        bail!("{peak} bytes resident, {CROWD_MEMORY} are allowed");
    }
    Ok(())
}

/// The first `size` bytes of `real` that are not zero, by MiB: what is left out of a sparse disk costs the command line nothing,
/// and an upload all the same.
fn dense(real: &Path, plain: &Path, size: u64) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let (mut from, mut to) = (File::open(real)?, File::create(plain)?);
    let mut piece = vec![0; PIECE];
    let mut written = 0;
    while written < size {
        from.read_exact(&mut piece).with_context(|| format!("{} has too little data", real.display()))?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all(&piece)?;
            written += PIECE as u64;
        }
    }
    Ok(())
}

fn convert(program: &Path, source: &Path, format: &str, target: &Path, target_format: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut command = Command::new(program);
    command.args(["convert", "-q", "-f", format, "-O", target_format]).args([source, target]);
    let status = command.status()?;
    let taken = begun.elapsed();
    if !status.success() {
        bail!("convert ended with {status}");
    }
    fs::remove_file(target)?;
    Ok(taken)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A service that is stopped when it is dropped.
struct Running {
    child: Child,
    url: String,
    root: PathBuf,
}

impl Running {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (root, state) = (folder.join("root"), folder.join("state"));
        fs::create_dir_all(&root)?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--root"])
            .arg(&root)
            .arg("--state")
            .arg(state);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        let stdout = child.stdout.take().context("the service's standard output")?;
        BufReader::new(stdout).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned(), root })
    }

    fn command(&self, source: &Path, format: &str, name: &str, target: &str) -> Command {
        let url = format!("{}/upload?src={format}&dst={target}&digest=none&name={name}", self.url);
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "-o", "/dev/null", "-X", "POST", "-T"]).arg(source).arg(url);
        command
    }

    fn upload(&self, source: &Path, format: &str, name: &str, target: &str) -> Result<Duration> {
        let begun = Instant::now();
        let status = self.command(source, format, name, target).status().context("curl")?;
        if !status.success() {
            bail!("curl ended with {status}");
        }
        Ok(begun.elapsed())
    }

    /// Uploads many at once, and answers how much memory the service had at the most.
    fn crowd(&self, plain: &Path, folder: &Path) -> Result<u64> {
        let part = folder.join("part.raw");
        let mut from = File::open(plain)?.take(CROWD_BYTES);
        std::io::copy(&mut from, &mut File::create(&part)?)?;
        let mut clients = Vec::new();
        for index in 0..CROWD {
            clients.push(self.command(&part, "raw", &format!("crowd-{index}"), "raw").spawn().context("curl")?);
        }
        for mut client in clients {
            let status = client.wait()?;
            if !status.success() {
                bail!("one of the uploads at once ended with {status}");
            }
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let kilobytes: u64 = peak.context("no VmHWM")?.trim().parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What has ended by itself cannot be ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
