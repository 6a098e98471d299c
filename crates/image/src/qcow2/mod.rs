//! qcow2: QEMU's copy-on-write image, versions 2 and 3.
//!
//! Specification: the QEMU project's `docs/interop/qcow2.rst`; the bytes and our rules are in `docs/formats/qcow2.md`.

mod ahead;
mod allocate;
mod create;
mod device;
mod error;
mod flush;
mod header_write;
mod layer;
#[expect(dead_code, reason = "the driver is being written")]
pub(crate) mod layout;
mod map;
mod measure;
mod open;
mod options;
mod packed;
mod read;
mod snapshot;
mod stream;
mod tables;
mod write;
mod zero;

#[cfg(test)]
mod new_image_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod witness;

use crate::{Format, Match, ProbeWindow};

/// The row of qcow2 in the table of formats.
pub const FORMAT: Format = Format {
    name: "qcow2",
    aliases: &[],
    title: "qcow2",
    extensions: &["qcow2"],
    variants: &[],
    open_options: layer::OPEN_OPTIONS,
    create_options: options::CREATE_OPTIONS,
    probe,
    describe: Some(layer::describe),
    open: Some(layer::open),
    stream: None,
    create: Some(create::create),
    sink: Some(stream::sink),
    measure: Some(measure::measure),
    check: None,
    resize: None,
};

/// The magic and a version above 1: version 1 is the older format called qcow.
fn probe(window: &ProbeWindow<'_>) -> Match {
    let version = window.head.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
    if window.head_has(0, &layout::MAGIC) && version.is_some_and(|version| version >= layout::VERSION_2) {
        Match::Yes
    } else {
        Match::No
    }
}
