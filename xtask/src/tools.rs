//! The outside tools that the tests and benchmarks compare with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{is_installed, root, run};

/// A program, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// What the tests call. A test whose witness is missing fails and names it.
const WITNESSES: &[Tool] = &[
    Tool { program: "qemu-img", package: "qemu-utils" },
    Tool { program: "qemu-io", package: "qemu-utils" },
    Tool { program: "vmdkinfo", package: "libvmdk-utils" },
    Tool { program: "qcowinfo", package: "libqcow-utils" },
    Tool { program: "vhdiinfo", package: "libvhdi-utils" },
    Tool { program: "zstd", package: "zstd" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "virt-xml-validate", package: "libvirt-clients" },
    Tool { program: "bsdtar", package: "libarchive-tools" },
    Tool { program: "openssl", package: "openssl" },
    Tool { program: "xmllint", package: "libxml2-utils" },
];

/// What making the benchmark's disks calls besides.
pub(crate) const DISK_MAKERS: &[&str] =
    &["debootstrap", "e2fsprogs", "dosfstools", "gdisk", "mtools", "syslinux", "syslinux-common", "python3", "openssl"];

/// Installs what the tests call, by apt-get, where it is missing.
pub(crate) fn install() -> Result<()> {
    let mut missing: Vec<_> =
        WITNESSES.iter().filter(|tool| !is_installed(tool.program)).map(|tool| tool.package).collect();
    missing.dedup();
    install_packages(&missing)?;
    install_python_witnesses()
}

/// Installs Debian packages, or says which are to be installed where that cannot be done from here.
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !is_installed("apt-get") {
        bail!("please install: {}", packages.join(" "));
    }
    let as_root = |arguments: &[&str]| {
        let elevated = !is_root() && is_installed("sudo");
        let mut command = if elevated { Command::new("sudo") } else { Command::new("apt-get") };
        if elevated {
            command.arg("apt-get");
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(&mut as_root(&["update", "--quiet"]))?;
    run(as_root(&["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages))
}

/// Where programs in Python are installed for the tests: a virtual environment in the build folder.
fn python_environment() -> PathBuf {
    root().join("target").join("witness-python")
}

/// OpenStack's `oslo_utils.imageutils.format_inspector`, the gate that images for OpenStack have to pass, and `cot`, another reader of
/// OVF.
const PYTHON_WITNESSES: &[&str] = &["oslo.utils>=8.2", "cot==2.2.1", "setuptools<81"];

fn install_python_witnesses() -> Result<()> {
    let environment = python_environment();
    let wanted = PYTHON_WITNESSES.join(" ");
    if std::fs::read_to_string(environment.join("ready")).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if run(Command::new("python3").args(["-m", "venv"]).arg(&environment)).is_err() {
        install_packages(&["python3-venv"])?;
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    }
    run(Command::new(environment.join("bin").join("pip")).args(["install", "--quiet"]).args(PYTHON_WITNESSES))?;
    std::fs::write(environment.join("ready"), wanted)?;
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
