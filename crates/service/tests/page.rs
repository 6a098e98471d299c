//! The page in a browser: Debian's Chromium without a window, driven by Selenium.
//!
//! What is done and seen is in `browser/page.py`, which uses the page as a person does: by its labels, by the keyboard, in light and
//! dark. The image that the browser sent and got back is read by qemu-img here, and compared with what the corpus says of it.

mod serving;

use std::path::Path;
use std::process::Command;

use serving::{Serving, python, repository, succeed};
use transload_testkit::Corpus;

/// An image that is read while it arrives, and one with partitions and files.
const SENT: &str = "vmdk-rs/streamOptimized.vmdk";
const LOOKED_INTO: &str = "osv-scalibr/qcow2/testdata/valid-ext-exfat-fat32-ntfs.qcow2";

#[test]
fn the_page_converts_shows_and_hands_out() {
    let Some(corpus) = Corpus::get() else { return };
    let entry = corpus.entries.iter().find(|entry| entry.path == SENT).expect("the corpus has the image");
    let expected = entry.sha256.as_deref().expect("its digest is known");
    let serving = Serving::start(true);
    std::fs::copy(corpus.folder.join(LOOKED_INTO), serving.root.join("disk.qcow2")).expect("an image of the service");
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    // What a run before left is no proof of this one.
    let _ = std::fs::remove_dir_all(&shots);
    std::fs::create_dir_all(&shots).expect("a folder for screenshots");
    let mut command = python();
    command.arg(repository().join("crates/service/tests/browser/page.py"));
    command.args([&serving.url, serving.token.as_deref().expect("there is a token")]).arg(&serving.root).arg(&shots);
    let said = succeed(command.arg(corpus.folder.join(SENT)));
    assert_eq!(said.trim(), format!("digest {expected}"), "the page shows the digest of the disk");
    assert_eq!(guest_digest(&shots.join("new.qcow2")), expected, "the download has the bytes of the disk");
    let made = guest_digest(&serving.root.join("disk.vmdk"));
    assert_eq!(made, guest_digest(&serving.root.join("disk.qcow2")), "the job's image has the bytes of its source");
}

/// The SHA-256 of the bytes that a guest sees in an image, as qemu-img reads it.
fn guest_digest(image: &Path) -> String {
    let raw = tempfile::NamedTempFile::new().expect("a file for the disk");
    succeed(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(image).arg(raw.path()));
    succeed(Command::new("sha256sum").arg(raw.path())).split_whitespace().next().unwrap_or_default().to_owned()
}
