//! `GET /export`: an image below the root, handed out in another format, in one pass.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, Input, Output, Plan, Progress, Report, Settings};
use transload::image::{Access, Format, OpenSettings, Source, detect, open, wrapped};
use transload_jobs::meter::Meter;
use transload_jobs::model::{ConvertJob, JobRequest, JobResult, Location};
use transload_jobs::worker::Tracked;
use utoipa::IntoParams;

use super::convert::{Wish, source_format, target_format};
use crate::api::{Compress, DigestChoice, FailureDocument};
use crate::budget::{Reserved, Turn};
use crate::outflow::{self, Outflow, Piece, StopWhenDropped};
use crate::problem::{Answer, Problem};
use crate::state::{App, Shared};
use crate::stream::{Bounded, too_large};

/// What is handed out, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// The image, as a path below the root.
    #[param(example = "disks/web.qcow2")]
    path: String,
    /// Its format. Found out from its bytes when not given; what is given is never doubted.
    src: Option<String>,
    /// The format that it is handed out in.
    #[param(example = "vmdk")]
    dst: String,
    /// Compress it.
    #[param(inline)]
    compress: Option<Compress>,
    /// How hard to compress: `fast`, `balanced`, `max`, or a number from 1 to 12.
    level: Option<String>,
    /// Options of the format, `KEY=VALUE` separated by commas; `GET /v1/formats` lists them.
    options: Option<String>,
}

/// Convert an image and download it
///
/// The answer is chunked while it is made. A conversion that fails after its first byte breaks the connection off, so that what came is
/// not taken for whole; the log says why. A format that cannot be written from front to back is made in a temporary file first,
/// within a limit, and has a length then.
#[utoipa::path(
    get,
    path = "/export",
    tag = "streaming",
    params(ExportQuery),
    responses(
        (status = 200, description = "The image.", content_type = "application/octet-stream", body = Vec<u8>,
            headers(
                ("content-disposition" = String, description = "The name to store it under."),
                ("x-transload-capacity-bytes" = u64, description = "The size of the disk.")
            )),
        (status = 400, description = "The request makes no sense, or the format is ambiguous.", body = FailureDocument),
        (status = 403, description = "The path leads out of the root, or the image refers to another file.", body = FailureDocument),
        (status = 404, description = "There is no such image.", body = FailureDocument),
        (status = 413, description = "The disk is too large.", body = FailureDocument),
        (status = 422, description = "The image is corrupt, or the conversion is none that is handled.", body = FailureDocument),
        (status = 503, description = "As many conversions as may run at a time are under way.", body = FailureDocument),
        (status = 507, description = "There is no room.", body = FailureDocument),
    )
)]
pub(crate) async fn export(
    State(app): State<Shared>,
    method: Method,
    Query(query): Query<ExportQuery>,
) -> Answer<Response> {
    let source = source_format(query.src.as_deref())?;
    let target = target_format(Some(&query.dst), None)?;
    let path = app.root.resolve_existing(&query.path).map_err(|error| app.problem(error))?;
    let name = download_name(&query.path, target);
    let wish = Wish {
        compress: query.compress,
        level: query.level,
        options: query.options,
        digest: DigestChoice::None,
        ..Wish::default()
    };
    let turn = app.budget.turn().await?;
    let source_place = Location::Path(query.path.clone());
    let request = JobRequest::Convert(ConvertJob::new(source_place, Location::Stream(name.clone())));
    let is_head = method == Method::HEAD;
    let tracked = if is_head { None } else { Some(app.track(&request).await?) };
    let meter = tracked.as_ref().map(|tracked| Arc::clone(tracked.meter()));
    let cancel = tracked.as_ref().map_or_else(Cancel::default, |tracked| tracked.cancel().clone());
    let stop = StopWhenDropped::new(&cancel, app.config.limits.request_time);
    let (flow, last, mut pieces) = outflow::channel(app.config.limits.stall_time);
    let (announce, announced) = tokio::sync::oneshot::channel();
    let outward = Outward { path, source, target, wish, turn, name: name.clone(), meter };
    let stall = app.config.limits.stall_time;
    {
        let (app, cancel) = (Arc::clone(&app), cancel.clone());
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            let format = outward.target.name;
            let done = outward.run(&app, flow, announce, &cancel);
            if let Some(tracked) = tracked {
                runtime.block_on(told(&app, tracked, format, &done));
            }
            let piece = match done {
                Ok(_) => Piece::End,
                Err(error) => Piece::Failed(error),
            };
            // Nobody listens when the client has gone.
            let _ = runtime.block_on(outflow::send(&last, piece, stall));
        });
    }
    // The first piece decides between an answer and a failure with its own status.
    let first = match pieces.recv().await {
        Some(Piece::Bytes(first)) => first,
        Some(Piece::End) => {
            count(&app, "done");
            let facts = announced.await.unwrap_or_default();
            return Ok(respond(&name, &facts, Body::empty()));
        }
        Some(Piece::Failed(error)) => {
            let problem = app.problem(error);
            count(&app, problem.kind());
            return Err(problem);
        }
        None => {
            return Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "io",
                "a fault of the program; the log has more",
            ));
        }
    };
    let facts = announced.await.unwrap_or_default();
    Ok(respond(&name, &facts, body(&app, query.path, first, pieces, stop)))
}

