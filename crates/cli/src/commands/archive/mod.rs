//! `transload archive`: disks' files in a repository of restic's format. One file per command.

mod address;
mod cat;
mod compact;
mod create;
mod diff;
mod export;
mod extract;
mod forget;
mod info;
mod list;
pub(super) mod open;
pub(super) mod password;
mod restore;
mod similar;
mod verify;
mod watch;

use clap::{Args, Subcommand};
use transload::block::Result;

use crate::failure::Verdict;

/// Keep the files of disks: deduplicated, compressed, encrypted, verifiable
///
/// An archive is a repository of restic's format: restic lists, checks and restores it too. A snapshot holds the files of one or several disks, with what is needed to rebuild them.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive create web.qcow2 db.vmdk -o /srv/archive\n  transload archive list /srv/archive\n  transload archive extract /srv/archive latest:/web/volumes/2/etc -C etc\n  transload archive restore /srv/archive latest:/web -o web.qcow2\n\nThe password comes from RESTIC_PASSWORD, RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND, the options of these names, or the terminal.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Box<create::Arguments>),
    List(list::Arguments),
    Cat(cat::Arguments),
    Extract(extract::Arguments),
    Verify(verify::Arguments),
    Diff(diff::Arguments),
    Info(info::Arguments),
    Similar(similar::Arguments),
    Forget(forget::Arguments),
    Compact(compact::Arguments),
    Restore(restore::Arguments),
    Export(export::Arguments),
}

impl Arguments {
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Create(arguments) => arguments.json,
            Command::List(arguments) => arguments.json,
            Command::Extract(arguments) => arguments.json,
            Command::Verify(arguments) => arguments.json,
            Command::Diff(arguments) => arguments.json,
            Command::Info(arguments) => arguments.json,
            Command::Similar(arguments) => arguments.json,
            Command::Forget(arguments) => arguments.json,
            Command::Compact(arguments) => arguments.json,
            Command::Restore(arguments) => arguments.json,
            Command::Export(arguments) => arguments.json,
            Command::Cat(_) => false,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    match &arguments.command {
        Command::Create(arguments) => create::run(arguments),
        Command::List(arguments) => list::run(arguments),
        Command::Cat(arguments) => cat::run(arguments),
        Command::Extract(arguments) => extract::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Info(arguments) => info::run(arguments),
        Command::Similar(arguments) => similar::run(arguments),
        Command::Forget(arguments) => forget::run(arguments),
        Command::Compact(arguments) => compact::run(arguments),
        Command::Restore(arguments) => restore::run(arguments),
        Command::Export(arguments) => export::run(arguments),
    }
}
