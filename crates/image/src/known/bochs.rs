//! Bochs' growing and redolog images. The header is described in Bochs' own documentation, "Hard disk image modes".

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of Bochs in the table of formats.
pub(crate) const FORMAT: Format = row("bochs", &[], "Bochs redolog", &[], probe);

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The magic fills 32 bytes and "Redolog", the type, 16.
    when(window.head_has(0, b"Bochs Virtual HD Image\0") && window.head_has(32, b"Redolog\0"))
}