/// The rest of the image, as it is made.
fn body(app: &Shared, path: String, first: Bytes, pieces: mpsc::Receiver<Piece>, stop: StopWhenDropped) -> Body {
    use futures_util::StreamExt;
    let broken = {
        let app = Arc::clone(app);
        move |error: &Error| {
            let problem = app.problem(Error::new(error.kind(), error.to_string()));
            count(&app, problem.kind());
            tracing::error!(
                path,
                failure = problem.kind(),
                error = app.shown(&format!("{error:?}")),
                "an export broke off after its first byte"
            );
        }
    };
    let sent = app.metrics.sent_bytes.clone();
    let pieces = outflow::body(first, pieces, stop, broken);
    Body::from_stream(pieces.inspect(move |piece| {
        if let Ok(piece) = piece {
            sent.inc_by(piece.len() as u64);
        }
    }))
}

fn count(app: &App, outcome: &str) {
    app.metrics.conversions.with_label_values(&["/export", outcome]).inc();
}

/// What is known before the first byte.
#[derive(Debug, Default)]
struct Facts {
    capacity: Option<u64>,
    length: Option<u64>,
}

fn respond(name: &str, facts: &Facts, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::from_str(&disposition(name)) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    if let Some(capacity) = facts.capacity {
        headers.insert(HeaderName::from_static("x-transload-capacity-bytes"), HeaderValue::from(capacity));
    }
    if let Some(length) = facts.length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// What the download is called: the image's own name with the ending of the format.
fn download_name(path: &str, target: &Format) -> String {
    let last = path.rsplit('/').next().unwrap_or(path);
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let stem = if stem.is_empty() { "disk" } else { stem };
    format!("{stem}.{}", target.extensions.first().copied().unwrap_or(target.name))
}

/// The header with a name of any characters: once in ASCII for old clients, once as RFC 8187 has it.
pub(crate) fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_graphic() && !"\"\\%;".contains(letter) { letter } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// A conversion from a file below the root into the body of an answer.
#[derive(Debug)]
struct Outward {
    path: PathBuf,
    source: Option<&'static Format>,
    target: &'static Format,
    wish: Wish,
    turn: Turn,
    name: String,
    /// Who is told how far it is; nobody for a HEAD, which is answered without a byte.
    meter: Option<Arc<Meter>>,
}

impl Outward {
    /// Converts. Blocks; for a thread of its own. What is known beforehand is told through `announce`.
    fn run(
        self,
        app: &App,
        flow: Outflow,
        announce: tokio::sync::oneshot::Sender<Facts>,
        cancel: &Cancel,
    ) -> Result<Report> {
        let settings = self.wish.settings(self.target, &self.turn, cancel)?;
        let settings = Settings {
            progress: self.meter.clone().map(|meter| meter as Arc<dyn Progress>),
            pipe_name: Some(self.name.clone()),
            // A raw disk has no identifiers: the samples that they are made from need not be read.
            seed: (self.target.name == "raw").then(String::new),
            ..settings
        };
        let input = self.input(app)?;
        let capacity = match &input {
            Input::Image(opened) => Some(opened.device.size()),
            Input::Stream { stream, .. } => stream.size(),
        };
        let output = Output::Pipe(Box::new(flow));
        match Plan::new(&input, &output, &settings) {
            Ok(plan) => {
                // Nobody listens when the client has gone, which the first piece finds out.
                let _ = announce.send(Facts { capacity, length: None });
                if self.meter.is_none() {
                    return Ok(Report::default());
                }
                plan.run(input, output, &settings)
            }
            // What cannot be written from front to back is made in a file.
            Err(error) if error.kind() == ErrorKind::Unsupported && self.target.create.is_some() => {
                let Output::Pipe(pipe) = output else { return Err(error) };
                self.through_file(app, input, pipe, capacity, announce, &settings)
            }
            Err(error) => Err(error),
        }
    }

    fn input(&self, app: &App) -> Result<Input> {
        let source = Source::from_path(&self.path, Access::ReadOnly)?;
        let format = self.source.map_or_else(|| detect(source.bytes())?.unambiguous(), Ok)?;
        let most = app.config.limits.disk;
        let sized = self.target.name != "raw";
        if let Some(stream) = wrapped::stream_of(&source, format, &transload::image::OptionValues::default(), sized)? {
            return Ok(Input::Stream { format, stream: Box::new(Bounded::new(stream, None, most)?) });
        }
        let settings = OpenSettings {
            format: Some(format),
            gate: app.gate(),
            cache_bytes: usize::try_from(self.turn.memory / 4).unwrap_or(usize::MAX),
            ..OpenSettings::default()
        };
        let opened = open(source, &settings)?;
        if opened.device.size() > most {
            return Err(too_large(opened.device.size(), most));
        }
        Ok(Input::Image(opened))
    }

    /// Makes the image in a file of the spool, and sends that.
    fn through_file(
        &self,
        app: &App,
        input: Input,
        mut pipe: Box<dyn Write + Send>,
        capacity: Option<u64>,
        announce: tokio::sync::oneshot::Sender<Facts>,
        settings: &Settings,
    ) -> Result<Report> {
        let folder = tempfile::Builder::new()
            .prefix("export-")
            .tempdir_in(app.spool_folder())
            .map_err(|error| Error::io("a folder to export through", error))?;
        let path = folder.path().join(&self.name);
        let mut reserved = app.budget.spool().reserve();
        reserve(&input, settings, &mut reserved)?;
        let output = Output::Path(path.clone());
        let plan = Plan::new(&input, &output, settings)?;
        if self.meter.is_none() {
            let _ = announce.send(Facts { capacity, length: None });
            return Ok(Report::default());
        }
        let report = plan.run(input, output, settings)?;
        let mut file = File::open(&path).map_err(|error| Error::io("the exported file", error))?;
        let length = file.metadata().map_err(|error| Error::io("the exported file", error))?.len();
        let others = std::fs::read_dir(folder.path()).map_err(|error| Error::io("the exported files", error))?.count();
        if others != 1 {
            let text = format!("{}: an image in {others} files cannot be one answer", self.target.name);
            return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("choose a subformat of one file"));
        }
        let _ = announce.send(Facts { capacity, length: Some(length) });
        copy(&mut file, &mut pipe, settings)?;
        Ok(report)
    }
}

