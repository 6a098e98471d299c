//! Builds and runs the fuzz targets, on the stable compiler.
//!
//! Each starts from what earlier runs found (`fuzz/corpus`) and from the seeds that its property brings. An input that
//! takes longer than [`SECONDS_PER_INPUT`] or more memory than [`MEGABYTES`] is a finding like a panic.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use transload::PROPERTIES;
use transload::block::Property;

use crate::process::{self, cargo, root};
use crate::tools;

/// The flags by which a stable compiler instruments code for libFuzzer; `cargo fuzz` passes the same ones.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// What one input may take, instrumented and on a busy machine.
const SECONDS_PER_INPUT: u32 = 5;
/// What the process may take, libFuzzer's own tables included.
const MEGABYTES: u32 = 512;
/// The longest input that is made up. Headers, tables and a few units fit; longer ones only slow it down.
const LONGEST_INPUT: u32 = 256 << 10;

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
    build.args(tools::igzip_feature().iter().flat_map(|feature| ["--features", feature]));
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
        .arg(format!("-rss_limit_mb={MEGABYTES}"))
        .arg(format!("-timeout={SECONDS_PER_INPUT}"))
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(seeds(folder, target)?);
    Ok(command.current_dir(folder).spawn()?)
}

fn property(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().copied().flatten().find(|property| property.name == name)
}

/// Writes the seeds of the target's property, and answers where.
fn seeds(folder: &Path, target: &str) -> Result<PathBuf> {
    let property = property(target).with_context(|| format!("no property is called {target}"))?;
    let place = folder.join("target").join("seeds").join(target);
    std::fs::create_dir_all(&place)?;
    for (number, seed) in (property.seeds)().into_iter().enumerate() {
        std::fs::write(place.join(format!("seed-{number:02}")), seed)?;
    }
    Ok(place)
}

fn host_triple() -> Result<String> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("rustc -vV names no host"))
}
