//! `/v1/jobs`: work that outlives a request.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind};
use transload_jobs::model::{DaemonJob, Event, EventKind, Job, JobFilter, JobPage, JobRequest, Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::files::{self, ContentQuery};
use crate::api::FailureDocument;
use crate::problem::{Answer, Problem};
use crate::state::Shared;

/// Submit a job
///
/// It is put into the queue and done when it is its turn, in this process or another one that works on the same queue.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "jobs",
    request_body = JobRequest,
    responses(
        (status = 202, description = "It is in the queue.", body = Job, headers(("location" = String, description = "Where it is told of."))),
        (status = 400, description = "The request makes no sense.", body = FailureDocument),
        (status = 413, description = "The document is too large.", body = FailureDocument),
        (status = 415, description = "The document is no JSON.", body = FailureDocument),
        (status = 503, description = "Too many jobs wait.", body = FailureDocument),
    )
)]
pub(crate) async fn submit(State(app): State<Shared>, Json(request): Json<JobRequest>) -> Answer<Response> {
    let job = enqueue(&app, &request).await?;
    let mut response = (StatusCode::ACCEPTED, Json(&job)).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id)) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

async fn enqueue(app: &Shared, request: &JobRequest) -> Answer<Job> {
    app.store.submit(request).await.map_err(|error| match error.kind() {
        ErrorKind::TooLarge => Problem::busy(error.to_string(), 60),
        _ => app.problem(error),
    })
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// In these states, separated by commas: `queued`, `running`, `done`, `failed`, `cancelled`.
    #[param(example = "queued,running")]
    state: Option<String>,
    /// Of these kinds, separated by commas: `convert`, `export`, `import`, `validate`, `digest`, `check`, `archive`.
    kind: Option<String>,
    /// With this text in their source, target or name.
    text: Option<String>,
    /// The most jobs.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Behind the last job of the page whose `next` this is.
    after: Option<String>,
    /// `newest` first, or `oldest`.
    #[param(inline)]
    order: Option<Order>,
}

/// Which job comes first.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    Newest,
    Oldest,
}

/// List jobs
///
/// A page at a time, conversions in one pass among them.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of the jobs.", body = JobPage),
        (status = 400, description = "The request makes no sense.", body = FailureDocument),
    )
)]
pub(crate) async fn list(State(app): State<Shared>, Query(query): Query<ListQuery>) -> Answer<Json<JobPage>> {
    let filter = JobFilter {
        states: words(query.state.as_deref())?,
        kinds: words(query.kind.as_deref())?,
        text: query.text.filter(|text| !text.is_empty()),
        limit: query.limit,
        after: query.after,
        oldest_first: matches!(query.order, Some(Order::Oldest)),
    };
    app.store.list(&filter).await.map(Json).map_err(|error| app.problem(error))
}

/// Words separated by commas.
fn words<T: std::str::FromStr<Err = Error>>(text: Option<&str>) -> Answer<Vec<T>> {
    let words = text.into_iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|error: Error| Problem::from(error))).collect()
}

fn no_job(id: &str) -> Problem {
    Problem::not_found(format!("there is no job '{}'", id.escape_debug()))
}

/// Tell of a job
///
/// Its state, progress and result.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The job.", body = Job),
        (status = 404, description = "There is no such job.", body = FailureDocument),
    )
)]
pub(crate) async fn get(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Job>> {
    let job = app.store.get(&id).await.map_err(|error| app.problem(error))?;
    job.map(Json).ok_or_else(|| no_job(&id))
}

/// What is meant by the deletion of a job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// Take a job that has ended off the list, instead of leaving it as it is.
    #[serde(default)]
    #[param(required = false)]
    forget: bool,
}

