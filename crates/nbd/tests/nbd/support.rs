//! A server that lives as long as a test wants it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tempfile::TempDir;
use transload_block::{BlockWrite, Memory, Result, Storage};
use transload_nbd::{
    ConnectSettings, Export, Listener, NbdAddress, NbdDisk, Place, Server, ServerLimits, ServerTls, Stop, TlsMode,
};
use transload_testkit::Random;

/// A server in a thread, listening on a socket in a folder of its own.
pub(crate) struct Served {
    folder: TempDir,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Served {
    pub(crate) fn new(exports: Vec<Export>) -> Self {
        Self::with_limits(exports, ServerLimits::default())
    }

    pub(crate) fn with_limits(exports: Vec<Export>, limits: ServerLimits) -> Self {
        Self::start(Server::new(exports, limits))
    }

    pub(crate) fn with_tls(exports: Vec<Export>, limits: ServerLimits, tls: ServerTls, mode: TlsMode) -> Self {
        Self::start(Server::new(exports, limits).with_tls(tls, mode))
    }

    fn start(server: Server) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = Listener::bind(&Place::Unix(folder.path().join("socket"))).expect("a socket");
        let stop = Arc::new(Stop::new().expect("a switch"));
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || server.serve(&listener, &stop))
        };
        Self { folder, stop, thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn address(&self, export: &str) -> NbdAddress {
        NbdAddress { place: Place::Unix(self.socket()), export: export.to_owned(), tls: None }
    }

    pub(crate) fn connect(&self, export: &str) -> NbdDisk {
        NbdDisk::connect(&self.address(export), &ConnectSettings::default()).expect("a connection")
    }

    /// Stops the server and hands over what it answered.
    pub(crate) fn end(mut self) -> Result<()> {
        self.stop.stop();
        self.thread.take().expect("not ended before").join().expect("the server does not panic")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A disk of random bytes and holes.
pub(crate) fn patchwork(size: u64, seed: u64) -> Memory {
    let disk = Memory::default();
    disk.set_size(size).expect("memory takes it");
    let mut random = Random::new(seed);
    for _ in 0..12 {
        let range = random.range(size, 300_000);
        let bytes = random.bytes(usize::try_from(range.end - range.start).expect("small"));
        disk.write_at(&bytes, range.start).expect("memory takes it");
    }
    disk
}
