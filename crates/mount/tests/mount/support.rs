//! Mounting in tests: skipped loudly where the kernel forbids it, and unmounted always.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use transload_block::{ErrorKind, Result};
use transload_mount::{Event, Mount, MountSettings, Tree, Unmounter};

/// A mount that ends with the test, however that ends.
pub(crate) struct Mounted {
    pub(crate) folder: tempfile::TempDir,
    unmounter: Unmounter,
    waiting: Option<JoinHandle<Result<()>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Mounted {
    /// Mounts `tree`. `None` where mounting is not possible, which is said on standard error.
    pub(crate) fn new(tree: Tree) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let log = Arc::clone(&events);
        let settings = MountSettings { threads: 4, ..MountSettings::default() };
        let mount = Mount::new(tree, folder.path(), &settings, move |event| log.lock().expect("a log").push(event));
        let mount = match mount {
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
                eprintln!(
                    "SKIPPED: nothing can be mounted here: {error} (install fuse3; containers need --device /dev/fuse)"
                );
                return None;
            }
            mount => mount.expect("a mount"),
        };
        let unmounter = mount.unmounter();
        let waiting = Some(std::thread::spawn(move || mount.wait()));
        Some(Self { folder, unmounter, waiting, events })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Unmounts and waits; answers what was told meanwhile.
    pub(crate) fn end(mut self) -> Vec<Event> {
        self.unmounter.unmount().expect("it is unmounted");
        self.join().expect("it ends well");
        std::mem::take(&mut *self.events.lock().expect("a log"))
    }

    /// Waits until it ends by itself.
    pub(crate) fn join(&mut self) -> Result<()> {
        self.waiting.take().expect("it is waited for once").join().expect("no panic")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            drop(self.unmounter.unmount());
            drop(self.join());
        }
    }
}

/// Runs a program of an outside package, which has to succeed, and returns what it said.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let missing = format!("{program} is a witness of these tests: install {package}");
    let output = output.expect(&missing);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
