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
    Tool { program: "go", package: "golang-go" },
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
    Tool { program: "qemu-nbd", package: "qemu-utils" },
    Tool { program: "nbdinfo", package: "libnbd-bin" },
    Tool { program: "nbdkit", package: "nbdkit" },
    Tool { program: "fusermount3", package: "fuse3" },
    Tool { program: "gcc", package: "gcc" },
    Tool { program: "setpriv", package: "util-linux" },
    Tool { program: "zstd", package: "zstd" },
    Tool { program: "xz", package: "xz-utils" },
    Tool { program: "gzip", package: "gzip" },
    Tool { program: "bzip2", package: "bzip2" },
    Tool { program: "pigz", package: "pigz" },
    Tool { program: "dmg2img", package: "dmg2img" },
    Tool { program: "7z", package: "7zip" },
    Tool { program: "ewfacquire", package: "ewf-tools" },
    Tool { program: "mke2fs", package: "e2fsprogs" },
    Tool { program: "debugfs", package: "e2fsprogs" },
    Tool { program: "mcopy", package: "mtools" },
    Tool { program: "genisoimage", package: "genisoimage" },
    Tool { program: "setfattr", package: "attr" },
    Tool { program: "setfacl", package: "acl" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "npm", package: "npm" },
    Tool { program: "virt-xml-validate", package: "libvirt-clients" },
    Tool { program: "bsdtar", package: "libarchive-tools" },
    Tool { program: "openssl", package: "openssl" },
    Tool { program: "xmllint", package: "libxml2-utils" },
    Tool { program: "psql", package: "postgresql" },
    Tool { program: "chromium", package: "chromium" },
    Tool { program: "chromedriver", package: "chromium-driver" },
    Tool { program: "systemd-analyze", package: "systemd" },
    Tool { program: "curl", package: "curl" },
    Tool { program: "restic", package: "restic" },
    Tool { program: "unsquashfs", package: "squashfs-tools" },
];

/// Modules of Debian's own Python that the tests load, and their packages.
const MODULES: &[(&str, &str)] = &[("pyvhdi", "python3-libvhdi"), ("pyqcow", "python3-libqcow")];

/// What the tests load into a Python of their own: OpenStack's image inspector
/// (`oslo_utils.imageutils.format_inspector`), the gate that images for OpenStack have to pass; and a reader of VHDX, VHD and
/// VDI that shares nothing with QEMU's. `oslo.utils` imports `cryptography` for the inspector and does not ask for it.
/// COT is a reader of OVF packages by another maker; it asks for a module that setuptools has dropped since. moto is an S3
/// service; its server asks for Flask only with everything else that AWS has. Schemathesis makes requests up from an OpenAPI
/// document, and Prometheus' own client reads metrics.
const REQUIREMENTS: &[&str] = &[
    "oslo.utils>=8.2",
    "cryptography>=42",
    "dissect.hypervisor>=3.20",
    "cot==2.2.1",
    "setuptools<81",
    "moto[s3]>=5.2,<6",
    "flask>=3",
    "flask-cors>=5",
    "schemathesis>=4.1",
    "prometheus-client>=0.22",
    "httpx>=0.27,<1",
    "mypy>=1.11",
    "pytest>=8",
    "hatchling>=1.24",
    "selenium>=4.20",
    "kubernetes-validate>=1.30",
];

/// What the tests load into a folder of Node's: Azurite, Microsoft's own emulator of Azure's storage.
const NODE_REQUIREMENTS: &[&str] = &["azurite@3", "axe-core@4"];

/// What building ISA-L calls (the feature `igzip`).
const IGZIP_BUILDERS: &[Tool] = &[
    Tool { program: "nasm", package: "nasm" },
    Tool { program: "autoreconf", package: "autoconf" },
    Tool { program: "automake", package: "automake" },
    Tool { program: "libtoolize", package: "libtool" },
    Tool { program: "make", package: "make" },
];

/// The feature that is on where it builds.
pub(crate) fn igzip_feature() -> Option<&'static str> {
    IGZIP_BUILDERS.iter().all(|tool| is_installed(tool.program)).then_some("igzip")
}

/// What making the benchmark's disks calls besides.
pub(crate) const DISK_MAKERS: &[&str] =
    &["debootstrap", "e2fsprogs", "dosfstools", "gdisk", "mtools", "syslinux", "syslinux-common", "python3", "openssl"];

/// Installs what the tests call, by apt-get, where it is missing.
pub(crate) fn install() -> Result<()> {
    let mut missing: Vec<_> = WITNESSES
        .iter()
        .chain(IGZIP_BUILDERS)
        .filter(|tool| !is_installed(tool.program))
        .map(|tool| tool.package)
        .collect();
    missing.dedup();
    missing.extend(MODULES.iter().filter(|(module, _)| !is_importable(module)).map(|(_, package)| *package));
    install_packages(&missing)?;
    install_requirements()?;
    install_node_requirements()
}

/// Whether Debian's Python has a module; another Python in front of it in the path does not count.
fn is_importable(module: &str) -> bool {
    let output = Command::new("/usr/bin/python3").args(["-c", &format!("import {module}")]).output();
    output.is_ok_and(|output| output.status.success())
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

/// Where [`REQUIREMENTS`] are installed: a virtual environment in the build folder.
fn python_environment() -> PathBuf {
    root().join("target").join("witness-python")
}

/// Installs [`REQUIREMENTS`], unless that was done for this list already.
fn install_requirements() -> Result<()> {
    let environment = python_environment();
    let (ready, wanted) = (environment.join("ready"), REQUIREMENTS.join("\n"));
    if std::fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if run(Command::new("python3").args(["-m", "venv"]).arg(&environment)).is_err() {
        install_packages(&["python3-venv"])?;
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    }
    run(Command::new(environment.join("bin").join("pip")).args(["install", "--quiet"]).args(REQUIREMENTS))?;
    std::fs::write(ready, wanted)?;
    Ok(())
}

/// Installs [`NODE_REQUIREMENTS`] in the build folder, unless that was done for this list already.
fn install_node_requirements() -> Result<()> {
    let folder = root().join("target").join("witness-node");
    let (ready, wanted) = (folder.join("ready"), NODE_REQUIREMENTS.join("\n"));
    if std::fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder)?;
    let mut npm = Command::new("npm");
    npm.current_dir(&folder).args(["install", "--no-fund", "--no-audit", "--silent"]).args(NODE_REQUIREMENTS);
    run(&mut npm)?;
    std::fs::write(ready, wanted)?;
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
