//! What a writing cannot say: every reader and writer returns it beside its result, so that nothing is dropped in silence.

use std::fmt;

use serde::Serialize;

/// What happened to the part of the machine that a [`Note`] speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoteKind {
    /// It is not in the result: the writing has no word for it.
    LeftOut,
    /// It is in the result as something else, the nearest that the writing has.
    Changed,
    /// The source did not say it, and the result has to: a default was taken.
    Assumed,
    /// It is in the result as it was, and somebody has to do something for it to work.
    Attention,
}

impl NoteKind {
    /// The word that begins a note for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeftOut => "left out",
            Self::Changed => "changed",
            Self::Assumed => "assumed",
            Self::Attention => "attention",
        }
    }
}

/// One thing that a writing cannot say, or says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Note {
    /// What happened to it.
    pub kind: NoteKind,
    /// The part of the machine, such as `tpm`, `scsi0:1`, `nic 2` or the key of a setting.
    pub part: String,
    /// What is lost or changed, in words.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind.as_str(), self.part, self.message)
    }
}

/// The notes of one reading or writing, in the order in which they came up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Notes(pub Vec<Note>);

impl Notes {
    /// No notes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Says that `part` is not in the result.
    pub fn left_out(&mut self, part: impl Into<String>, message: impl Into<String>) {
        self.add(NoteKind::LeftOut, part.into(), message.into());
    }

    /// Says that `part` is in the result as something else.
    pub fn changed(&mut self, part: impl Into<String>, message: impl Into<String>) {
        self.add(NoteKind::Changed, part.into(), message.into());
    }

    /// Says that a default was taken for `part`.
    pub fn assumed(&mut self, part: impl Into<String>, message: impl Into<String>) {
        self.add(NoteKind::Assumed, part.into(), message.into());
    }

    /// Says that somebody has to look after `part`.
    pub fn attention(&mut self, part: impl Into<String>, message: impl Into<String>) {
        self.add(NoteKind::Attention, part.into(), message.into());
    }

    /// Takes the notes of another step.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The notes, one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Note> {
        self.0.iter()
    }

    fn add(&mut self, kind: NoteKind, part: String, message: String) {
        self.0.push(Note { kind, part, message });
    }
}

impl<'a> IntoIterator for &'a Notes {
    type Item = &'a Note;
    type IntoIter = std::slice::Iter<'a, Note>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What a reader made of a writing, and what it could not take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T> {
    /// What was read.
    pub value: T,
    /// What of the writing is not in it.
    pub notes: Notes,
}

/// A text that a writer made, and what of the machine is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text, in UTF-8, with its last line ended.
    pub text: String,
    /// What of the machine is not in it, or is in it as something else.
    pub notes: Notes,
}

/// How a machine is written down for VMware: as an OVF descriptor or as a VMX.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteSettings {
    /// The hardware version to ask for instead of the machine's own.
    pub hardware_version: Option<u32>,
}

impl WriteSettings {
    /// The machine's own hardware version.
    #[must_use]
    pub const fn new() -> Self {
        Self { hardware_version: None }
    }

    /// Asks for this hardware version.
    #[must_use]
    pub const fn with_hardware_version(mut self, version: Option<u32>) -> Self {
        self.hardware_version = version;
        self
    }
}
