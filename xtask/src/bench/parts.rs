//! The programs in `bench/`, which measure parts of the product beside the alternatives that were not chosen.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::report;
use crate::process::{cargo, output, root, run};
use crate::tools;

/// Measures every codec on units of `disk`, and writes or prints the table.
pub(super) fn codecs(disk: &Path, print: bool) -> Result<()> {
    // Built first, so that what the compiler says is not taken for a result.
    run(&mut program("build", "codecs", &[]))?;
    let text = output(&mut program("run", "codecs", &[disk.as_os_str(), OsStr::new(EVERY)]))?;
    let text = format!("Machine: {}. {text}", report::machine()?);
    if print {
        println!("{text}");
        return Ok(());
    }
    report::write(report::CODECS, &text)
}

/// One unit of so many is measured: enough for three figures, few enough for the slowest levels.
const EVERY: &str = "40";

/// Counts the allocations of conversions, and fails where there is one for each unit.
pub(super) fn allocations() -> Result<()> {
    run(&mut program("run", "allocations", &[]))
}

/// Reads `raw` and `qcow2`, the same disk twice, through our servers and others', and prints what each took.
pub(super) fn serving(transload: &Path, raw: &Path, qcow2: &Path) -> Result<()> {
    run(&mut program("run", "serving", &[transload.as_os_str(), raw.as_os_str(), qcow2.as_os_str()]))
}

/// Reads `disk` by threads and by io_uring, and prints what each took.
pub(super) fn io_uring(disk: &Path) -> Result<()> {
    run(&mut program("run", "io_uring", &[disk.as_os_str()]))
}

fn program(task: &str, name: &str, arguments: &[&OsStr]) -> Command {
    let mut command = cargo(&[task, "--quiet", "--release", "--bin", name]);
    command.arg("--manifest-path").arg(root().join("bench").join("Cargo.toml"));
    command.args(tools::igzip_feature().iter().flat_map(|feature| ["--features", feature]));
    if task == "run" {
        command.arg("--").args(arguments);
    }
    command
}
