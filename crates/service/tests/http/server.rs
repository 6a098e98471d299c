//! A service for one test, and clients for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use transload_service::{Config, Service};
use transload_testkit::witness;

/// A service that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) folder: TempDir,
    pub(crate) scheme: &'static str,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
    /// The client's own exit code: 0 when the answer was whole.
    pub(crate) code: i32,
}

impl Answer {
    /// The document that was answered.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(&self.body);
            unreachable!("status {}: no JSON ({error}): {text}", self.status)
        })
    }

    /// The kind of the failure that was answered.
    pub(crate) fn kind(&self) -> String {
        self.json()["error"]["kind"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    /// A service with everything by default.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// A service that `change` has changed.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let mut config = Config::new(folder.path().join("root"), folder.path().join("state"));
        change(&mut config);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let runtime = Runtime::new().unwrap();
        let service = runtime.block_on(Service::bind(config)).unwrap();
        let address = service.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = runtime.spawn(async move {
            service.run(async move { drop(stopped.await) }).await.unwrap();
        });
        Self { address, folder, scheme, stop: Some(stop), running: Some(running), runtime: Some(runtime) }
    }

    /// The folder that is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The folder of the service itself.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The address of a route.
    pub(crate) fn url(&self, route: &str) -> String {
        format!("{}://{}{route}", self.scheme, self.address)
    }

    /// Asks with curl.
    pub(crate) fn curl(&self, route: &str, arguments: &[&str]) -> Answer {
        let headers = self.folder.path().join(format!("headers-{:?}", std::thread::current().id()));
        let headers_text = headers.to_string_lossy().into_owned();
        let url = self.url(route);
        let mut all = vec!["-sS", "--max-time", "60", "-D", &headers_text];
        all.extend(arguments);
        all.push(&url);
        let output = witness::run("curl", &all);
        let headers = std::fs::read_to_string(&headers).unwrap_or_default();
        let status = headers.lines().rev().find_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        Answer { status: status.unwrap_or(0), headers, body: output.stdout, code: output.status.code().unwrap_or(-1) }
    }

    /// Asks for a document.
    pub(crate) fn get(&self, route: &str) -> Answer {
        self.curl(route, &[])
    }

    /// Sends a file as a body.
    pub(crate) fn post_file(&self, route: &str, file: &Path) -> Answer {
        let file = file.to_string_lossy();
        self.curl(route, &["-X", "POST", "-H", "content-type: application/octet-stream", "-T", &file])
    }

    /// Sends a document.
    pub(crate) fn post_json(&self, route: &str, document: &Value) -> Answer {
        self.curl(route, &["-H", "content-type: application/json", "-d", &document.to_string()])
    }

    /// A connection of one's own.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes as they are, and returns all that comes back until the service closes.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A reset ends the answer as well.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Names of what is in a folder, the service's own uploads left out.
    pub(crate) fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".transload-uploads");
        names.sort();
        names
    }

    /// Waits until `ready` says so.
    pub(crate) fn until(mut ready: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unreachable!("it did not come in 20 s");
    }

    /// Asks the service to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let (Some(running), Some(runtime)) = (self.running.take(), &self.runtime) {
            runtime.block_on(running).unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}
