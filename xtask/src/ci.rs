//! What continuous integration runs.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::process::{cargo, root, run};
use crate::{dependencies, docs, tools};

/// Installs the witnesses and runs every test, documentation examples too.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    tools::install()?;
    run(cargo(&["test", "--workspace"]).args(tested_features()).args(arguments))
}

/// Tests run with what the product is built with where it can be.
fn tested_features() -> Vec<&'static str> {
    if tools::igzip_feature().is_some() { vec!["--features", "transload-cli/igzip"] } else { Vec::new() }
}

/// What a soak is asked to do.
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// The suites to run, by parts of their names; all of them when none is given
    suites: Vec<String>,
    /// Minutes after which nothing new is begun
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// The first seed; a failure names the one it came with
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Installs the witnesses and runs the suites that go on for as long as they are let.
pub(crate) fn soak(arguments: &Soak) -> Result<()> {
    tools::install()?;
    let suite = ["-p", "transload-cli", "--test", "soak", "--release"];
    run(cargo(&["test", "--no-run"]).args(suite))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    run(cargo(&["test"])
        .args(suite)
        .args(["--", "--ignored", "--nocapture"])
        .args(&arguments.suites)
        .env("TRANSLOAD_SOAK_UNTIL", (now + arguments.minutes * 60).to_string())
        .env("TRANSLOAD_SOAK_SEED", arguments.seed.to_string()))
}

/// What a chaos test is asked to do.
#[derive(clap::Args)]
pub(crate) struct Chaos {
    /// Jobs on each database
    #[arg(long, default_value_t = 200)]
    jobs: u64,
    /// What the moments are derived from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Installs the witnesses and kills workers until all jobs are done nevertheless.
pub(crate) fn chaos(arguments: &Chaos) -> Result<()> {
    tools::install()?;
    run(cargo(&["test", "-p", "transload-jobs", "--test", "chaos", "--", "--ignored", "--nocapture", "--exact"])
        .arg("two_hundred_jobs_outlive_their_workers")
        .env("TRANSLOAD_CHAOS_JOBS", arguments.jobs.to_string())
        .env("TRANSLOAD_CHAOS_SEED", arguments.seed.to_string()))
}

/// Everything that is checked without running the program.
pub(crate) fn lint() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    run(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    docs::run(&root(), true)?;
    dependencies::check()
}
