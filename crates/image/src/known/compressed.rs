//! Whole files that are compressed: gzip (RFC 1952), bzip2, xz, Zstandard (RFC 8878). What is inside is not looked at.

use super::{row, when};
use crate::{Format, Match, ProbeWindow, dmg};

/// The row of gzip in the table of formats.
pub(crate) const GZIP: Format = row("gzip", &["gz"], "gzip-compressed data", &["gz"], gzip);
/// The row of bzip2 in the table of formats.
pub(crate) const BZIP2: Format = row("bzip2", &["bz2"], "bzip2-compressed data", &["bz2"], bzip2);
/// The row of xz in the table of formats.
pub(crate) const XZ: Format = row("xz", &[], "xz-compressed data", &["xz"], xz);
/// The row of Zstandard in the table of formats.
pub(crate) const ZSTD: Format = row("zstd", &["zst"], "Zstandard-compressed data", &["zst"], zstd);

/// A DMG begins with its first compressed block, which may be a bzip2 or xz stream: there the magic is a part of the
/// disk image and not a wrapper around it.
fn is_wrapper(window: &ProbeWindow<'_>) -> bool {
    !dmg::has_trailer(window)
}

fn gzip(window: &ProbeWindow<'_>) -> Match {
    // Method 8 is deflate, the only one; the upper three flags are reserved and zero.
    let flags = window.head.get(3).copied().unwrap_or(0xff);
    when(window.head_has(0, &[0x1f, 0x8b, 8]) && flags & 0xe0 == 0 && is_wrapper(window))
}

fn bzip2(window: &ProbeWindow<'_>) -> Match {
    // The block size in units of 100 kB, then a block's magic (the digits of pi) or, for nothing at all, the end's.
    let level = window.head.get(3).is_some_and(|level| (b'1'..=b'9').contains(level));
    let block = window.head_has(4, &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]);
    let end = window.head_has(4, &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]);
    when(window.head_has(0, b"BZh") && level && (block || end) && is_wrapper(window))
}

fn xz(window: &ProbeWindow<'_>) -> Match {
    // Behind the magic stand the stream's flags, whose first byte is zero.
    when(window.head_has(0, b"\xfd7zXZ\0\0") && is_wrapper(window))
}

fn zstd(window: &ProbeWindow<'_>) -> Match {
    // Bit 3 of the frame header's descriptor is reserved and zero.
    let descriptor = window.head.get(4).copied().unwrap_or(0xff);
    when(window.head_has(0, &[0x28, 0xb5, 0x2f, 0xfd]) && descriptor & 0x08 == 0)
}
