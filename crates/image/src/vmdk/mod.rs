//! VMDK.

pub(crate) mod descriptor;
pub(crate) mod error;
pub(crate) mod extent_line;
pub(crate) mod header;
#[expect(dead_code, reason = "the driver is being written")]
pub(crate) mod layout;
pub(crate) mod text;

pub(crate) mod create;
mod deflate_end;
mod describe;
mod grain_encoder;
pub(crate) mod measure;
pub(crate) mod options;
mod sequential;
pub(crate) mod sink;
pub(crate) mod write;

use crate::{Format, Match, ProbeWindow};

/// The row of VMDK in the table of formats.
pub const FORMAT: Format = Format {
    name: "vmdk",
    aliases: &[],
    title: "VMDK",
    extensions: &["vmdk"],
    variants: &[],
    open_options: &[],
    create_options: options::CREATE_OPTIONS,
    probe,
    describe: None,
    open: None,
    stream: None,
    create: Some(create::create),
    sink: Some(sink::sink),
    measure: Some(measure::measure),
    check: None,
    resize: None,
};

fn probe(_window: &ProbeWindow<'_>) -> Match {
    Match::No
}
