//! The header of an entry: a block of octal numbers, and before it a block of records for what does not fit there.

use std::fmt::Display;

use crate::contract::{FileKind, Metadata, Timestamp, Xattr};

const BLOCK: usize = 512;
/// The longest name that has a place in the header.
const NAME: usize = 100;

/// Records of the extended header, as they will be written.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    /// Adds `LENGTH KEY=VALUE\n`, where the length counts itself.
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + digits(rest);
        length = rest + digits(length);
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn number(&mut self, key: &str, value: impl Display) {
        self.push(key.as_bytes(), value.to_string().as_bytes());
    }

    fn time(&mut self, key: &str, time: Timestamp) {
        // The fraction counts upwards also before 1970: -0.25 is -1 second and 0.75.
        let (sign, seconds, nanos) = match (time.seconds, time.nanos) {
            (seconds, 0) => ("", i128::from(seconds), 0),
            (seconds @ 0.., nanos) => ("", i128::from(seconds), nanos),
            (seconds, nanos) => ("-", -(i128::from(seconds) + 1), 1_000_000_000 - nanos),
        };
        let fraction = format!("{nanos:09}");
        let text = match fraction.trim_end_matches('0') {
            "" => format!("{sign}{seconds}"),
            fraction => format!("{sign}{seconds}.{fraction}"),
        };
        self.push(key.as_bytes(), text.as_bytes());
    }

    /// Adds an extended attribute. One whose name has `=` in it has no place in this format, as GNU tar has it too; a `%`
    /// stands before the number of such a byte.
    pub(super) fn attribute(&mut self, xattr: &Xattr) {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in &xattr.name {
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                byte => key.push(*byte),
            }
        }
        self.push(&key, &xattr.value);
    }
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// The header of one entry.
#[derive(Debug)]
pub(super) struct Header {
    kind: u8,
    path: Vec<u8>,
    link: Vec<u8>,
    size: u64,
    metadata: Metadata,
}

impl Header {
    pub(super) fn new(path: &[u8], metadata: &Metadata) -> Self {
        let kind = match metadata.kind {
            FileKind::Regular | FileKind::Socket => b'0',
            FileKind::Symlink => b'2',
            FileKind::CharDevice => b'3',
            FileKind::BlockDevice => b'4',
            FileKind::Directory => b'5',
            FileKind::Fifo => b'6',
        };
        let mut path = path.to_vec();
        if kind == b'5' && !path.ends_with(b"/") {
            path.push(b'/');
        }
        Self { kind, path, link: Vec::new(), size: 0, metadata: metadata.clone() }
    }

    pub(super) fn hard_link(&mut self, first: &[u8]) {
        self.kind = b'1';
        self.link = first.to_vec();
    }

    pub(super) fn symlink(&mut self, target: &[u8]) {
        self.link = target.to_vec();
    }

    pub(super) fn size(&mut self, size: u64) {
        self.size = size;
    }

    /// Marks the entry as one with holes: its real name and size go to the records, and the name in the header says what it
    /// is to those who do not know the format.
    pub(super) fn sparse(&mut self, size: u64, records: &mut Records) {
        records.number("GNU.sparse.major", 1);
        records.number("GNU.sparse.minor", 0);
        records.push(b"GNU.sparse.name", &self.path);
        records.number("GNU.sparse.realsize", size);
        let at = self.path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = self.path.split_at(at);
        self.path = [folder, b"GNUSparseFile.0/", name].concat();
    }

    /// The blocks of the header, that of the records before it where there are any.
    pub(super) fn finish(self, mut records: Records) -> Vec<u8> {
        let metadata = &self.metadata;
        if self.path.len() > NAME || !self.path.is_ascii() {
            records.push(b"path", &self.path);
        }
        if self.link.len() > NAME || !self.link.is_ascii() {
            records.push(b"linkpath", &self.link);
        }
        let owner = metadata.owner;
        for (key, value, most) in [
            ("size", self.size, 0o777_7777_7777),
            ("uid", owner.uid.into(), 0o777_7777),
            ("gid", owner.gid.into(), 0o777_7777),
        ] {
            if value > most {
                records.number(key, value);
            }
        }
        let (major, minor) = metadata.device.unwrap_or_default();
        for (key, value) in [("SCHILY.devmajor", major), ("SCHILY.devminor", minor)] {
            if value > 0o777_7777 {
                records.number(key, value);
            }
        }
        let modified = metadata.modified.unwrap_or_default();
        let in_header = modified.nanos == 0 && (0..=0o777_7777_7777).contains(&modified.seconds);
        if !in_header {
            records.time("mtime", modified);
        }
        // Where there is room in the records' block anyway, the other times cost nothing.
        for (key, time) in [("atime", metadata.accessed), ("ctime", metadata.changed)] {
            if let Some(time) = time.filter(|time| *time != Timestamp::default()) {
                records.time(key, time);
            }
        }
        let mut bytes = Vec::with_capacity(3 * BLOCK);
        if !records.0.is_empty() {
            let owner = Metadata { device: None, permissions: 0o644, ..self.metadata.clone() };
            bytes.extend_from_slice(&block(b'x', b"PaxHeaders/records", b"", records.0.len() as u64, &owner));
            bytes.extend_from_slice(&records.0);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend_from_slice(&block(self.kind, &self.path, &self.link, self.size, metadata));
        bytes
    }
}

fn block(kind: u8, path: &[u8], link: &[u8], size: u64, metadata: &Metadata) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, most: usize, bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(most)];
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    text(0, NAME, path);
    text(157, NAME, link);
    let octal = |digits: usize, value: u64| {
        // What does not fit stands in the records.
        let most = (1 << (3 * digits)) - 1;
        format!("{:0digits$o}", value.min(most)).into_bytes()
    };
    text(100, 7, &octal(7, metadata.permissions.into()));
    text(108, 7, &octal(7, metadata.owner.uid.into()));
    text(116, 7, &octal(7, metadata.owner.gid.into()));
    text(124, 11, &octal(11, size));
    let seconds = metadata.modified.map_or(0, |time| u64::try_from(time.seconds).unwrap_or(0));
    text(136, 11, &octal(11, seconds));
    text(156, 1, &[kind]);
    text(257, 8, b"ustar\x0000");
    let (major, minor) = metadata.device.unwrap_or_default();
    text(329, 7, &octal(7, major.into()));
    text(337, 7, &octal(7, minor.into()));
    text(148, 8, b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ").into_bytes();
    block[148..148 + sum.len()].copy_from_slice(&sum);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        let mut records = Records::default();
        records.push(b"path", &[b'a'; 89]);
        records.push(b"path", &[b'a'; 90]);
        records.push(b"path", &[b'a'; 91]);
        let text = String::from_utf8(records.0).unwrap();
        for line in text.lines() {
            let (length, _) = line.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), line.len() + 1, "{line}");
        }
    }

    #[test]
    fn times_before_1970_are_one_number() {
        let mut records = Records::default();
        records.time("mtime", Timestamp { seconds: -1, nanos: 750_000_000 });
        records.time("mtime", Timestamp { seconds: 1, nanos: 5 });
        assert_eq!(records.0, b"15 mtime=-0.25\n21 mtime=1.000000005\n");
    }
}
