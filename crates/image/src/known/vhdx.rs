//! Hyper-V's VHDX: [MS-VHDX], section 2.2.1.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of VHDX in the table of formats.
pub(crate) const FORMAT: Format = row("vhdx", &[], "VHDX", &["vhdx", "avhdx"], probe);

fn probe(window: &ProbeWindow<'_>) -> Match {
    when(window.head_has(0, b"vhdxfile"))
}
