//! What a service is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use transload::remote::Policy;

/// Which files an image may pull in beside its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// None: a backing file, an extent in another file and a parent are refused.
    #[default]
    Deny,
    /// Those below the root.
    Root,
}

/// The certificate and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// The folder that every path of a request is below.
    pub root: PathBuf,
    /// Where the service keeps what is its own: the database, tokens, uploads, spooled bodies. Not below `root`.
    pub state: PathBuf,
    /// The database of jobs: `postgres://…`, `sqlite:…` or a path; `jobs.db` in `state` when `None`.
    pub database: Option<String>,
    /// The file of tokens; `tokens` in `state` when `None`.
    pub tokens: Option<PathBuf>,
    /// TLS; plain HTTP when `None`.
    pub tls: Option<TlsFiles>,
    /// A file that gets a line of JSON for everything that was asked for; the log has them when `None`.
    pub audit_log: Option<PathBuf>,
    /// Which files an image may pull in.
    pub references: References,
    /// Which addresses `/import` and jobs may connect to.
    pub addresses: Policy,
    /// Whether imports and jobs act with the credentials for object stores that the environment has.
    pub credentials: bool,
    /// How many jobs, and how fast.
    pub jobs: JobLimits,
    /// How much of everything.
    pub limits: Limits,
}

impl Config {
    /// Serves `root` on a free port of the loopback device, and keeps what is its own in `state`.
    pub fn new(root: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            root: root.into(),
            state: state.into(),
            database: None,
            tokens: None,
            tls: None,
            audit_log: None,
            references: References::Deny,
            addresses: Policy::Public,
            credentials: false,
            jobs: JobLimits::default(),
            limits: Limits::default(),
        }
    }

    /// Where the tokens are.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.tokens.clone().unwrap_or_else(|| self.state.join("tokens"))
    }
}

/// What jobs may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobLimits {
    /// Jobs at a time, half as many as there are cores when `None`. With 0, this process leaves them to others.
    pub concurrency: Option<usize>,
    /// Bytes of memory that they share; 192 MiB for each when `None`.
    pub memory: Option<u64>,
    /// Bytes in a second that they may move together, conversions in one pass too; as many as they can when `None`.
    pub rate: Option<u64>,
    /// How long jobs that have ended are remembered; 30 days when `None`.
    pub keep: Option<Duration>,
}

/// How much of everything there may be, so that no client takes it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Streamed conversions at a time; more wait for `queue_time`.
    pub conversions: usize,
    /// Bytes of memory that streamed conversions share.
    pub memory: u64,
    /// The most bytes in a body.
    pub upload: u64,
    /// The most bytes in a disk.
    pub disk: u64,
    /// Bytes of bodies that are stored in files for the time of a conversion, all together.
    pub spool: u64,
    /// How long an upload is kept.
    pub upload_time: Duration,
    /// How long a request waits for its turn.
    pub queue_time: Duration,
    /// How long a streamed conversion may take.
    pub request_time: Duration,
    /// How long the head of a request may take, and how long a connection may be idle.
    pub head_time: Duration,
    /// How long a body may bring nothing, or be read by nobody.
    pub stall_time: Duration,
    /// Bytes in a second that a body has to bring or take at least, on the average of `stall_time`.
    pub least_rate: u64,
    /// How long requests may go on after the service was asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            conversions: 8,
            memory: 192 << 20,
            upload: 1 << 40,
            disk: 8 << 40,
            spool: 64 << 30,
            upload_time: Duration::from_secs(7 * 24 * 3600),
            queue_time: Duration::from_secs(600),
            request_time: Duration::from_secs(24 * 3600),
            head_time: Duration::from_secs(15),
            stall_time: Duration::from_secs(30),
            least_rate: 1024,
            grace: Duration::from_secs(30),
        }
    }
}
