//! Programs that judge images.

use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}); the tests need qemu-utils and libvmdk-utils")
    })
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// [`judge_metadata`], `qemu-img check`, and [`compare`].
pub(crate) fn judge(image: &Path, raw: &Path, size: u64) {
    judge_metadata(image, size);
    succeed("qemu-img", &["check", "-f", "vmdk", text(image)]);
    compare(image, raw);
}

/// `qemu-img compare` with the raw bytes in `raw`.
fn compare(image: &Path, raw: &Path) {
    let compare = succeed("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", text(image), text(raw)]);
    assert!(compare.contains("Images are identical"), "{compare}");
}

/// What qemu-img reads in eight sectors at `offset`: a comparison of a disk of terabytes takes it minutes.
pub(crate) fn read_8_sectors(image: &Path, offset: u64, scratch: &Path) -> Vec<u8> {
    let part = scratch.join("part");
    let (skip, input, output) =
        (format!("skip={}", offset / 512), format!("if={}", text(image)), format!("of={}", text(&part)));
    // `count` is the end, counted from the start of the image, not from `skip`.
    let count = format!("count={}", offset / 512 + 8);
    succeed("qemu-img", &["dd", "-f", "vmdk", "-O", "raw", "bs=512", &skip, &count, &input, &output]);
    std::fs::read(part).unwrap()
}

/// `qemu-img info` and `vmdkinfo`: what is quick on a disk of any size.
pub(crate) fn judge_metadata(image: &Path, size: u64) {
    let info = succeed("qemu-img", &["info", "-f", "vmdk", "--output=json", text(image)]);
    let rounded = size.next_multiple_of(512);
    assert!(info.contains(&format!("\"virtual-size\": {rounded},")), "{info}");
    if size > 0 {
        let info = succeed("vmdkinfo", &[text(image)]);
        assert!(info.contains(&format!("({rounded} bytes)")) || info.contains(&rounded.to_string()), "{info}");
    }
}

/// What OpenStack's gate says of an image; `None` when it is not installed.
pub(crate) fn openstack(image: &Path) -> Option<String> {
    let script = "
import sys
try:
    from oslo_utils.imageutils import format_inspector as f
except ImportError:
    print('missing'); sys.exit()
try:
    i = f.detect_file_format(sys.argv[1])
    i.safety_check()
    print('safe', str(i), i.virtual_size)
except Exception as e:
    print('refused', type(e).__name__, e)
";
    // `cargo xtask setup` installs it into an environment of its own.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-python/bin/python");
    let python = if own.exists() { text(&own) } else { "python3" };
    let answer = succeed(python, &["-c", script, text(image)]);
    if answer.trim() == "missing" {
        eprintln!(
            "SKIPPED: oslo.utils is not installed (cargo xtask setup does it): OpenStack's verdict is not tested"
        );
        return None;
    }
    Some(answer.trim().to_owned())
}
