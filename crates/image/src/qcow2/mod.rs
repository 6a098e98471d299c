//! qcow2: QEMU's copy-on-write image, versions 2 and 3.
//!
//! Specification: the QEMU project's `docs/interop/qcow2.rst`; the bytes and our rules are in `docs/formats/qcow2.md`
//! and `docs/formats/qcow2-writing.md`.

mod ahead;
mod allocate;
mod bitmap;
mod change;
mod check;
mod create;
mod device;
mod error;
mod flush;
mod fuzz;
mod header_write;
mod holes;
mod layer;
pub(crate) mod layout;
mod map;
mod measure;
mod open;
mod options;
mod packed;
mod read;
mod refcounts;
mod references;
mod reserve;
mod resize;
mod snapshot;
mod stream;
mod tables;
mod walk;
mod write;
mod writing;
mod zero;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod new_image_tests;
#[cfg(test)]
mod resize_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod witness;

#[doc(hidden)]
pub use check::fuzz_check;
#[doc(hidden)]
pub use fuzz::fuzz_open;

use crate::{Format, Match, ProbeWindow, Variant};

/// The row of qcow2 in the table of formats.
pub const FORMAT: Format = Format {
    name: "qcow2",
    aliases: &[],
    title: "qcow2",
    extensions: &["qcow2"],
    variants: &[
        Variant {
            name: "v3",
            summary: "version 3 (compat=1.1), with everything",
            read: true,
            write: true,
            stream_read: false,
            stream_write: true,
        },
        Variant {
            name: "v2",
            summary: "version 2 (compat=0.10), for QEMU before 1.1",
            read: true,
            write: true,
            stream_read: false,
            stream_write: true,
        },
    ],
    open_options: layer::OPEN_OPTIONS,
    create_options: options::CREATE_OPTIONS,
    probe,
    describe: Some(layer::describe),
    open: Some(layer::open),
    stream: None,
    create: Some(create::create),
    sink: Some(stream::sink),
    measure: Some(measure::measure),
    check: Some(check::check),
    resize: Some(resize::resize),
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
