//! What a remote source says of itself.

use std::fmt;

/// What a remote source says of itself, pinned when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address as messages show it: no password, no signature.
    pub shown: String,
    /// Bytes, where they are known beforehand.
    pub size: Option<u64>,
    /// The entity tag, with its quotes, or what a store has in its place.
    pub etag: Option<String>,
    /// When it was last changed, as the server writes it.
    pub last_modified: Option<String>,
    /// What the server says that it is.
    pub content_type: Option<String>,
}

impl Origin {
    /// What a later run compares to know that it is still the same: the size and the entity tag, or else the time. `None` where
    /// the server gives nothing to go by.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let size = self.size?;
        let mark = self.etag.as_ref().or(self.last_modified.as_ref())?;
        Some(format!("{size} {mark}"))
    }

    /// The entity tag if it is a strong one, which stands for every byte.
    pub(crate) fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
