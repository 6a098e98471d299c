//! VirtualBox disk images. The header is described in VirtualBox's own sources, `VDICore.h`.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of VDI in the table of formats.
pub(crate) const FORMAT: Format = row("vdi", &[], "VirtualBox disk image (VDI)", &["vdi"], probe);

/// Behind the text that a person sees first.
const SIGNATURE_OFFSET: usize = 0x40;
const SIGNATURE: u32 = 0xbeda_107f;

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The major version in the upper half: 0 in the first releases, 1 ever since.
    let version = window.le32(SIGNATURE_OFFSET + 4).is_some_and(|version| version >> 16 <= 1);
    when(window.le32(SIGNATURE_OFFSET) == Some(SIGNATURE) && version)
}
