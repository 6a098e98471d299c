//! The queue and the record of all jobs, in a SQL database.
//!
//! ```text
//! submit ─► queued ──claim──► running ──finish──► done, failed, cancelled
//!              ▲                │ │ ▲
//!              └──── release ───┘ └─┘ claim by another worker, once the lease has run out
//! ```
//!
//! SQLite is inside the binary and serves one machine, with any number of processes. PostgreSQL, by its URL, serves processes on
//! several machines. The statements are the same but for the clock and for how a row is taken without waiting for others.
//!
//! **Leases.** A worker that claims a job has it until `lease_until`, by the database's clock, so that machines whose clocks
//! differ agree. Heartbeats move that on. A job whose lease has run out is claimed by the next who looks. Every claim has a
//! higher *token* than the one before; whatever is written about a running job names its token, and an older one changes
//! nothing. That makes late writers harmless here; the `publish` module does the same for files.
//!
//! **Events** of a job are numbered by a counter in its row, so that their order is that of the changes. Of progress only the
//! latest event is kept; everything else stays as long as the job.

mod claim;
mod control;
mod events;
mod list;
mod row;
mod schema;

pub use claim::{Beat, Claim, Duty, Outcome, Pulse};

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, Transaction};
use tokio::sync::Notify;
use transload::block::{Error, ErrorKind, Result};

/// Which database it is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Milliseconds since 1970, by the database's clock at this moment.
    const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// What takes a row, or passes over it if somebody else has it. SQLite has one writer, who has everything.
    const fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "FOR UPDATE SKIP LOCKED",
        }
    }

    /// What takes a row, after whoever has it.
    const fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "FOR UPDATE",
        }
    }
}

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Jobs that may wait at once; a further one is refused with `TooLarge`.
    pub max_queued: u32,
    /// How often a job is tried when its request does not say.
    pub max_attempts: u32,
    /// Connections to the database at once.
    pub connections: u32,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { max_queued: 10_000, max_attempts: 3, connections: 8 }
    }
}

/// The store of jobs. Cheap to clone; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    dialect: Dialect,
    settings: Arc<StoreSettings>,
    signals: Arc<Signals>,
}

/// What wakes others in this process, so that they need not wait for their next look at the database.
#[derive(Debug, Default)]
struct Signals {
    /// There may be a job to claim.
    work: Notify,
    /// There may be an event.
    event: Notify,
    /// Somebody wants a job to stop.
    cancel: Notify,
}

impl Store {
    /// Opens the database at `url`, and makes or migrates its tables: `postgres://…`, `sqlite:…`, or the path of a file.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is none; `Network` when the server does not answer; `Unsupported` for a database
    /// that a later version has migrated; `Io` for everything else that the database answers.
    pub async fn open(url: &str, settings: StoreSettings) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let dialect = match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Dialect::Postgres,
            _ => Dialect::Sqlite,
        };
        let address = match dialect {
            Dialect::Postgres => url.to_owned(),
            Dialect::Sqlite => sqlite_address(url)?,
        };
        let options = AnyConnectOptions::from_str(&address)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "the address of the database").with_source(error))?;
        let pool = AnyPoolOptions::new()
            .max_connections(settings.connections.max(2))
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if dialect == Dialect::Sqlite {
                        for pragma in SQLITE {
                            sqlx::raw_sql(*pragma).execute(&mut *connection).await?;
                        }
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(failed("connect"))?;
        let store = Self { pool, dialect, settings: Arc::new(settings), signals: Arc::default() };
        schema::migrate(&store).await?;
        Ok(store)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// What it answers otherwise.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop).map_err(failed("ping"))
    }

    /// Closes all connections, of all clones.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Waits until there may be a job to claim, or `longest` is over: other processes cannot wake this one.
    pub async fn wait_for_work(&self, longest: Duration) {
        drop(tokio::time::timeout(longest, self.signals.work.notified()).await);
    }

    /// Waits until a job may be wanted to stop, or `longest` is over: wishes of other processes are heard with a heartbeat.
    pub async fn wait_for_cancel(&self, longest: Duration) {
        drop(tokio::time::timeout(longest, self.signals.cancel.notified()).await);
    }

    /// Begins a transaction that writes. In SQLite it takes the one right to write now: one that asks for it in between is
    /// refused if anybody else has written meanwhile.
    async fn begin(&self) -> Result<Transaction<'static, Any>> {
        let begun = match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => self.pool.begin().await,
        };
        begun.map_err(failed("begin"))
    }

    /// Fills in what differs between the databases.
    fn sql(&self, text: &str) -> sqlx::AssertSqlSafe<String> {
        let text = text.replace("{now}", self.dialect.now());
        let text = text.replace("{skip_locked}", self.dialect.skip_locked());
        sqlx::AssertSqlSafe(text.replace("{for_update}", self.dialect.for_update()))
    }
}

/// What every connection to SQLite begins with. Readers and the one writer do not wait for each other in WAL mode; a job that
/// was accepted survives a power cut, and a process that finds the database taken waits.
const SQLITE: &[&str] = &[
    "PRAGMA busy_timeout = 30000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];

/// The address of a SQLite file, from an address or a path.
fn sqlite_address(text: &str) -> Result<String> {
    let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")).unwrap_or(text);
    if path.is_empty() || path.contains('\0') || text.contains("://") && !text.starts_with("sqlite:") {
        let error = Error::new(ErrorKind::InvalidInput, "the address of the database");
        return Err(error.with_remedy("name a file for SQLite, or postgres://USER:PASSWORD@HOST/DATABASE"));
    }
    let absolute = std::path::absolute(Path::new(path)).map_err(|error| Error::io("the database", error))?;
    let text =
        absolute.to_str().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the database's path: not UTF-8"))?;
    let mut address = "sqlite://".to_owned();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address.push_str("?mode=rwc");
    Ok(address)
}

/// Makes an error of what the database answered while doing `what`.
fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| {
        let kind = match &error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut => ErrorKind::Network,
            // SQLite's SQLITE_FULL, PostgreSQL's disk_full.
            sqlx::Error::Database(answer) if matches!(answer.code().as_deref(), Some("13" | "53100")) => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("the database of jobs: {what}")).with_source(error)
    }
}
