//! Readers of disks that are Python modules, asked for the digest of the bytes that a guest sees.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{fail, said};

/// Reads a disk in pieces of a MiB and prints size and digest.
const DIGEST: &str = "
def digest(size, read):
    import hashlib
    found, at = hashlib.sha256(), 0
    while at < size:
        piece = read(min(1 << 20, size - at), at)
        assert piece, 'the disk ends at %d of %d' % (at, size)
        found.update(piece)
        at += len(piece)
    print(size, found.hexdigest())
";

/// Opens each file with the next one as its parent.
const LIBVHDI: &str = "
import pyvhdi, sys
files = []
for name in sys.argv[1:]:
    files.append(pyvhdi.file())
    files[-1].open(name)
for child, parent in zip(files, files[1:]):
    child.set_parent(parent)
digest(files[0].get_media_size(), files[0].read_buffer_at_offset)
";

/// Opens a file as the format of the first argument.
const DISSECT: &str = "
import sys
from pathlib import Path
kind, name = sys.argv[1:]
if kind == 'vhdx':
    from dissect.hypervisor.disk.vhdx import VHDX
    disk = VHDX(Path(name))
elif kind == 'vhd':
    from dissect.hypervisor.disk.vhd import VHD
    disk = VHD(open(name, 'rb'))
else:
    from dissect.hypervisor.disk.vdi import VDI
    disk = VDI(open(name, 'rb')).open()
def read(length, at):
    disk.seek(at)
    return disk.read(length)
digest(disk.size, read)
";

/// The size and SHA-256 of the disk that libvhdi finds in a VHD or VHDX, whose parents, nearest first, follow it.
///
/// # Panics
/// When it is not installed or cannot read it.
#[must_use]
pub fn libvhdi(images: &[&Path]) -> (u64, String) {
    // Another Python in front of Debian's in the path does not have its modules.
    let arguments = images.iter().map(|image| image.as_os_str().to_owned()).collect::<Vec<_>>();
    ask("/usr/bin/python3".as_ref(), LIBVHDI, &arguments, "install python3-libvhdi")
}

/// The size and SHA-256 of the disk that `dissect.hypervisor` finds in an image of `format`: vhdx, vhd or vdi. A parent of a
/// VHDX is opened by the name that the image has for it.
///
/// # Panics
/// When it is not installed or cannot read it.
#[must_use]
pub fn dissect(image: &Path, format: &str) -> (u64, String) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-python/bin/python");
    ask(&python, DISSECT, &[format.into(), image.as_os_str().to_owned()], "run `cargo xtask setup`")
}

fn ask(python: &Path, script: &str, arguments: &[std::ffi::OsString], remedy: &str) -> (u64, String) {
    let mut command = Command::new(python);
    command.arg("-c").arg(format!("{DIGEST}{script}")).args(arguments).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => fail(&format!("{} is needed as a witness ({error}): {remedy}", python.display())),
    };
    let text = said(&output);
    if !output.status.success() {
        let remedy = if text.contains("ModuleNotFoundError") { remedy } else { "it cannot read the image" };
        fail(&format!("{} {arguments:?}: {remedy}\n{text}", python.display()));
    }
    let mut words = text.split_whitespace();
    match (words.next().and_then(|size| size.parse().ok()), words.next()) {
        (Some(size), Some(digest)) => (size, digest.to_owned()),
        _ => fail(&format!("{} {arguments:?}: {text}", python.display())),
    }
}
