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
    Tool { program: "sfdisk", package: "fdisk" },
    Tool { program: "sgdisk", package: "gdisk" },
    Tool { program: "parted", package: "parted" },
    Tool { program: "pvck", package: "lvm2" },
    Tool { program: "mkfs.ext4", package: "e2fsprogs" },
    Tool { program: "mkfs.fat", package: "dosfstools" },
    Tool { program: "mkfs.xfs", package: "xfsprogs" },
    Tool { program: "mkfs.btrfs", package: "btrfs-progs" },
    Tool { program: "mkfs.exfat", package: "exfatprogs" },
    Tool { program: "mkntfs", package: "ntfs-3g" },
    Tool { program: "mksquashfs", package: "squashfs-tools" },
    Tool { program: "xorriso", package: "xorriso" },
    Tool { program: "cryptsetup", package: "cryptsetup-bin" },
    Tool { program: "zstd", package: "zstd" },
    Tool { program: "mke2fs", package: "e2fsprogs" },
    Tool { program: "debugfs", package: "e2fsprogs" },
    Tool { program: "mkfs.fat", package: "dosfstools" },
    Tool { program: "mcopy", package: "mtools" },
    Tool { program: "mkntfs", package: "ntfs-3g" },
    Tool { program: "mkfs.xfs", package: "xfsprogs" },
    Tool { program: "mkfs.btrfs", package: "btrfs-progs" },
    Tool { program: "mkfs.exfat", package: "exfatprogs" },
    Tool { program: "mksquashfs", package: "squashfs-tools" },
    Tool { program: "genisoimage", package: "genisoimage" },
    Tool { program: "xorriso", package: "xorriso" },
    Tool { program: "setfattr", package: "attr" },
    Tool { program: "setfacl", package: "acl" },
    Tool { program: "python3", package: "python3" },
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
    install_format_inspector()
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

/// Where OpenStack's image inspector is installed for the tests: a virtual environment in the build folder.
fn inspector_environment() -> PathBuf {
    root().join("target").join("witness-python")
}

/// OpenStack's `oslo_utils.imageutils.format_inspector`: the gate that images for OpenStack have to pass.
fn install_format_inspector() -> Result<()> {
    let environment = inspector_environment();
    if environment.join("ready").exists() {
        return Ok(());
    }
    if run(Command::new("python3").args(["-m", "venv"]).arg(&environment)).is_err() {
        install_packages(&["python3-venv"])?;
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    }
    run(Command::new(environment.join("bin").join("pip")).args(["install", "--quiet", "oslo.utils>=8.2"]))?;
    std::fs::write(environment.join("ready"), "")?;
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
