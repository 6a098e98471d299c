//! Python programs as clients of a service.

use std::path::{Path, PathBuf};
use std::process::Command;

use transload_service::token;

use crate::server::Server;

/// A service that asks for a token, and the token.
pub(crate) fn serve_with_token() -> (Server, String) {
    let mut made = String::new();
    let server = Server::with(|config| {
        std::fs::create_dir(&config.state).expect("a folder for the state");
        made = token::add(&config.token_file(), "tester").expect("a token");
    });
    (server, made)
}

/// The folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python that has the packages of the tests.
pub(crate) fn python() -> Command {
    let python = repository().join("target/witness-python/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo xtask setup`", python.display());
    let mut command = Command::new(python);
    command.env_remove("TRANSLOAD_TOKEN").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a command, which has to succeed, and returns what it said; what it complained of is in the message otherwise.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program is there: run `cargo xtask setup`");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