/// Cancel a job
///
/// One that waits is cancelled at once, one that runs soon; one that has ended stays as it is, unless it is to be forgotten.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id."), DeleteQuery),
    responses(
        (status = 200, description = "The job as it is now.", body = Job),
        (status = 204, description = "It is forgotten."),
        (status = 400, description = "The request makes no sense.", body = FailureDocument),
        (status = 404, description = "There is no such job.", body = FailureDocument),
        (status = 409, description = "It is to be forgotten and has not ended.", body = FailureDocument),
    )
)]
pub(crate) async fn cancel(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Answer<Response> {
    let failed = |error| app.problem(error);
    if query.forget {
        if app.store.forget(&id).await.map_err(failed)? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let job = app.store.get(&id).await.map_err(failed)?.ok_or_else(|| no_job(&id))?;
        return Err(Problem::conflict(format!("the job is {}", job.state)).with_remedy("cancel it first"));
    }
    let job = app.store.cancel(&id).await.map_err(failed)?;
    job.map(|job| Json(job).into_response()).ok_or_else(|| no_job(&id))
}

/// Try a job again
///
/// One that failed or was cancelled is put back into the queue; why it failed stays in `lastError`.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/retry",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "It is in the queue again.", body = Job),
        (status = 404, description = "There is no such job.", body = FailureDocument),
        (status = 409, description = "It has not failed, or was carried by a request that has ended.", body = FailureDocument),
    )
)]
pub(crate) async fn retry(State(app): State<Shared>, Path(id): Path<String>) -> Answer<(StatusCode, Json<Job>)> {
    let job = app.store.retry(&id).await.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => Problem::conflict(error.to_string()),
        _ => app.problem(error),
    })?;
    job.map(|job| (StatusCode::ACCEPTED, Json(job))).ok_or_else(|| no_job(&id))
}

/// Download what a job made
///
/// The file that a job made below the root. What was written to an address, or consists of several files, is told of in `result`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/result",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The file.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, description = "The range.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, description = "What it made is no file.", body = FailureDocument),
        (status = 404, description = "There is no such job, or it made no file, or the file is gone.", body = FailureDocument),
        (status = 409, description = "It is not done.", body = FailureDocument),
        (status = 416, description = "The range is not in the file.", body = FailureDocument),
    )
)]
pub(crate) async fn result(
    State(app): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer<Response> {
    let job = app.store.get(&id).await.map_err(|error| app.problem(error))?.ok_or_else(|| no_job(&id))?;
    let Some(result) = job.result else {
        return Err(Problem::conflict(format!("the job is {}: there is no result", job.state)));
    };
    let output = result.output.filter(|output| !output.contains("://"));
    let path = output.ok_or_else(|| Problem::not_found("the job made no file below the root"))?;
    files::content(State(app), method, headers, Query(ContentQuery { path })).await
}

/// From where on events are told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// The number of the last event that is known; the header `Last-Event-ID` goes before it.
    after: Option<i64>,
}

