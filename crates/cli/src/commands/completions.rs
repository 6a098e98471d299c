//! `transload completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use transload::block::Result;

use super::Cli;
use crate::failure::Verdict;
use crate::text::Text;

/// Print the completion script for a shell
///
/// For example, for bash:
///
///   transload completions bash > ~/.local/share/bash-completion/completions/transload
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "transload", &mut script);
    let mut text = Text::new();
    text.bytes(&script)?;
    text.finish()?;
    Ok(Verdict::Done)
}
