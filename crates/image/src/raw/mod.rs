//! Raw: the guest's bytes and nothing else.

mod open;

use crate::{Format, Match, ProbeWindow, Variant};

/// The row of raw in the table of formats.
pub const FORMAT: Format = Format {
    name: "raw",
    aliases: &[],
    title: "Raw",
    extensions: &["raw", "img", "dd", "bin"],
    variants: &[Variant {
        name: "raw",
        summary: "the guest's bytes",
        read: true,
        write: true,
        stream_read: true,
        stream_write: true,
    }],
    open_options: &[],
    create_options: &[],
    probe,
    describe: None,
    open: Some(open::open),
    stream: None,
    create: None,
    sink: None,
    measure: None,
    check: None,
    resize: None,
};

fn probe(_window: &ProbeWindow<'_>) -> Match {
    Match::Fallback
}
