//! Trees: a folder as a document with a node for each of its entries.

use std::borrow::Cow;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::{FileKind, Metadata, Owner, Xattr};

use super::id::Id;
use super::quoting::{quote, unquote};
use super::time::Time;

/// Bits of Go's `os.FileMode`, which is what modes are stored as.
const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHAR: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// A folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

/// An entry of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Quoted.
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) mode: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtime: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) atime: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ctime: Option<Time>,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub(crate) inode: u64,
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub(crate) device_id: u64,
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub(crate) links: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) linktarget: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) linktarget_raw: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extended_attributes: Option<Vec<StoredXattr>>,
    /// The number of a device, as Linux puts major and minor into one.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub(crate) device: u64,
    /// The chunks, of files alone.
    #[serde(default)]
    pub(crate) content: Option<Vec<Id>>,
    /// The folder, of folders alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subtree: Option<Id>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredXattr {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero64(number: &u64) -> bool {
    *number == 0
}

const KINDS: &[(FileKind, &str, u32)] = &[
    (FileKind::Regular, "file", 0),
    (FileKind::Directory, "dir", GO_DIR),
    (FileKind::Symlink, "symlink", GO_SYMLINK),
    (FileKind::BlockDevice, "dev", GO_DEVICE),
    (FileKind::CharDevice, "chardev", GO_DEVICE | GO_CHAR),
    (FileKind::Fifo, "fifo", GO_FIFO),
    (FileKind::Socket, "socket", GO_SOCKET),
];

const SPECIAL: &[(u32, u32)] = &[(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];

impl Node {
    /// The node of what has this name and these metadata; what it holds is still to be filled in.
    pub(crate) fn new(name: &[u8], metadata: &Metadata) -> Self {
        let (_, kind, mut mode) =
            KINDS.iter().find(|(kind, ..)| *kind == metadata.kind).copied().unwrap_or((FileKind::Regular, "file", 0));
        mode |= metadata.permissions & 0o777;
        mode |= SPECIAL.iter().filter(|(bit, _)| metadata.permissions & bit != 0).fold(0, |all, (_, go)| all | go);
        Self {
            name: quote(name),
            kind: Cow::Borrowed(kind),
            mode,
            mtime: metadata.modified.map(Time),
            atime: metadata.accessed.map(Time),
            ctime: metadata.changed.map(Time),
            uid: metadata.owner.uid,
            gid: metadata.owner.gid,
            size: if metadata.kind == FileKind::Regular { metadata.size } else { 0 },
            links: if metadata.kind == FileKind::Directory { 0 } else { u64::from(metadata.links) },
            device: metadata.device.map_or(0, |(major, minor)| rustix::fs::makedev(major, minor)),
            ..Self::default()
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> Result<Vec<u8>> {
        let name = unquote(&self.name).filter(|name| {
            !name.is_empty()
                && !matches!(name.as_slice(), b"." | b"..")
                && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        });
        name.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, format!("\"{}\" is no name of a file", self.name.escape_debug()))
        })
    }

    /// What kind of file it is.
    pub(crate) fn kind(&self) -> Result<FileKind> {
        let known = KINDS.iter().find(|(_, name, _)| *name == self.kind).map(|(kind, ..)| *kind);
        known.ok_or_else(|| {
            let text = format!("{}: a file of the kind \"{}\"", self.name, self.kind.escape_debug());
            Error::new(ErrorKind::Unsupported, text)
        })
    }

    /// The twelve lower bits of its mode.
    pub(crate) fn permissions(&self) -> u32 {
        SPECIAL.iter().filter(|(_, go)| self.mode & go != 0).fold(self.mode & 0o777, |all, (bit, _)| all | bit)
    }

    /// What is known of it. `size` is that of its chunks.
    pub(crate) fn metadata(&self, size: u64) -> Result<Metadata> {
        let kind = self.kind()?;
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
        Ok(Metadata {
            kind,
            permissions: self.permissions(),
            owner: Owner { uid: self.uid, gid: self.gid },
            size,
            allocated: size,
            links: u32::try_from(self.links).unwrap_or(u32::MAX).max(1),
            modified: self.mtime.map(|time| time.0),
            accessed: self.atime.map(|time| time.0),
            changed: self.ctime.map(|time| time.0),
            created: None,
            device: is_device.then(|| (rustix::fs::major(self.device), rustix::fs::minor(self.device))),
        })
    }

    /// Where a symbolic link leads.
    pub(crate) fn target(&self) -> Result<Vec<u8>> {
        match &self.linktarget_raw {
            Some(raw) => Base64::decode_vec(raw)
                .map_err(|_| Error::new(ErrorKind::Corrupt, format!("{}: the link's target is no Base64", self.name))),
            None => Ok(self.linktarget.clone().into_bytes()),
        }
    }

    /// Sets where a symbolic link leads: as text, and as bytes where it is none.
    pub(crate) fn set_target(&mut self, target: &[u8]) {
        self.linktarget = String::from_utf8_lossy(target).into_owned();
        self.linktarget_raw = std::str::from_utf8(target).is_err().then(|| Base64::encode_string(target));
    }

    /// Its extended attributes.
    pub(crate) fn xattrs(&self) -> Result<Vec<Xattr>> {
        let xattr = |stored: &StoredXattr| {
            let value = Base64::decode_vec(stored.value.as_deref().unwrap_or_default());
            let value = value.map_err(|_| {
                let text =
                    format!("{}: the value of the attribute {} is no Base64", self.name, stored.name.escape_debug());
                Error::new(ErrorKind::Corrupt, text)
            })?;
            Ok(Xattr { name: stored.name.clone().into_bytes(), value })
        };
        self.extended_attributes.iter().flatten().map(xattr).collect()
    }

    /// Sets its extended attributes. Answers those whose names are no text, for which there is no place.
    pub(crate) fn set_xattrs(&mut self, xattrs: &[Xattr]) -> Vec<Vec<u8>> {
        let mut left = Vec::new();
        let mut stored = Vec::new();
        for Xattr { name, value } in xattrs {
            match std::str::from_utf8(name) {
                Ok(name) => {
                    stored.push(StoredXattr { name: name.to_owned(), value: Some(Base64::encode_string(value)) });
                }
                Err(_) => left.push(name.clone()),
            }
        }
        self.extended_attributes = Some(stored).filter(|stored| !stored.is_empty());
        left
    }
}

