//! VDI, the disks of VirtualBox: a header, a map with one word per block, and the blocks.
//!
//! The header is described in VirtualBox's own sources, `VDICore.h`, versions 0.0, 1.0 and 1.1. What is read and written
//! is in `docs/formats/vdi.md`.
//!
//! ```text
//! probe ──► open::Header ──► describe: ImageInfo
//!                        └─► device::Vdi: map::BlockMap says where a block stands ──► read, write ──► finish
//! create ────────────────────┘
//! ```
//!
//! All types have one layout and one driver: in a fixed image every block has its place from the start, and in a
//! differencing one a block without a place is a hole where the parent shows. The parent is known by its UUID alone, and
//! is another layer.

mod check;
mod compact;
pub(crate) mod create;
mod device;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod layout;
mod map;
mod open;
mod read;
mod resize;
mod write;

use crate::{Format, Match, ProbeWindow, Variant};

/// The row of VDI in the table of formats.
pub const FORMAT: Format = Format {
    name: "vdi",
    aliases: &[],
    title: "VirtualBox disk image (VDI)",
    extensions: &["vdi"],
    variants: VARIANTS,
    open_options: &[],
    create_options: create::CREATE_OPTIONS,
    probe,
    describe: Some(open::describe),
    open: Some(open::open),
    stream: None,
    create: Some(create::create),
    sink: None,
    measure: Some(create::measure),
    check: Some(check::check),
    resize: Some(resize::resize),
};

/// The kinds of VDI, the default of a new one first.
const VARIANTS: &[Variant] = &[
    written("dynamic", "grows by blocks of 1 MiB as they are written"),
    written("fixed", "every block has its place from the start"),
    only_existing("differencing", "what differs from a parent, which is known by its UUID"),
    only_existing("undo", "changes that may be dropped, on a parent"),
];

const fn written(name: &'static str, summary: &'static str) -> Variant {
    Variant { name, summary, read: true, write: true, stream_read: false, stream_write: false }
}

const fn only_existing(name: &'static str, summary: &'static str) -> Variant {
    Variant { name, summary, read: true, write: false, stream_read: false, stream_write: false }
}

fn probe(window: &ProbeWindow<'_>) -> Match {
    let magic = window.le32(layout::SIGNATURE_OFFSET) == Some(layout::SIGNATURE);
    // The major version in the upper half: 0 in the first releases, 1 ever since. One that is to come is known by the text
    // that has stood in front in every one.
    let version = window.le32(layout::SIGNATURE_OFFSET + 4).is_some_and(|version| version >> 16 <= 1);
    if magic && (version || window.head_has(0, b"<<< ")) { Match::Yes } else { Match::No }
}
