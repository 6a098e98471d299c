//! A qcow2 on a server that is 20 ms away, to raw: Transload, curl and then Transload, QEMU's own client, and the bare download.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report;
use crate::process::{cargo, root, run};

/// The way there and back.
const DELAY: &str = "20";

/// Measures all ways in turn, and writes or prints the table.
pub(super) fn measure(program: &Path, disk: &Path, folder: &Path, runs: usize, print: bool) -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--release", "-p", "transload-testkit", "--example", "http_server"]))?;
    let place = |name: &str| folder.join(name);
    let (source, raw, packed) = (place("source.qcow2"), place("target.raw"), place("fetched.qcow2"));
    let path = |path: &Path| path.display().to_string();
    run(Command::new(program).args(["convert", "-q", "--force", &path(disk), &path(&source)]))?;
    let server = Server::start(&source)?;
    let own = program.display().to_string();
    let convert = |from: &str| format!("{own} convert -q --force {from} {}", path(&raw));
    let fetch = format!("curl --silent --fail --output {} {}", path(&packed), server.address);
    let qemu = format!("qemu-img convert -f qcow2 -O raw -m 16 -W {} {}", server.address, path(&raw));
    let ways = [
        ("transload convert URL", convert(&server.address)),
        ("curl to a file, then transload convert", format!("{fetch} && {}", convert(&path(&packed)))),
        ("qemu-img convert URL (curl driver)", qemu),
        ("curl to a file alone", fetch),
    ];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); ways.len()];
    for _ in 0..runs {
        for (way, times) in ways.iter().zip(&mut times) {
            for file in [&raw, &packed] {
                if file.exists() {
                    std::fs::remove_file(file)?;
                }
            }
            times.push(timed(&way.1).with_context(|| way.0)?);
        }
    }
    let medians: Vec<_> = times.iter_mut().map(|times| median(times)).collect();
    let length = std::fs::metadata(&source)?.len() >> 20;
    let mut text = format!(
        "A qcow2 of {length} MiB on a server {DELAY} ms away (a delay before every answer, on the loopback interface), to raw in memory; \
         median of {runs} runs in turn, in seconds. Machine: {}.\n\n| way | seconds | of the bare download |\n|---|---|---|\n",
        report::machine()?
    );
    let bare = medians.last().map_or(1.0, Duration::as_secs_f64);
    for (way, median) in ways.iter().zip(&medians) {
        let seconds = median.as_secs_f64();
        text += &format!("| {} | {seconds:.2} | {:.2} |\n", way.0, seconds / bare);
    }
    if print {
        println!("{text}");
        return Ok(());
    }
    report::write(report::REMOTE, &text)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(line: &str) -> Result<Duration> {
    let start = Instant::now();
    let status = Command::new("sh").args(["-c", line]).stdout(Stdio::null()).status()?;
    if !status.success() {
        bail!("'{line}' ended with {status}");
    }
    Ok(start.elapsed())
}

/// The server, which ends when its standard input does.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(file: &Path) -> Result<Self> {
        let program = root().join("target").join("release").join("examples").join("http_server");
        let mut command = Command::new(program);
        let mut child = command.arg(file).arg(DELAY).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        let stdout = child.stdout.take().context("the server's output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        Ok(Self { child, address: address.trim_end().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends by itself; whatever it says, the measurement is over.
        drop(self.child.wait());
    }
}
