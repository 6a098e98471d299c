//! What is asked of the service itself: whether it lives, what it is, its metrics.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::FailureDocument;
use crate::guard::Caller;
use crate::problem::Answer;
use crate::state::Shared;

/// Whether the service lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    version: &'static str,
}

/// Say whether the service lives
///
/// For load balancers and orchestrators; asks for no token.
#[utoipa::path(get, path = "/healthz", tag = "service", security(()), responses((status = 200, description = "It does.", body = Health)))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// What this service is, and how much it takes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Server {
    version: &'static str,
    /// Who asks: the name of the token, or `local` where none is needed.
    who: String,
    limits: ServerLimits,
}

/// How much it takes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerLimits {
    /// The most bytes in a body.
    upload_bytes: u64,
    /// The most bytes in a disk.
    disk_bytes: u64,
    /// Bytes that may be stored for the time of a conversion.
    spool_bytes: u64,
    /// Conversions in one pass at a time.
    conversions: u64,
    /// Seconds that a conversion in one pass may take.
    request_seconds: u64,
}

/// Say what the service is
///
/// Its version, its limits, and as whom it knows the caller: what a client asks to see whether its token is right.
#[utoipa::path(get, path = "/v1/server", tag = "service", responses((status = 200, description = "The service.", body = Server)))]
pub(crate) async fn server(State(app): State<Shared>, caller: axum::Extension<Caller>) -> Json<Server> {
    let limits = &app.config.limits;
    Json(Server {
        version: env!("CARGO_PKG_VERSION"),
        who: caller.0.0,
        limits: ServerLimits {
            upload_bytes: limits.upload,
            disk_bytes: limits.disk,
            spool_bytes: limits.spool,
            conversions: limits.conversions as u64,
            request_seconds: limits.request_time.as_secs(),
        },
    })
}

/// Metrics for Prometheus
///
/// In Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "service",
    responses(
        (status = 200, description = "The metrics.", content_type = "text/plain", body = String),
        (status = 500, description = "They could not be gathered.", body = FailureDocument)
    )
)]
pub(crate) async fn metrics(State(app): State<Shared>) -> Answer<Response> {
    let (active, waiting) = app.budget.load();
    app.metrics.conversions_active.set(i64::try_from(active).unwrap_or(i64::MAX));
    app.metrics.conversions_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    app.metrics.spool_bytes.set(i64::try_from(app.budget.spool().used()).unwrap_or(i64::MAX));
    let counts = app.store.counts().await.map_err(|error| app.problem(error))?;
    app.metrics.set_jobs(&counts);
    let text = app.metrics.text().map_err(|error| app.problem(error))?;
    Ok((StatusCode::OK, [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
