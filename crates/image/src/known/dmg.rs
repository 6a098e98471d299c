//! Apple's older sparse images, known by their header. Those that have a trailer are read (`crate::dmg`).

use super::{row, when};
use crate::{Format, ProbeWindow};

/// The row of sparse images in the table of formats.
pub(crate) const SPARSE: Format =
    row("sparseimage", &[], "Apple sparse disk image", &["sparseimage"], |window: &ProbeWindow<'_>| {
        when(window.head_has(0, b"sprs\0\0\0\x03"))
    });
