//! What a request is answered when it fails: a status by the kind of the error, and the error as JSON.

use std::error::Error as StdError;
use std::io;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use transload::block::{Error, ErrorKind};

use crate::api::{Failure, FailureDocument};

/// The answer to every handler that may fail.
pub(crate) type Answer<T> = Result<T, Problem>;

/// A failure with the status it is answered with.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    failure: Failure,
    /// Seconds after which it may be asked again.
    retry_after: Option<u64>,
}

impl Problem {
    /// A failure that is the service's own and no engine's.
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let failure = Failure { kind: kind.to_owned(), message: message.into(), causes: Vec::new(), remedy: None };
        Self { status, failure, retry_after: None }
    }

    /// The request makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-input", message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// Something of that name is there already, or is in another state.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// There is too much to do.
    pub(crate) fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message) }
    }

    /// Sets what a person can do about it.
    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.failure.remedy = Some(remedy.into());
        self
    }

    /// The kind, for the log and the metrics.
    pub(crate) fn kind(&self) -> &str {
        &self.failure.kind
    }

    /// The sentence, for the log.
    pub(crate) fn message(&self) -> &str {
        &self.failure.message
    }

    /// Takes the names of folders of the host out of what is said.
    pub(crate) fn without(mut self, folders: &[String]) -> Self {
        let texts = self.failure.causes.iter_mut().chain([&mut self.failure.message]).chain(&mut self.failure.remedy);
        for text in texts {
            for folder in folders {
                *text = text.replace(folder.as_str(), "");
            }
        }
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { status: status(&error), failure: failure(&error), retry_after: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.failure.kind.clone();
        let mut response = (self.status, Json(FailureDocument { error: self.failure })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"transload\""));
        }
        response.extensions_mut().insert(FailureKind(kind));
        response
    }
}

/// The kind of the failure that an answer tells, for the log and the metrics.
#[derive(Clone, Debug)]
pub(crate) struct FailureKind(pub(crate) String);

/// An error as the API tells it.
pub(crate) fn failure(error: &Error) -> Failure {
    Failure {
        kind: kind_name(error.kind()),
        message: error.to_string(),
        causes: causes(error),
        remedy: error.remedy().map(remedy),
    }
}

/// What to do about it, in the words of a request where the engine's are the command line's.
fn remedy(text: &str) -> String {
    match text {
        "name the format with -f" => "name the format with the parameter src".to_owned(),
        other => other.to_owned(),
    }
}

/// The status for an error of the engine.
fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::OutOfRange => StatusCode::BAD_REQUEST,
        ErrorKind::NotThisFormat | ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Checksum => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorKind::Denied | ErrorKind::ReadOnly => StatusCode::FORBIDDEN,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Network => StatusCode::BAD_GATEWAY,
        ErrorKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        _ if is_missing(error) => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether the operating system said that there is no such file.
fn is_missing(error: &Error) -> bool {
    let mut next = StdError::source(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        }
        next = cause.source();
    }
    false
}

/// The kind's name in answers: `NotThisFormat` is `not-this-format`, as with `--json` on the command line.
pub(crate) fn kind_name(kind: ErrorKind) -> String {
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
    use super::*;

    #[test]
    fn a_missing_file_is_not_found_and_its_folder_not_told() {
        let error = Error::io("/srv/disks/a.qcow2", io::Error::from(io::ErrorKind::NotFound));
        let problem = Problem::from(error).without(&["/srv/disks/".to_owned()]);
        assert_eq!(problem.status, StatusCode::NOT_FOUND);
        assert!(problem.message().ends_with(": a.qcow2"), "{}", problem.message());
    }

    #[test]
    fn kinds_are_spelled_as_on_the_command_line() {
        assert_eq!(kind_name(ErrorKind::NotThisFormat), "not-this-format");
        assert_eq!(kind_name(ErrorKind::Io), "io");
    }
}
