//! Recognises VMDKs: sparse extents by their magic and the fields around it, descriptors by what is in them.

use zerocopy::FromBytes;

use super::descriptor::looks_like_descriptor;
use super::layout::{COWD_MAGIC, CowdHeader, SESPARSE_MAGIC, SPARSE_MAGIC, SeSparseHeader, SparseHeader};
use crate::{Match, ProbeWindow};

/// The highest version number that is still taken for one, so that an image of a later version is named and refused
/// instead of being taken for raw.
const VERSION_PLAUSIBLE: u32 = 0xff;

/// What a file that is a VMDK begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// The header of a hosted sparse extent.
    Hosted,
    /// The header of a COWD extent.
    Cowd,
    /// The header of a seSparse extent.
    SeSparse,
    /// The text of a descriptor.
    Descriptor,
}

/// Says whether a file is a VMDK.
pub(super) fn probe(window: &ProbeWindow<'_>) -> Match {
    if front(window.head, window.size).is_some() { Match::Yes } else { Match::No }
}

/// What a file of `size` bytes that begins with `head` is.
pub(crate) fn front(head: &[u8], size: Option<u64>) -> Option<Front> {
    if head.starts_with(&SPARSE_MAGIC) {
        let (header, _) = SparseHeader::read_from_prefix(head).ok()?;
        return (1..=VERSION_PLAUSIBLE).contains(&header.version.get()).then_some(Front::Hosted);
    }
    if head.starts_with(&COWD_MAGIC) {
        let (header, _) = CowdHeader::read_from_prefix(head).ok()?;
        return (1..=VERSION_PLAUSIBLE).contains(&header.version.get()).then_some(Front::Cowd);
    }
    if head.starts_with(&SESPARSE_MAGIC.to_le_bytes()) {
        let (header, _) = SeSparseHeader::read_from_prefix(head).ok()?;
        return (1..=u64::from(VERSION_PLAUSIBLE)).contains(&(header.version.get() >> 32)).then_some(Front::SeSparse);
    }
    looks_like_descriptor(head, size).then_some(Front::Descriptor)
}
