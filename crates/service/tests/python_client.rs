//! The Python client with a live service and real images: its own tests, those of its types, and what a wheel of it holds.

mod serving;

use std::path::PathBuf;
use std::process::Command;

use serving::{Serving, python, repository, succeed};
use transload_testkit::Corpus;

/// An image that is read while it arrives, and one with partitions and files.
const SENT: &str = "vmdk-rs/streamOptimized.vmdk";
const LOOKED_INTO: &str = "osv-scalibr/qcow2/testdata/valid-ext-exfat-fat32-ntfs.qcow2";

fn sdk() -> PathBuf {
    repository().join("sdk/python")
}

/// Runs `arguments` with Python in the client's folder.
fn module(arguments: &[&str]) -> Command {
    let mut command = python();
    command.current_dir(sdk()).env("PYTHONPATH", sdk().join("src")).args(arguments);
    command
}

#[test]
fn its_tests_pass_with_a_live_service() {
    let Some(corpus) = Corpus::get() else { return };
    let entry = corpus.entries.iter().find(|entry| entry.path == SENT).expect("the corpus has the image");
    let serving = Serving::start(true);
    let mut command = module(&["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests"]);
    command.env("TEST_URL", &serving.url).env("TEST_ROOT", &serving.root);
    command.env("TRANSLOAD_TOKEN", serving.token.as_deref().expect("there is a token"));
    command.env("TEST_VMDK", corpus.folder.join(SENT)).env("TEST_DISK", corpus.folder.join(LOOKED_INTO));
    command.env("TEST_DIGEST", entry.sha256.as_deref().expect("its digest is known"));
    let said = succeed(&mut command);
    assert!(said.contains(" passed") && !said.contains("skipped"), "{said}");
}

#[test]
fn its_types_are_right_and_both_clients_are_one_text() {
    let cache = tempfile::tempdir().expect("a folder for the checker");
    succeed(module(&["-m", "mypy", "--cache-dir"]).arg(cache.path()));
    succeed(&mut module(&["sync.py", "--check"]));
}

#[test]
fn its_wheel_is_typed_and_asks_for_little() {
    let folder = tempfile::tempdir().expect("a folder for the wheel");
    let mut build = module(&["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]);
    succeed(build.arg(folder.path()).arg("."));
    let wheel = std::fs::read_dir(folder.path()).expect("the folder").next().expect("a wheel").expect("a wheel").path();
    let listed = succeed(module(&["-m", "zipfile", "-l"]).arg(&wheel));
    for file in ["transload/__init__.py", "transload/aio.py", "transload/py.typed"] {
        assert!(listed.contains(file), "{file} is missing:\n{listed}");
    }
    let metadata = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\n\
                    print(z.read(next(n for n in z.namelist() if n.endswith('METADATA'))).decode())";
    let metadata = succeed(module(&["-c", metadata]).arg(&wheel));
    let needed: Vec<_> = metadata.lines().filter(|line| line.starts_with("Requires-Dist")).collect();
    assert_eq!(needed, ["Requires-Dist: httpx<1,>=0.27"]);
}
