//! `transload serve`: the HTTP service.

mod token;

use std::env;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use transload::block::{Error, ErrorKind, Result};
use transload::remote::{Policy, Rule};
use transload_service::{Config, Limits, LogFormat, Ready, References, TlsFiles};

use crate::args;
use crate::failure::Verdict;

/// Convert, inspect and keep disks over HTTP
///
/// Uploads, downloads and jobs, with a page at /, the API's reference at /docs and its OpenAPI document at /openapi.json. Every
/// path of a request is below --root. On the loopback device no token is asked for while there are none; anywhere else one is needed.
/// SIGTERM lets requests end and stops.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make, list and remove the tokens that clients send
    Token(token::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  transload serve --root /srv/disks
  curl -T disk.vmdk 'http://127.0.0.1:8080/upload?dst=qcow2&name=disk.qcow2' -X POST
  transload serve token add ci
  transload serve --root /srv/disks --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
  transload serve --root /mnt/shared --database postgres://transload@db/transload --listen 10.0.0.5:8080";

#[derive(Args, Debug)]
struct Serve {
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The folder that every path of a request is below
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    #[command(flatten)]
    state: StateArgs,
    /// The database of jobs: postgres://… for several processes on several machines, or the file of an SQLite one;
    /// $TRANSLOAD_DATABASE, or jobs.db in --state, when not given
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// A certificate in PEM, followed by those that lead to its authority: speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Safety")]
    tls_cert: Option<PathBuf>,
    /// Its key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Safety")]
    tls_key: Option<PathBuf>,
    /// Which files an image may pull in beside its own
    #[arg(long, value_name = "WHICH", value_enum, default_value_t, help_heading = "Safety")]
    references: ReferenceChoice,
    /// Also let imports and jobs connect to this host or network, which is not public; may be given several times
    #[arg(long = "allow-address", value_name = "HOST|NETWORK", help_heading = "Safety")]
    allow_address: Vec<Rule>,
    /// Append a line of JSON for every request to FILE, instead of to the log
    #[arg(long, value_name = "FILE", help_heading = "Safety")]
    audit_log: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
    /// How lines of the log look
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogChoice,
    /// What is logged: off, error, warn, info, debug, trace, or TARGET=LEVEL pairs
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Where the service keeps what is its own.
#[derive(Args, Clone, Debug)]
pub(crate) struct StateArgs {
    /// The service's own folder, with its database and tokens; $STATE_DIRECTORY, or transload in the user's folder for state,
    /// when not given
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The file of tokens; tokens in --state when not given
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
}

impl StateArgs {
    fn folder(&self) -> Result<PathBuf> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // systemd may name several folders; the first is the service's.
        let systemd = || {
            let folders = env::var("STATE_DIRECTORY").ok()?;
            folders.split(':').next().filter(|folder| !folder.is_empty()).map(PathBuf::from)
        };
        let own = || Some(variable("XDG_STATE_HOME")?.join("transload"));
        let home = || Some(variable("HOME")?.join(".local/state/transload"));
        self.state.clone().or_else(systemd).or_else(own).or_else(home).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "there is no folder for the service's own files").with_remedy("name one with --state")
        })
    }

    /// The file of tokens.
    pub(crate) fn token_file(&self) -> Result<PathBuf> {
        self.tokens.clone().map_or_else(|| Ok(self.folder()?.join("tokens")), Ok)
    }
}

/// How much of everything.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    connections: u64,
    /// Conversions in one pass at a time; more wait
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    conversions: u64,
    /// Memory that these conversions share
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "192M")]
    memory: u64,
    /// The largest body
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "1T")]
    max_upload: u64,
    /// The largest disk
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "8T")]
    max_disk: u64,
    /// Room for bodies and results that have to be stored for the time of a conversion, all together
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "64G")]
    spool_limit: u64,
    /// How long an upload is kept for jobs
    #[arg(long, value_name = "TIME", value_parser = args::time, default_value = "7d")]
    upload_time: Duration,
    /// How long a request waits for its turn
    #[arg(long, value_name = "TIME", value_parser = args::time, default_value = "10m")]
    queue_time: Duration,
    /// How long a conversion in one pass may take
    #[arg(long, value_name = "TIME", value_parser = args::time, default_value = "24h")]
    request_time: Duration,
    /// How long the head of a request may take
    #[arg(long, value_name = "TIME", value_parser = args::time, default_value = "15s")]
    head_time: Duration,
    /// How long a body may bring nothing, or an answer be read by nobody
    #[arg(long, value_name = "TIME", value_parser = args::time, default_value = "30s")]
    stall_time: Duration,
    /// Bytes in a second that a body has to bring at least, on the average of --stall-time
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "1k")]
    min_rate: u64,
    /// How long requests may go on after SIGTERM
    #[arg(long, value_name = "TIME", value_parser = args::time, default_value = "30s")]
    grace: Duration,
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            connections: count(self.connections),
            conversions: count(self.conversions),
            memory: self.memory,
            upload: self.max_upload,
            disk: self.max_disk,
            spool: self.spool_limit,
            upload_time: self.upload_time,
            queue_time: self.queue_time,
            request_time: self.request_time,
            head_time: self.head_time,
            stall_time: self.stall_time,
            least_rate: self.min_rate,
            grace: self.grace,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ReferenceChoice {
    /// None: a backing file, a parent or an extent in another file is refused
    #[default]
    Deny,
    /// Those below the root
    Root,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogChoice {
    /// For people
    #[default]
    Text,
    /// A JSON object in each line
    Json,
}

impl Arguments {
    /// Whether failures are to be told in JSON as well.
    pub(crate) fn json(&self) -> bool {
        matches!(&self.what, Some(What::Token(arguments)) if arguments.json())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    if let Some(What::Token(arguments)) = &arguments.what {
        return token::run(arguments);
    }
    let serve = &arguments.serve;
    let format = match serve.log_format {
        LogChoice::Text => LogFormat::Text,
        LogChoice::Json => LogFormat::Json,
    };
    transload_service::start_logging(format, &serve.log)?;
    transload_service::serve(config(serve)?, announce)?;
    Ok(Verdict::Done)
}

fn config(serve: &Serve) -> Result<Config> {
    let tls = serve.tls_cert.clone().zip(serve.tls_key.clone());
    Ok(Config {
        listen: serve.listen,
        // A password does not belong on a command line, which everybody on the machine can read.
        database: serve.database.clone().or_else(|| env::var("TRANSLOAD_DATABASE").ok().filter(|url| !url.is_empty())),
        tokens: serve.state.tokens.clone(),
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        audit_log: serve.audit_log.clone(),
        references: match serve.references {
            ReferenceChoice::Deny => References::Deny,
            ReferenceChoice::Root => References::Root,
        },
        addresses: match serve.allow_address.as_slice() {
            [] => Policy::Public,
            rules => Policy::Allow(rules.to_vec()),
        },
        limits: serve.limits.limits(),
        ..Config::new(&serve.root, serve.state.folder()?)
    })
}

/// Says on standard output where it listens, for scripts and for people.
fn announce(ready: Ready) {
    let scheme = if ready.speaks_tls { "https" } else { "http" };
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{scheme}://{}", ready.address).and_then(|()| stdout.flush());
    if let Err(error) = written {
        eprintln!("transload: standard output: {error}");
    }
    if !ready.address.ip().is_loopback() && !ready.speaks_tls {
        eprintln!("transload: warning: without TLS, tokens and disks go over the network in the clear");
    }
    if !ready.asks_for_tokens {
        eprintln!("transload: no token is asked for: whoever may connect on this machine has everything below the root");
    }
}
