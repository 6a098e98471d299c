//! Files in images: which volume is meant, the filesystem on it, and how files are shown.

pub(crate) mod session;
pub(crate) mod show;
pub(crate) mod target;

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use transload::block::{BlockRead, Error, ErrorKind, Result};
use transload::filesystem::{self, FileSystem, FileSystemExt, Follow, Resolved};
use transload::volume::{Volume, VolumeName, Volumes};

use crate::address::Address;
use crate::args::ReadArgs;
use crate::volumes::{self, VolumeArgs};

/// How the image and the volume in it are opened.
#[derive(Args, Clone, Debug)]
pub(crate) struct FileArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) volumes: VolumeArgs,
}

/// A filesystem in an image.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) filesystem: Arc<dyn FileSystem>,
    /// The image and the volume, as an address would name them.
    pub(crate) name: String,
}

impl Place {
    /// What stands at the path of an address.
    pub(crate) fn resolve(&self, address: &Address, follow: Follow) -> Result<Resolved> {
        let path = address.path.as_deref().unwrap_or(b"/");
        self.filesystem.resolve(path, follow).map_err(|error| error.context(&self.name))
    }

    /// An error of something at `path`, with the name of the image and the path before it.
    pub(crate) fn context(&self, error: Error, path: &[u8]) -> Error {
        error.context(format_args!("{}:{}", self.name, String::from_utf8_lossy(path)))
    }
}

/// Opens the filesystem that an address means, for reading.
pub(crate) fn open(address: &Address, args: &FileArgs) -> Result<Place> {
    let (_, volumes) = volumes::scan(&address.image, &args.read, &args.volumes)?;
    let volume = choose(&address.image, &volumes, address.volume.as_ref())?;
    let device = volume.device().map_err(|error| error.context(address.image.display()))?;
    let name = place_name(&address.image, &volume.name);
    let filesystem = filesystem::open(device).map_err(|error| error.context(&name))?;
    for note in &filesystem.info().notes {
        eprintln!("transload: {name}: {note}");
    }
    Ok(Place { filesystem, name })
}

/// How messages name a volume of an image.
pub(crate) fn place_name(image: &Path, volume: &VolumeName) -> String {
    match volume {
        VolumeName::Whole => image.display().to_string(),
        other => format!("{}#{other}", image.display()),
    }
}

/// The volume that is named; where none is, the one that holds a root filesystem, or the only one with a filesystem.
pub(crate) fn choose<'a>(image: &Path, volumes: &'a Volumes, named: Option<&VolumeName>) -> Result<&'a Volume> {
    if let Some(name) = named {
        return volumes.find(name).map_err(|error| error.context(image.display()));
    }
    let with_files: Vec<&Volume> = volumes.iter().filter(|volume| kind_of(volume).is_some()).collect();
    if let [only] = with_files.as_slice() {
        return Ok(only);
    }
    let roots: Vec<&Volume> = with_files.iter().copied().filter(|volume| is_root(volume)).collect();
    match roots.as_slice() {
        [only] => Ok(only),
        _ => Err(undecided(image, volumes, &with_files, roots.len())),
    }
}

fn undecided(image: &Path, volumes: &Volumes, with_files: &[&Volume], roots: usize) -> Error {
    let what = match (with_files.len(), roots) {
        (0, _) => "no volume holds a filesystem that is known",
        (_, 0) => "no volume holds a root filesystem",
        _ => "several volumes hold a root filesystem",
    };
    let error = Error::new(ErrorKind::InvalidInput, format!("{}: {what}", image.display()));
    let list = |volume: &Volume| {
        let kind = volume.signature().ok().flatten();
        let kind = kind.map_or_else(|| String::from("unknown"), |found| found.format.name().to_owned());
        format!("#{} ({kind})", volume.name)
    };
    let choices: Vec<_> = volumes.iter().map(list).collect();
    if choices.is_empty() { error } else { error.with_remedy(format!("name one of them: {}", choices.join(", "))) }
}

fn kind_of(volume: &Volume) -> Option<filesystem::Kind> {
    let device = volume.device().ok()?;
    // An encrypted volume or a member of a group may look like something else on top.
    let signature = volume.signature().ok().flatten();
    if signature.is_some_and(|found| found.format.usage() != transload::volume::Usage::Filesystem) {
        return None;
    }
    filesystem::probe(&*device).ok().flatten()
}

/// Whether a volume holds the files of an operating system.
fn is_root(volume: &Volume) -> bool {
    const MARKS: &[&[u8]] = &[b"/etc/os-release", b"/usr/lib/os-release", b"/etc/fstab", b"/Windows/System32/config"];
    let open = |device: Arc<dyn BlockRead>| filesystem::open(device).ok();
    let Some(filesystem) = volume.device().ok().and_then(open) else { return false };
    MARKS.iter().any(|mark| filesystem.resolve(mark, Follow::AllButLast).is_ok())
}
