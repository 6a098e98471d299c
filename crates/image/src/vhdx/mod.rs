//! VHDX: the disks of Hyper-V since 2012, fixed, dynamic and differencing.
//!
//! Specification: Microsoft, [MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format". What is read and refused, and how it is
//! written, is in `docs/formats/vhdx.md`.
//!
//! ```text
//! open::Image (headers, regions, metadata) ─► map::Map (block allocation table, sector bitmaps) ─► device::Vhdx
//!      └─ log::find ─► overlay::Overlay (reading)                                write, journal ─┘
//!                  └─► replay::replay (writing)
//! ```
//!
//! Reading changes no byte of the file: what a log that was not replayed says is shown over it.

mod check;
mod create;
mod device;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod geometry;
mod guid;
mod journal;
mod layer;
pub(crate) mod layout;
mod log;
mod map;
mod measure;
mod metadata;
mod open;
mod options;
mod overlay;
mod replay;
mod resize;
mod sectors;
mod write;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod witness;

use crate::{Format, Match, ProbeWindow, Variant};

/// The row of VHDX in the table of formats.
pub const FORMAT: Format = Format {
    name: "vhdx",
    aliases: &[],
    title: "VHDX",
    extensions: &["vhdx", "avhdx"],
    variants: &[
        Variant {
            name: "dynamic",
            summary: "blocks as they are written",
            read: true,
            write: true,
            stream_read: false,
            stream_write: false,
        },
        Variant {
            name: "fixed",
            summary: "all blocks from the start",
            read: true,
            write: true,
            stream_read: false,
            stream_write: false,
        },
        Variant {
            name: "differencing",
            summary: "what differs from a parent: a checkpoint (.avhdx)",
            read: true,
            write: false,
            stream_read: false,
            stream_write: false,
        },
    ],
    open_options: &[],
    create_options: options::CREATE_OPTIONS,
    probe,
    describe: Some(layer::describe),
    open: Some(layer::open),
    stream: None,
    create: Some(create::create),
    sink: None,
    measure: Some(measure::measure),
    check: Some(check::check),
    resize: Some(resize::resize),
};

fn probe(window: &ProbeWindow<'_>) -> Match {
    if window.head_has(0, &layout::FILE_SIGNATURE) { Match::Yes } else { Match::No }
}
