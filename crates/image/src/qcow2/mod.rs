//! qcow2.

#[expect(dead_code, reason = "the driver is being written")]
pub(crate) mod layout;

use crate::{Format, Match, ProbeWindow};

/// The row of qcow2 in the table of formats.
pub const FORMAT: Format = Format {
    name: "qcow2",
    aliases: &[],
    title: "qcow2",
    extensions: &["qcow2"],
    variants: &[],
    open_options: &[],
    create_options: &[],
    probe,
    describe: None,
    open: None,
    stream: None,
    create: None,
    sink: None,
    measure: None,
    check: None,
    resize: None,
};

fn probe(_window: &ProbeWindow<'_>) -> Match {
    Match::No
}
