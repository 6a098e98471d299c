//! Structured logs on standard error.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};
use transload::block::{Error, ErrorKind, Result};

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object in each line.
    Json,
}

/// Has the log written to standard error for the rest of the process, as far as `filter` lets it through: a level, or
/// `TARGET=LEVEL` pairs separated by commas.
///
/// # Errors
/// `InvalidInput` when the filter is not understood, or something else logs already.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<()> {
    let wrong = |error: String| Error::new(ErrorKind::InvalidInput, format!("log: {error}"));
    let targets: Targets = filter.parse().map_err(|error| wrong(format!("'{filter}': {error}")))?;
    // What libraries have to say is for whoever asks for it.
    let targets = ["hyper", "hyper_util", "rustls", "tokio", "mio"]
        .into_iter()
        .filter(|library| !filter.contains(library))
        .fold(targets, |targets, library| targets.with_target(library, LevelFilter::WARN));
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => Box::new(fmt::layer().json().flatten_event(true).with_writer(io::stderr)),
        LogFormat::Text => Box::new(fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr)),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().map_err(|error| wrong(error.to_string()))
}
