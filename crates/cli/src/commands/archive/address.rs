//! What of an archive is meant: `SNAPSHOT`, `SNAPSHOT:/PATH`, or `/PATH` in the latest snapshot.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// A snapshot, and a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The first digits of its name, or `latest`.
    pub(crate) snapshot: String,
    /// The path from the root of the snapshot, with the `/` it begins with.
    pub(crate) path: Vec<u8>,
}

impl Default for Address {
    fn default() -> Self {
        Self { snapshot: "latest".to_owned(), path: b"/".to_vec() }
    }
}

impl Address {
    fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let colon = bytes.windows(2).position(|pair| pair == b":/");
        let (snapshot, path) = match colon {
            _ if bytes.starts_with(b"/") => (&b""[..], bytes),
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &b"/"[..]),
        };
        let snapshot = if snapshot.is_empty() { b"latest" } else { snapshot };
        Self { snapshot: String::from_utf8_lossy(snapshot).into_owned(), path: path.to_vec() }
    }
}

pub(crate) fn parser() -> impl TypedValueParser<Value = Address> {
    OsStringValueParser::new().map(|text| Address::parse(&text))
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn a_snapshot_and_a_path_are_told_apart() {
        let cases = [
            ("latest", "latest", "/"),
            ("1a2b:/web/etc", "1a2b", "/web/etc"),
            ("/web/a:/b", "latest", "/web/a:/b"),
            (":/web", "latest", "/web"),
            ("1a2b:/a:/b", "1a2b", "/a:/b"),
        ];
        for (text, snapshot, path) in cases {
            let parsed = Address::parse(text.as_ref());
            assert_eq!((parsed.snapshot.as_str(), parsed.path.as_slice()), (snapshot, path.as_bytes()), "{text}");
        }
    }
}
