//! What is inside a compressed file.

use transload_block::{Error, ErrorKind, Result};

use super::Kind;
use super::survey::Survey;
use crate::{Format, OptionValues, ProbeWindow, detect_window};

/// A disk in a compressed file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    pub(super) format: &'static Format,
}

impl Inside {
    /// The format that the option names.
    pub(super) fn declared(options: &OptionValues) -> Result<Option<&'static Format>> {
        let Some(name) = options.text("inner_format") else { return Ok(None) };
        let found = Format::by_name(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("option inner_format={}: no such format", name.escape_debug()))
        });
        found.map(Some)
    }

    /// What was found inside, unless it is declared.
    pub(super) fn of(survey: &Survey, declared: Option<&'static Format>) -> Result<Self> {
        let head = &survey.head[..survey.head.len().min(ProbeWindow::HEAD)];
        let tail = &survey.tail[survey.tail.len().saturating_sub(ProbeWindow::TAIL)..];
        Self::of_window(&ProbeWindow { head, tail, size: Some(survey.size) }, declared)
    }

    pub(super) fn of_window(window: &ProbeWindow<'_>, declared: Option<&'static Format>) -> Result<Self> {
        let format = match declared {
            Some(format) => format,
            None => detect_window(window).unambiguous().map_err(|error| {
                error.context("inside the compressed file").with_remedy("name the format with the option inner_format")
            })?,
        };
        if let Some(kind) = Kind::of(format) {
            let what = format!("inside the compressed file is another one ({})", kind.format().name);
            return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("unpack the outer one first"));
        }
        Ok(Self { format })
    }

    /// Says that what is inside is read at random places, and what to do about it.
    pub(super) fn needs_a_file(self, kind: Kind) -> Error {
        let (title, outer) = (self.format.title, kind.format().name);
        let what =
            format!("inside this {outer} file is {title} ({}), which is read at random places", self.format.name);
        Error::new(ErrorKind::Unsupported, what).with_remedy("unpack it into a temporary file first with --spool")
    }
}