impl Tree {
    /// The bytes of the blob. A line break ends them, as in the trees of restic.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).map_err(|error| Error::io("a tree", error.into()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the bytes of a blob.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| Error::new(ErrorKind::Corrupt, format!("a tree: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use transload_filesystem::Timestamp;

    use super::*;

    #[test]
    fn a_node_keeps_what_it_is_given() {
        let moment = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
        for (kind, name, _) in KINDS {
            let device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice).then_some((259, 1_048_575));
            let metadata = Metadata {
                kind: *kind,
                permissions: 0o7751,
                owner: Owner { uid: 70_000, gid: u32::MAX },
                size: if *kind == FileKind::Regular { 5 } else { 0 },
                allocated: if *kind == FileKind::Regular { 5 } else { 0 },
                links: 1,
                modified: Some(moment),
                accessed: Some(Timestamp { seconds: -1, nanos: 1 }),
                changed: None,
                created: None,
                device,
            };
            let mut node = Node::new(b"a\xff\"b", &metadata);
            let xattrs = [Xattr { name: b"user.x".to_vec(), value: vec![0, 255] }];
            assert!(node.set_xattrs(&xattrs).is_empty());
            let tree = Tree { nodes: vec![node] };
            let read = Tree::from_bytes(&tree.to_bytes().unwrap()).unwrap().nodes.remove(0);
            assert_eq!(read.metadata(metadata.size).unwrap(), metadata, "{name}");
            assert_eq!(read.xattrs().unwrap(), xattrs);
            assert_eq!(read.name().unwrap(), b"a\xff\"b");
        }
        let mut link = Node::default();
        link.set_target(b"a\xff");
        assert_eq!(link.target().unwrap(), b"a\xff");
        for name in ["", ".", "..", "a/b", "\\x00", "\\"] {
            assert!(Node { name: name.to_owned(), ..Node::default() }.name().is_err(), "{name}");
        }
    }
}
