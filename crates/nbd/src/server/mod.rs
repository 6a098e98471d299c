//! The server: listens, and answers any number of clients side by side.

#[doc(hidden)]
pub(crate) mod fuzz;
mod handshake;
mod listener;
mod session;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use transload_block::{BlockRead, BlockWrite, Error, ErrorKind, Result};

pub use listener::{Listener, Stop};

use crate::tls::{ServerTls, TlsMode};
use crate::transport::{Cutter, Hurried, Line};
use handshake::{Agreement, Offered};

/// A disk that is offered under a name.
#[derive(Clone, Debug)]
pub struct Export {
    /// The name that clients ask for; the empty one is what they get when they name none.
    pub name: String,
    /// A sentence for people, shown to those who list exports.
    pub description: String,
    device: Device,
}

#[derive(Clone, Debug)]
enum Device {
    Read(Arc<dyn BlockRead>),
    Write(Arc<dyn BlockWrite>),
}

impl Export {
    /// Offers `device` for reading.
    #[must_use]
    pub fn read_only(name: impl Into<String>, device: Arc<dyn BlockRead>) -> Self {
        Self { name: name.into(), description: String::new(), device: Device::Read(device) }
    }

    /// Offers `device` for reading and writing.
    #[must_use]
    pub fn writable(name: impl Into<String>, device: Arc<dyn BlockWrite>) -> Self {
        Self { name: name.into(), description: String::new(), device: Device::Write(device) }
    }

    /// Sets the sentence for people.
    #[must_use]
    pub fn with_description(self, description: impl Into<String>) -> Self {
        Self { description: description.into(), ..self }
    }

    pub(crate) fn read(&self) -> &dyn BlockRead {
        match &self.device {
            Device::Read(device) => &**device,
            Device::Write(device) => &**device,
        }
    }

    pub(crate) fn write(&self) -> Option<&dyn BlockWrite> {
        match &self.device {
            Device::Read(_) => None,
            Device::Write(device) => Some(&**device),
        }
    }
}

/// What clients may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Clients at a time; those beyond are turned away.
    pub clients: usize,
    /// Requests of one client that are worked on at a time. Each takes a thread and up to 256 KiB.
    pub requests: usize,
    /// How long a client may take to agree on an export.
    pub negotiation: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self { clients: 64, requests: cores.clamp(2, 8), negotiation: Duration::from_secs(10) }
    }
}

/// What the server tells about its clients, for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client agreed on an export.
    Begun {
        /// Counts the clients since the server began.
        client: u64,
        /// The export's name.
        export: String,
    },
    /// A client went; with an error when it broke the protocol or the device failed beyond an answer.
    Ended {
        /// The same number as at its beginning.
        client: u64,
        /// Why, where it was no ordinary good-bye.
        error: Option<Arc<Error>>,
    },
    /// A client was turned away because there are [`ServerLimits::clients`] already.
    Refused,
}

