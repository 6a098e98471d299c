//! Opening one layer: header, snapshot, external data file, and what `info` shows.

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result, Storage};

use super::bitmap;
use super::device::{Files, Qcow2};
use super::error::Qcow2Error;
use super::open::ParsedHeader;
use super::snapshot::{self, Snapshot};
use crate::{
    Access, ImageInfo, ImageWrite, Layer, OpenRequest, OptionKind, OptionSpec, ParentReference, ReferenceGate, Source,
};

/// What `-o` understands when reading.
pub(crate) const OPEN_OPTIONS: &[OptionSpec] = &[OptionSpec {
    name: "snapshot",
    kind: OptionKind::Text,
    default: "",
    help: "read the disk as it was at this internal snapshot, by id or name",
}];

/// Says what the image says of itself. Nothing that it names is opened, and nothing but the header and the snapshot table
/// is read.
///
/// # Errors
/// What the header or the snapshot table breaks.
pub(crate) fn describe(source: &Source) -> Result<ImageInfo> {
    let header = ParsedHeader::read(&**source.bytes())?;
    let snapshots = snapshot::read_table(&**source.bytes(), &header)?;
    Ok(info(source, &header, &snapshots))
}

/// Opens one layer.
///
/// # Errors
/// What the header breaks; `Unsupported` when payload is encrypted; `InvalidInput` for an unknown snapshot, or one opened
/// for writing; for writing also what [`Qcow2::open_for_writing`] says; what the gate answers for the data file.
pub(crate) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, gate, options, access, cache_bytes } = request;
    let header = ParsedHeader::read(&**source.bytes())?;
    if let Some(method) = header.crypt.name() {
        return Err(Qcow2Error::Encrypted(method).into());
    }
    let snapshots = snapshot::read_table(&**source.bytes(), &header)?;
    let info = info(&source, &header, &snapshots);
    let parent = header.backing_file.clone().map(|name| ParentReference {
        names: vec![name],
        format: header.backing_format.clone(),
        content_id: None,
        modified: None,
    });
    let (device, writer): (Arc<dyn BlockRead>, Option<Arc<dyn ImageWrite>>) = match access {
        Access::ReadOnly => {
            let wanted = options.text("snapshot");
            let chosen = wanted.map(|wanted| snapshot::find(&snapshots, wanted)).transpose()?;
            (Arc::new(open_to_read(&source, gate, header, chosen, cache_bytes)?), None)
        }
        Access::ReadWrite => {
            if options.text("snapshot").is_some() {
                return Err(Error::new(ErrorKind::InvalidInput, "a snapshot can only be read"));
            }
            let device = open_to_write(&source, gate, &header, cache_bytes)?;
            (Arc::clone(&device) as Arc<dyn BlockRead>, Some(device))
        }
    };
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent, content_ids: Vec::new() })
}

fn open_to_read(
    source: &Source,
    gate: &ReferenceGate,
    header: ParsedHeader,
    chosen: Option<&Snapshot>,
    cache_bytes: usize,
) -> Result<Qcow2> {
    let file = Arc::clone(source.bytes());
    let view = chosen.map(|snapshot| snapshot.view(&*file, &header)).transpose()?;
    let data_file = data_file_name(&header)?
        .map(|name| gate.open(source, name, Access::ReadOnly))
        .transpose()
        .map_err(|error| error.context("external data file"))?
        .map(|opened| Arc::clone(opened.bytes()));
    Ok(Qcow2::open(header, Files { file, data_file }, view, cache_bytes))
}

fn open_to_write(
    source: &Source,
    gate: &ReferenceGate,
    header: &ParsedHeader,
    cache_bytes: usize,
) -> Result<Arc<Qcow2>> {
    let storage = Arc::clone(source.storage()?);
    let data_file = data_file_name(header)?
        .map(|name| -> Result<Arc<dyn Storage>> {
            let opened = gate.open(source, name, Access::ReadWrite)?;
            Ok(Arc::clone(opened.storage()?))
        })
        .transpose()
        .map_err(|error| error.context("external data file"))?;
    Ok(Arc::new(Qcow2::open_for_writing(storage, data_file, cache_bytes)?))
}

/// The external data file's name, when the image has one.
fn data_file_name(header: &ParsedHeader) -> Result<Option<&str>, Qcow2Error> {
    match header.data_file.as_deref() {
        _ if !header.has_data_file() => Ok(None),
        Some(name) if !name.is_empty() => Ok(Some(name)),
        _ => Err(Qcow2Error::DataFileUnnamed),
    }
}

fn info(source: &Source, header: &ParsedHeader, snapshots: &[Snapshot]) -> ImageInfo {
    let on_off = |flag: bool| if flag { "on" } else { "off" }.to_owned();
    let mut info = ImageInfo {
        format: "qcow2".to_owned(),
        variant: Some(format!("v{}", header.version)),
        virtual_size: header.size,
        file_size: Some(source.bytes().size()),
        cluster_size: Some(header.geometry.cluster_size()),
        compression: Some(header.compression_name().to_owned()),
        encryption: header.crypt.name().map(str::to_owned),
        backing_file: header.backing_file.clone(),
        backing_format: header.backing_format.clone(),
        data_file: header.data_file.clone().filter(|_| header.has_data_file()),
        snapshots: snapshots.iter().map(Snapshot::info).collect(),
        dirty: header.dirty(),
        corrupt: header.corrupt(),
        ..ImageInfo::default()
    };
    let mut detail = |name: &str, value: String| info.details.insert(name.to_owned(), value);
    detail("compat", if header.version == 2 { "0.10" } else { "1.1" }.to_owned());
    detail("refcount-bits", (1_u32 << header.geometry.refcount_order).to_string());
    if header.version >= 3 {
        detail("lazy-refcounts", on_off(header.lazy_refcounts()));
        detail("extended-l2", on_off(header.geometry.extended_l2));
    }
    if header.has_data_file() {
        detail("data-file-raw", on_off(header.data_file_raw()));
    }
    match bitmap::list(&**source.bytes(), header) {
        Ok(bitmaps) => info.bitmaps = bitmaps,
        Err(error) => info.warnings.push(error.to_string()),
    }
    if header.dirty() {
        info.warnings.push("the image was not closed: its refcounts may be wrong".to_owned());
    }
    if header.corrupt() {
        info.warnings.push("the image is marked as corrupt".to_owned());
    }
    info
}
