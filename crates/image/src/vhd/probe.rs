//! Recognises VHDs by their footer or the copy of it.
//!
//! A dynamic or differencing image begins with a copy of its footer. A fixed one begins with the guest's first sector, and
//! has its footer in the last 512 bytes alone, or in the last 511 when a version of Virtual PC before 2004 made it.
//! `conectix` anywhere else is a guest's business.

use zerocopy::FromBytes;

use super::layout::{FOOTER_BYTES, Footer, OLD_FOOTER_BYTES, disk_type};
use crate::{Match, ProbeWindow};

/// Says whether a file is a VHD.
pub(super) fn probe(window: &ProbeWindow<'_>) -> Match {
    let front = window.head.get(..size_of::<Footer>()).and_then(parse);
    if front.is_some_and(|copy| is_copy(&copy)) {
        return Match::Yes;
    }
    let ends = [FOOTER_BYTES, OLD_FOOTER_BYTES].into_iter().any(|length| {
        let before = window.size.and_then(|size| size.checked_sub(length));
        let last = usize::try_from(length).ok().and_then(|length| window.last(length));
        last.and_then(parse).is_some_and(|footer| ends_file(&footer, before))
    });
    if ends { Match::Yes } else { Match::No }
}

/// Bytes that begin as a footer does, 512 of them, or 511 when they are from before 2004.
pub(super) fn parse(bytes: &[u8]) -> Option<Footer> {
    let mut whole = [0; size_of::<Footer>()];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Footer::read_from_bytes(&whole).ok().filter(Footer::is_footer)
}

/// Whether it is the copy at the start of a dynamic or differencing image, damaged or not.
fn is_copy(footer: &Footer) -> bool {
    matches!(footer.disk_type.get(), disk_type::DYNAMIC | disk_type::DIFFERENCING) || footer.is_sound()
}

/// Whether it is a footer behind `before` bytes: by its checksum, or, should that be damaged, by telling the length of
/// the fixed disk in front of it.
fn ends_file(footer: &Footer, before: Option<u64>) -> bool {
    footer.is_sound() || is_exact(footer, before.unwrap_or(0))
}

/// Whether it is the footer of a fixed disk that has exactly the `before` bytes in front of it.
pub(super) fn is_exact(footer: &Footer, before: u64) -> bool {
    footer.disk_type.get() == disk_type::FIXED && before > 0 && footer.current_size.get() == before
}
