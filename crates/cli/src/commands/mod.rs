//! The commands: one file each, and here the table of them and what happens around every one.

mod archive;
mod cat;
mod check;
mod chmod;
mod chown;
mod compare;
mod completions;
mod convert;
mod cp;
mod create;
mod digest;
mod export;
mod find;
mod formats;
mod import;
mod info;
mod inspect;
mod ln;
mod ls;
mod machine_info;
mod man;
mod map;
mod measure;
mod mkdir;
mod mkfs;
mod mount;
mod nbd;
mod partitions;
mod repack;
mod resize;
mod rm;
mod script;
mod serve;
mod stat;
mod tar;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use transload::block::Result;

use crate::failure::{self, Verdict};
use crate::{help, open_files};

/// Move virtual machine disks between formats: any disk in, any disk out.
#[derive(Debug, Parser)]
#[command(
    name = "transload",
    version,
    max_term_width = 110,
    after_help = help::formats(),
    after_long_help = help::overview(),
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Validate(validate::Arguments),
    Repack(repack::Arguments),
    Info(info::Arguments),
    Map(map::Arguments),
    Check(check::Arguments),
    Compare(compare::Arguments),
    Measure(measure::Arguments),
    Digest(digest::Arguments),
    Create(create::Arguments),
    Resize(resize::Arguments),
    Partitions(partitions::Arguments),
    Inspect(inspect::Arguments),
    Ls(ls::Arguments),
    Cat(cat::Arguments),
    Stat(stat::Arguments),
    Find(find::Arguments),
    Tar(tar::Arguments),
    Cp(cp::Arguments),
    Mkdir(mkdir::Arguments),
    Rm(rm::Arguments),
    Chmod(chmod::Arguments),
    Chown(chown::Arguments),
    Ln(ln::Arguments),
    Mkfs(mkfs::Arguments),
    Script(script::Arguments),
    Mount(mount::Arguments),
    Archive(archive::Arguments),
    Nbd(nbd::Arguments),
    Serve(Box<serve::Arguments>),
    Formats(formats::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Command {
    /// Whether failures are to be told in JSON as well.
    fn json(&self) -> bool {
        match self {
            Self::Convert(arguments) => arguments.json,
            Self::Export(arguments) => arguments.json,
            Self::Import(arguments) => arguments.json,
            Self::Validate(arguments) => arguments.json,
            Self::Repack(arguments) => arguments.json,
            Self::Info(arguments) => arguments.json,
            Self::Map(arguments) => arguments.json,
            Self::Check(arguments) => arguments.json,
            Self::Compare(arguments) => arguments.json,
            Self::Measure(arguments) => arguments.json,
            Self::Digest(arguments) => arguments.json,
            Self::Create(arguments) => arguments.json,
            Self::Resize(arguments) => arguments.json,
            Self::Partitions(arguments) => arguments.json,
            Self::Inspect(arguments) => arguments.json,
            Self::Ls(arguments) => arguments.json,
            Self::Stat(arguments) => arguments.json,
            Self::Find(arguments) => arguments.json,
            Self::Mkfs(arguments) => arguments.json,
            Self::Script(arguments) => arguments.json,
            Self::Archive(arguments) => arguments.json(),
            Self::Formats(arguments) => arguments.json,
            Self::Serve(arguments) => arguments.json(),
            Self::Cat(_) | Self::Tar(_) | Self::Cp(_) | Self::Mkdir(_) | Self::Rm(_) => false,
            Self::Chmod(_)
            | Self::Chown(_)
            | Self::Ln(_)
            | Self::Mount(_)
            | Self::Nbd(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }

    fn run(&self) -> Result<Verdict> {
        match self {
            Self::Convert(arguments) => convert::run(arguments),
            Self::Export(arguments) => export::run(arguments),
            Self::Import(arguments) => import::run(arguments),
            Self::Validate(arguments) => validate::run(arguments),
            Self::Repack(arguments) => repack::run(arguments),
            Self::Info(arguments) => info::run(arguments),
            Self::Map(arguments) => map::run(arguments),
            Self::Check(arguments) => check::run(arguments),
            Self::Compare(arguments) => compare::run(arguments),
            Self::Measure(arguments) => measure::run(arguments),
            Self::Digest(arguments) => digest::run(arguments),
            Self::Create(arguments) => create::run(arguments),
            Self::Resize(arguments) => resize::run(arguments),
            Self::Partitions(arguments) => partitions::run(arguments),
            Self::Inspect(arguments) => inspect::run(arguments),
            Self::Ls(arguments) => ls::run(arguments),
            Self::Cat(arguments) => cat::run(arguments),
            Self::Stat(arguments) => stat::run(arguments),
            Self::Find(arguments) => find::run(arguments),
            Self::Tar(arguments) => tar::run(arguments),
            Self::Cp(arguments) => cp::run(arguments),
            Self::Mkdir(arguments) => mkdir::run(arguments),
            Self::Rm(arguments) => rm::run(arguments),
            Self::Chmod(arguments) => chmod::run(arguments),
            Self::Chown(arguments) => chown::run(arguments),
            Self::Ln(arguments) => ln::run(arguments),
            Self::Mkfs(arguments) => mkfs::run(arguments),
            Self::Script(arguments) => script::run(arguments),
            Self::Mount(arguments) => mount::run(arguments),
            Self::Archive(arguments) => archive::run(arguments),
            Self::Nbd(arguments) => nbd::run(arguments),
            Self::Serve(arguments) => serve::run(arguments),
            Self::Formats(arguments) => formats::run(arguments),
            Self::Completions(arguments) => completions::run(arguments),
            Self::Man(arguments) => man::run(arguments),
        }
    }
}

/// Reads the arguments, runs the command, and says how it ended.
pub(crate) fn run() -> ExitCode {
    let command = Cli::parse().command;
    open_files::allow_many();
    match command.run() {
        Ok(verdict) => ExitCode::from(verdict.code()),
        Err(error) => failure::report(&error, command.json()),
    }
}
