//! Programs of other makers that say what an image is.
//!
//! A test that needs one fails loudly where it is missing: a proof that did not run is not one.

mod python;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub use python::{dissect, libvhdi};

/// What the programs are called and where Debian has them.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("vmdkinfo", "libvmdk-utils"),
    ("qcowinfo", "libqcow-utils"),
    ("python3", "python3"),
    ("/usr/bin/python3", "python3 and python3-libqcow"),
    ("vhdiinfo", "libvhdi-utils"),
    ("tar", "tar"),
    ("bsdtar", "libarchive-tools"),
    ("sha256sum", "coreutils"),
    ("openssl", "openssl"),
    ("virt-xml-validate", "libvirt-clients"),
    ("xmllint", "libxml2-utils"),
    ("mke2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("fsck.fat", "dosfstools"),
    ("mcopy", "mtools"),
    ("mdir", "mtools"),
    ("btrfs", "btrfs-progs"),
    ("fsck.exfat", "exfatprogs"),
    ("setfattr", "attr"),
    ("setfacl", "acl"),
    ("sfdisk", "fdisk"),
    ("fdisk", "fdisk"),
    ("sgdisk", "gdisk"),
    ("parted", "parted"),
    ("blkid", "util-linux"),
    ("mkswap", "util-linux"),
    ("wipefs", "util-linux"),
    ("pvck", "lvm2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.fat", "dosfstools"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.exfat", "exfatprogs"),
    ("mkntfs", "ntfs-3g"),
    ("mksquashfs", "squashfs-tools"),
    ("xorriso", "xorriso"),
    ("cryptsetup", "cryptsetup-bin"),
    ("nbdinfo", "libnbd-bin"),
    ("nbdcopy", "libnbd-bin"),
    ("gzip", "gzip"),
    ("bzip2", "bzip2"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("pigz", "pigz"),
    ("dmg2img", "dmg2img"),
    ("7z", "7zip"),
    ("ewfacquire", "ewf-tools"),
    ("curl", "curl"),
    ("restic", "restic"),
    ("unsquashfs", "squashfs-tools"),
];

/// Where Debian has the programs of the administrator, which an ordinary user's `PATH` leaves out.
const ADMINISTRATION: &str = "/usr/sbin:/sbin";

/// Runs `program` and returns what it said and its exit code, whatever that is.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Output {
    let path = format!("{}:{ADMINISTRATION}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("PATH", path).stdin(Stdio::null());
    match command.output() {
        Ok(output) => output,
        Err(error) => {
            let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or("?", |(_, package)| package);
            fail(&format!("{program} is needed as a witness and cannot be started ({error}): install {package}"))
        }
    }
}

/// Runs `program`, which has to succeed, and returns its standard output.
///
/// # Panics
/// When it cannot be started or fails.
pub fn must<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let output = run(program, &arguments);
    if !output.status.success() {
        fail(&format!("{program} {arguments:?}: {}\n{}", output.status, said(&output)));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `qemu-img`, which has to succeed.
///
/// # Panics
/// As [`must`].
pub fn qemu_img<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    must("qemu-img", arguments)
}

/// QEMU's name for a format, where it has another one than we have.
#[must_use]
pub fn qemu_name(format: &str) -> &str {
    match format {
        "vhd" => "vpc",
        other => other,
    }
}

/// Has `qemu-img compare` say that the guest bytes of two images are the same.
///
/// # Panics
/// When it says otherwise, or cannot tell.
pub fn assert_same_guest(one: &Path, one_format: &str, other: &Path, other_format: &str) {
    let arguments = ["compare", "-f", qemu_name(one_format), "-F", qemu_name(other_format)].map(OsStr::new);
    qemu_img(arguments.into_iter().chain([one.as_os_str(), other.as_os_str()]));
}

/// Has `qemu-img check` find nothing, not even a leaked cluster.
///
/// # Panics
/// When it finds something, or cannot check the format.
pub fn assert_sound(image: &Path, format: &str) {
    qemu_img(["check", "-f", qemu_name(format)].map(OsStr::new).into_iter().chain([image.as_os_str()]));
}

/// What `qemu-img check` says of an image: 0 sound, 2 corrupt, 3 leaks, 63 the format has no check.
///
/// # Panics
/// When it cannot be started or ends by a signal.
#[must_use]
pub fn check_code(image: &Path, format: &str) -> i32 {
    let output =
        run("qemu-img", ["check", "-f", qemu_name(format)].map(OsStr::new).into_iter().chain([image.as_os_str()]));
    output.status.code().unwrap_or_else(|| fail(&format!("qemu-img check ended by a signal: {}", said(&output))))
}

/// Makes an image with `qemu-img create`; `options` as in `-o`, empty for none.
///
/// # Panics
/// As [`must`].
pub fn create(image: &Path, format: &str, options: &str, size: u64) {
    let size = size.to_string();
    let mut arguments = vec!["create".as_ref(), "-q".as_ref(), "-f".as_ref(), OsStr::new(qemu_name(format))];
    if !options.is_empty() {
        arguments.extend([OsStr::new("-o"), OsStr::new(options)]);
    }
    arguments.extend([image.as_os_str(), OsStr::new(&size)]);
    qemu_img(arguments);
}

/// Converts an image with `qemu-img convert`; `options` as in `-o`, empty for none.
///
/// # Panics
/// As [`must`].
pub fn convert(source: &Path, source_format: &str, target: &Path, target_format: &str, options: &str) {
    let formats = [qemu_name(source_format), qemu_name(target_format)];
    let mut arguments = ["convert", "-q", "-f", formats[0], "-O", formats[1]].map(OsStr::new).to_vec();
    if !options.is_empty() {
        arguments.extend([OsStr::new("-o"), OsStr::new(options)]);
    }
    arguments.extend([source.as_os_str(), target.as_os_str()]);
    qemu_img(arguments);
}

/// What `vmdkinfo` of libvmdk says of an image.
///
/// # Panics
/// As [`must`].
#[must_use]
pub fn vmdkinfo(image: &Path) -> String {
    must("vmdkinfo", [image])
}

/// What `qcowinfo` of libqcow says of an image.
///
/// # Panics
/// As [`must`].
#[must_use]
pub fn qcowinfo(image: &Path) -> String {
    must("qcowinfo", [image])
}

/// Runs a script of the Python that `cargo xtask setup` installs, which has to succeed, and returns its standard output.
///
/// # Panics
/// As [`must`].
#[must_use]
pub fn python(script: &str, arguments: &[&Path]) -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-python/bin/python");
    if !own.exists() {
        fail(&format!("{} is needed as a witness: `cargo xtask setup` installs it", own.display()));
    }
    let arguments = arguments.iter().map(|argument| argument.as_os_str());
    must(own.to_string_lossy().as_ref(), ["-c", script].map(OsStr::new).into_iter().chain(arguments))
}

/// What OpenStack's gate says of an image: `safe` with the format and the size, or `refused` with the reason.
///
/// # Panics
/// As [`python()`].
#[must_use]
pub fn openstack(image: &Path) -> String {
    let script = "
import sys
from oslo_utils.imageutils import format_inspector as f
try:
    i = f.detect_file_format(sys.argv[1])
    i.safety_check()
    print('safe', str(i), i.virtual_size)
except Exception as e:
    print('refused', type(e).__name__, e)
";
    python(script, &[image]).trim().to_owned()
}

/// All that a program said.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[expect(clippy::panic, reason = "a witness that is missing or contradicts is a failed test")]
fn fail(message: &str) -> ! {
    panic!("{message}")
}
