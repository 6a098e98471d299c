//! The volumes of an image that a command was given.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use transload::block::{BlockRead, Result};
use transload::image::Format;
use transload::volume::{ReadSettings, Volumes};

use crate::args::ReadArgs;
use crate::input;

pub(crate) mod document;
pub(crate) mod listing;

/// How the volumes of an image are found.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct VolumeArgs {
    /// Another image with physical volumes of the same LVM groups; may be given several times
    #[arg(long, value_name = "IMG", help_heading = "Volumes")]
    pub(crate) with_disk: Vec<PathBuf>,
    /// The sectors that the partition table counts in; found out when not given
    #[arg(long, value_name = "BYTES", value_parser = sector_size(), help_heading = "Volumes")]
    pub(crate) sector_size: Option<u32>,
}

/// Parses the size of a sector.
fn sector_size() -> impl TypedValueParser<Value = u32> {
    PossibleValuesParser::new(["512", "4096"]).try_map(|text| text.parse::<u32>())
}

impl VolumeArgs {
    pub(crate) fn settings(&self) -> ReadSettings {
        ReadSettings { sector_size: self.sector_size }
    }
}

/// Opens the image at `path` for reading and finds its volumes; the devices hold what they stand on.
pub(crate) fn scan(path: &Path, read: &ReadArgs, volumes: &VolumeArgs) -> Result<(Arc<dyn BlockRead>, Volumes)> {
    let disk = open(path, read)?;
    let others = open_others(read, volumes)?;
    let found = Volumes::scan(&disk, &others, volumes.settings()).map_err(|error| error.context(path.display()))?;
    Ok((disk, found))
}

/// Opens an image, or what is its own disk.
fn open(path: &Path, read: &ReadArgs) -> Result<Arc<dyn BlockRead>> {
    input::open(path, &as_disk(path, read)?).map(|opened| opened.device)
}

/// How an image is opened whose volumes are asked for: the bytes of an ISO 9660 image and of an encrypted volume are those a
/// guest sees.
pub(crate) fn as_disk(path: &Path, read: &ReadArgs) -> Result<ReadArgs> {
    const OWN_DISKS: [&str; 2] = ["iso", "luks"];
    let mut read = read.clone();
    let is_file = input::nbd_address(path).is_none();
    if read.format.is_none() && is_file && OWN_DISKS.contains(&transload::detect(path)?.name) {
        read.format = Format::by_name("raw");
    }
    Ok(read)
}

/// Opens the images beside the one that a command is about. What the format and its options are is said of the one; those
/// beside it are looked at.
pub(crate) fn open_others(read: &ReadArgs, volumes: &VolumeArgs) -> Result<Vec<Arc<dyn BlockRead>>> {
    let plain = ReadArgs { format: None, options: Vec::new(), ..read.clone() };
    volumes.with_disk.iter().map(|path| open(path, &plain)).collect()
}
