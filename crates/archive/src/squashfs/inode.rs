//! Inodes: the short kinds where they suffice, else the long ones.

use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::{FileKind, Metadata};

use super::tables::Reference;

pub(super) const NO_FRAGMENT: u32 = u32::MAX;
pub(super) const NO_XATTRS: u32 = u32::MAX;

/// What turns the number of a short kind into that of its long one.
const LONG: u16 = 7;

/// Where the end of a file is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub(super) index: u32,
    pub(super) offset: u32,
}

/// What an inode holds besides what all have.
pub(super) enum Body {
    File { start: u64, size: u64, sparse: u64, fragment: Fragment, lengths: Vec<u32> },
    Folder { listing: Reference, length: u32, parent: u32 },
    Link(Vec<u8>),
    Other(Option<(u32, u32)>),
}

/// An inode that is to be written.
pub(super) struct Inode<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) owner: (u16, u16),
    pub(super) number: u32,
    pub(super) links: u32,
    pub(super) xattrs: u32,
    pub(super) body: &'a Body,
}

/// The number of a short kind.
pub(super) const fn basic(kind: FileKind) -> u16 {
    match kind {
        FileKind::Directory => 1,
        FileKind::Regular => 2,
        FileKind::Symlink => 3,
        FileKind::BlockDevice => 4,
        FileKind::CharDevice => 5,
        FileKind::Fifo => 6,
        FileKind::Socket => 7,
    }
}

impl Inode<'_> {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64);
        let is_long = self.is_long();
        let kind = basic(self.metadata.kind) + if is_long { LONG } else { 0 };
        let permissions = u16::try_from(self.metadata.permissions & 0o7777).unwrap_or(0);
        bytes.extend([kind, permissions, self.owner.0, self.owner.1].into_iter().flat_map(u16::to_le_bytes));
        let seconds = self.metadata.modified.map_or(0, |time| time.seconds);
        let seconds = u32::try_from(seconds.clamp(0, i64::from(u32::MAX))).unwrap_or(0);
        let mut words = |words: &[u32]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        words(&[seconds, self.number]);
        match self.body {
            Body::File { start, size, sparse, fragment, lengths } if is_long => {
                let (index, offset) = (fragment.index, fragment.offset);
                bytes.extend([*start, *size, *sparse].into_iter().flat_map(u64::to_le_bytes));
                let rest = [self.links.max(1), index, offset, self.xattrs];
                bytes.extend(rest.iter().chain(lengths).flat_map(|word| word.to_le_bytes()));
            }
            Body::File { start, size, fragment, lengths, .. } => {
                words(&[low(*start), fragment.index, fragment.offset, low(*size)]);
                words(lengths);
            }
            Body::Folder { listing, length, parent } if is_long => {
                words(&[self.links, *length + 3, listing.block(), *parent]);
                bytes.extend([0, listing.offset()].into_iter().flat_map(u16::to_le_bytes));
                bytes.extend(self.xattrs.to_le_bytes());
            }
            Body::Folder { listing, length, parent } => {
                words(&[listing.block(), self.links]);
                let length = u16::try_from(*length + 3).unwrap_or(u16::MAX);
                bytes.extend([length, listing.offset()].into_iter().flat_map(u16::to_le_bytes));
                bytes.extend(parent.to_le_bytes());
            }
            Body::Link(target) => {
                let length = u32::try_from(target.len())
                    .map_err(|_| Error::new(ErrorKind::TooLarge, "squashfs: a link of more than 4 GiB"))?;
                words(&[self.links.max(1), length]);
                bytes.extend_from_slice(target);
                bytes.extend(is_long.then(|| self.xattrs.to_le_bytes()).into_iter().flatten());
            }
            Body::Other(device) => {
                words(&[self.links.max(1)]);
                if matches!(self.metadata.kind, FileKind::BlockDevice | FileKind::CharDevice) {
                    let (major, minor) = device.unwrap_or_default();
                    words(&[minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12]);
                }
                bytes.extend(is_long.then(|| self.xattrs.to_le_bytes()).into_iter().flatten());
            }
        }
        Ok(bytes)
    }

    fn is_long(&self) -> bool {
        let has_xattrs = self.xattrs != NO_XATTRS;
        has_xattrs
            || match self.body {
                Body::File { start, size, sparse, .. } => {
                    self.links > 1 || *sparse > 0 || u32::try_from(*start).is_err() || u32::try_from(*size).is_err()
                }
                Body::Folder { length, .. } => *length + 3 > u32::from(u16::MAX),
                _ => false,
            }
    }
}

/// A number that is known to fit.
fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
