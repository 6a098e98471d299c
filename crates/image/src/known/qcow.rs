//! The first QEMU copy-on-write format, with the magic of qcow2 and version 1.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of qcow in the table of formats.
pub(crate) const FORMAT: Format = row("qcow", &["qcow1"], "qcow (version 1)", &["qcow"], probe);

fn probe(window: &ProbeWindow<'_>) -> Match {
    when(window.head_has(0, b"QFI\xfb\0\0\0\x01"))
}
