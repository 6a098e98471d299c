//! `transload chmod`: permissions of files in images.

use clap::Args;
use transload::block::Result;
use transload::filesystem::{Attributes, FileSystemExt, Follow};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::FileArgs;
use crate::files::session::Session;

/// Change the permissions of files in an image
///
/// The image is changed in place.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload chmod 600 disk.qcow2:/etc/shadow")]
pub(crate) struct Arguments {
    /// The permissions in octal digits
    #[arg(value_name = "MODE", value_parser = mode)]
    mode: u32,
    /// The files: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", required = true, value_parser = address::parser())]
    pub(crate) addresses: Vec<Address>,
    #[command(flatten)]
    files: FileArgs,
}

/// Parses permissions in octal digits.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "must be octal, up to 7777".to_owned())
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
        let found = place.filesystem.resolve(path, Follow::All).map_err(|error| error.context(&place.name))?;
        place.filesystem.set_attributes(found.id, &attributes).map_err(|error| error.context(address))?;
    }
    Ok(())
}
