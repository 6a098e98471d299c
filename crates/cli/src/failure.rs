//! How a run ends: exit codes, and what is said of a failure.

use std::error::Error as StdError;
use std::process::ExitCode;

use serde::Serialize;
use transload::block::{Error, ErrorKind};

use crate::text;

/// A run that did what was asked, and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing to complain of.
    Done,
    /// `compare`: the images differ.
    Different,
    /// `check` and `validate`: the image or package is corrupt.
    Corrupt,
    /// `validate`: an importer that was named refuses the package.
    Refused,
    /// `validate`: a digest or signature is not of what is there.
    Mismatch,
}

impl Verdict {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Different => 3,
            Self::Corrupt => 4,
            Self::Refused => 5,
            Self::Mismatch => 7,
        }
    }
}

/// The exit code of a failure of `kind`.
pub(crate) const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => 2,
        ErrorKind::Corrupt => 4,
        ErrorKind::Unsupported => 5,
        ErrorKind::Denied => 6,
        ErrorKind::Checksum => 7,
        ErrorKind::NoSpace => 8,
        ErrorKind::Network => 9,
        ErrorKind::Cancelled => 130,
        _ => 1,
    }
}

/// A failure as a JSON document.
#[derive(Serialize)]
struct FailureDocument<'a> {
    error: FailureFields<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FailureFields<'a> {
    kind: String,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
    exit_code: u8,
}

/// Says what went wrong on standard error, and in JSON on standard output where the caller asked for JSON; answers the
/// exit code.
pub(crate) fn report(error: &Error, json: bool) -> ExitCode {
    let code = exit_code(error.kind());
    let causes = causes(error);
    eprintln!("transload: {error}");
    for cause in &causes {
        eprintln!("  caused by: {cause}");
    }
    if let Some(remedy) = error.remedy() {
        eprintln!("  hint: {remedy}");
    }
    if json && !text::is_used() {
        let fields = FailureFields {
            kind: kind_name(error.kind()),
            message: error.to_string(),
            causes,
            remedy: error.remedy(),
            exit_code: code,
        };
        if let Err(second) = text::json(&FailureDocument { error: fields }) {
            eprintln!("transload: {second}");
        }
    }
    ExitCode::from(code)
}

/// The kind's name in machine output: `NotThisFormat` is `not-this-format`.
fn kind_name(kind: ErrorKind) -> String {
    let mut name = String::new();
    for character in format!("{kind:?}").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}

/// The chain of causes, without those that only repeat the one before.
fn causes(error: &Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = StdError::source(error);
    let mut last = error.to_string();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !last.ends_with(&text) {
            texts.push(text.clone());
        }
        last = text;
        next = cause.source();
    }
    texts
}

#[cfg(test)]
mod tests {
    use std::io;

    use transload::block::{Error, ErrorKind};

    use super::{causes, exit_code, kind_name};

    #[test]
    fn every_kind_has_the_exit_code_of_the_documentation() {
        let table = [
            (ErrorKind::Io, 1),
            (ErrorKind::NotThisFormat, 1),
            (ErrorKind::OutOfRange, 1),
            (ErrorKind::ReadOnly, 1),
            (ErrorKind::TooLarge, 1),
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::Corrupt, 4),
            (ErrorKind::Unsupported, 5),
            (ErrorKind::Denied, 6),
            (ErrorKind::Checksum, 7),
            (ErrorKind::NoSpace, 8),
            (ErrorKind::Network, 9),
            (ErrorKind::Cancelled, 130),
        ];
        for (kind, code) in table {
            assert_eq!(exit_code(kind), code, "{kind}");
        }
    }

    #[test]
    fn kinds_are_spelled_in_kebab_case() {
        assert_eq!(kind_name(ErrorKind::Io), "io");
        assert_eq!(kind_name(ErrorKind::NotThisFormat), "not-this-format");
    }

    #[test]
    fn causes_are_listed_once_from_the_outside_in() {
        let inner = Error::io("a.vmdk", io::Error::other("cable pulled"));
        let outer = Error::new(ErrorKind::Io, "b.qcow2: backing file").with_source(inner);
        assert_eq!(causes(&outer), ["I/O error: a.vmdk", "cable pulled"]);
    }
}
