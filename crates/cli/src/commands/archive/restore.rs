//! `transload archive restore`: a disk image from an archive.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use transload::archive::{self, Sidecar, Watch, Watched};
use transload::block::{BlockWrite, Error, ErrorKind, Result};
use transload::convert::AtomicFiles;
use transload::filesystem::{FileSystem, FileSystemExt, Follow};
use transload::image::{CreateRequest, Format, IdSource, OpenSettings, OptionValues};

use super::address::{self, Address};
use super::open::ArchiveArgs;
use super::watch::{self, Counted};
use crate::args::{self, ProgressArgs};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::files::show;
use crate::{target, text};

/// Rebuild a disk image from an archive
///
/// Partition table, boot sectors and identifiers are as they were; ext2, ext3, ext4 and FAT filesystems are made anew with the files in them. What was stored byte by byte comes back so. What cannot be rebuilt is named, and is a failure without --partial.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive restore /srv/archive -o web.qcow2\n  transload archive restore /srv/archive 1a2b3c4d:/web -O raw -o web.img --partial"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The disk: the first digits of a snapshot or `latest`, and the disk's name where there are several
    #[arg(value_name = "SNAPSHOT[:/DISK]", value_parser = address::parser())]
    address: Option<Address>,
    /// The image to make
    #[arg(short = 'o', long = "output", value_name = "IMG")]
    output: PathBuf,
    /// The format; from the name's ending when not given
    #[arg(short = 'O', long = "output-format", value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    format: Option<&'static Format>,
    /// Leave volumes out that cannot be rebuilt
    #[arg(long)]
    partial: bool,
    /// Replace the image if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    image: String,
    format: &'static str,
    disk: String,
    size: u64,
    volumes: Vec<String>,
    left_out: Vec<String>,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let format = target::format(arguments.format, &arguments.output)?;
    let repository = arguments.archive.open()?;
    let address = arguments.address.clone().unwrap_or_default();
    let place = arguments.archive.place(&repository, &repository.find_snapshot(&address.snapshot)?)?;
    let disk = disk(&*place.filesystem, &address.path).map_err(|error| error.context(&place.name))?;
    let sidecar = Sidecar::read(&*place.filesystem, &disk)?;
    let obstacles = archive::obstacles(&sidecar);
    if !arguments.partial && !obstacles.is_empty() {
        let text = format!("disk {disk} cannot be rebuilt whole: {}", obstacles.join("; "));
        return Err(Error::new(ErrorKind::Unsupported, text)
            .with_remedy("--partial rebuilds the rest, `archive extract` gives the files"));
    }
    let (watch, display) = watch::start(arguments.progress)?;
    let files = watched(&place.filesystem, &disk, watch)?;
    let image = AtomicFiles::create(&arguments.output, arguments.force, Vec::new())?;
    let made = write(arguments, format, &files, &sidecar, &image);
    drop(display);
    let made = made?;
    image.commit()?;
    for line in made.left_out.iter().chain(&made.warnings) {
        eprintln!("transload: {line}");
    }
    if arguments.json {
        text::json(&Document {
            image: arguments.output.display().to_string(),
            format: format.name,
            disk,
            size: sidecar.size,
            volumes: made.volumes,
            left_out: made.left_out,
            warnings: made.warnings,
        })?;
    }
    Ok(Verdict::Done)
}

fn watched(files: &Arc<dyn FileSystem>, disk: &str, watch: Counted) -> Result<Arc<dyn FileSystem>> {
    if watch.wants_total() {
        let found = files.resolve(format!("/{disk}").as_bytes(), Follow::AllButLast)?;
        watch.begin(archive::total(&**files, found.id).unwrap_or(0));
    }
    Ok(Arc::new(Watched::new(Arc::clone(files), Arc::new(watch))))
}

fn write(
    arguments: &Arguments,
    format: &'static Format,
    files: &Arc<dyn FileSystem>,
    sidecar: &Sidecar,
    image: &AtomicFiles,
) -> Result<archive::Restoration> {
    let create = format.create.ok_or_else(|| {
        let text = format!("{} images are written from front to back", format.title);
        Error::new(ErrorKind::Unsupported, text).with_remedy("restore to raw or qcow2, and convert that")
    })?;
    let options = OptionValues::default();
    let material = format!("restore {} {} {}", format.name, sidecar.name, sidecar.size);
    let ids = IdSource::from_material(material.as_bytes());
    let cache_bytes = OpenSettings::default().cache_bytes;
    let request =
        CreateRequest { files: image, size: sidecar.size, options: &options, ids: &ids, backing: None, cache_bytes };
    let made = create(request)?;
    let writer: Arc<dyn BlockWrite> = Arc::clone(&made) as _;
    let now = Session::new()?.now;
    let done =
        archive::restore(files, sidecar, &writer, now).map_err(|error| error.context(arguments.output.display()))?;
    made.finish()?;
    Ok(done)
}

/// The disk that is meant: the named one, or the only one.
fn disk(files: &dyn FileSystem, path: &[u8]) -> Result<String> {
    let disks = Sidecar::disks(files)?;
    let named = path.split(|byte| *byte == b'/').find(|name| !name.is_empty());
    match (named, disks.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(Error::new(ErrorKind::InvalidInput, "the snapshot is not of disks")
            .with_remedy("`archive extract` gives the files")),
        (None, several) => {
            let text = format!("the snapshot has several disks: {}", several.join(", "));
            Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("name one: SNAPSHOT:/DISK"))
        }
        (Some(name), _) => disks.iter().find(|disk| disk.as_bytes() == name).cloned().ok_or_else(|| {
            let text = format!("there is no disk \"{}\"; there is {}", show::name(name), disks.join(", "));
            Error::new(ErrorKind::InvalidInput, text)
        }),
    }
}
