//! `transload cp`: files between images and the host, in any direction.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::{
    Copier, CopySettings, Existing, FileId, FileKind, FileSystem, FileSystemExt, FileSystemWrite, Follow, Host,
};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::files::{FileArgs, target};

/// Copy files between images and the host
///
/// An image's file is IMG[#VOLUME]:/PATH, everything else is a file of the host. Modes, owners, times, links, extended attributes
/// and holes are kept as far as the target has a place for them. The image that is written to is changed in place.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  transload cp disk.qcow2:/etc/hosts .
  transload cp -r site/. disk.vmdk#2:/var/www
  transload cp a.vmdk#1:/etc/hosts b.qcow2#2:/tmp/")]
pub(crate) struct Arguments {
    /// What to copy, and as the last one where to
    #[arg(value_name = "SRC… DST", required = true, num_args = 2.., value_parser = address::parser())]
    pub(crate) addresses: Vec<Address>,
    /// Copy folders with everything in them; SRC/. is what is in SRC
    #[arg(short = 'r', visible_short_alias = 'a', long)]
    recursive: bool,
    /// Leave files that are there already, and fail
    #[arg(short = 'n', long)]
    no_clobber: bool,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    Session::run(|session| run_in(arguments, session))?;
    Ok(Verdict::Done)
}

/// Where files are copied to: a filesystem, and in it a folder, or a folder and a new name.
struct Destination {
    filesystem: Arc<dyn FileSystemWrite>,
    folder: FileId,
    name: Option<Vec<u8>>,
    shown: String,
}

pub(crate) fn run_in(arguments: &Arguments, session: &mut Session) -> Result<()> {
    let Some((last, sources)) = arguments.addresses.split_last() else { return Ok(()) };
    if arguments.addresses.iter().all(|address| address.path.is_none()) {
        let text = "neither side is in an image: IMG[#VOLUME]:/PATH";
        return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("copy files of the host with cp"));
    }
    let several = sources.len() > 1;
    let destination = match &last.path {
        Some(path) => image_destination(last, path, several, arguments, session)?,
        None => host_destination(&last.image, several)?,
    };
    let settings = CopySettings {
        recursive: arguments.recursive,
        existing: if arguments.no_clobber { Existing::Refuse } else { Existing::Replace },
        steady: session.steady,
    };
    let mut skipped = 0;
    for source in sources {
        let (filesystem, path, shown): (Arc<dyn FileSystem>, Vec<u8>, String) = match &source.path {
            Some(path) => {
                let place = session.read(source, &arguments.files)?;
                (place.filesystem, path.clone(), place.name)
            }
            None => host_source(&source.image)?,
        };
        let mut copier = Copier::new(&*filesystem, &*destination.filesystem, settings);
        let done = copy(&mut copier, &*filesystem, &path, &destination);
        for text in copier.skipped() {
            eprintln!("transload: {}: {text}", destination.shown);
            skipped += 1;
        }
        done.map_err(|error| error.context(format_args!("{shown} to {}", destination.shown)))?;
    }
    if skipped > 0 {
        let text = format!("{}: {skipped} files have no place there and were left out", destination.shown);
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(())
}

fn copy(copier: &mut Copier<'_>, from: &dyn FileSystem, path: &[u8], to: &Destination) -> Result<()> {
    let contents = path.ends_with(b"/.") || path == b".";
    let follow = if contents || path.ends_with(b"/") { Follow::All } else { Follow::AllButLast };
    let found = from.resolve(path, follow)?;
    let is_root = found.path == b"/";
    // The root of a filesystem has no name under which it could be put into a folder.
    if (contents || is_root) && from.stat(found.id)?.kind == FileKind::Directory {
        return match &to.name {
            None => copier.copy_contents(found.id, to.folder),
            Some(name) => copier.copy(found.id, to.folder, name),
        };
    }
    let own = found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    copier.copy(found.id, to.folder, to.name.as_deref().unwrap_or(own))
}

fn image_destination(
    address: &Address,
    path: &[u8],
    several: bool,
    arguments: &Arguments,
    session: &mut Session,
) -> Result<Destination> {
    let place = session.write(address, &arguments.files)?;
    let shown = format!("{}:{}", place.name, String::from_utf8_lossy(path));
    let filesystem = place.filesystem;
    let within = |error: Error| error.context(&shown);
    if let Some(folder) = target::folder(&*filesystem, path).map_err(within)? {
        return Ok(Destination { filesystem, folder, name: None, shown });
    }
    refuse_several(several || path.ends_with(b"/"), &shown)?;
    let parent = target::parent(&*filesystem, path).map_err(within)?;
    let (folder, name) =
        parent.ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{shown}: names no file")))?;
    Ok(Destination { filesystem, folder, name: Some(name), shown })
}

fn host_destination(path: &std::path::Path, several: bool) -> Result<Destination> {
    let shown = path.display().to_string();
    if path.is_dir() {
        let host = Host::new(path);
        let folder = host.root();
        return Ok(Destination { filesystem: Arc::new(host), folder, name: None, shown });
    }
    refuse_several(several || path.as_os_str().as_bytes().ends_with(b"/"), &shown)?;
    let name =
        path.file_name().ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{shown}: names no file")))?;
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let host = Host::new(&parent);
    let folder = host.root();
    Ok(Destination { filesystem: Arc::new(host), folder, name: Some(name.as_bytes().to_vec()), shown })
}

fn refuse_several(needs_folder: bool, shown: &str) -> Result<()> {
    if needs_folder {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{shown}: is no folder")));
    }
    Ok(())
}

/// A file of the host as a path in the folder that it is in.
fn host_source(path: &std::path::Path) -> Result<(Arc<dyn FileSystem>, Vec<u8>, String)> {
    let shown = path.display().to_string();
    path.symlink_metadata().map_err(|error| Error::io(&shown, error))?;
    let bytes = path.as_os_str().as_bytes();
    let contents = bytes.ends_with(b"/.") || bytes == b"." || path.file_name().is_none();
    if contents {
        return Ok((Arc::new(Host::new(path)), b"/.".to_vec(), shown));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let name = path.file_name().map(|name| name.to_owned().into_vec()).unwrap_or_default();
    Ok((Arc::new(Host::new(&parent)), [b"/".as_slice(), &name].concat(), shown))
}
