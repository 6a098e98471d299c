//! The OpenAPI document, made from the handlers and their types.

use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Description, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

use crate::{reference, routes};

/// What stands above the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Transload",
        description = "Moves virtual machine disks between formats, and machines between hypervisors, over HTTP. Failures are answered with an `error` that has a `kind` to match on; sizes are in bytes; names are paths below the root of the service.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "streaming", description = "Convert in one pass, while the bytes come or go."),
        (name = "jobs", description = "Work that outlives a request: submit it, watch it, cancel it, fetch the result."),
        (name = "uploads", description = "Files that are kept by an id until a job takes them."),
        (name = "images", description = "What can be done with images, and what is in one."),
        (name = "files", description = "What is below the root."),
        (name = "service", description = "The service itself."),
    ),
    security(("token" = [])),
    modifiers(&Token)
)]
pub(crate) struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, description: &mut Description) {
        let text = "A token that `transload serve token add NAME` made. None is needed on the loopback device while there are none.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        description.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The OpenAPI document in JSON.
#[must_use]
pub fn document() -> String {
    let (_, mut description) = routes::described().split_for_parts();
    complete(&mut description);
    to_json(&description)
}

/// Says of every route what every route may answer: that there is no token, or that something else went wrong.
pub(crate) fn complete(description: &mut Description) {
    open_parts(description);
    let failure = || {
        let content = Content::new(Some(Ref::from_schema_name("FailureDocument")));
        ResponseBuilder::new().content("application/json", content)
    };
    let mut names = std::collections::BTreeSet::new();
    for item in description.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch];
        for operation in methods.into_iter().flatten() {
            // Handlers of one name in several modules, and one handler for two methods, are operations whose names differ.
            let own = operation.operation_id.clone().unwrap_or_default();
            let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
            let more = [own.clone(), format!("{own}_{tag}"), format!("{own}_{tag}_post")];
            operation.operation_id = more.into_iter().find(|name| names.insert(name.clone()));
            let responses = &mut operation.responses.responses;
            let is_open =
                operation.security.as_ref().is_some_and(|ways| ways.iter().all(|way| *way == Default::default()));
            if !is_open {
                let answer = failure().description("No token that is known was sent.").build();
                responses.entry("401".to_owned()).or_insert_with(|| answer.into());
            }
            let answer = failure().description("Anything else went wrong.").build();
            responses.entry("default".to_owned()).or_insert_with(|| answer.into());
        }
    }
}

/// A kind of job is described as its own fields and, beside them, the one that names the kind. Neither part may forbid what the
/// other has, though a request with a field that is in neither is refused.
fn open_parts(description: &mut Description) {
    let Some(components) = &mut description.components else { return };
    let mut parts = Vec::new();
    for schema in components.schemas.values() {
        let RefOr::T(Schema::OneOf(kinds)) = schema else { continue };
        for kind in &kinds.items {
            let RefOr::T(Schema::AllOf(both)) = kind else { continue };
            parts.extend(both.items.iter().filter_map(|part| match part {
                RefOr::Ref(reference) => reference.ref_location.rsplit('/').next().map(str::to_owned),
                RefOr::T(_) => None,
            }));
        }
    }
    for part in parts {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(&part) {
            object.additional_properties = None;
        }
    }
}

fn to_json(description: &Description) -> String {
    serde_json::to_string_pretty(description).unwrap_or_default()
}

/// What is served of the document: made once.
#[derive(Debug)]
pub(crate) struct Served {
    json: String,
    pub(crate) html: String,
}

impl Served {
    pub(crate) fn new(description: &Description) -> Self {
        Self { json: to_json(description), html: reference::render(description) }
    }
}

/// Answers with the document.
pub(crate) async fn serve(document: Arc<Served>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, document.json.clone()).into_response()
}
