//! Parallels disks: an expanding image with either magic, and the bundle's description that names them.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of Parallels in the table of formats.
pub(crate) const FORMAT: Format = row("parallels", &[], "Parallels disk", &["hdd", "hds"], probe);

/// The one version that either kind of header has.
const VERSION: u32 = 2;

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The second kind counts in tracks instead of sectors, so that it can be larger.
    let magic = window.head_has(0, b"WithoutFreeSpace") || window.head_has(0, b"WithouFreSpacExt");
    when(magic && window.le32(16) == Some(VERSION) || is_description(window))
}

/// Whether it is the `DiskDescriptor.xml` of a bundle, which lists the images and holds no data.
fn is_description(window: &ProbeWindow<'_>) -> bool {
    const ROOT: &[u8] = b"<Parallels_disk_image";
    /// The root stands behind no more than the XML declaration and a comment.
    const WITHIN: usize = 1024;
    let front = &window.head[..window.head.len().min(WITHIN)];
    let text = front.strip_prefix(b"\xef\xbb\xbf").unwrap_or(front);
    text.starts_with(b"<") && text.windows(ROOT.len()).any(|part| part == ROOT)
}
