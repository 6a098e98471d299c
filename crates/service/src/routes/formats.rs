//! `GET /v1/formats`: the table of formats, as a page and a client need it.

use axum::Json;
use serde::Serialize;
use transload::image::{FORMATS, Format, OptionKind, OptionSpec};
use utoipa::ToSchema;

/// A format and what can be done with it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FormatDocument {
    /// The name that `src` and `dst` take.
    #[schema(example = "qcow2")]
    name: &'static str,
    /// Other names that they take.
    aliases: &'static [&'static str],
    /// The name for people.
    title: &'static str,
    /// Usual endings of file names, without the dot.
    extensions: &'static [&'static str],
    /// Whether it is a source.
    read: bool,
    /// Whether it is a target.
    write: bool,
    /// Whether an upload is read while it arrives; others are stored first.
    stream_read: bool,
    /// Whether an export is sent while it is made; others are made in a file first.
    stream_write: bool,
    /// Whether it can be checked.
    check: bool,
    /// Its kinds, by the names that the option `subformat` takes.
    variants: Vec<VariantDocument>,
    /// Its options as a target.
    options: Vec<OptionDocument>,
}

/// A kind of a format.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VariantDocument {
    name: &'static str,
    /// One line for people.
    summary: &'static str,
    read: bool,
    write: bool,
    stream_read: bool,
    stream_write: bool,
}

/// An option of a target.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OptionDocument {
    name: &'static str,
    /// One line for people.
    help: &'static str,
    /// `flag` (`on` or `off`), `number`, `size` (with k, M, G, T), `choice` or `text`.
    kind: &'static str,
    /// What a `choice` may be.
    choices: &'static [&'static str],
    /// What it is when it is not given; empty where that depends.
    default: &'static str,
}

/// The formats.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FormatsDocument {
    formats: Vec<FormatDocument>,
}

/// List the formats
///
/// What can be read, written and streamed, with the kinds and options of each.
#[utoipa::path(get, path = "/v1/formats", tag = "images", responses((status = 200, description = "The formats.", body = FormatsDocument)))]
pub(crate) async fn formats() -> Json<FormatsDocument> {
    Json(FormatsDocument { formats: FORMATS.iter().copied().map(document).collect() })
}

fn document(format: &'static Format) -> FormatDocument {
    let variants = format.variants.iter().map(|variant| VariantDocument {
        name: variant.name,
        summary: variant.summary,
        read: variant.read,
        write: variant.write || variant.stream_write,
        stream_read: variant.stream_read,
        stream_write: variant.stream_write,
    });
    FormatDocument {
        name: format.name,
        aliases: format.aliases,
        title: format.title,
        extensions: format.extensions,
        read: format.open.is_some() || format.stream.is_some(),
        write: format.create.is_some() || format.sink.is_some(),
        stream_read: format.stream.is_some(),
        stream_write: format.sink.is_some(),
        check: format.check.is_some(),
        variants: variants.collect(),
        options: format.create_options.iter().filter(|spec| !refers(spec)).map(option).collect(),
    }
}

/// Whether an option names another file, which no request may.
fn refers(spec: &OptionSpec) -> bool {
    super::convert::REFERRING.contains(&spec.name)
}

fn option(spec: &OptionSpec) -> OptionDocument {
    let (kind, choices): (_, &'static [&'static str]) = match spec.kind {
        OptionKind::Flag => ("flag", &[]),
        OptionKind::Number => ("number", &[]),
        OptionKind::Size => ("size", &[]),
        OptionKind::Choice(words) => ("choice", words),
        OptionKind::Text => ("text", &[]),
    };
    OptionDocument { name: spec.name, help: spec.help, kind, choices, default: spec.default }
}
