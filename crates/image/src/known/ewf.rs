//! Expert Witness images of EnCase and others: `.E01` and its further segments, `.Ex01`, and the logical `.L01`.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of EWF in the table of formats.
pub(crate) const FORMAT: Format = row("ewf", &["e01"], "Expert Witness image (E01)", &["e01", "ex01"], probe);

const SIGNATURES: [&[u8; 8]; 4] =
    [b"EVF\x09\x0d\x0a\xff\0", b"LVF\x09\x0d\x0a\xff\0", b"EVF2\x0d\x0a\x81\0", b"LEF2\x0d\x0a\x81\0"];

fn probe(window: &ProbeWindow<'_>) -> Match {
    when(SIGNATURES.iter().any(|signature| window.head_has(0, *signature)))
}
