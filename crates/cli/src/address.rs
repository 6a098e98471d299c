//! What a command is told to look at: `IMG`, `IMG#VOLUME`, `IMG:/PATH`, `IMG#VOLUME:/PATH`.
//!
//! A volume is a partition's number, `GROUP/VOLUME` of LVM, or `whole`. Names of files may have `#` and `:` in them too:
//! a file that exists under the whole name, or under the part before `:/`, is the image; otherwise the first `#VOLUME:/`
//! counts, then the first `:/`, then the last `#` with a volume's name behind it. An empty name after the last `#` is
//! dropped, so that `my#2#` is the image `my#2`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use transload::volume::VolumeName;

/// An image, and what of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The image's file, as it was given.
    pub(crate) image: PathBuf,
    /// The volume, where one is named.
    pub(crate) volume: Option<VolumeName>,
    /// The path in the volume's filesystem, from its root, with the `/` it begins with.
    pub(crate) path: Option<Vec<u8>>,
}

impl Address {
    /// Takes an argument apart.
    pub(crate) fn parse(text: &OsStr) -> Self {
        Self::parse_with(text, &|path| path.symlink_metadata().is_ok())
    }

    /// As [`parse`](Self::parse), with another way to tell which files exist.
    fn parse_with(text: &OsStr, exists: &dyn Fn(&Path) -> bool) -> Self {
        let bytes = text.as_bytes();
        if exists(Path::new(text)) {
            return Self { image: PathBuf::from(text), volume: None, path: None };
        }
        let Some(colon) = path_begin(bytes, exists) else {
            let (image, volume) = split_volume(bytes, exists);
            return Self { image, volume, path: None };
        };
        let (image, volume) = split_volume(&bytes[..colon], exists);
        Self { image, volume, path: Some(bytes[colon + 1..].to_vec()) }
    }
}

/// The place of the colon with which a path in the image begins.
fn path_begin(bytes: &[u8], exists: &dyn Fn(&Path) -> bool) -> Option<usize> {
    // `://` begins no path but is part of an address on the network.
    let is_begin = |at: &usize| bytes[*at..].starts_with(b":/") && !bytes[*at..].starts_with(b"://");
    let colons: Vec<usize> = (0..bytes.len()).filter(is_begin).collect();
    let known = |at: &&usize| exists(Path::new(OsStr::from_bytes(&bytes[..**at])));
    let with_volume = |at: &&usize| volume_in(&bytes[..**at]).is_some();
    colons.iter().find(known).or_else(|| colons.iter().find(with_volume)).or(colons.first()).copied()
}

/// Takes `#VOLUME` off, unless a file has the whole name.
fn split_volume(bytes: &[u8], exists: &dyn Fn(&Path) -> bool) -> (PathBuf, Option<VolumeName>) {
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    if exists(Path::new(OsStr::from_bytes(bytes))) {
        return (path(bytes), None);
    }
    match (volume_in(bytes), bytes.strip_suffix(b"#")) {
        (Some((hash, volume)), _) => (path(&bytes[..hash]), Some(volume)),
        (None, Some(image)) if !image.is_empty() => (path(image), None),
        _ => (path(bytes), None),
    }
}

/// The place of the `#` that has a volume's name behind it, and the name.
fn volume_in(bytes: &[u8]) -> Option<(usize, VolumeName)> {
    let hash = bytes.iter().rposition(|byte| *byte == b'#').filter(|hash| *hash > 0)?;
    let name = std::str::from_utf8(&bytes[hash + 1..]).ok()?;
    Some((hash, name.parse().ok()?))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.image.display())?;
        if let Some(volume) = &self.volume {
            write!(f, "#{volume}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ":{}", OsStr::from_bytes(path).display())?;
        }
        Ok(())
    }
}

/// Parses an argument that is an address.
pub(crate) fn parser() -> impl TypedValueParser<Value = Address> {
    OsStringValueParser::new().map(|text| Address::parse(&text))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use transload::volume::VolumeName;

    use super::Address;

    fn address(image: &str, volume: &str, path: Option<&str>) -> Address {
        let volume = (!volume.is_empty()).then(|| volume.parse::<VolumeName>().unwrap());
        Address { image: PathBuf::from(image), volume, path: path.map(|path| path.as_bytes().to_vec()) }
    }

    #[test]
    fn an_address_is_an_image_a_volume_and_a_path() {
        let cases = [
            ("disk.raw", address("disk.raw", "", None)),
            ("disk.raw#2", address("disk.raw", "2", None)),
            ("disk.raw:/etc/fstab", address("disk.raw", "", Some("/etc/fstab"))),
            ("disk.raw#2:/", address("disk.raw", "2", Some("/"))),
            ("d/disk.raw#vg0/root:/a:/b#1", address("d/disk.raw", "vg0/root", Some("/a:/b#1"))),
            ("disk.raw#whole:/a", address("disk.raw", "whole", Some("/a"))),
            ("a:/b.raw#1:/c", address("a:/b.raw", "1", Some("/c"))),
            ("disk#1.raw", address("disk#1.raw", "", None)),
            ("disk#1.raw:/x", address("disk#1.raw", "", Some("/x"))),
            ("disk#1.raw#1:/x", address("disk#1.raw", "1", Some("/x"))),
            ("my#2#", address("my#2", "", None)),
            ("my#2#:/x", address("my#2", "", Some("/x"))),
            ("http://host/disk.raw#1:/x", address("http://host/disk.raw", "1", Some("/x"))),
            ("#1", address("#1", "", None)),
            ("C:", address("C:", "", None)),
            ("", address("", "", None)),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse_with(OsStr::new(text), &|_| false), expected, "{text}");
        }
    }

    #[test]
    fn a_file_that_exists_is_the_image() {
        let exists =
            |path: &Path| ["disk#1", "a:/b", "dir#a/b", "dir#a/b:/c"].iter().any(|known| path == Path::new(known));
        let cases = [
            ("disk#1", address("disk#1", "", None)),
            ("disk#1:/x", address("disk#1", "", Some("/x"))),
            ("disk#1#2:/x", address("disk#1", "2", Some("/x"))),
            ("a:/b", address("a:/b", "", None)),
            ("a:/b:/c", address("a:/b", "", Some("/c"))),
            ("dir#a/b", address("dir#a/b", "", None)),
            ("dir#a/b:/c", address("dir#a/b:/c", "", None)),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse_with(OsStr::new(text), &exists), expected, "{text}");
        }
    }

    #[test]
    fn paths_are_bytes_and_addresses_print_as_they_are_typed() {
        let address = Address::parse_with(OsStr::from_bytes(b"disk.raw#1:/\xff"), &|_| false);
        assert_eq!(address.path.as_deref(), Some(&b"/\xff"[..]));
        for text in ["disk.raw", "disk.raw#vg/lv", "disk.raw#1:/etc"] {
            assert_eq!(Address::parse_with(OsStr::new(text), &|_| false).to_string(), text);
        }
    }
}
