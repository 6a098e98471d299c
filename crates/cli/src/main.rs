//! The `transload` binary: arguments in, exit code out. One file per command in `commands`; what they have in common
//! (opening, printing, failing, being interrupted) stands beside it.

mod address;
mod args;
mod commands;
mod failure;
mod files;
mod help;
mod input;
mod interrupt;
mod open_files;
mod progress;
mod target;
mod text;
mod volumes;

fn main() -> std::process::ExitCode {
    commands::run()
}
