//! `GET /v1/images/…`: what an image is, what stands on it, and the files in it.

mod document;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use transload::block::{BlockRead, Error, ErrorKind, Result};
use transload::image::{Access, Format, OpenSettings, OptionValues, ReferenceGate, Source, detect, open, wrapped};
use transload::volume::{ReadSettings, Volumes};
use transload_jobs::model::is_upload_id;
use utoipa::IntoParams;

use self::document::{ImageDocument, InspectionDocument};
use self::tree::{TreeDocument, TreeQuery};
use super::convert::source_format;
use crate::api::FailureDocument;
use crate::problem::{Answer, Problem};
use crate::state::{App, Shared};

/// Which image.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImageQuery {
    /// The image, as a path below the root.
    path: Option<String>,
    /// The image, as the id of an upload; either this or `path`.
    upload: Option<String>,
    /// Its format. Found out from its bytes when not given; what is given is never doubted.
    src: Option<String>,
}

/// An image of a request: its bytes and its format.
struct Image {
    source: Source,
    format: &'static Format,
    name: String,
}

/// The image that a request means.
fn image(app: &App, path: Option<&str>, upload: Option<&str>, declared: Option<&'static Format>) -> Result<Image> {
    let (name, file): (&str, PathBuf) = match (path, upload) {
        (Some(path), None) => (path, app.root.resolve_existing(path)?),
        (None, Some(id)) if is_upload_id(id) => (id, app.uploads.resolve_existing(id)?),
        (None, Some(_)) => return Err(Error::new(ErrorKind::InvalidInput, "upload: is no id of an upload")),
        _ => return Err(Error::new(ErrorKind::InvalidInput, "either `path` or `upload` has to be given")),
    };
    let source = Source::from_path(&file, Access::ReadOnly)?;
    let format = declared.map_or_else(|| detect(source.bytes())?.unambiguous(), Ok)?;
    Ok(Image { source, format, name: name.to_owned() })
}

impl Image {
    /// How it is opened: with what the service allows it to refer to, and not unpacked without end.
    fn settings(&self, gate: ReferenceGate) -> Result<OpenSettings> {
        /// The most that is unpacked of a compressed image to look at it.
        const MOST_UNPACKED: &str = "64G";
        let is_packed = [&wrapped::GZIP, &wrapped::BZIP2, &wrapped::XZ, &wrapped::ZSTD].contains(&self.format);
        let mut options = OptionValues::default();
        if is_packed {
            options.set(self.format.open_options, "max_size", MOST_UNPACKED)?;
        }
        Ok(OpenSettings { format: Some(self.format), gate, options, ..OpenSettings::default() })
    }

    /// The disk, with what it hangs from.
    fn disk(self, gate: ReferenceGate) -> Result<Arc<dyn BlockRead>> {
        const OWN_DISKS: [&str; 2] = ["iso", "luks"];
        // The bytes of an ISO 9660 image and of an encrypted volume are those a guest sees.
        let raw = Format::by_name("raw").filter(|_| OWN_DISKS.contains(&self.format.name));
        let image = Self { format: raw.unwrap_or(self.format), ..self };
        let settings = image.settings(gate)?;
        open(image.source, &settings).map(|opened| opened.device)
    }
}

/// Say what an image is
///
/// Its format and kind, sizes, snapshots, what it refers to, and what is wrong with it. No other file is opened.
#[utoipa::path(
    get,
    path = "/v1/images/info",
    tag = "images",
    params(ImageQuery),
    responses(
        (status = 200, description = "What the image says of itself.", body = ImageDocument),
        (status = 400, description = "The request makes no sense, or the format is ambiguous.", body = FailureDocument),
        (status = 403, description = "The path leads out of the root.", body = FailureDocument),
        (status = 404, description = "There is no such image.", body = FailureDocument),
        (status = 413, description = "It unpacks to more than is looked at.", body = FailureDocument),
        (status = 422, description = "It is corrupt, or of a kind that is not handled.", body = FailureDocument),
    )
)]
pub(crate) async fn info(State(app): State<Shared>, Query(query): Query<ImageQuery>) -> Answer<Json<ImageDocument>> {
    let declared = source_format(query.src.as_deref())?;
    app.look(move |app| describe(app, &image(app, query.path.as_deref(), query.upload.as_deref(), declared)?))
        .await
        .map(Json)
}