/// Says in the list of jobs what became of an export.
async fn told(app: &App, tracked: Tracked, format: &str, done: &Result<Report>) {
    match done {
        Ok(report) => {
            app.metrics.disk_bytes.inc_by(report.virtual_size);
            tracked.done(sent(format, report), report.warnings.iter().map(|text| app.shown(text)).collect()).await;
        }
        Err(error) => tracked.fail(&app.tidy(error)).await,
    }
}

/// What came of an export, for the list of jobs.
fn sent(format: &str, report: &Report) -> JobResult {
    JobResult {
        format: Some(format.to_owned()),
        written_bytes: report.written,
        capacity_bytes: report.virtual_size,
        elapsed_seconds: std::time::Duration::from_millis(report.elapsed_milliseconds).as_secs_f64(),
        ..JobResult::default()
    }
}

/// Takes room for the image in the spool: what it will need at most.
fn reserve(input: &Input, settings: &Settings, reserved: &mut Reserved) -> Result<()> {
    let bytes = match input {
        Input::Image(opened) => {
            let device = opened.device.as_ref();
            match transload::convert::measure(device, settings.format, &settings.options, &settings.cancel) {
                Ok(measure) => measure.required,
                Err(error) if error.kind() == ErrorKind::Unsupported => device.size(),
                Err(error) => return Err(error),
            }
        }
        Input::Stream { stream, .. } => stream.size().unwrap_or(0),
    };
    reserved.grow(bytes)
}

fn copy(from: &mut File, to: &mut Box<dyn Write + Send>, settings: &Settings) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        settings.cancel.check()?;
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("the exported file", error)),
        };
        to.write_all(&buffer[..count]).map_err(|error| Error::io("the answer", error))?;
    }
    to.flush().map_err(|error| Error::io("the answer", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads_cannot_break_out_of_their_header() {
        assert_eq!(disposition("a b.raw"), "attachment; filename=\"a_b.raw\"; filename*=UTF-8''a%20b.raw");
        assert_eq!(
            disposition("ü\"\r\n.raw"),
            "attachment; filename=\"____.raw\"; filename*=UTF-8''%C3%BC%22%0D%0A.raw"
        );
        let qcow2 = Format::by_name("qcow2").unwrap();
        assert_eq!(download_name("a/b.vmdk", qcow2), "b.qcow2");
        assert_eq!(download_name(".hidden", qcow2), "disk.qcow2");
    }
}
