//! The password of an archive, from where users of restic expect it to come.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use transload::block::{Error, ErrorKind, Result};

/// Where the password comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct PasswordArgs {
    /// Read the password from FILE; RESTIC_PASSWORD_FILE says the same
    #[arg(long, value_name = "FILE", help_heading = "Password", conflicts_with_all = ["password_command", "insecure_no_password"])]
    password_file: Option<PathBuf>,
    /// Read the password from what COMMAND prints; RESTIC_PASSWORD_COMMAND says the same
    #[arg(long, value_name = "COMMAND", help_heading = "Password", conflicts_with = "insecure_no_password")]
    password_command: Option<OsString>,
    /// Use the empty password: whoever has the archive can read it
    #[arg(long, help_heading = "Password")]
    insecure_no_password: bool,
}

/// Where it comes from, in the order in which it is looked for.
enum From {
    Nothing,
    File(PathBuf),
    Command(OsString),
    Text(OsString),
    Terminal,
}

impl PasswordArgs {
    fn from(&self) -> From {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        if self.insecure_no_password {
            return From::Nothing;
        }
        if let Some(file) = &self.password_file {
            return From::File(file.clone());
        }
        if let Some(command) = &self.password_command {
            return From::Command(command.clone());
        }
        if let Some(text) = set("RESTIC_PASSWORD") {
            return From::Text(text);
        }
        if let Some(file) = set("RESTIC_PASSWORD_FILE") {
            return From::File(file.into());
        }
        set("RESTIC_PASSWORD_COMMAND").map_or(From::Terminal, From::Command)
    }

    /// The password. One for a new archive that is typed is asked for twice.
    pub(crate) fn get(&self, is_new: bool) -> Result<Vec<u8>> {
        let password = match self.from() {
            From::Nothing => return Ok(Vec::new()),
            From::Text(text) => text.into_encoded_bytes(),
            From::File(path) => {
                let text = fs::read(&path).map_err(|error| Error::io(path.display().to_string(), error))?;
                text.trim_ascii().to_vec()
            }
            From::Command(command) => printed(&command)?,
            From::Terminal => typed(is_new)?,
        };
        if password.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the password is empty")
                .with_remedy("--insecure-no-password does without one"));
        }
        Ok(password)
    }
}

/// What a command of the shell prints.
fn printed(command: &OsString) -> Result<Vec<u8>> {
    let name = command.to_string_lossy();
    let output = Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Error::io(format!("password command '{name}'"), error))?;
    if !output.status.success() {
        return Err(Error::new(ErrorKind::Io, format!("password command '{name}': {}", output.status)));
    }
    Ok(output.stdout.trim_ascii().to_vec())
}

fn typed(is_new: bool) -> Result<Vec<u8>> {
    if !io::stdin().is_terminal() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "an archive needs a password, and there is no terminal to ask on",
        )
        .with_remedy("set RESTIC_PASSWORD, or name a file with --password-file"));
    }
    let first = ask("password of the archive: ")?;
    if is_new && ask("the same again: ")? != first {
        return Err(Error::new(ErrorKind::InvalidInput, "the passwords differ"));
    }
    Ok(first)
}

/// Asks for a line that is not shown.
fn ask(question: &str) -> Result<Vec<u8>> {
    let failed = |error| Error::io("terminal", error);
    let stdin = io::stdin();
    eprint!("{question}");
    io::stderr().flush().map_err(failed)?;
    let before = tcgetattr(stdin.as_fd()).map_err(|error| failed(error.into()))?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &hidden).map_err(|error| failed(error.into()))?;
    let mut line = Vec::new();
    let read = stdin.lock().read_until(b'\n', &mut line);
    let restored = tcsetattr(stdin.as_fd(), OptionalActions::Flush, &before);
    eprintln!();
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(line)
}
