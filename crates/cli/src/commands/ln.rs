//! `transload ln`: links in images.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::{Attributes, FileSystemExt, Follow};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::session::Session;
use crate::files::{FileArgs, target};

/// Make links in an image
///
/// Without -s TARGET is the path of a file in the same filesystem, which gets another name. The image is changed in place.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload ln -s ../usr/share/zoneinfo/UTC disk.qcow2:/etc/localtime\n  transload ln /boot/vmlinuz disk.raw:/boot/vmlinuz.old"
)]
pub(crate) struct Arguments {
    /// What the link points to
    #[arg(value_name = "TARGET")]
    to: OsString,
    /// The link: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", value_parser = address::parser())]
    pub(crate) address: Address,
    /// A symbolic link
    #[arg(short = 's', long)]
    symbolic: bool,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    Session::run(|session| run_in(arguments, session))?;
    Ok(Verdict::Done)
}

pub(crate) fn run_in(arguments: &Arguments, session: &mut Session) -> Result<()> {
    let place = session.write(&arguments.address, &arguments.files)?;
    let filesystem = &*place.filesystem;
    let make = || {
        let parent = target::parent(filesystem, arguments.address.path.as_deref().unwrap_or(b"/"))?;
        let (folder, name) = parent.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the link needs a name"))?;
        let to = arguments.to.as_bytes();
        let linked = if arguments.symbolic { None } else { Some(filesystem.resolve(to, Follow::AllButLast)?.id) };
        if arguments.force && filesystem.lookup(folder, &name)?.is_some() {
            filesystem.remove(folder, &name)?;
        }
        match linked {
            Some(id) => filesystem.link(folder, &name, id),
            None => {
                let attributes = Attributes { permissions: Some(0o777), ..Attributes::default() };
                filesystem.create_symlink(folder, &name, to, &attributes).map(drop)
            }
        }
    };
    make().map_err(|error| error.context(&arguments.address))
}
