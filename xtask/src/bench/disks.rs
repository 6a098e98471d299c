//! The disks that are converted: a real Debian system, and synthetic ones that bring out one property each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cases::Case;
use crate::process::{root, run};
use crate::tools;

/// Puts the case's source into `work` and returns its path. Raw disks are built once and kept in `disk`.
pub(crate) fn prepare(case: &Case, disk: &Path, work: &Path) -> Result<PathBuf> {
    if case.disk == "hole" {
        let path = work.join("source.raw");
        File::create(&path)?.set_len(64 << 40).context("a 64 TiB file with no data: the filesystem must allow it")?;
        return Ok(path);
    }
    let raw = built(case.disk, disk)?;
    let source = work.join(format!("source.{}", case.source_format));
    if case.source_format == "raw" {
        run(Command::new("cp").arg("--sparse=always").args([&raw, &source]))?;
        return Ok(source);
    }
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-W", "-m", "16", "-f", "raw", "-O", case.source_format]).args(case.source_options);
    // Coroutines that write out of order make a streamOptimized VMDK whose grains are not ascending.
    if case.source_options.iter().any(|option| option.contains("streamOptimized")) {
        convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", case.source_format]).args(case.source_options);
    }
    run(convert.args([&raw, &source]))?;
    Ok(source)
}

/// The raw disk called `name`, built when it is not there yet.
pub(super) fn built(name: &str, disk: &Path) -> Result<PathBuf> {
    let script_name = match name {
        "alternating" => "alt",
        other => other,
    };
    let path = disk.join("disks").join(format!("{script_name}.raw"));
    if path.exists() {
        return Ok(path);
    }
    tools::install_packages(tools::DISK_MAKERS)?;
    std::fs::create_dir_all(disk)?;
    let script = root().join("xtask").join("disks").join("make-disk.sh");
    run(Command::new("bash").arg(script).arg(script_name).env("OUT", disk))?;
    if !path.exists() {
        bail!("{} was not made", path.display());
    }
    Ok(path)
}
