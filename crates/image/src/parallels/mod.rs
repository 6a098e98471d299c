//! Parallels disks: expanding images with either magic, and bundles.
//!
//! A bundle (`NAME.hdd`) is a folder of images and a `DiskDescriptor.xml` that says which parts of the disk they hold and
//! which of them are snapshots of which: `docs/interop/parallels.rst` and `docs/interop/prl-xml.rst` of the QEMU project.
//! Read only.
//!
//! ```text
//! image.rs       one expanding image        description.rs   the XML: storages, images, snapshots
//! bundle.rs      opens what it names, and lays snapshots over each other
//! ```
//!
//! A folder that is given instead of a file stands for the description in it.

mod bundle;
mod description;
mod image;

use transload_block::Result;

use crate::mapped::{layer, row, variant};
use crate::{Format, ImageInfo, Layer, Match, OpenRequest, OptionKind, OptionSpec, ProbeWindow, Source, Variant};
use description::Description;
use image::Header;

#[doc(hidden)]
pub use description::fuzz_description;

/// The row of Parallels in the table of formats.
pub const FORMAT: Format = Format {
    open_options: OPTIONS,
    ..row(("parallels", &[], "Parallels disk"), &["hdd", "hds"], VARIANTS, probe, describe, open)
};

/// What the description of a bundle is called.
pub(crate) const DESCRIPTION_NAME: &str = "DiskDescriptor.xml";

const VARIANTS: &[Variant] = &[
    variant("WithoutFreeSpace", "blocks whose places are counted in sectors"),
    variant("WithouFreSpacExt", "blocks whose places are counted in blocks, for larger files"),
    variant("bundle", "a folder with a description, plain and expanding images, and snapshots"),
];

const OPTIONS: &[OptionSpec] = &[OptionSpec {
    name: "snapshot",
    kind: OptionKind::Text,
    default: "the newest",
    help: "the GUID of the snapshot of a bundle to read",
}];

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The second kind counts in tracks instead of sectors, so that it can be larger.
    let magic = window.head_has(0, b"WithoutFreeSpace") || window.head_has(0, b"WithouFreSpacExt");
    let image = magic && window.le32(16) == Some(image::VERSION);
    if image || description::is_description(window.head) { Match::Yes } else { Match::No }
}

/// The description in `source`, if that is what it holds.
fn description(source: &Source) -> Result<Option<Description>> {
    let file = source.bytes();
    let mut front = vec![0; usize::try_from(file.size().min(1024)).unwrap_or(0)];
    file.read_at(&mut front, 0)?;
    description::is_description(&front).then(|| Description::read(&**file)).transpose()
}

fn describe(source: &Source) -> Result<ImageInfo> {
    match description(source)? {
        Some(description) => bundle::info(&description, &description.chain(None)?, source),
        None => Ok(Header::read(&**source.bytes())?.info(source)),
    }
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    if let Some(description) = description(&request.source)? {
        return bundle::open(&request, &description);
    }
    if request.options.text("snapshot").is_some() {
        let what = "option snapshot: a single image has no snapshots, a bundle has";
        return Err(transload_block::Error::new(transload_block::ErrorKind::InvalidInput, what)
            .with_remedy("name the bundle's folder, or its DiskDescriptor.xml"));
    }
    let header = Header::read(&**request.source.bytes())?;
    let (info, block) = (header.info(&request.source), header.block);
    layer(&FORMAT, request, header, block, info, None)
}
