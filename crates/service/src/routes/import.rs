//! `GET /import`, `POST /import`: what is at an address becomes an image below the root, in one pass.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use transload::remote;
use transload_jobs::model::{ConvertJob, JobRequest, Location};
use utoipa::IntoParams;

use super::convert::{Inward, Origin, Wish, carry, source_format, target_format};
use super::upload::new_path;
use crate::api::{Compress, Converted, DigestChoice, FailureDocument, Prealloc};
use crate::problem::{Answer, Problem};
use crate::state::Shared;

/// What is fetched, and what it is to become.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportQuery {
    /// The address of an image: `https://`, `http://`, `s3://`, `gs://` or `az://`. It is connected to only where the service's
    /// policy lets it, after every redirect too.
    #[param(example = "https://example.org/disk.vmdk")]
    url: String,
    /// The format of what is there. Found out from its bytes when not given; what is given is never doubted.
    src: Option<String>,
    /// The format of the new image; by the ending of `name` when not given.
    #[param(example = "qcow2")]
    dst: Option<String>,
    /// Whether room is set aside for all of it.
    #[serde(default)]
    #[param(inline, required = false)]
    prealloc: Prealloc,
    /// The new image, as a path below the root; the last part of the address when not given. Folders that are missing are made.
    #[param(example = "disks/web.qcow2")]
    name: Option<String>,
    /// Compress the new image.
    #[param(inline)]
    compress: Option<Compress>,
    /// How hard to compress: `fast`, `balanced`, `max`, or a number from 1 to 12.
    level: Option<String>,
    /// Options of the new image's format, `KEY=VALUE` separated by commas; `GET /v1/formats` lists them.
    options: Option<String>,
    /// The digest of the disk's bytes to compute on the way.
    #[serde(default)]
    #[param(inline, required = false)]
    digest: DigestChoice,
    /// Replace an image of this name.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Convert what is at an address
///
/// Nothing of it is stored but the new image. An error page, a body that breaks off and a source that changes meanwhile are errors.
#[utoipa::path(
    method(get, post),
    path = "/import",
    tag = "streaming",
    params(ImportQuery),
    responses(
        (status = 201, description = "The image is there.", body = Converted),
        (status = 400, description = "The request makes no sense, or the format is ambiguous.", body = FailureDocument),
        (status = 403, description = "The name leads out of the root, or the policy forbids the address.", body = FailureDocument),
        (status = 409, description = "There is an image of this name.", body = FailureDocument),
        (status = 413, description = "The image or the disk is too large.", body = FailureDocument),
        (status = 422, description = "What is there is corrupt, or of a kind that is not handled.", body = FailureDocument),
        (status = 502, description = "It could not be fetched.", body = FailureDocument),
        (status = 503, description = "As many conversions as may run at a time are under way.", body = FailureDocument),
        (status = 507, description = "There is no room.", body = FailureDocument),
    )
)]
pub(crate) async fn import(
    State(app): State<Shared>,
    method: axum::http::Method,
    Query(query): Query<ImportQuery>,
) -> Answer<(StatusCode, Json<Converted>)> {
    if method == axum::http::Method::HEAD {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "an import makes an image"));
    }
    if !remote::is_meant_by(&query.url) {
        return Err(Problem::invalid("url: is no address that is understood")
            .with_remedy("https://, http://, s3://, gs:// or az://"));
    }
    let source = source_format(query.src.as_deref())?;
    let there = remote::file_name(&query.url);
    let asked = query.name.filter(|name| !name.is_empty());
    let target = target_format(query.dst.as_deref(), asked.as_deref().or(there.as_deref()))?;
    let name = asked.or_else(|| {
        let there = there?;
        let stem = there.rsplit_once('.').map_or(there.as_str(), |(stem, _)| stem).replace(['/', '\\'], "_");
        Some(format!("{stem}.{}", target.extensions.first().copied().unwrap_or(target.name)))
    });
    let name = name.ok_or_else(|| Problem::invalid("name: the address does not tell one"))?;
    let path = new_path(&app, &name, query.force)?;
    let wish = Wish {
        prealloc: query.prealloc,
        compress: query.compress,
        level: query.level,
        options: query.options,
        digest: query.digest,
    };
    let turn = app.budget.turn().await?;
    let from = Location::Url(remote::shown_text(&query.url));
    let request = JobRequest::Convert(ConvertJob::new(from, Location::Path(name.clone())));
    let tracked = app.track(&request).await?;
    let inward = Inward { source, length: None, name, path, force: query.force, target, wish, turn };
    let converted = carry(&app, tracked, inward, Origin::Address(query.url), async {}).await;
    let outcome = converted.as_ref().map_or_else(Problem::kind, |_| "done");
    app.metrics.conversions.with_label_values(&["/import", outcome]).inc();
    Ok((StatusCode::CREATED, Json(converted?)))
}
