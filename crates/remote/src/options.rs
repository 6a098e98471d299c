//! What may be connected to, with which credentials, and within which bounds.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use transload_block::{Error, ErrorKind, Result};

use crate::Policy;

/// How to reach what is at an address.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What may be connected to.
    pub policy: Policy,
    /// Who asks.
    pub credentials: Credentials,
    /// Bounds of time and memory.
    pub limits: Limits,
    /// Looks up names, the system when `None`.
    pub lookup: Option<Arc<dyn Lookup>>,
    /// Asked every now and then whether to stop.
    pub stop: Stop,
}

/// Turns a host's name into addresses: a test's own names, or a service's own resolver.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// The addresses of `host`.
    ///
    /// # Errors
    /// What the resolver answers.
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// Who asks. `Debug` shows no secret.
#[derive(Clone)]
pub struct Credentials {
    /// Header lines for http and https, such as `("authorization", "Bearer …")`. They go to the host that was asked for and,
    /// after a redirect, not to another one.
    pub headers: Vec<(String, String)>,
    /// Values for the client of an object store, by the names that its environment variables have: `aws_access_key_id`,
    /// `aws_endpoint`, `azure_storage_account_key`, `google_service_account`. They go before the environment.
    pub object_store: Vec<(String, String)>,
    /// Whether an object store's settings may come from the environment, files that it names, and the metadata service
    /// of the machine. A service that acts for others says no, or they would act with its own rights.
    pub environment: bool,
}

impl Default for Credentials {
    fn default() -> Self {
        Self { headers: Vec::new(), object_store: Vec::new(), environment: true }
    }
}

impl Credentials {
    /// Nobody: nothing is sent, and nothing is taken from the environment.
    #[must_use]
    pub const fn none() -> Self {
        Self { headers: Vec::new(), object_store: Vec::new(), environment: false }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("Credentials")
            .field("headers", &names(&self.headers))
            .field("object_store", &names(&self.object_store))
            .field("environment", &self.environment)
            .finish()
    }
}

/// Bounds of time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long making a connection may take.
    pub connect: Duration,
    /// How long nothing may arrive before a request counts as failed.
    pub idle: Duration,
    /// How often a request is tried before its failure is the answer; what arrived meanwhile is kept, and counts anew.
    pub attempts: u32,
    /// The wait after the first failure, doubled after each further one up to half a minute.
    pub backoff: Duration,
    /// Requests under way at once for one source.
    pub parallel: usize,
    /// Bytes that a source may keep in memory: what was read, and what is read ahead.
    pub cache_bytes: usize,
    /// Bytes in a part of an upload, 5 MiB at least. Parts grow where their number would not suffice.
    pub part_bytes: usize,
    /// The largest source that is taken.
    pub max_size: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_millis(250),
            parallel: 8,
            cache_bytes: 48 << 20,
            part_bytes: 8 << 20,
            max_size: None,
        }
    }
}

/// Tells whether to stop. It is asked from any thread, and often.
#[derive(Clone, Default)]
pub struct Stop(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Stop {
    /// Stops when `asked` says so.
    pub fn when(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(asked)))
    }

    /// Goes on unless it is to stop.
    ///
    /// # Errors
    /// `Cancelled` when it is.
    pub fn check(&self) -> Result<()> {
        match &self.0 {
            Some(asked) if asked() => Err(Error::new(ErrorKind::Cancelled, "interrupted")),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.0.is_some()).finish()
    }
}
