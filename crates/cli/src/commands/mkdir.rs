//! `transload mkdir`: folders in images.

use clap::Args;
use transload::block::{Error, Result};
use transload::filesystem::{Attributes, FileSystemWrite};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::files::{FileArgs, target};

/// Make folders in an image
///
/// The image is changed in place.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload mkdir -p disk.qcow2#1:/EFI/BOOT\n  transload mkdir --mode 700 disk.raw:/root/.ssh"
)]
pub(crate) struct Arguments {
    /// The folders: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", required = true, value_parser = address::parser())]
    pub(crate) addresses: Vec<Address>,
    /// Make the folders on the way as well, and accept those that are there
    #[arg(short = 'p', long)]
    parents: bool,
    /// The permissions of the new folders, in octal digits
    #[arg(short = 'm', long, value_name = "MODE", value_parser = super::chmod::mode, default_value = "755")]
    mode: u32,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    Session::run(|session| run_in(arguments, session))?;
    Ok(Verdict::Done)
}

pub(crate) fn run_in(arguments: &Arguments, session: &mut Session) -> Result<()> {
    let attributes = Attributes { permissions: Some(arguments.mode), ..Attributes::default() };
    for address in &arguments.addresses {
        let place = session.write(address, &arguments.files)?;
        let path = address.path.as_deref().unwrap_or(b"/");
        let done = make(&*place.filesystem, path, arguments.parents, &attributes);
        done.map_err(|error: Error| error.context(address))?;
    }
    Ok(())
}

fn make(filesystem: &dyn FileSystemWrite, path: &[u8], parents: bool, attributes: &Attributes) -> Result<()> {
    if parents {
        let ends = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0).map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let upto = &path[..end];
            if target::folder(filesystem, upto)?.is_none()
                && let Some((folder, name)) = target::parent(filesystem, upto)?
            {
                filesystem.create_dir(folder, &name, attributes)?;
            }
        }
        return Ok(());
    }
    let parent = target::parent(filesystem, path)?;
    let (folder, name) =
        parent.ok_or_else(|| Error::new(transload::block::ErrorKind::Denied, "the root folder is there already"))?;
    filesystem.create_dir(folder, &name, attributes).map(drop)
}
