//! `transload man`: the manual pages.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use transload::block::{Error, Result};

use super::Cli;
use crate::failure::Verdict;
use crate::text::Text;

/// Print the manual page, or write one per command into a folder
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  transload man | man -l -\n  transload man --dir /usr/local/share/man/man1")]
pub(crate) struct Arguments {
    /// Write transload.1 and one page per command into DIR, which is made if need be
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    // Building the tree gives the commands their full names: `transload-convert`.
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &arguments.dir else {
        let mut text = Text::new();
        text.bytes(&page(&command)?)?;
        text.finish()?;
        return Ok(Verdict::Done);
    };
    let in_file = |path: &PathBuf, error| Error::io(path.display().to_string(), error);
    fs::create_dir_all(folder).map_err(|error| in_file(folder, error))?;
    for page_of in std::iter::once(&command).chain(command.get_subcommands()) {
        let name = page_of.get_display_name().unwrap_or_else(|| page_of.get_name());
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page(page_of)?).map_err(|error| in_file(&path, error))?;
    }
    Ok(Verdict::Done)
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut roff = Vec::new();
    Man::new(command.clone()).render(&mut roff).map_err(|error| Error::io("manual page", error))?;
    Ok(roff)
}
