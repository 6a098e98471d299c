//! The runtime that the requests run in, and how a thread waits for one of them.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use transload_block::{Error, ErrorKind, Result};

use crate::Stop;

/// Threads that move bytes between sockets and blocks; a core can decrypt some GB/s.
const THREADS: usize = 2;

/// How long a wish to stop may go unnoticed.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// The one runtime of the process, started when it is first needed.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let start = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("remote").enable_all().build();
    RUNTIME
        .get_or_init(start)
        .as_ref()
        .map_err(|error| Error::new(ErrorKind::Io, format!("threads for network requests: {error}")))
}

/// Runs `future` and waits for it, on any thread: that of another runtime would not be allowed to enter this one, and does not.
pub(crate) fn wait<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
    stop: &Stop,
) -> Result<T> {
    let (sender, receiver) = sync_channel(1);
    let task = runtime()?.spawn(async move {
        // Nobody listens any more only after a wish to stop.
        drop(sender.send(future.await));
    });
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Io, "a network request ended without an answer"));
            }
            Err(RecvTimeoutError::Timeout) => stop.check().inspect_err(|_| task.abort())?,
        }
    }
}
