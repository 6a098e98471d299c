//! Builds and runs the fuzz targets, on the stable compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{self, cargo, root};

/// The flags by which a stable compiler instruments code for libFuzzer; `cargo fuzz` passes the same ones.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The targets to run; all of them when none is named
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Targets that run at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = root().join("fuzz");
    let known = targets(&folder)?;
    let wanted = if arguments.targets.is_empty() { known.clone() } else { arguments.targets.clone() };
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        bail!("no fuzz target '{unknown}'; there are: {}", known.join(", "));
    }
    let host = host_triple()?;
    let manifest = folder.join("Cargo.toml");
    build_targets(&manifest, &host)?;
    let mut failed = Vec::new();
    for batch in wanted.chunks(arguments.jobs.max(1)) {
        let mut running = Vec::new();
        for target in batch {
            running.push((target, start(&folder, &host, target, arguments.seconds)?));
        }
        for (target, mut child) in running {
            if !child.wait()?.success() {
                failed.push(target.clone());
            }
        }
    }
    if !failed.is_empty() {
        bail!("found something: {} (inputs are in fuzz/artifacts)", failed.join(", "));
    }
    eprintln!("{} targets ran {} s each and found nothing", wanted.len(), arguments.seconds);
    Ok(())
}

fn build_targets(manifest: &Path, host: &str) -> Result<()> {
    let mut build = cargo(&["build", "--release", "--bins", "--target", host]);
    process::run(build.arg("--manifest-path").arg(manifest).env("RUSTFLAGS", FLAGS))
}

/// The targets are the files in `fuzz/targets`.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("targets"))? {
        let path = entry?.path();
        if let (Some("rs"), Some(stem)) =
            (path.extension().and_then(|s| s.to_str()), path.file_stem().and_then(|s| s.to_str()))
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn start(folder: &Path, host: &str, target: &str, seconds: u32) -> Result<std::process::Child> {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    let program: PathBuf = folder.join("target").join(host).join("release").join(target);
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=1024", "-timeout=5", "-max_len=262144", "-print_final_stats=1", "-verbosity=0"]);
    let seeds = folder.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    Ok(command.current_dir(folder).spawn()?)
}

fn host_triple() -> Result<String> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("rustc -vV names no host"))
}
