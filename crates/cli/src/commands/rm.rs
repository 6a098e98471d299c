//! `transload rm`: takes files out of images.

use clap::Args;
use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::{FileId, FileKind, FileSystemExt, FileSystemWrite};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::files::{FileArgs, target};

/// Remove files from an image
///
/// The image is changed in place.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload rm disk.qcow2:/etc/machine-id\n  transload rm -r --force disk.vmdk#2:/var/cache/apt"
)]
pub(crate) struct Arguments {
    /// The files: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", required = true, value_parser = address::parser())]
    pub(crate) addresses: Vec<Address>,
    /// Remove folders with everything in them
    #[arg(short = 'r', long)]
    recursive: bool,
    /// Be content where there is nothing of that name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    files: FileArgs,
}

/// Folders inside each other.
const DEEPEST: usize = 2048;

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    Session::run(|session| run_in(arguments, session))?;
    Ok(Verdict::Done)
}

pub(crate) fn run_in(arguments: &Arguments, session: &mut Session) -> Result<()> {
    for address in &arguments.addresses {
        let place = session.write(address, &arguments.files)?;
        let path = address.path.as_deref().unwrap_or(b"/");
        remove(&*place.filesystem, path, arguments).map_err(|error| error.context(address))?;
    }
    Ok(())
}

fn remove(filesystem: &dyn FileSystemWrite, path: &[u8], arguments: &Arguments) -> Result<()> {
    let parent = match target::parent(filesystem, path) {
        Err(_)
            if arguments.force
                && transload::filesystem::find(filesystem, path, transload::filesystem::Follow::All)?.is_none() =>
        {
            return Ok(());
        }
        parent => parent?,
    };
    let (folder, name) =
        parent.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the root folder cannot be removed"))?;
    let Some(id) = filesystem.lookup(folder, &name)? else {
        return if arguments.force { Ok(()) } else { Err(Error::new(ErrorKind::Io, "no such file or folder")) };
    };
    if filesystem.stat(id)?.kind == FileKind::Directory {
        if !arguments.recursive {
            return Err(Error::new(ErrorKind::InvalidInput, "it is a folder").with_remedy("remove folders with -r"));
        }
        empty(filesystem, id)?;
    }
    filesystem.remove(folder, &name)
}

/// Removes everything in a folder: what is in folders before the folders.
fn empty(filesystem: &dyn FileSystemWrite, folder: FileId) -> Result<()> {
    let mut stack = vec![(folder, filesystem.entries(folder)?)];
    while let Some((folder, rest)) = stack.last_mut() {
        let folder = *folder;
        let Some(entry) = rest.pop() else {
            stack.pop();
            // The folder that this one is in has it still in its list.
            if let Some((outer, rest)) = stack.last_mut()
                && let Some(done) = rest.pop()
            {
                filesystem.remove(*outer, &done.name)?;
            }
            continue;
        };
        if filesystem.stat(entry.id)?.kind != FileKind::Directory {
            filesystem.remove(folder, &entry.name)?;
            continue;
        }
        if stack.len() > DEEPEST || stack.iter().any(|(open, _)| *open == entry.id) {
            return Err(Error::new(ErrorKind::Corrupt, "a folder that is in itself"));
        }
        let (id, inner) = (entry.id, filesystem.entries(entry.id)?);
        if let Some((_, rest)) = stack.last_mut() {
            rest.push(entry);
        }
        stack.push((id, inner));
    }
    Ok(())
}
