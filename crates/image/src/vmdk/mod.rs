//! VMDK, the disks of VMware, VirtualBox and of every OVA: a descriptor, and extents that hold the bytes.
//!
//! VMware, "Virtual Disk Format 5.0" and 1.1. What is read and refused is in `docs/formats/vmdk.md`.
//!
//! ```text
//! probe ──► image::Image ──► describe: ImageInfo
//!                        └─► extents ──► hosted · cowd · sesparse ──► map::Tables ──► sparse::Sparse ─┐
//!                                    └─► flat, zero ────────────────────────────────────────────────┴─► read::VmdkDevice
//! stream: header, descriptor, grains by their markers ──► BlockStream
//! ```
//!
//! The three sparse dialects share one map and one reader, since they differ only in headers and in the meaning of table
//! entries. A driver knows its own layer: a hole is where a parent shows, and the parent is another layer.

mod cache;
pub(crate) mod check;
pub(crate) mod cowd;
pub(crate) mod descriptor;
mod directory;
pub(crate) mod error;
pub(crate) mod extent_line;
mod extents;
#[doc(hidden)]
pub mod fuzz;
pub(crate) mod header;
mod hosted;
mod image;
pub(crate) mod layout;
mod map;
mod open;
mod probe;
mod read;
mod sesparse;
mod sparse;
mod stream;
pub mod strict;
pub(crate) mod text;

pub(crate) mod create;
mod describe;
mod grain_encoder;
pub(crate) mod measure;
pub(crate) mod options;
mod sequential;
pub(crate) mod sink;
pub(crate) mod write;

use crate::{Format, Variant};

/// The row of VMDK in the table of formats.
pub const FORMAT: Format = Format {
    name: "vmdk",
    aliases: &[],
    title: "VMDK",
    extensions: &["vmdk"],
    variants: VARIANTS,
    open_options: &[],
    create_options: options::CREATE_OPTIONS,
    probe: probe::probe,
    describe: Some(open::describe),
    open: Some(open::open),
    stream: Some(stream::stream),
    create: Some(create::create),
    sink: Some(sink::sink),
    measure: Some(measure::measure),
    check: Some(check::check),
    resize: None,
};

/// The kinds of VMDK, the default of a new one first.
const VARIANTS: &[Variant] = &[
    written("monolithicSparse", "one file with grains of 64 KiB, for Workstation, Fusion and VirtualBox"),
    written("monolithicFlat", "a descriptor and a file with the guest's bytes"),
    written("twoGbMaxExtentSparse", "a descriptor and sparse files of at most 2 GB"),
    written("twoGbMaxExtentFlat", "a descriptor and flat files of at most 2 GB"),
    written("vmfs", "a descriptor and a file with the guest's bytes, for an ESXi datastore"),
    Variant {
        name: "streamOptimized",
        summary: "compressed, from front to back: what OVF, OVA and clouds take",
        read: true,
        write: false,
        stream_read: true,
        stream_write: true,
    },
    only_read("vmfsSparse", "snapshot of an ESXi host (COWD)"),
    only_read("seSparse", "space-efficient snapshot of an ESXi host"),
    only_read("custom", "a descriptor with extents of several kinds"),
];

const fn written(name: &'static str, summary: &'static str) -> Variant {
    Variant { name, summary, read: true, write: true, stream_read: false, stream_write: false }
}

const fn only_read(name: &'static str, summary: &'static str) -> Variant {
    Variant { name, summary, read: true, write: false, stream_read: false, stream_write: false }
}
