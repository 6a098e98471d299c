//! Compressed loop images, as Knoppix used: they begin with a shell script that would load the kernel module.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of cloop in the table of formats.
pub(crate) const FORMAT: Format = row("cloop", &[], "compressed loop (cloop)", &["cloop"], probe);

fn probe(window: &ProbeWindow<'_>) -> Match {
    when(window.head_has(0, b"#!/bin/sh\n#V2.0 Format\n"))
}
