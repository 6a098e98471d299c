//! Everything a contributor runs: `cargo xtask --help`.

mod bench;
mod ci;
mod dependencies;
mod docs;
mod fuzz;
mod process;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The task runner of Transload", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the outside tools that the tests compare with (qemu-img, libvmdk, libqcow, oslo.utils)
    Setup,
    /// Install the outside tools and run all tests
    Test {
        /// Arguments for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run suites that go on with new seeds until their time is up: random work and crashes, disks of terabytes, damage
    Soak(ci::Soak),
    /// Kill workers of the queue at random moments, on SQLite and PostgreSQL: no job is lost, nothing is left behind
    Chaos(ci::Chaos),
    /// Formatting, lints, documentation, crate directions and licences: what continuous integration checks beside the tests
    Lint,
    /// Everything continuous integration runs: lint and test
    Ci,
    /// Prove the directions between the crates, and the licences of what they depend on
    Dependencies,
    /// Write the parts of the documentation that are made from the table of formats
    Docs {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
    /// Measure against qemu-img and write docs/benchmarks.md
    Bench(bench::Arguments),
    /// Run the fuzz targets
    Fuzz(fuzz::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup => tools::install(),
        Task::Test { arguments } => ci::test(&arguments),
        Task::Soak(arguments) => ci::soak(&arguments),
        Task::Chaos(arguments) => ci::chaos(&arguments),
        Task::Lint => ci::lint(),
        Task::Ci => ci::lint().and_then(|()| ci::test(&[])),
        Task::Dependencies => dependencies::check(),
        Task::Docs { check } => docs::run(&process::root(), check),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
    }
}
