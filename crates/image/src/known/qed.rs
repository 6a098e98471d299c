//! QEMU Enhanced Disk: the QEMU project's `docs/interop/qed_spec.rst`.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of QED in the table of formats.
pub(crate) const FORMAT: Format = row("qed", &[], "QED", &["qed"], probe);

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The specification's bounds: 4 KiB to 64 MiB.
    let cluster = window.le32(4).is_some_and(|size| size.is_power_of_two() && (1 << 12..=1 << 26).contains(&size));
    when(window.head_has(0, b"QED\0") && cluster)
}
