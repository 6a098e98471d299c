//! What the streaming routes share: the target as a request names it, and the conversion into it.

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::StatusCode;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, Compression, CompressionKind, Output, Plan, Preallocation, Settings};
use transload::image::codec::Level;
use transload::image::{FORMATS, Format, OptionValues, Source};
use transload::remote::{self, Remote};
use transload_jobs::meter::Meter;
use transload_jobs::worker::Tracked;

use crate::api::{Compress, Converted, DigestChoice, Prealloc};
use crate::budget::Turn;
use crate::intake::Intake;
use crate::problem::{Answer, Problem};
use crate::state::{App, Shared, network};

/// What a request says of the image that is to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) prealloc: Prealloc,
    pub(crate) compress: Option<Compress>,
    pub(crate) level: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) digest: DigestChoice,
}

/// The format called `name`, where one is named.
pub(crate) fn source_format(name: Option<&str>) -> Answer<Option<&'static Format>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let readable = |format: &&Format| format.open.is_some() || format.stream.is_some();
    let unknown = || {
        let names: Vec<_> = FORMATS.iter().copied().filter(readable).map(|format| format.name).collect();
        Problem::invalid(format!("src={name}: is no format")).with_remedy(format!("one of {}", names.join(", ")))
    };
    Format::by_name(name).filter(readable).map(Some).ok_or_else(unknown)
}

/// The format that is to be written: the one that is named, or the one of the ending of `name`.
pub(crate) fn target_format(named: Option<&str>, name: Option<&str>) -> Answer<&'static Format> {
    let writable = |format: &&Format| format.create.is_some() || format.sink.is_some();
    let found = match named.filter(|named| !named.is_empty()) {
        Some(named) => Format::by_name(named).filter(|format| writable(format)),
        None => name.and_then(Format::by_extension).filter(|format| writable(format)),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = FORMATS.iter().copied().filter(writable).map(|format| format.name).collect();
        let text = match named {
            Some(named) => format!("dst={named}: is no format that is written"),
            None => "the format of the target is neither named nor told by its name's ending".to_owned(),
        };
        Problem::invalid(text).with_remedy(format!("dst is one of {}", names.join(", ")))
    })
}

impl Wish {
    /// The engine's settings for a target of `format`.
    pub(crate) fn settings(&self, format: &'static Format, turn: &Turn, cancel: &Cancel) -> Result<Settings> {
        let level = self.level.as_deref().filter(|level| !level.is_empty()).map(|level| {
            let wrong = |_| {
                let text = format!("level={level}: must be fast, balanced, max, or a number from 1 to 12");
                Error::new(ErrorKind::InvalidInput, text)
            };
            level.parse::<Level>().map_err(wrong)
        });
        let level = level.transpose()?;
        let kind = match self.compress {
            Some(Compress::Zlib) => Some(CompressionKind::Zlib),
            Some(Compress::Zstd) => Some(CompressionKind::Zstd),
            Some(Compress::Auto) | None => None,
        };
        let compressed = self.compress.is_some() || level.is_some();
        let options: Vec<_> = self.options.as_deref().into_iter().collect();
        let options = OptionValues::parse(format.create_options, options)?;
        refuse_references(&options)?;
        Ok(Settings {
            options,
            compression: compressed.then(|| Compression { kind, level: level.unwrap_or_default() }),
            memory: turn.memory,
            preallocation: match self.prealloc {
                Prealloc::Off => Preallocation::Off,
                Prealloc::Falloc => Preallocation::Falloc,
                Prealloc::Full => Preallocation::Full,
            },
            digests: self.digest.kinds(),
            threads: std::thread::available_parallelism().ok().or(NonZeroUsize::new(1)),
            cancel: cancel.clone(),
            ..Settings::new(format)
        })
    }
}

/// Options that have a new image name another file.
pub(crate) const REFERRING: &[&str] = &["backing_file", "backing_fmt", "data_file", "data_file_raw"];

/// Refuses options that have the new image name a file of the host.
fn refuse_references(options: &OptionValues) -> Result<()> {
    for name in REFERRING {
        if options.text(name).is_some() {
            return Err(Error::new(ErrorKind::Denied, format!("option {name}: an image that refers to another file")));
        }
    }
    Ok(())
}

/// What a conversion reads.
pub(crate) enum Origin {
    /// The body of the request.
    Body(Box<dyn Read + Send>),
    /// What is at an address.
    Address(String),
}