/// Offers disks to NBD clients.
///
/// ```
/// use std::sync::Arc;
/// use std::thread;
/// use transload_block::{BlockRead, Memory};
/// use transload_nbd::{ConnectSettings, Export, Listener, NbdDisk, Place, Server, ServerLimits, Stop};
///
/// # let folder = std::env::temp_dir().join(format!("transload-nbd-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let socket = folder.join("nbd.sock");
/// let disk = Arc::new(Memory::new(1 << 20));
/// let server = Server::new(vec![Export::writable("", disk)], ServerLimits::default());
/// let listener = Listener::bind(&Place::Unix(socket.clone()))?;
/// let stop = Stop::new()?;
/// thread::scope(|scope| {
///     let serving = scope.spawn(|| server.serve(&listener, &stop));
///     let address = format!("nbd+unix:///?socket={}", socket.display()).parse()?;
///     assert_eq!(NbdDisk::connect(&address, &ConnectSettings::default())?.size(), 1 << 20);
///     stop.stop();
///     serving.join().expect("the server does not panic")
/// })?;
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<_, transload_block::Error>(())
/// ```
pub struct Server {
    exports: Vec<Export>,
    limits: ServerLimits,
    tls: Option<(ServerTls, TlsMode)>,
    log: Box<dyn Fn(Event) + Send + Sync>,
    next_client: AtomicU64,
    /// How to cut off each client that is connected.
    clients: Mutex<HashMap<u64, Cutter>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("exports", &self.exports).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Server {
    /// A server of `exports`, whose names differ. Where none is called "", the first is what a client gets that names none.
    #[must_use]
    pub fn new(exports: Vec<Export>, limits: ServerLimits) -> Self {
        Self {
            exports,
            limits,
            tls: None,
            log: Box::new(|_| {}),
            next_client: AtomicU64::new(1),
            clients: Mutex::default(),
        }
    }

    /// Offers TLS, or demands it.
    #[must_use]
    pub fn with_tls(self, tls: ServerTls, mode: TlsMode) -> Self {
        Self { tls: Some((tls, mode)), ..self }
    }

    /// Has `log` told of what happens, from any thread.
    #[must_use]
    pub fn with_log(self, log: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { log: Box::new(log), ..self }
    }

    /// Answers clients until `stop` says so; then cuts off those that are connected, and comes back when all of them are
    /// gone and the devices are flushed.
    ///
    /// # Errors
    /// `Io` when `listener` fails; what a device answers to the last flush.
    pub fn serve(&self, listener: &Listener, stop: &Stop) -> Result<()> {
        thread::scope(|scope| {
            let accepted = loop {
                match listener.accept(stop) {
                    Ok(Some(line)) => self.welcome(scope, line),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            for cutter in self.clients().values() {
                cutter.cut();
            }
            accepted
        })?;
        for device in self.exports.iter().filter_map(Export::write) {
            device.flush()?;
        }
        Ok(())
    }

    fn welcome<'scope, 'env>(&'env self, scope: &'scope thread::Scope<'scope, 'env>, line: Line) {
        let client = self.next_client.fetch_add(1, Ordering::Relaxed);
        {
            let mut clients = self.clients();
            if clients.len() >= self.limits.clients {
                drop(clients);
                line.hang_up();
                (self.log)(Event::Refused);
                return;
            }
            let line = line.clone();
            clients.insert(client, Cutter::new(move || line.hang_up()));
        }
        let session = thread::Builder::new().name(format!("nbd-{client}"));
        let spawned = session.spawn_scoped(scope, move || {
            let _gone = Gone { server: self, client };
            let error = self.attend(client, line).err().map(Arc::new);
            (self.log)(Event::Ended { client, error });
        });
        if let Err(error) = spawned {
            self.clients().remove(&client);
            let error = Error::io("a thread for a client", error);
            (self.log)(Event::Ended { client, error: Some(Arc::new(error)) });
        }
    }

    /// Talks with one client from its first byte to its last.
    fn attend(&self, client: u64, line: Line) -> Result<()> {
        let who = format!("client {client}");
        let cutter = {
            let line = line.clone();
            Cutter::new(move || line.hang_up())
        };
        let mut hurried = Hurried::new(line, self.limits.negotiation);
        let agreed = handshake::negotiate(&mut hurried, Offered { exports: &self.exports, tls: self.tls.as_ref() })
            .map_err(|error| crate::transport::broken(&who, "negotiation", error))?;
        let Some(Agreement { export, dialect, allocation }) = agreed else { return Ok(()) };
        let line = hurried.relax().map_err(|error| crate::transport::broken(&who, "negotiation", error))?;
        (self.log)(Event::Begun { client, export: export.name.clone() });
        let session = session::Session::new(export, dialect, allocation, cutter);
        session.run(Box::new(line.clone()), Box::new(line), self.limits.requests).map_err(|error| error.context(who))
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u64, Cutter>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a client when its thread ends, however it ends.
struct Gone<'a> {
    server: &'a Server,
    client: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if let Some(cutter) = self.server.clients().remove(&self.client) {
            cutter.cut();
        }
    }
}

/// An error of the operating system about `what`, as the crate's own.
fn os(what: impl Into<String>, error: impl Into<io::Error>) -> Error {
    Error::io(what, error.into())
}

/// The kind of an address that cannot be listened on because somebody else does.
fn in_use(what: String) -> Error {
    Error::new(ErrorKind::Denied, what).with_remedy("name another address, or stop who listens there")
}