/// Follow a job
///
/// Its events as they happen, as server-sent events: `state`, `progress`, `warning` and `cancelRequested`, each with the event as JSON
/// in `data`. The stream ends when the job has. Who comes back names the last event in `Last-Event-ID` and misses none.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "The job's id."),
        EventsQuery,
        ("last-event-id" = Option<String>, Header, description = "The number of the last event that is known.")
    ),
    responses(
        (status = 200, description = "The events. Each `data` is an `Event`.", content_type = "text/event-stream", body = String),
        (status = 400, description = "The number is none.", body = FailureDocument),
        (status = 404, description = "There is no such job.", body = FailureDocument),
    )
)]
pub(crate) async fn events(
    State(app): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Answer<Response> {
    let last = match headers.get(HeaderName::from_static("last-event-id")) {
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
            Some(number.ok_or_else(|| Problem::invalid("Last-Event-ID: is no number"))?)
        }
        None => query.after,
    };
    if app.store.get(&id).await.map_err(|error| app.problem(error))?.is_none() {
        return Err(no_job(&id));
    }
    let follow = Follow { app, id, last: last.unwrap_or(0), ended: false };
    let stream = futures_util::stream::unfold(follow, async |mut follow: Follow| {
        let text = follow.next().await?;
        Some((Ok::<_, Infallible>(text), follow))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Somebody who follows a job.
struct Follow {
    app: Shared,
    id: String,
    /// The last event that was told.
    last: i64,
    ended: bool,
}

impl Follow {
    /// What is to be sent next: some events, or a sign of life.
    async fn next(&mut self) -> Option<String> {
        /// Events at once, and how long a connection is silent.
        const PAGE: u32 = 100;
        const SILENCE: Duration = Duration::from_secs(15);
        if self.ended {
            return None;
        }
        let mut stopping = self.app.stopping.subscribe();
        let events = tokio::select! {
            events = self.app.store.wait_for_events(&self.id, self.last, PAGE, SILENCE) => events,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(job = self.id, %error, "the events of a job could not be read");
                return None;
            }
        };
        if events.is_empty() {
            // A job that has ended and whose last event is known, or that is gone, has nothing more to tell.
            let job = self.app.store.get(&self.id).await.ok().flatten();
            self.ended = job.is_none_or(|job| job.state.is_final());
            return Some(": alive\n\n".to_owned());
        }
        let mut text = String::new();
        for event in events {
            self.last = event.id;
            self.ended |= matches!(&event.kind, EventKind::State { state, .. } if state.is_final());
            text.push_str(&frame(&event));
        }
        Some(text)
    }
}

/// An event as the stream has it. JSON has no line ends of its own.
fn frame(event: &Event) -> String {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.name())
}

/// One definition, or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Definitions {
    /// `{"jobs": […]}`.
    Batch {
        /// The definitions.
        jobs: Vec<DaemonJob>,
    },
    /// A list of definitions.
    List(Vec<DaemonJob>),
    /// A definition.
    One(Box<DaemonJob>),
}

/// What became of the definitions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Submitted {
    /// The jobs, in the order of the definitions that were accepted.
    job_ids: Vec<String>,
    accepted: usize,
    rejected: usize,
    /// Why the others were not.
    errors: Vec<String>,
    /// When.
    #[schema(value_type = String)]
    timestamp: Timestamp,
}

/// Submit the job definition of a migration daemon
///
/// For scripts that were written for such a daemon. A definition names a machine or a disk by `vm_path` or `source` and a folder by
/// `output_dir`; what is done with it follows from what it is.
#[utoipa::path(
    post,
    path = "/jobs/submit",
    tag = "jobs",
    request_body = Definitions,
    responses(
        (status = 202, description = "Some of them are in the queue.", body = Submitted),
        (status = 400, description = "None of them makes sense.", body = FailureDocument),
        (status = 413, description = "The document is too large.", body = FailureDocument),
        (status = 415, description = "The document is no JSON.", body = FailureDocument),
        (status = 422, description = "None of them is handled.", body = FailureDocument),
        (status = 503, description = "Too many jobs wait.", body = FailureDocument),
    )
)]
pub(crate) async fn submit_definitions(
    State(app): State<Shared>,
    Json(definitions): Json<Definitions>,
) -> Answer<(StatusCode, Json<Submitted>)> {
    let definitions = match definitions {
        Definitions::Batch { jobs } | Definitions::List(jobs) => jobs,
        Definitions::One(job) => vec![*job],
    };
    if definitions.is_empty() {
        return Err(Problem::invalid("there is no job definition"));
    }
    let (mut job_ids, mut problems) = (Vec::new(), Vec::new());
    for definition in definitions {
        let request = definition.to_request(&app.root).map_err(|error| app.problem(error));
        match request {
            Ok(request) => match enqueue(&app, &request).await {
                Ok(job) => job_ids.push(job.id),
                Err(problem) => problems.push(problem),
            },
            Err(problem) => problems.push(problem),
        }
    }
    if job_ids.is_empty() && !problems.is_empty() {
        return Err(problems.swap_remove(0));
    }
    let submitted = Submitted {
        accepted: job_ids.len(),
        rejected: problems.len(),
        job_ids,
        errors: problems.iter().map(|problem| problem.message().to_owned()).collect(),
        timestamp: Timestamp::now(),
    };
    Ok((StatusCode::ACCEPTED, Json(submitted)))
}
