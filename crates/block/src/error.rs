//! One error type for every crate: a small kind to match on, a sentence for people, and the cause beneath.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// The result of every fallible operation in the workspace.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was: the part of an error that a program may match on.
///
/// `Corrupt` and `Unsupported` are never mixed: the first says that a rule of the format is broken, the second that the
/// image is valid and uses a feature that is not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused or failed an operation.
    Io,
    /// The bytes are not of the format they were opened as.
    NotThisFormat,
    /// A rule of the format is broken.
    Corrupt,
    /// A valid feature that is not handled.
    Unsupported,
    /// A request outside the device.
    OutOfRange,
    /// The caller's arguments contradict each other or make no sense.
    InvalidInput,
    /// A write to what was opened for reading.
    ReadOnly,
    /// A policy forbids it: a reference out of the allowed folders, an existing target without leave to replace it.
    Denied,
    /// A limit of the format, of the tool or of the caller is exceeded.
    TooLarge,
    /// No room left on the device that the output is written to.
    NoSpace,
    /// A digest or checksum of payload differs from what it should be.
    Checksum,
    /// A remote source or sink failed.
    Network,
    /// The caller asked for the operation to stop.
    Cancelled,
}

impl ErrorKind {
    /// The words that begin an error message of this kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Io => "I/O error",
            Self::NotThisFormat => "not this format",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::OutOfRange => "out of range",
            Self::InvalidInput => "invalid input",
            Self::ReadOnly => "read-only",
            Self::Denied => "denied",
            Self::TooLarge => "too large",
            Self::NoSpace => "no space left",
            Self::Checksum => "checksum mismatch",
            Self::Network => "network error",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure: its [`ErrorKind`], which thing and structure it concerns, what to do about it, and what caused it.
///
/// `Display` prints the kind and the context once, as in `corrupt: a.qcow2: header: cluster bits is 63, must be 9 to
/// 21`; the cause is left to [`std::error::Error::source`].
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    context: String,
    remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The process has as many files open as it may, or the system has. The numbers are the same on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

impl Error {
    /// Makes an error of `kind` whose `context` names the structure and the numbers that are wrong.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, context: context.into(), remedy: None, source: None }))
    }

    /// Sets the cause, which `source()` then returns.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets what a person can do about it, as an imperative sentence without a full stop.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Puts `outer` in front of the context: the file or structure in which the error happened.
    #[must_use]
    pub fn context(mut self, outer: impl fmt::Display) -> Self {
        self.0.context = format!("{outer}: {}", self.0.context);
        self
    }

    /// The kind, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What a person can do about it, where something can be done.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// Makes an error from what the operating system answered while doing `context`. An error of this type that travelled
    /// inside `source` keeps its kind and gets the context.
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(own) => return own.context(context.into()),
            Err(source) => source,
        };
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::FileTooLarge => ErrorKind::TooLarge,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ => ErrorKind::Io,
        };
        let too_many_files = matches!(source.raw_os_error(), Some(EMFILE | ENFILE));
        let error = Self::new(if too_many_files { ErrorKind::TooLarge } else { kind }, context).with_source(source);
        if too_many_files { error.with_remedy("allow more open files: `ulimit -n`") } else { error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.context)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("context", &self.0.context)
            .field("remedy", &self.0.remedy)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