/// A conversion into a file below the root.
#[derive(Debug)]
pub(crate) struct Inward {
    /// The source's format, where the client named it.
    pub(crate) source: Option<&'static Format>,
    /// The bytes of the body, where they are known.
    pub(crate) length: Option<u64>,
    /// The new image as the client calls it, and where it is.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) force: bool,
    pub(crate) target: &'static Format,
    pub(crate) wish: Wish,
    pub(crate) turn: Turn,
}

impl Inward {
    /// Converts. Blocks; for a thread of its own.
    pub(crate) fn run(
        self,
        app: &App,
        origin: Origin,
        place: &Path,
        meter: Arc<Meter>,
        cancel: &Cancel,
    ) -> Result<Converted> {
        let settings = self.wish.settings(self.target, &self.turn, cancel)?;
        let settings = Settings { progress: Some(meter), ..settings };
        let sparse = self.wish.prealloc == Prealloc::Off
            && settings.options.text("preallocation").is_none_or(|mode| mode == "off");
        let cache_bytes = usize::try_from(self.turn.memory / 4).unwrap_or(usize::MAX);
        let intake = Intake {
            declared: self.source,
            length: self.length,
            // A raw file grows with what it is given.
            sized: !(self.target.name == "raw" && sparse),
            most: app.config.limits.disk,
            cache_bytes,
            folder: &app.spool_folder(),
            room: app.budget.spool(),
            cancel,
        };
        let taken = match origin {
            Origin::Body(body) => intake.take(body)?,
            Origin::Address(address) => match remote::open(&address, &remote_options(app, cache_bytes, cancel))? {
                Remote::Disk(disk) => {
                    let name = disk.origin().shown.clone();
                    intake.take_disk(Source::new(Arc::new(disk)).with_path(name))?
                }
                Remote::Stream(stream) => {
                    let length = stream.origin().size;
                    Intake { length, ..intake }.take(Box::new(stream))?
                }
            },
        };
        let output = Output::Path(place.to_owned());
        let report = Plan::new(&taken.input, &output, &settings)?.run(taken.input, output, &settings)?;
        drop(taken.reserved);
        let mut converted = Converted::new(self.name, self.target.name, taken.format.name, report);
        for warning in &mut converted.warnings {
            *warning = app.shown(warning);
        }
        Ok(converted)
    }
}

/// How the address of a request is opened.
fn remote_options(app: &App, cache_bytes: usize, cancel: &Cancel) -> remote::Options {
    let asked = cancel.clone();
    let options = network(&app.config);
    remote::Options {
        limits: remote::Limits { cache_bytes, ..options.limits },
        stop: remote::Stop::when(move || asked.is_cancelled()),
        ..options
    }
}

/// Runs a conversion on a thread, and publishes what it made. `feed` is what else has to go on meanwhile.
///
/// The new image is made in a hidden folder beside its place, which whoever looks after the jobs removes if this process dies.
pub(crate) async fn carry(
    app: &Shared,
    tracked: Tracked,
    inward: Inward,
    origin: Origin,
    feed: impl Future<Output = ()>,
) -> Answer<Converted> {
    let limits = &app.config.limits;
    let force = inward.force;
    let staging = match tracked.stage(&inward.path, force) {
        Ok(staging) => staging,
        Err(error) => return Err(failed(app, tracked, error).await),
    };
    let (meter, cancel) = (Arc::clone(tracked.meter()), tracked.cancel().clone());
    let work = {
        let app = Arc::clone(app);
        // The hidden folder lives as long as the thread that writes into it.
        tokio::task::spawn_blocking(move || {
            let done = inward.run(&app, origin, &staging.path(), meter, &cancel);
            done.map(|converted| (converted, staging))
        })
    };
    let done = tokio::time::timeout(limits.request_time, async {
        feed.await;
        work.await
    });
    match done.await {
        Ok(Ok(Ok((converted, staging)))) => {
            app.metrics.disk_bytes.inc_by(converted.capacity_bytes);
            let published = tracked.publish(staging, force, converted.as_result(), converted.warnings.clone()).await;
            published.map(|_| converted).map_err(|error| app.problem(error))
        }
        Ok(Ok(Err(error))) => Err(failed(app, tracked, error).await),
        Ok(Err(fault)) => {
            tracked.fail(&Error::new(ErrorKind::Io, "a fault of the program")).await;
            Err(app.fault(&fault))
        }
        Err(_) => {
            let text = format!("the conversion took longer than {} s", limits.request_time.as_secs());
            tracked.fail(&Error::new(ErrorKind::Cancelled, text.clone())).await;
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "cancelled", text))
        }
    }
}

/// Ends a job as failed, and makes the answer of why.
async fn failed(app: &App, tracked: Tracked, error: Error) -> Problem {
    tracked.fail(&app.tidy(&error)).await;
    app.problem(error)
}
