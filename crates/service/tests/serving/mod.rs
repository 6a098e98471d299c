//! A service for the length of a test, and Python programs that are its clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use transload_service::{Config, Service, token};

/// A service on a free port of the loopback device, with folders of its own; it stops when this is dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where it is.
    pub url: String,
    /// A token, where it asks for one.
    pub token: Option<String>,
    /// What is below its root.
    pub root: PathBuf,
    _folders: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Starts one; `with_token` says whether it asks for a token.
    pub fn start(with_token: bool) -> Self {
        let folders = tempfile::tempdir().expect("a folder for the test");
        let (root, state) = (folders.path().join("root"), folders.path().join("state"));
        std::fs::create_dir(&root).expect("a root");
        let config = Config::new(&root, &state);
        let token = with_token.then(|| {
            std::fs::create_dir(&state).expect("a folder for the tokens");
            token::add(&config.token_file(), "tester").expect("a token")
        });
        let runtime = Runtime::new().expect("a runtime");
        let service = runtime.block_on(Service::bind(config)).expect("the service starts");
        let url = format!("http://{}", service.address().expect("an address"));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                // It stops, too, when the test is gone.
                let _ = stopped.await;
            };
            runtime.block_on(service.run(shutdown)).expect("the service runs to its end");
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        });
        Self { url, token, root, _folders: folders, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A second panic would hide the first.
            assert!(std::thread::panicking() || ended.is_ok(), "the service ended by a fault");
        }
    }
}

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python that has the packages of the tests.
pub fn python() -> Command {
    let python = repository().join("target/witness-python/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo xtask setup`", python.display());
    let mut command = Command::new(python);
    command.env_remove("TRANSLOAD_TOKEN").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a command, which has to succeed; what it said is in the message otherwise.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program is there: run `cargo xtask setup`");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
