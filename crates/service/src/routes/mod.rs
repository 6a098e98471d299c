//! The routes, one file for each kind of thing.

mod convert;
mod export;
mod files;
mod formats;
mod images;
mod import;
mod jobs;
pub(crate) mod session;
mod system;
mod upload;
pub(crate) mod uploads;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi::Document;
use crate::problem::Problem;
use crate::state::Shared;
use crate::{guard, openapi, page, reference};

/// The most bytes of a body that is a document and no image.
const DOCUMENT_BYTES: usize = 1 << 20;

/// The routes that the document describes.
pub(crate) fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        // A form is as large as the image in it; what a body may have is the upload's own limit.
        .merge(OpenApiRouter::new().routes(routes!(upload::upload)).layer(DefaultBodyLimit::disable()))
        .routes(routes!(import::import))
        .routes(routes!(export::export))
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::get, jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::result))
        .routes(routes!(jobs::submit_definitions))
        .routes(routes!(uploads::keep, uploads::list))
        .routes(routes!(uploads::get, uploads::remove))
        .routes(routes!(formats::formats))
        .routes(routes!(files::list))
        .routes(routes!(files::content))
        .routes(routes!(images::info))
        .routes(routes!(images::inspect))
        .routes(routes!(images::tree))
        .routes(routes!(system::server))
        .routes(routes!(session::open, session::close))
        .routes(routes!(system::healthz))
        .routes(routes!(system::metrics))
}

/// Everything that is answered.
pub(crate) fn router(app: &Shared) -> Router {
    let (described, mut document) = described().split_for_parts();
    openapi::complete(&mut document);
    let document = Arc::new(openapi::Served::new(&document));
    let reference = Arc::clone(&document);
    described
        .layer(DefaultBodyLimit::max(DOCUMENT_BYTES))
        .route("/openapi.json", get(move || openapi::serve(Arc::clone(&document))))
        .route("/docs", get(move || reference::serve(Arc::clone(&reference))))
        .merge(page::routes())
        .fallback(no_such_place)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::map_response(tell_in_json))
        .layer(from_fn_with_state(Arc::clone(app), guard::watch))
        .with_state(Arc::clone(app))
}

async fn no_such_place(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> Problem {
    let text = format!("{} is not answered with {}", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", text)
}

/// What the framework refuses by itself, a query that is not understood among it, is told as every other failure is.
async fn tell_in_json(response: Response) -> Response {
    let status = response.status();
    let is_text = response
        .headers()
        .get(axum::http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/plain")));
    if !status.is_client_error() || !is_text {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, DOCUMENT_BYTES).await.unwrap_or_default();
    let kind = if status == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "invalid-input" };
    // A query or a document that breaks a rule is one kind of mistake, whatever noticed it.
    let status = if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
    let mut told = Problem::new(status, kind, String::from_utf8_lossy(&text)).into_response();
    if let Some(allow) = parts.headers.get(axum::http::header::ALLOW) {
        told.headers_mut().insert(axum::http::header::ALLOW, allow.clone());
    }
    told
}
