//! `transload chown`: owners of files in images.

use clap::Args;
use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::{Attributes, FileSystemExt, Follow, Owner};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::FileArgs;
use crate::files::session::Session;

/// Change the owner of files in an image
///
/// Users and groups are numbers: the names of this machine mean nothing in an image. The image is changed in place.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload chown 1000:1000 disk.qcow2:/home/me/notes\n  transload chown -R 33:33 disk.raw:/var/www"
)]
pub(crate) struct Arguments {
    /// The user's number, the group's number, or both
    #[arg(value_name = "UID[:GID]", value_parser = change)]
    owner: Change,
    /// The files: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", required = true, value_parser = address::parser())]
    pub(crate) addresses: Vec<Address>,
    /// Change what is in folders as well
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    files: FileArgs,
}

/// What of the owner changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    uid: Option<u32>,
    gid: Option<u32>,
}

fn change(text: &str) -> Result<Change, String> {
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("'{text}' is no number")),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    match (number(uid)?, number(gid)?) {
        (None, None) => Err("names neither a user nor a group".to_owned()),
        (uid, gid) => Ok(Change { uid, gid }),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    Session::run(|session| run_in(arguments, session))?;
    Ok(Verdict::Done)
}

pub(crate) fn run_in(arguments: &Arguments, session: &mut Session) -> Result<()> {
    for address in &arguments.addresses {
        let place = session.write(address, &arguments.files)?;
        let filesystem = &place.filesystem;
        if !filesystem.keeps().owners {
            let text = format!("{}: {} has no owners", place.name, filesystem.info().version);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let path = address.path.as_deref().unwrap_or(b"/");
        let found = filesystem.resolve(path, Follow::AllButLast).map_err(|error| error.context(&place.name))?;
        let mut files = vec![found.id];
        if arguments.recursive && filesystem.stat(found.id)?.kind == transload::filesystem::FileKind::Directory {
            for visit in filesystem.walk(found.id) {
                files.push(visit.map_err(|error| error.context(&place.name))?.id);
            }
        }
        for id in files {
            let old = filesystem.stat(id)?.owner;
            let owner =
                Owner { uid: arguments.owner.uid.unwrap_or(old.uid), gid: arguments.owner.gid.unwrap_or(old.gid) };
            let attributes = Attributes { owner: Some(owner), ..Attributes::default() };
            filesystem.set_attributes(id, &attributes).map_err(|error| error.context(address))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Change, change};

    #[test]
    fn owners_are_numbers() {
        assert_eq!(change("1:2"), Ok(Change { uid: Some(1), gid: Some(2) }));
        assert_eq!(change(":2"), Ok(Change { uid: None, gid: Some(2) }));
        assert_eq!(change("1"), Ok(Change { uid: Some(1), gid: None }));
        assert!(change("root").is_err() && change(":").is_err() && change("4294967296").is_err());
    }
}
