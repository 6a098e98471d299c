//! Optical disc images: ISO 9660 (ECMA-119), with whatever else is on the disc.
//!
//! A hybrid image, which boots from a USB stick too, has a partition table in the system area in front of the first
//! volume descriptor. It is an ISO 9660 image all the same. A disk that such an image was written to is one as well as far
//! as its first bytes tell; who wants the disk says that it is raw.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of ISO 9660 in the table of formats.
pub(crate) const FORMAT: Format = row("iso", &["iso9660"], "ISO 9660 disc image", &["iso"], probe);

/// Behind the system area of 16 sectors of 2048 bytes.
const FIRST_DESCRIPTOR: usize = 16 * 2048;

fn probe(window: &ProbeWindow<'_>) -> Match {
    // Boot record, primary, supplementary, partition; a terminator cannot come first.
    let kind = window.head.get(FIRST_DESCRIPTOR).is_some_and(|kind| *kind <= 3);
    // Version 1, and 2 for the enhanced descriptors of ISO 9660:1999.
    let version = window.head.get(FIRST_DESCRIPTOR + 6).is_some_and(|version| matches!(version, 1 | 2));
    when(window.head_has(FIRST_DESCRIPTOR + 1, b"CD001") && kind && version)
}
