//! An overlay: a qcow2 image that takes what is written, over an image that stays as it is.

use std::fs;
use std::path::Path;

use transload_block::{Error, ErrorKind, Result};
use transload_convert::AtomicFiles;
use transload_image::{
    Access, CreateRequest, Format, IdSource, OpenSettings, Opened, OptionValues, ReferenceGate, Source, open,
};

/// Opens the overlay at `overlay` for writing, over the image at `base`; makes it where it does not exist.
///
/// The overlay names the image by its whole path, so that it can be opened later from wherever it is. `settings` are for
/// the image; what the overlay may refer to is the image, and what the image may.
///
/// # Errors
/// `InvalidInput` when the overlay exists and hangs from another image, or the image has no name as text; as
/// [`open_path`](transload_image::open_path) otherwise.
pub fn open_overlay(base: &Path, settings: &OpenSettings, overlay: &Path) -> Result<Opened> {
    let full = fs::canonicalize(base).map_err(|error| Error::io(base.display().to_string(), error))?;
    if !overlay.exists() {
        create(&full, settings, overlay)?;
    }
    let source = Source::from_path(overlay, Access::ReadWrite)?;
    let format = Format::by_name("qcow2");
    let gate = beside(&full, overlay, &settings.gate);
    let opened =
        open(source, &OpenSettings { format, access: Access::ReadWrite, gate, chain: true, ..settings.clone() })?;
    let below = opened.layers.get(1).and_then(|layer| layer.source.identity());
    if below != Source::from_path(&full, Access::ReadOnly)?.identity() {
        let (overlay, base) = (overlay.display(), base.display());
        return Err(Error::new(ErrorKind::InvalidInput, format!("{overlay}: is no overlay of {base}"))
            .with_remedy("name another file for the overlay, or the image that this one was made on"));
    }
    Ok(opened)
}

fn create(base: &Path, settings: &OpenSettings, overlay: &Path) -> Result<()> {
    let qcow2 = Format::by_name("qcow2").expect("the table has qcow2");
    let opened = open(
        Source::from_path(base, Access::ReadOnly)?,
        &OpenSettings { access: Access::ReadOnly, ..settings.clone() },
    )?;
    let name = base.to_str().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("{}: a name that is no text cannot stand in an overlay", base.display()),
        )
    })?;
    let layer = opened.layers.first().expect("an opened image has a layer");
    let mut options = OptionValues::default();
    options.set(qcow2.create_options, "backing_file", name)?;
    options.set(qcow2.create_options, "backing_fmt", layer.format.name)?;
    let size = opened.device.size();
    let ids = IdSource::from_material(format!("overlay of {name} {size}").as_bytes());
    let files = AtomicFiles::create(overlay, false, Vec::new())?;
    let request = CreateRequest {
        files: &files,
        size,
        options: &options,
        ids: &ids,
        backing: Some(layer),
        cache_bytes: settings.cache_bytes,
    };
    (qcow2.create.expect("qcow2 can be made"))(request)?.finish()?;
    files.commit()
}

/// A gate that lets the overlay have the image, and the image what it was allowed anyway.
fn beside(base: &Path, overlay: &Path, gate: &ReferenceGate) -> ReferenceGate {
    let folder = base.parent().unwrap_or(Path::new("/")).to_owned();
    let mut folders = vec![folder];
    folders.extend(overlay.parent().filter(|parent| parent != &Path::new("")).map(Path::to_owned));
    if let ReferenceGate::Allow(more) = gate {
        folders.extend(more.iter().cloned());
    }
    ReferenceGate::Allow(folders)
}
