//! Apple's disk images: UDIF (`.dmg`), known by a trailer of 512 bytes, and the older sparse images, by their header.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of UDIF in the table of formats.
pub(crate) const FORMAT: Format = row("dmg", &["udif"], "Apple disk image (DMG)", &["dmg"], probe);
/// The row of sparse images in the table of formats.
pub(crate) const SPARSE: Format =
    row("sparseimage", &[], "Apple sparse disk image", &["sparseimage"], |window: &ProbeWindow<'_>| {
        when(window.head_has(0, b"sprs\0\0\0\x03"))
    });

/// Bytes of the trailer, which says so itself.
const TRAILER: usize = 512;

/// Whether the file ends in a UDIF trailer of version 4, the only one there is.
pub(super) fn has_trailer(window: &ProbeWindow<'_>) -> bool {
    window.last(TRAILER).is_some_and(|trailer| trailer.starts_with(b"koly\0\0\0\x04\0\0\x02\0"))
}

fn probe(window: &ProbeWindow<'_>) -> Match {
    when(has_trailer(window))
}
