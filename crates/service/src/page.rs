//! The page at `/`: files that stand in the program, from `assets`.
//!
//! Every file of the page is a row of [`ASSETS`]. There is nothing from elsewhere, and the policy that goes along lets no script run
//! but those files.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::guard::CONTENT_POLICY;
use crate::problem::Problem;
use crate::state::Shared;

/// Name, type and bytes of a file of the page.
type Asset = (&'static str, &'static str, &'static [u8]);

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files, by their names below `/assets/`.
const ASSETS: &[Asset] = &[
    ("page.css", "text/css; charset=utf-8", include_bytes!("../assets/page.css")),
    ("api.js", SCRIPT, include_bytes!("../assets/api.js")),
    ("convert.js", SCRIPT, include_bytes!("../assets/convert.js")),
    ("dom.js", SCRIPT, include_bytes!("../assets/dom.js")),
    ("files.js", SCRIPT, include_bytes!("../assets/files.js")),
    ("image.js", SCRIPT, include_bytes!("../assets/image.js")),
    ("jobs.js", SCRIPT, include_bytes!("../assets/jobs.js")),
    ("live.js", SCRIPT, include_bytes!("../assets/live.js")),
    ("main.js", SCRIPT, include_bytes!("../assets/main.js")),
    ("progress.js", SCRIPT, include_bytes!("../assets/progress.js")),
    ("session.js", SCRIPT, include_bytes!("../assets/session.js")),
    ("text.js", SCRIPT, include_bytes!("../assets/text.js")),
    ("theme.js", SCRIPT, include_bytes!("../assets/theme.js")),
    ("transfer.js", SCRIPT, include_bytes!("../assets/transfer.js")),
    ("tree.js", SCRIPT, include_bytes!("../assets/tree.js")),
    ("reference.css", "text/css; charset=utf-8", include_bytes!("../assets/reference.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
];

const INDEX: Asset = ("index.html", "text/html; charset=utf-8", include_bytes!("../assets/index.html"));

/// The routes of the page.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(|| async { answer(&INDEX) }))
        .route("/favicon.ico", get(|| asset(Path("icon.svg".to_owned()))))
        .route("/assets/{*path}", get(asset))
}

async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some(asset) => answer(asset),
        None => Problem::not_found("there is no such file of the page").into_response(),
    }
}

fn answer((_, kind, bytes): &Asset) -> Response {
    let headers = [(CONTENT_TYPE, *kind), (CACHE_CONTROL, "no-cache"), (CONTENT_SECURITY_POLICY, CONTENT_POLICY)];
    (headers, *bytes).into_response()
}
