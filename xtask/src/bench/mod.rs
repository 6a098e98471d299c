//! `cargo xtask bench`: Transload and qemu-img in turn on the same disks, and a table of the ratios.

mod cases;
mod disks;
mod measure;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{cargo, root, run as run_command};

use cases::{Case, Contender};
use measure::Sample;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each program on each conversion; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only the conversions whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Folder on a memory filesystem, where CPU and memory are the limit
    #[arg(long, default_value = "/dev/shm/transload-bench")]
    memory: PathBuf,
    /// Folder on a disk, where disks are built and kept
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Leave out the runs on the disk
    #[arg(long)]
    no_disk: bool,
    /// Print the tables instead of writing docs/benchmarks.md
    #[arg(long)]
    print: bool,
}

/// The medians of one conversion in one place.
pub(crate) struct Outcome {
    pub case: &'static Case,
    /// `memory` or `disk`.
    pub place: &'static str,
    /// In the order in which they ran in turn.
    pub contenders: Vec<(Contender, Vec<Sample>)>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    run_command(&mut cargo(&["build", "--release", "--package", "transload-cli"]))?;
    let program = root().join("target").join("release").join("transload");
    let disk = arguments.disk.clone().unwrap_or_else(|| root().join("target").join("bench"));
    let mut outcomes = Vec::new();
    let wanted = |case: &&Case| arguments.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
    for case in cases::CASES.iter().filter(wanted) {
        let places = [("memory", arguments.memory.as_path()), ("disk", disk.as_path())];
        for (place, folder) in
            places.into_iter().filter(|(place, _)| *place == "memory" || (case.on_disk && !arguments.no_disk))
        {
            let outcome = measure_case(case, place, &disk, folder, &program, arguments.runs);
            outcomes.push(outcome.with_context(|| format!("{} in {place}", case.name))?);
        }
    }
    std::fs::remove_dir_all(&arguments.memory).ok();
    let text = report::render(&outcomes, arguments.runs)?;
    if arguments.print {
        println!("{text}");
        return Ok(());
    }
    report::write(&text)
}

fn measure_case(
    case: &'static Case,
    place: &'static str,
    disk: &Path,
    folder: &Path,
    program: &Path,
    runs: usize,
) -> Result<Outcome> {
    let work = folder.join("work");
    std::fs::create_dir_all(&work)?;
    let source = disks::prepare(case, disk, &work)?;
    let target = work.join(format!("target.{}", case.target_extension));
    let contenders = case.contenders(program);
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    // One uncounted round warms the page cache; then everybody in turn, so that a drift of the machine hits all alike.
    for round in 0..=runs {
        for (contender, taken) in contenders.iter().zip(&mut samples) {
            let sample = measure::run(contender, &source, &target, &work)?;
            eprintln!("{:<28} {:<7} {:<34} {:>8.3} s", case.name, place, contender.name, sample.wall.as_secs_f64());
            if round > 0 {
                taken.push(sample);
            }
        }
    }
    std::fs::remove_dir_all(&work)?;
    Ok(Outcome { case, place, contenders: contenders.into_iter().zip(samples).collect() })
}