fn describe(app: &App, image: &Image) -> Result<ImageDocument> {
    let is_packed = !image.settings(ReferenceGate::Deny)?.options.is_empty();
    let info = match (image.format.describe, image.format.open) {
        (Some(describe), _) if !is_packed => describe(&image.source)?,
        (_, Some(_)) => {
            let alone = OpenSettings { chain: false, ..image.settings(ReferenceGate::Deny)? };
            open(image.source.clone(), &alone)?.layers.swap_remove(0).info
        }
        _ => {
            let text = format!("{}: {} is recognised, but cannot be read", image.name, image.format.title);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    };
    let mut document = ImageDocument::new(&image.name, image.format, info);
    document.file_size.get_or_insert(image.source.bytes().size());
    if let Some(allocated) = image.source.allocated_size() {
        document.allocated_size.get_or_insert(allocated);
    }
    document.tidy(app);
    Ok(document)
}

/// Say what stands on an image
///
/// Partitions, logical volumes, filesystems, operating systems and what starts them. Nothing is run, mounted or written.
#[utoipa::path(
    get,
    path = "/v1/images/inspect",
    tag = "images",
    params(ImageQuery),
    responses(
        (status = 200, description = "What was found.", body = InspectionDocument),
        (status = 400, description = "The request makes no sense, or the format is ambiguous.", body = FailureDocument),
        (status = 403, description = "The path leads out of the root, or the image refers to another file.", body = FailureDocument),
        (status = 404, description = "There is no such image.", body = FailureDocument),
        (status = 413, description = "It unpacks to more than is looked at.", body = FailureDocument),
        (status = 422, description = "It is corrupt, or of a kind that is not handled.", body = FailureDocument),
    )
)]
pub(crate) async fn inspect(
    State(app): State<Shared>,
    Query(query): Query<ImageQuery>,
) -> Answer<Json<InspectionDocument>> {
    let declared = source_format(query.src.as_deref())?;
    app.look(move |app| {
        let image = image(app, query.path.as_deref(), query.upload.as_deref(), declared)?;
        let name = image.name.clone();
        let disk = image.disk(app.gate())?;
        let volumes = Volumes::scan(&disk, &[], ReadSettings::default())?;
        let found = transload::inspect::inspect(disk.as_ref(), &volumes)?;
        InspectionDocument::new(name, disk.size(), &volumes, found)
    })
    .await
    .map(Json)
}

/// List a folder in an image
///
/// The files in one folder of one filesystem, a page at a time.
#[utoipa::path(
    get,
    path = "/v1/images/tree",
    tag = "images",
    params(TreeQuery),
    responses(
        (status = 200, description = "A page of the folder.", body = TreeDocument),
        (status = 400, description = "The request makes no sense, the format is ambiguous, or several volumes could be meant.", body = FailureDocument),
        (status = 403, description = "The path leads out of the root, or the image refers to another file.", body = FailureDocument),
        (status = 404, description = "There is no such image, volume or folder.", body = FailureDocument),
        (status = 413, description = "It unpacks to more than is looked at.", body = FailureDocument),
        (status = 422, description = "It is corrupt, or of a kind that is not handled.", body = FailureDocument),
    )
)]
pub(crate) async fn tree(State(app): State<Shared>, Query(query): Query<TreeQuery>) -> Answer<Json<TreeDocument>> {
    let declared = source_format(query.src.as_deref())?;
    let limit = query.limit()?;
    let app_for_look = Arc::clone(&app);
    let found = app_for_look
        .look(move |app| {
            let image = image(app, query.path.as_deref(), query.upload.as_deref(), declared)?;
            let disk = image.disk(app.gate())?;
            tree::list(&disk, &query, limit)
        })
        .await?;
    found.map(Json).ok_or_else(|| Problem::not_found("there is no such folder in the image"))
}
