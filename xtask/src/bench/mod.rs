//! `cargo xtask bench`: Transload and qemu-img in turn on the same disks, and a table of the ratios.

mod archive;
mod cases;
mod disks;
mod measure;
mod parts;
mod remote;
mod report;
mod results;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{cargo, root, run as run_command};
use crate::tools;

use cases::{Case, Contender};
use results::{Outcome, Results, Row};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value_t)]
    what: What,
    /// Runs of each program on each conversion; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Runs of each other program, where fewer are enough: one of them may take a minute
    #[arg(long)]
    peer_runs: Option<usize>,
    /// Only the conversion of this name or, where none is called so, those whose name contains it
    #[arg(long)]
    only: Option<String>,
    /// Measure this program instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
    /// Folder on a memory filesystem, where CPU and memory are the limit
    #[arg(long, default_value = "/dev/shm/transload-bench")]
    memory: PathBuf,
    /// Folder on a disk, where disks are built and kept
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Leave out the runs on the disk
    #[arg(long)]
    no_disk: bool,
    /// Leave out the runs in memory
    #[arg(long, conflicts_with = "no_disk")]
    no_memory: bool,
    /// Forget the results of earlier calls; they are kept otherwise while the program is the same, so that slices made
    /// with --only add up to one page
    #[arg(long)]
    fresh: bool,
    /// Print the tables instead of writing docs/benchmarks.md
    #[arg(long)]
    print: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Conversions, against other programs
    #[default]
    Conversions,
    /// Codecs at every level, on units of the real disk
    Codecs,
    /// Allocations for each unit of a compressed image, of which there must be none
    Allocations,
    /// A qcow2 on a server some way off, against a download and against QEMU's client
    Remote,
    /// Archives of a disk and of the same after a kernel upgrade, against restic, borg and tar
    Archive,
    /// Reading through NBD and FUSE, beside other servers
    Serving,
    /// Reading a file by threads and by io_uring
    IoUring,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let disk = arguments.disk.clone().unwrap_or_else(|| root().join("target").join("bench"));
    match arguments.what {
        What::Conversions => conversions(arguments),
        What::Codecs => parts::codecs(&disks::built("real", &disk)?, arguments.print),
        What::Allocations => parts::allocations(),
        What::Remote => {
            let program = arguments.program.clone().map_or_else(built_program, Ok)?;
            let _clean = Folder::make(&arguments.memory)?;
            remote::measure(&program, &disks::built("real", &disk)?, &arguments.memory, arguments.runs, arguments.print)
        }
        What::Archive => {
            let program = arguments.program.clone().map_or_else(built_program, Ok)?;
            archive::run_all(&program, &disks::built("real", &disk)?, &disk, arguments.print)
        }
        What::Serving => serving(arguments, &disk),
        What::IoUring => parts::io_uring(&disks::built("real", &disk)?),
    }
}

fn serving(arguments: &Arguments, disk: &Path) -> Result<()> {
    let program = arguments.program.clone().map_or_else(built_program, Ok)?;
    let raw = disks::built("real", disk)?;
    let qcow2 = disk.join("serving.qcow2");
    run_command(Command::new(&program).args(["convert", "-q", "--force"]).args([&raw, &qcow2]))?;
    let outcome = parts::serving(&program, &raw, &qcow2);
    std::fs::remove_file(&qcow2)?;
    outcome
}

fn conversions(arguments: &Arguments) -> Result<()> {
    let program = arguments.program.clone().map_or_else(built_program, Ok)?;
    let disk = arguments.disk.clone().unwrap_or_else(|| root().join("target").join("bench"));
    let mut results = Results::load(&program, arguments.fresh)?;
    let only = arguments.only.as_deref().unwrap_or_default();
    let exact = cases::CASES.iter().any(|case| case.name == only);
    let wanted = |case: &&Case| if exact { case.name == only } else { case.name.contains(only) };
    let _clean = Folder::make(&arguments.memory)?;
    for case in cases::CASES.iter().filter(wanted) {
        let places =
            [("memory", &arguments.memory, !arguments.no_memory), ("disk", &disk, case.on_disk && !arguments.no_disk)];
        for (place, folder, _) in places.into_iter().filter(|(_, _, measured)| *measured) {
            let outcome = measure_case(case, place, &disk, folder, &program, arguments);
            results.add(outcome.with_context(|| format!("{} in {place}", case.name))?)?;
        }
    }
    let text = report::render(&results)?;
    if arguments.print {
        println!("{text}");
        return Ok(());
    }
    report::write(report::CONVERSIONS, &text)
}

/// The program of this source, with all that can be built into it here.
fn built_program() -> Result<PathBuf> {
    let mut build = cargo(&["build", "--release", "--package", "transload-cli"]);
    build.args(tools::igzip_feature().iter().flat_map(|feature| ["--features", feature]));
    run_command(&mut build)?;
    Ok(root().join("target").join("release").join("transload"))
}

/// A folder that goes with all that is in it, also when a run fails: what stays on a memory filesystem is memory lost.
struct Folder<'a>(&'a Path);

impl<'a> Folder<'a> {
    fn make(path: &'a Path) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        // Nothing can be done about a folder that does not go.
        drop(std::fs::remove_dir_all(self.0));
    }
}

fn measure_case(
    case: &Case,
    place: &str,
    disk: &Path,
    folder: &Path,
    program: &Path,
    arguments: &Arguments,
) -> Result<Outcome> {
    let work = folder.join("work");
    let _clean = Folder::make(&work)?;
    let source = disks::prepare(case, disk, &work)?;
    let target = work.join(format!("target.{}", case.target_extension));
    let to_prime = std::fs::metadata(&source)?.blocks() * 512;
    let contenders = case.contenders(program);
    let mut rows: Vec<Row> = contenders.iter().map(Row::of).collect();
    // One uncounted run has the source and the programs read; then everybody in turn, so that a drift hits all alike.
    measure::run(&contenders[0], &source, &target, &work)?;
    for run in 0..arguments.runs {
        let takes_part =
            |contender: &Contender| !contender.is_peer || run < arguments.peer_runs.unwrap_or(arguments.runs);
        for (contender, row) in contenders.iter().zip(&mut rows).filter(|(contender, _)| takes_part(contender)) {
            std::fs::remove_file(&target)?;
            measure::prime(&arguments.memory, to_prime)?;
            let sample = measure::run(contender, &source, &target, &work)?;
            eprintln!("{:<28} {:<7} {:<34} {:>8.3} s", case.name, place, contender.name, sample.wall.as_secs_f64());
            row.samples.push(sample);
        }
    }
    Ok(Outcome { case: case.name.to_owned(), place: place.to_owned(), rows })
}
