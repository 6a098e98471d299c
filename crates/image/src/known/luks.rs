//! Encrypted volumes: LUKS1 and LUKS2 (the "On-Disk Format Specification" of each, by cryptsetup's authors).

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of LUKS in the table of formats.
pub(crate) const FORMAT: Format = row("luks", &[], "LUKS encrypted volume", &["luks"], probe);

fn probe(window: &ProbeWindow<'_>) -> Match {
    when(window.head_has(0, b"LUKS\xba\xbe\0\x01") || window.head_has(0, b"LUKS\xba\xbe\0\x02"))
}
